"""The multi-head parallel adapter: against numpy, head by head; where it is put; and what leaves it unchanged."""

import math

import numpy as np
import pytest
import torch
from tiny_models import LAYERS, WIDTH, shake, tiny

from tupate_hub.errors import FormatError
from tupate_hub.training.methods import get_method
from tupate_hub.training.model import architecture, build_model, is_head, tuned_state
from tupate_hub.training.multihead import ATTRIBUTE, MultiheadParallel, add_multihead_parallel
from tupate_hub.training.record import read_tensors
from tupate_hub.training.result import Layout

HEADS, TOKENS = 4, 5
IDS = torch.tensor([[2, 7, 9, 11, 30, 4, 8], [2, 49, 3, 17, 0, 0, 0]])
MASK = (IDS > 0).long()


def adapter(tokens=TOKENS, width=WIDTH, heads=HEADS, seed=5):
    module = MultiheadParallel(tokens, width, heads)
    shake(module.parameters(), seed)
    return module.double()


def queries(*shape, seed=2):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def in_numpy(module, query):
    """The definition, in loops: for head i, ReLU(q_i K_i^T / sqrt(d_h)) V_i."""
    keys, values = (part.detach().numpy() for part in (module.keys, module.values))
    query, width = query.numpy(), keys.shape[1] // module.heads
    result = np.zeros_like(query)
    for head in range(module.heads):
        mine = slice(head * width, (head + 1) * width)
        for row in np.ndindex(query.shape[:-1]):
            for token in range(len(keys)):
                inner = query[row][mine] @ keys[token, mine] / math.sqrt(width)
                result[row][mine] += max(0.0, inner) * values[token, mine]
    return result


@pytest.mark.parametrize(
    ("tokens", "width", "heads", "shape"),
    [(5, 32, 4, (3, 7)), (1, 32, 4, (2, 3)), (3, 12, 1, (2, 3)), (2, 6, 6, (1, 1)), (4, 8, 2, (5,))],
)
def test_the_definition_head_by_head(tokens, width, heads, shape):
    module, query = adapter(tokens, width, heads), queries(*shape, width)
    given = module(query).detach()
    assert given.shape == query.shape
    assert given.abs().max() > 1e-3
    np.testing.assert_allclose(given.numpy(), in_numpy(module, query), rtol=0, atol=1e-12)


