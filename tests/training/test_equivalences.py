"""The unified view (He et al. 2022) on real layers: what each method adds to a BERT, in closed form, and what equals what.

Everything runs in double precision on a BERT of random weights, with the modules of the `adapters` library; inputs and
outputs of single modules are recorded during one pass over a padded batch.
"""

import contextlib
import math

import adapters
import pytest
import torch
from adapters import (
    DoubleSeqBnConfig,
    IA3Config,
    LoRAConfig,
    MAMConfig,
    ParBnConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    SeqBnConfig,
)
from adapters.methods.modeling import ParallelAdapter
from tiny_models import LAYERS, WIDTH, shake, tiny

from tupate_hub.training.methods import get_method
from tupate_hub.training.multihead import ATTRIBUTE

NAME, HEADS, TOKENS, RANK = "task", 4, 5, 3
EXACT = {"rtol": 0, "atol": 1e-9}
ATTENTION, ATTENTION_OUTPUT, OUTPUT = "attention.self", "attention.output", "output"

IDS = torch.tensor([[2, 7, 9, 11, 30, 4, 8], [2, 49, 3, 17, 0, 0, 0], [2, 21, 22, 23, 24, 25, 0]])
MASK = (IDS > 0).long()


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def plain():
    return tiny("bert").double()


def tuned(config):
    """A BERT with the library's modules, none of whose parameters is zero or one."""
    model = plain()
    adapters.init(model)
    model.add_adapter(NAME, config, set_active=True)
    model.train_adapter(NAME)
    model.double()
    shake([value for name, value in model.named_parameters() if value.requires_grad and "classifier" not in name])
    return model.eval()


@contextlib.contextmanager
def recording(model, *places):
    """Inputs and outputs of the named modules, by name, filled during a pass."""
    seen, handles = {}, []
    for place in places:

        def keep(module, inputs, output, place=place):
            seen[place] = (inputs, output[0] if isinstance(output, tuple) else output)

        handles.append(model.get_submodule(place).register_forward_hook(keep))
    yield seen
    for handle in handles:
        handle.remove()


def run(model):
    return model(input_ids=IDS, attention_mask=MASK).logits


def last_states(model):
    with recording(model, "bert") as seen:
        run(model)
    return seen["bert"][1].last_hidden_state


def observe(model, *places, layer=0):
    """What the named modules of a layer read and gave."""
    with recording(model, *(f"bert.encoder.layer.{layer}.{place}" for place in places)) as seen:
        run(model)
    found = [seen[f"bert.encoder.layer.{layer}.{place}"] for place in places]
    return found[0] if len(found) == 1 else found


def part(model, place, layer=0):
    return model.get_submodule(f"bert.encoder.layer.{layer}.{place}")


def by_head(rows):
    """(..., rows, width) as (..., heads, rows, width / heads)."""
    return rows.unflatten(-1, (HEADS, -1)).transpose(-3, -2)


def joined(heads):
    return heads.transpose(-3, -2).flatten(-2)


def projections(attention, x):
    """The query, key and value of each head by the base model's weights."""
    return [by_head(getattr(attention, name)(x)) for name in ("query", "key", "value")]


def scores(query, keys):
    return query @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1])


def to_text(query, key, value):
    """Attention to the text's own positions, and the logarithm of its mass before it is normalised."""
    text = scores(query, key).masked_fill(MASK[:, None, None, :] == 0, -torch.inf)
    return text.softmax(-1) @ value, text.logsumexp(-1, keepdim=True)


def bottleneck(x, module, function=torch.relu):
    down, up = module.adapter_down[0], module.adapter_up
    return function(x @ down.weight.T + down.bias) @ up.weight.T + up.bias