def test_another_function_in_the_relu_s_place():
    module, query = adapter(), queries(2, 3, WIDTH)
    keys, values = (part.detach().unflatten(1, (HEADS, -1)) for part in (module.keys, module.values))
    by_head = query.unflatten(-1, (HEADS, -1))
    inner = torch.einsum("blhd,thd->blht", by_head, keys) / math.sqrt(WIDTH // HEADS)
    expected = torch.einsum("blht,thd->blhd", inner.softmax(-1), values).flatten(-2)
    torch.testing.assert_close(module(query, lambda x: x.softmax(-1)), expected, rtol=0, atol=1e-12)


def test_a_head_s_parameters_change_that_head_alone():
    module, query = adapter(), queries(2, 3, WIDTH)
    before = module(query).detach()
    width = WIDTH // HEADS
    with torch.no_grad():
        module.keys[:, width : 2 * width] += 1
        module.values[:, width : 2 * width] -= 1
    changed = (module(query) - before).abs().amax(dim=(0, 1)).unflatten(0, (HEADS, width)).amax(dim=1)
    assert changed[1] > 1e-2
    assert changed[[0, 2, 3]].max() == 0


def test_positions_may_change_places():
    module, query = adapter(), queries(2, 3, WIDTH)
    before = module(query)
    with torch.no_grad():
        order = torch.tensor([3, 1, 4, 0, 2])
        module.keys.copy_(module.keys[order])
        module.values.copy_(module.values[order])
    torch.testing.assert_close(module(query), before, rtol=0, atol=1e-12)


def test_keys_and_values_may_trade_a_positive_factor():
    module, query = adapter(), queries(2, 3, WIDTH)
    before = module(query)
    with torch.no_grad():
        factors = torch.tensor([0.5, 2.0, 3.0, 0.1, 7.0])[:, None]
        module.keys.mul_(factors)
        module.values.div_(factors)
    torch.testing.assert_close(module(query), before, rtol=0, atol=1e-12)


def test_it_starts_without_effect_and_learns_from_the_first_step():
    module = MultiheadParallel(TOKENS, WIDTH, HEADS)
    query = queries(2, 3, WIDTH).float()
    assert torch.count_nonzero(module(query)) == 0
    module(query).sum().backward()
    assert module.values.grad.abs().max() > 0
    assert module.keys.grad.abs().max() == 0  # nothing depends on the keys before the values have moved
    with torch.no_grad():
        module.values -= 0.1 * module.values.grad
    module.zero_grad()
    module(query).sum().backward()
    assert module.keys.grad.abs().max() > 0


# --- in a model -------------------------------------------------------------------------------------------------


def put():
    model = tiny("bert")
    model.requires_grad_(False)
    add_multihead_parallel(model, TOKENS)
    return model.eval()


def logits(model, rows=slice(None)):
    with torch.inference_mode():
        return model(input_ids=IDS[rows], attention_mask=MASK[rows]).logits


def test_every_layer_has_one_and_nothing_else_is_added():
    before = {name for name, _ in tiny("bert").named_parameters()}
    model = put()
    added = {name: value for name, value in model.named_parameters() if name not in before}
    places = [f"bert.encoder.layer.{layer}.attention.self.{ATTRIBUTE}" for layer in range(LAYERS)]
    assert set(added) == {f"{place}.{part}" for place in places for part in ("keys", "values")}
    assert {tuple(value.shape) for value in added.values()} == {(TOKENS, WIDTH)}
    assert [name for name, value in model.named_parameters() if value.requires_grad] == list(added)


def test_a_fresh_one_leaves_the_model_as_it_is():
    model = put()
    torch.testing.assert_close(logits(model), logits(tiny("bert")), rtol=0, atol=0)
    shake([value for value in model.parameters() if value.requires_grad])
    assert not torch.allclose(logits(model), logits(tiny("bert")), atol=1e-3)


def test_a_pass_depends_on_no_other():
    model = put()
    shake([value for value in model.parameters() if value.requires_grad])
    together = logits(model)
    torch.testing.assert_close(logits(model, slice(1, 2)), together[1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(logits(model, slice(0, 1)), together[:1], atol=1e-5, rtol=0)
    stop = model.bert.encoder.layer[0].attention.self.value.register_forward_pre_hook(_fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        logits(model, slice(1, 2))  # leaves nothing behind
    stop.remove()
    torch.testing.assert_close(logits(model), together, rtol=0, atol=0)


def _fail(*given):
    raise RuntimeError("in the middle of a layer")


def test_the_change_of_a_layer_is_that_of_its_query():
    model = put()
    shake([value for value in model.parameters() if value.requires_grad])
    attention = model.bert.encoder.layer[0].attention.self
    seen = {}
    attention.register_forward_hook(lambda module, inputs, output: seen.update(x=inputs[0], after=output[0]))
    logits(model)
    plain = tiny("bert").eval()
    plain.bert.encoder.layer[0].attention.self.register_forward_hook(
        lambda module, inputs, output: seen.update(before=output[0])
    )
    logits(plain)
    with torch.inference_mode():
        query = attention.query(seen["x"])
        change = getattr(attention, ATTRIBUTE)(query)
    torch.testing.assert_close(seen["after"], seen["before"] + change, rtol=0, atol=1e-5)


def test_all_parameters_get_a_gradient(base, load):
    model = build_model(base, load("toy_classes"), get_method("multihead-parallel", tokens=3), 0)
    shake([value for name, value in model.named_parameters() if value.requires_grad and not is_head(name)])
    inputs = torch.tensor([[2, 10, 11, 12, 3], [2, 20, 21, 22, 3]])
    model(input_ids=inputs, attention_mask=torch.ones_like(inputs), labels=torch.tensor([0, 1])).loss.backward()
    tuned = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
    assert len(tuned) == 2 * LAYERS + 2
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in tuned.values())


def test_a_block_is_one_head_s_linear_map(base, load):
    """B A of a block, over the root of the head's width, is what the head would add if ReLU were the identity."""
    model = build_model(base, load("toy_classes"), get_method("multihead-parallel", tokens=3), 0)
    shake([value for name, value in model.named_parameters() if value.requires_grad])
    tensors = {name: value.numpy() for name, value in tuned_state(model).items() if not is_head(name)}
    sizes = architecture(model)
    heads, width = sizes["num_attention_heads"], sizes["hidden_size"] // sizes["num_attention_heads"]
    layout = Layout("toy", "multihead-parallel", {}, sizes)
    blocks = {block.name: block for block in read_tensors(tensors, layout).blocks}
    places = [f"encoder.layer.{layer}.attention.self" for layer in range(LAYERS)]
    assert set(blocks) == {f"{place}.head.{head}" for place in places for head in range(heads)}
    query = queries(4, sizes["hidden_size"]).float()
    for place in places:
        module = model.get_submodule(f"bert.{place}.{ATTRIBUTE}")
        given = module(query, lambda inner: inner).detach().unflatten(-1, (heads, width))
        for head in range(heads):
            parts = blocks[f"{place}.head.{head}"].parts
            change = (parts["B"] @ parts["A"]) @ query.unflatten(-1, (heads, width))[:, head].numpy().T
            np.testing.assert_allclose(given[:, head].numpy(), change.T / math.sqrt(width), atol=1e-5)


def test_a_model_without_bert_s_attention_is_refused():
    with pytest.raises(FormatError, match="cannot be put into a distilbert model"):
        add_multihead_parallel(tiny("distilbert"), TOKENS)