def prefix_of(model, layer, tokens=TOKENS):
    """The prefix's keys and values of a layer, each of shape (heads, tokens, width / heads)."""
    flat = part(model, ATTENTION).prefix_tuning.pool.get_prefix(NAME)["self_prefix"].control_trans
    return flat.view(tokens, LAYERS, 2, HEADS, WIDTH // HEADS)[:, layer].permute(1, 2, 0, 3)


# --- prefix tuning ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_prefix():
    return tuned(PrefixTuningConfig(flat=True, prefix_length=TOKENS))


@pytest.mark.parametrize("layer", range(LAYERS))
def test_prefix_tuning_is_a_gated_adapter_of_each_head(with_prefix, layer):
    """Head = (1 - lambda) Attn(x W_q, C W_k, C W_v) + lambda softmax(x W_q P_k^T) P_v."""
    (x, *_), given = observe(with_prefix, ATTENTION, layer=layer)
    prefix_keys, prefix_values = prefix_of(with_prefix, layer)
    query, key, value = projections(part(with_prefix, ATTENTION, layer), x)
    attended, text_mass = to_text(query, key, value)
    inner = scores(query, prefix_keys)
    gate = torch.sigmoid(inner.logsumexp(-1, keepdim=True) - text_mass)
    expected = (1 - gate) * attended + gate * (inner.softmax(-1) @ prefix_values)
    assert 0.1 < gate.mean() < 0.9 and gate.std() > 0.1
    torch.testing.assert_close(given, joined(expected), **EXACT)
    assert not torch.allclose(given, joined(attended + inner.softmax(-1) @ prefix_values), atol=1e-2)


def test_the_gate_is_the_share_of_attention_on_the_prefix(with_prefix):
    """Lambda as a sum over the prefix of attention weights, as the paper defines it."""
    (x, *_), _ = observe(with_prefix, ATTENTION)
    prefix_keys, _ = prefix_of(with_prefix, 0)
    query, key, value = projections(part(with_prefix, ATTENTION), x)
    _, text_mass = to_text(query, key, value)
    inner = scores(query, prefix_keys)
    text = scores(query, key).masked_fill(MASK[:, None, None, :] == 0, -torch.inf)
    weights = torch.cat([inner, text], dim=-1).softmax(-1)
    gate = torch.sigmoid(inner.logsumexp(-1, keepdim=True) - text_mass)
    torch.testing.assert_close(gate[..., 0], weights[..., :TOKENS].sum(-1), **EXACT)


def test_w1_and_w2_of_the_gated_adapter(with_prefix):
    """W_1 = W_q P_k^T and W_2 = P_v: the adapter of a head reads x itself, not the query."""
    (x, *_), _ = observe(with_prefix, ATTENTION)
    attention = part(with_prefix, ATTENTION)
    prefix_keys, _ = prefix_of(with_prefix, 0)
    weight = attention.query.weight.unflatten(0, (HEADS, -1))  # (heads, width / heads, width)
    bias = attention.query.bias.unflatten(0, (HEADS, 1, -1))
    root = math.sqrt(WIDTH // HEADS)
    w1 = weight.transpose(-1, -2) @ prefix_keys.transpose(-1, -2) / root
    b1 = bias @ prefix_keys.transpose(-1, -2) / root
    query = by_head(attention.query(x))
    torch.testing.assert_close(x[:, None] @ w1 + b1, scores(query, prefix_keys), **EXACT)


@pytest.mark.parametrize("layer", range(LAYERS))
def test_the_multihead_adapter_with_softmax_and_gate_is_prefix_tuning(with_prefix, layer):
    """The project's own module, given the prefix's parameters, a softmax in ReLU's place and the gate in the sum's."""
    (x, *_), given = observe(with_prefix, ATTENTION, layer=layer)
    keys, values = (joined(half) for half in prefix_of(with_prefix, layer))
    module = with_multihead(keys, values)
    attention = part(with_prefix, ATTENTION, layer)
    query, key, value = projections(attention, x)
    attended, text_mass = to_text(query, key, value)
    gate = torch.sigmoid(scores(query, by_head(keys)).logsumexp(-1, keepdim=True) - text_mass)
    change = by_head(module(attention.query(x), lambda inner: inner.softmax(-1)))
    with_relu = by_head(module(attention.query(x)))
    torch.testing.assert_close(given, joined((1 - gate) * attended + gate * change), **EXACT)
    assert not torch.allclose(given, joined((1 - gate) * attended + gate * with_relu), atol=1e-2)


def with_multihead(keys, values):
    """The project's module with these keys and values, each of shape (tokens, width)."""
    from tupate_hub.training.multihead import MultiheadParallel

    module = MultiheadParallel(len(keys), WIDTH, HEADS).double()
    module.load_state_dict({"keys": keys.detach(), "values": values.detach()})
    return module


def test_a_reparametrised_prefix_is_a_flat_one():
    """The network's output is all that the model sees of it: `eject` writes it down."""
    model = tuned(PrefixTuningConfig(prefix_length=TOKENS, bottleneck_size=6))
    before = run(model)
    model.eject_prefix_tuning(NAME)
    assert "control_trans" in dict(
        part(model, ATTENTION).prefix_tuning.pool.prefix_tunings[NAME]["self_prefix"].named_parameters()
    )
    torch.testing.assert_close(run(model), before, **EXACT)


def test_the_order_of_positions_does_not_matter(with_prefix):
    before = run(with_prefix)
    pool = part(with_prefix, ATTENTION).prefix_tuning.pool.get_prefix(NAME)["self_prefix"]
    kept = pool.control_trans.detach().clone()
    pool.control_trans.copy_(kept.view(TOKENS, -1).flip(0).flatten())
    after = run(with_prefix)
    pool.control_trans.copy_(kept)
    torch.testing.assert_close(after, before, **EXACT)


def test_a_prompt_is_further_inputs_of_the_first_layer():
    model = tuned(PromptTuningConfig(prompt_length=TOKENS, combine="prefix_after_bos"))
    with recording(model, "bert.encoder.layer.0") as seen:
        run(model)
    (x, *_), _ = seen["bert.encoder.layer.0"]
    base = plain().eval()
    words = base.bert.embeddings(input_ids=IDS)
    prompt = model.bert.prompt_tuning.prompt_tunings[NAME].prompt_embedding.weight
    expected = torch.cat([words[:, :1], prompt.expand(len(IDS), -1, -1), words[:, 1:]], dim=1)
    torch.testing.assert_close(x, expected, **EXACT)


# --- LoRA -------------------------------------------------------------------------------------------------------


def parallel_module(down, up, scaling, function, width=WIDTH):
    """The library's own parallel adapter with these matrices and no biases."""
    config = ParBnConfig(scaling=scaling, non_linearity=function)
    module = ParallelAdapter(NAME, width, len(down), config).double()
    module.adapter_down[0].weight.copy_(down)
    module.adapter_up.weight.copy_(up)
    return module.eval()


@pytest.fixture(scope="module")
def with_lora():
    return tuned(LoRAConfig(r=RANK, alpha=6, attn_matrices=["q", "v"]))


@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize("weight", ["query", "value"])
def test_lora_is_a_parallel_adapter_with_the_identity(with_lora, weight, layer):
    place = f"{ATTENTION}.{weight}"
    (x,), given = observe(with_lora, place, layer=layer)
    linear = part(with_lora, place, layer)
    lora = linear.loras[NAME]
    beside = parallel_module(lora.lora_A, lora.lora_B, 6 / RANK, "linear")
    with_relu = parallel_module(lora.lora_A, lora.lora_B, 6 / RANK, "relu")
    unchanged = x @ linear.weight.T + linear.bias
    change, _, _ = beside(x, None)
    bent, _, _ = with_relu(x, None)
    torch.testing.assert_close(given, unchanged + change, **EXACT)
    assert not torch.allclose(given, unchanged + bent, atol=1e-2)


def test_lora_merged_is_lora(with_lora):
    before = run(with_lora)
    with_lora.merge_adapter(NAME)
    merged = run(with_lora)
    with_lora.reset_adapter()
    torch.testing.assert_close(merged, before, **EXACT)
    torch.testing.assert_close(run(with_lora), before, **EXACT)
    assert not torch.allclose(before, run(plain().eval()), atol=1e-2)


@pytest.mark.parametrize("place", ["intermediate.dense", "output.dense"])
def test_lora_on_the_feed_forward_is_beside_each_weight(place):
    model = tuned(LoRAConfig(r=RANK, alpha=6, selfattn_lora=False, intermediate_lora=True, output_lora=True))
    (x,), given = observe(model, place)
    linear = part(model, place)
    lora = linear.loras[NAME]
    change = 6 / RANK * (x @ lora.lora_A.T) @ lora.lora_B.T
    torch.testing.assert_close(given, x @ linear.weight.T + linear.bias + change, **EXACT)


# --- adapters ---------------------------------------------------------------------------------------------------


def sublayer(model, place, layer=0):
    """Input of the sub-layer x, its output h before the residual, what the layer norm gave at last, and its module."""
    (_, dense), ((_, x), after) = observe(model, f"{place}.dense", place, layer=layer)
    return x, dense, after, part(model, place, layer)


@pytest.mark.parametrize(
    ("config", "place"),
    [
        (ParBnConfig(reduction_factor=8, scaling=1.0), OUTPUT),
        (ParBnConfig(reduction_factor=8, scaling=4.0), OUTPUT),
        (ParBnConfig(reduction_factor=8, scaling="learned"), OUTPUT),
        (ParBnConfig(reduction_factor=8, scaling=1.0, mh_adapter=True, output_adapter=False), ATTENTION_OUTPUT),
        (ParBnConfig(reduction_factor=8, scaling=4.0, mh_adapter=True, output_adapter=False), ATTENTION_OUTPUT),
    ],
)
@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_parallel_adapter_reads_the_sub_layer_s_input(config, place, layer):
    """LN(h + s ReLU(x W_down) W_up + x), where the paper has h + s ReLU(x W_down) W_up."""
    x, h, after, module = sublayer(tuned(config), place, layer)
    adapter = module.adapters[NAME]
    torch.testing.assert_close(after, module.LayerNorm(h + adapter.scaling * bottleneck(x, adapter) + x), **EXACT)
    assert not torch.allclose(after, module.LayerNorm(h + adapter.scaling * bottleneck(h, adapter) + x), atol=1e-2)


def test_the_feed_forward_s_input_is_the_attention_s_output():
    model = tuned(ParBnConfig(reduction_factor=8))
    x, *_ = sublayer(model, OUTPUT)
    _, attended = observe(model, "attention.output")
    torch.testing.assert_close(x, attended, rtol=0, atol=0)


@pytest.mark.parametrize("place", [ATTENTION_OUTPUT, OUTPUT])
def test_a_sequential_adapter_reads_the_sub_layer_s_output(place):
    """Houlsby's: h + ReLU(h W_down) W_up after attention and feed-forward."""
    x, h, after, module = sublayer(tuned(DoubleSeqBnConfig(reduction_factor=8, non_linearity="relu")), place)
    change = bottleneck(h, module.adapters[NAME])
    torch.testing.assert_close(after, module.LayerNorm(h + change + x), **EXACT)


def test_pfeiffer_s_adapter_reads_the_sub_layer_s_output_after_its_norm():
    x, h, after, module = sublayer(tuned(SeqBnConfig(reduction_factor=8)), OUTPUT)
    change = bottleneck(module.LayerNorm(h + x), module.adapters[NAME])
    torch.testing.assert_close(after, module.LayerNorm(h + change + x), **EXACT)
    *_, attention = sublayer(tuned(SeqBnConfig(reduction_factor=8)), ATTENTION_OUTPUT)
    assert NAME not in attention.adapters


def scaled_up(model, factor):
    """The same model, whose bottlenecks' upper halves are some times as large."""
    for name, value in model.named_parameters():
        if ".adapter_up." in name:
            value.mul_(factor)
    return model


def test_a_scaled_parallel_adapter_with_one_is_a_parallel_adapter():
    learned = tuned(ParBnConfig(reduction_factor=8, scaling="learned"))
    fixed = tuned(ParBnConfig(reduction_factor=8, scaling=1.0))
    copied = {name: value for name, value in learned.state_dict().items() if not name.endswith(".scaling")}
    fixed.load_state_dict(copied)
    for name, value in learned.named_parameters():
        if name.endswith(".scaling"):
            value.fill_(1.0)
    torch.testing.assert_close(run(learned), run(fixed), **EXACT)


def test_any_scale_is_a_larger_upper_half():
    four = tuned(ParBnConfig(reduction_factor=8, scaling=4.0))
    one = tuned(ParBnConfig(reduction_factor=8, scaling=1.0))
    one.load_state_dict(four.state_dict())
    assert not torch.allclose(run(four), run(one), atol=1e-3)
    torch.testing.assert_close(run(four), run(scaled_up(one, 4.0)), **EXACT)


def test_mam_is_a_prefix_and_a_scaled_parallel_adapter():
    """Each part does in company what it does alone."""
    prefix = PrefixTuningConfig(flat=True, prefix_length=TOKENS)
    model = tuned(MAMConfig(prefix, ParBnConfig(reduction_factor=8, scaling=4.0)))
    x, h, after, module = sublayer(model, OUTPUT)
    adapter = module.adapters[NAME]
    torch.testing.assert_close(after, module.LayerNorm(h + 4.0 * bottleneck(x, adapter) + x), **EXACT)
    (x, *_), given = observe(model, ATTENTION)
    keys, values = prefix_of(model, 0)
    query, key, value = projections(part(model, ATTENTION), x)
    attended, text_mass = to_text(query, key, value)
    inner = scores(query, keys)
    gate = torch.sigmoid(inner.logsumexp(-1, keepdim=True) - text_mass)
    torch.testing.assert_close(given, joined((1 - gate) * attended + gate * (inner.softmax(-1) @ values)), **EXACT)


# --- factors and biases -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [f"{ATTENTION}.key", f"{ATTENTION}.value", "intermediate.dense"])
def test_ia3_multiplies_an_output_and_is_a_change_of_its_weight(place):
    model = tuned(IA3Config())
    (x,), given = observe(model, place)
    linear = part(model, place)
    factors = linear.loras[NAME].lora_B[:, 0]
    h = x @ linear.weight.T + linear.bias
    torch.testing.assert_close(given, h + h * (factors - 1), **EXACT)
    torch.testing.assert_close(given, x @ (factors[:, None] * linear.weight).T + factors * linear.bias, **EXACT)


def test_bitfit_is_a_parallel_adapter_that_has_only_its_upper_bias():
    """On the feed-forward's output: the change of its bias is the adapter's."""
    with_adapter = tuned(ParBnConfig(reduction_factor=8, scaling=1.0))
    model = plain()
    for name, value in with_adapter.named_parameters():
        if ".adapter_up.weight" in name:
            value.zero_()
        elif ".adapter_up.bias" in name:
            place = name.partition(".adapters.")[0]
            model.get_submodule(f"{place}.dense").bias.add_(value)
    torch.testing.assert_close(run(model.eval()), run(with_adapter), **EXACT)
    assert not torch.allclose(run(model), run(plain().eval()), atol=1e-2)


# --- the project's methods are these modules --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "config"),
    [
        ("lora", {"r": RANK, "alpha": 6}, LoRAConfig(r=RANK, alpha=6, attn_matrices=["q", "v"])),
        ("prefix", {"tokens": TOKENS}, PrefixTuningConfig(flat=True, prefix_length=TOKENS)),
        ("prompt", {"tokens": TOKENS}, PromptTuningConfig(prompt_length=TOKENS, combine="prefix_after_bos")),
        ("adapter", {"r": 4}, SeqBnConfig(reduction_factor=8)),
        ("adapter-houlsby", {"r": 4}, DoubleSeqBnConfig(reduction_factor=8, non_linearity="relu")),
        ("parallel", {"r": 4}, ParBnConfig(reduction_factor=8, scaling=1.0)),
        ("scaled-parallel", {"r": 4}, ParBnConfig(reduction_factor=8, scaling=4.0)),
        ("ia3", {}, IA3Config()),
    ],
)
def test_the_project_s_methods_compute_what_these_modules_compute(name, settings, config):
    """The same parameters in both give the same states of the text's own positions.

    A prompt is compared on the row without padding: the library's fused attention lets a prompt see padding.
    """
    ours, theirs = plain(), tuned(config)
    adapters.init(ours)
    method = get_method(name, **settings)
    method.put(ours, method.settings)
    ours.double()
    ours.set_active_adapters(NAME)
    ours.load_state_dict(theirs.state_dict())
    mine, other = (last_states(model) for model in (ours.eval(), theirs))
    if name == "prompt":
        assert mine.shape == (*IDS.shape, WIDTH)
        mine, other = mine[:1], torch.cat([other[:1, :1], other[:1, 1 + TOKENS :]], dim=1)
    torch.testing.assert_close(mine, other, **EXACT)


def test_the_multihead_adapter_adds_to_the_heads_before_the_output_projection():
    model = plain()
    adapters.init(model)
    method = get_method("multihead-parallel", tokens=TOKENS)
    method.put(model, method.settings)
    model = model.double().eval()
    shake([value for name, value in model.named_parameters() if f".{ATTRIBUTE}." in name])
    (x, *_), given = observe(model, ATTENTION)
    attention = part(model, ATTENTION)
    query, key, value = projections(attention, x)
    attended, _ = to_text(query, key, value)
    added = getattr(attention, ATTRIBUTE)
    change = torch.relu(scores(query, by_head(added.keys))) @ by_head(added.values)
    torch.testing.assert_close(given, joined(attended + change), **EXACT)
    ((read,), _) = observe(model, "attention.output.dense")
    torch.testing.assert_close(read, given, rtol=0, atol=0)
