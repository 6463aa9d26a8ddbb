"""Every rule of the table: what it finds, and that it is silent about a sound adapter."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import normal
from safetensors.numpy import save
from tiny_adapters import (
    LAYERS,
    OUT,
    PREFIX,
    RANK,
    VOCABULARY,
    WIDTH,
    Tensors,
    check,
    detail,
    factors,
    keys,
    rules,
    weights,
    write,
    write_base,
)

from tupate_hub.check.rules import BY_ID, RULES
from tupate_hub.errors import UnknownName

ROOT = Path(__file__).parents[2]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 1000000\n"
A, B = keys(2)


def changed(**tensors: Any) -> Tensors:
    """The sound factors with A or B of the query weight of layer 2 replaced, or taken out where None is given."""
    names = {"a": A, "b": B}
    found = {**factors(), **{names.get(name, name): value for name, value in tensors.items()}}
    return {name: value for name, value in found.items() if value is not None}


def scaled(factor: float, half: str = "lora_B") -> Tensors:
    return {key: array * np.float32(factor) if half in key else array for key, array in factors().items()}


def renamed(change: Callable[[str], str]) -> Tensors:
    return {change(key): array for key, array in factors().items()}


def with_head(rows: int = 3) -> Tensors:
    return {**factors(), "base_model.model.score.weight": np.ones((rows, WIDTH), dtype=np.float32)}


def with_table(rows: int) -> Tensors:
    return {**factors(), "base_model.model.model.embed_tokens.weight": np.ones((rows, WIDTH), dtype=np.float32)}


# --- a sound adapter -------------------------------------------------------------------------------------------


def test_nothing_is_found_on_a_sound_adapter(tmp_path: Path) -> None:
    folder, base = write(tmp_path / "sound"), write_base(tmp_path / "base", weights())
    (one,) = check(folder, base=base)
    assert (one.findings, one.not_applied, one.against) == ((), (), str(base))
    (bare,) = check(folder)
    assert (bare.findings, bare.against) == ((), None)
    assert {rule.needs for rule in bare.not_applied} == {"base", "weights"}
    assert len(bare.not_applied) == sum(rule.needs in ("base", "weights") for rule in RULES)


def test_the_facts_are_those_of_the_update(tmp_path: Path) -> None:
    (one,) = check(write(tmp_path / "sound"))
    updates = {
        layer: [2.0 * factors()[b].astype(float) @ factors()[a] for a, b in (keys(layer, place) for place in OUT)]
        for layer in range(LAYERS)
    }
    norms = [float(np.sqrt(sum((update**2).sum() for update in updates[layer]))) for layer in range(LAYERS)]
    assert one.facts["norm"] == pytest.approx(float(np.sqrt(np.sum(np.square(norms)))), rel=1e-5)
    assert [row["layer"] for row in one.facts["layers"]] == [f"layers.{layer}" for layer in range(LAYERS)]
    assert [row["norm"] for row in one.facts["layers"]] == pytest.approx(norms, rel=1e-5)
    assert 1 < one.facts["effective_rank"] <= RANK
    assert one.facts["alpha"] == [{"where": "lora_alpha of the configuration", "values": [8.0]}]
    assert (one.facts["layout"], one.facts["method"], one.facts["base"]) == ("peft", "lora", "acme/tiny")


# --- files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json", "tokenizer.json"])
def test_pointers(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    (folder / name).write_bytes(POINTER)
    assert detail(folder, "lfs-pointer") == repr(name)
    assert rules(folder) == {"lfs-pointer"}
    if name == "tokenizer.json":
        (folder / "adapter_model.safetensors").write_bytes(b"x" * 40)
        assert rules(folder) == {"lfs-pointer", "unreadable"}


def test_no_weights(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    (folder / "adapter_model.safetensors").unlink()
    assert rules(folder) == {"no-weights"}


def test_what_is_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert detail(tmp_path, "not-recognised").startswith("it holds no adapter")
    base = write_base(tmp_path / "base", weights())
    assert detail(base, "not-recognised").startswith("model.safetensors is a whole model, not an adapter")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    (folder / "adapter_model.safetensors").write_bytes((folder / "adapter_model.safetensors").read_bytes()[:-100])
    assert detail(folder, "unreadable").startswith("adapter_model.safetensors is truncated")
    assert rules(folder) == {"unreadable"}


class Thief:
    """What a hostile pickle holds: it makes a folder when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.made),)


def pickled(folder: Path, content: bytes) -> Path:
    """The folder with its weights in an archive as torch.save makes it."""
    (folder / "adapter_model.safetensors").unlink()
    with zipfile.ZipFile(folder / "adapter_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", b"3\n")
    return folder


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_what_a_pickle_would_call(protocol: int, tmp_path: Path) -> None:
    made = tmp_path / "made"
    folder = pickled(write(tmp_path / "x"), pickle.dumps({"weight": Thief(made)}, protocol=protocol))
    assert detail(folder, "pickle-calls") == f"adapter_model.bin: '{os.mkdir.__module__}.mkdir'"
    assert rules(folder) == {"pickle-calls"}
    assert not made.exists()
    pickle.loads(pickle.dumps(Thief(made)))
    assert made.exists()


def test_what_a_bare_pickle_would_call(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    (folder / "adapter_model.safetensors").unlink()
    (folder / "adapter_model.bin").write_bytes(pickle.dumps([1, Thief(tmp_path / "made")]) + b" " * 40)
    assert "mkdir" in detail(folder, "pickle-calls")


def test_pickles_beside(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    (folder / "training_args.bin").write_bytes(pickle.dumps(Thief(tmp_path / "made")))
    assert detail(folder, "pickles-beside") == "'training_args.bin'"


def test_empty_tensors(tmp_path: Path) -> None:
    nothing = np.zeros((0,), dtype=np.float32)
    assert rules(write(tmp_path / "x", dict.fromkeys(factors(), nothing))) == {"empty-tensors"}


@pytest.mark.parametrize("tensors", [changed(b=None), changed(b=np.ones((WIDTH, RANK - 1), dtype=np.float32))])
def test_halves(tensors: Tensors, tmp_path: Path) -> None:
    folder = write(tmp_path / "x", tensors)
    assert "half-a-pair" in rules(folder)
    assert f"1 of {2 * LAYERS} modules" in detail(folder, "half-a-pair")
    assert "not-measured" not in rules(folder)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(number: float, tmp_path: Path) -> None:
    b = factors()[B].copy()
    b[1, 1] = number
    folder = write(tmp_path / "x", changed(b=b))
    assert rules(folder) == {"not-finite"}
    assert detail(folder, "not-finite") == f"1 of {4 * LAYERS} tensors: {B!r}"


@pytest.mark.parametrize(
    "change",
    [
        lambda key: f"_orig_mod.{key}",
        lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda key: key.removeprefix("base_model.model."),
        lambda key: f"base_model.model.{key}",
        lambda key: f"module.{key}",
    ],
)
def test_keys_that_peft_does_not_find(change: Callable[[str], str], tmp_path: Path) -> None:
    assert "wrapped-keys" in rules(write(tmp_path / "x", renamed(change)))


def test_a_method_that_is_not_read(tmp_path: Path) -> None:
    tensors = {f"{PREFIX}.0.self_attn.q_proj.oft_R.weight": np.ones((4, 6), dtype=np.float32)}
    folder = write(tmp_path / "x", tensors, peft_type="OFT", lora_alpha=None)
    assert rules(folder) == {"not-measured"}
    assert "'OFT'" in detail(folder, "not-measured")


def test_tensors_that_are_not_known(tmp_path: Path) -> None:
    assert rules(write(tmp_path / "x", {**factors(), f"{PREFIX}.0.odd": np.ones(3, dtype=np.float32)})) == {
        "unknown-tensors"
    }


# --- configuration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"r": RANK + 1}, {"rank-differs"}),
        ({"r": RANK + 1, "rank_pattern": {"q_proj": RANK, "v_proj": RANK}}, set()),
        ({"rank_pattern": {"k_proj": 2}}, {"pattern-nowhere"}),
        ({"alpha_pattern": {"q_proj": 8, "^o_proj": 8}}, {"pattern-nowhere"}),
        ({"lora_alpha": 0}, {"scale-zero"}),
        ({"lora_alpha": None}, {"alpha-nowhere"}),
        ({"use_rslora": True}, {"rslora"}),
        ({"use_dora": True}, {"dora"}),
        ({"init_lora_weights": "pissa_niter_16"}, {"unconverted-start"}),
        ({"init_lora_weights": "olora"}, {"unconverted-start"}),
        ({"init_lora_weights": "eva"}, set()),
        ({"init_lora_weights": "gaussian"}, set()),
        ({"target_modules": ["q_proj", "v_proj", "o_proj"]}, {"targets-nowhere"}),
        ({"target_modules": ["self_attn.q_proj", "v_proj", f"model.layers.{LAYERS - 1}.self_attn.v_proj"]}, set()),
        ({"target_modules": r".*\.(q|v)_proj"}, set()),
        ({"task_type": "SEQ_CLS"}, {"head-missing"}),
        ({"auto_mapping": {"base_model_class": "LlamaForTokenClassification"}}, {"head-missing"}),
        ({"auto_mapping": {"base_model_class": "LlamaForCausalLM"}}, set()),
        ({"modules_to_save": ["lm_head"]}, {"saved-module-missing"}),
        ({"base_model_name_or_path": "/content/model"}, {"base-unnamed"}),
        ({"base_model_name_or_path": None}, {"base-unnamed"}),
        ({"base_model_name_or_path": "unsloth/tiny-bnb-4bit"}, {"quantised-base"}),
        ({"base_model_name_or_path": "acme/tiny-AWQ"}, {"quantised-base"}),
    ],
)
def test_the_configuration(config: dict[str, Any], expected: set[str], tmp_path: Path) -> None:
    assert rules(write(tmp_path / "x", **config)) == expected


@pytest.mark.parametrize("value", [[], {}, "x", [1, {"a": 2}], -1, True, 1e40, [[]], {"q_proj": "x"}, {"": 1}])
@pytest.mark.parametrize(
    "field",
    ["r", "lora_alpha", "target_modules", "modules_to_save", "rank_pattern", "alpha_pattern", "auto_mapping",
     "init_lora_weights", "base_model_name_or_path", "task_type", "use_rslora", "config", "lora_parameters"],
)  # fmt: skip
def test_a_configuration_of_any_values_is_checked(field: str, value: object, tmp_path: Path) -> None:
    (one,) = check(write(tmp_path / "x", **{field: value}), base=write_base(tmp_path / "base", weights()))
    assert one.path


def test_rslora_names_the_factor(tmp_path: Path) -> None:
    assert detail(write(tmp_path / "x", use_rslora=True), "rslora") == "too weak there by a factor of 2"


def test_alpha_in_two_places(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", {**factors(), f"{PREFIX}.0.self_attn.q_proj.alpha": np.float32([2.0])})
    assert detail(folder, "alpha-differs") == "2 in tensors called alpha, 8 in lora_alpha of the configuration"


def test_a_head(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", with_head(3), task_type="SEQ_CLS", modules_to_save=["classifier", "score"])
    assert rules(folder) == {"head-there"}
    assert detail(folder, "head-there").startswith("3 outputs")
    assert "saved-module-missing" in rules(write(tmp_path / "y", with_head(), modules_to_save=["score", "lm_head"]))


def test_whole_copies_and_trained_tokens(tmp_path: Path) -> None:
    rows = {"base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta": np.ones((2, WIDTH), np.float32)}
    assert rules(write(tmp_path / "x", with_table(VOCABULARY), modules_to_save=["embed_tokens"])) == {"full-copies"}
    assert "trained-tokens" in rules(write(tmp_path / "y", {**factors(), **rows}))


# --- numbers ---------------------------------------------------------------------------------------------------


def test_every_update_is_zero(tmp_path: Path) -> None:
    assert rules(write(tmp_path / "x", scaled(0))) == {"all-zero"}


def test_some_updates_are_zero(tmp_path: Path) -> None:
    folder = write(tmp_path / "x", changed(b=np.zeros((WIDTH, RANK), dtype=np.float32)))
    assert rules(folder) == {"zero-blocks"}
    assert detail(folder, "zero-blocks") == f"1 of {2 * LAYERS} blocks: 'layers.2.self_attn.q_proj'"


def test_some_updates_are_next_to_zero(tmp_path: Path) -> None:
    assert rules(write(tmp_path / "x", changed(b=factors()[B] * np.float32(1e-4)))) == {"near-zero-blocks"}


@pytest.mark.parametrize(
    ("factor", "expected"), [(1e-4, {"too-small"}), (1e-1, set()), (10, set()), (1e4, {"too-large"})]
)
def test_how_large_updates_are(factor: float, expected: set[str], tmp_path: Path) -> None:
    assert rules(write(tmp_path / "x", scaled(factor))) == expected


def test_one_layer_written_over_another(tmp_path: Path) -> None:
    first = keys(0)
    folder = write(tmp_path / "x", changed(a=factors()[first[0]], b=factors()[first[1]]))
    assert rules(folder) == {"duplicated-blocks"}
    assert detail(folder, "duplicated-blocks") == (
        f"2 of {2 * LAYERS} blocks: 'layers.0.self_attn.q_proj', 'layers.2.self_attn.q_proj'"
    )


def test_layers_that_are_not_there(tmp_path: Path) -> None:
    less = {key: array for key, array in factors().items() if ".layers.2." not in key}
    assert rules(write(tmp_path / "x", less)) == {"layer-gaps"}
    assert rules(write(tmp_path / "y", less, layers_to_transform=[0, 1, 3, 4])) == set()


def test_half_precision(tmp_path: Path) -> None:
    large = factors()[A] * np.float32(1e7)
    small = factors()[B] * np.float32(1e-7)
    assert rules(write(tmp_path / "x", changed(a=large, b=small))) == {"float16-overflow", "float16-underflow"}
    tiny = {key: array * np.float32(1e-7 if "lora_B" in key else 1e5) for key, array in factors().items()}
    assert rules(write(tmp_path / "y", tiny)) == {"float16-underflow"}
    with np.errstate(under="ignore"):
        assert not tiny[B].astype(np.float16).any()


def test_a_rank_that_is_not_used(tmp_path: Path) -> None:
    narrow = {
        key: array * np.float32([[1], [1], [1e-3], [0]]) if "A" in key else array for key, array in factors().items()
    }
    folder = write(tmp_path / "x", narrow)
    assert rules(folder) == {"unused-rank"}
    assert detail(folder, "unused-rank") == f"rank 2 keeps 99 % of each update's squared norm, of rank {RANK}"


# --- beside others ---------------------------------------------------------------------------------------------


def test_the_same_change_under_another_name(tmp_path: Path) -> None:
    first = write(tmp_path / "first")
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((RANK, RANK)))[0].astype(np.float32)
    turned = {key: array @ rotation.T if "B" in key else rotation @ array for key, array in factors().items()}
    half = {key: array.astype(np.float16) for key, array in factors().items()}
    other = write(tmp_path / "other", factors(seed=1))
    assert rules(first, other) == set()
    for name, tensors in (("turned", turned), ("half", half)):
        assert rules(first, other, write(tmp_path / name, tensors)) == {"same-update"}
    assert rules(first, write(tmp_path / "weak", lora_alpha=4)) == {"same-direction"}
    found = check(first, tmp_path / "weak")[1].findings[0].found.text
    assert found == f"0.5 times {first}"
    assert check(first, tmp_path / "weak")[0].findings == ()


# --- the base model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [weights(), None], ids=["header", "config"])
def test_another_base_model(known: Tensors | None, tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    assert rules(folder, base=write_base(tmp_path / "base", known)) == set()
    shallow = known and {key: array for key, array in known.items() if f"layers.{LAYERS - 1}" not in key}
    base = write_base(tmp_path / "shallow", shallow, num_hidden_layers=LAYERS - 1)
    assert rules(folder, base=base) == {"not-in-base"}
    assert f"2 of {2 * LAYERS} places" in detail(folder, "not-in-base", base)
    wide = known and {key: np.tile(array, 2) for key, array in known.items()}
    base = write_base(tmp_path / "wide", wide, hidden_size=2 * WIDTH, head_dim=WIDTH // 4)
    assert rules(folder, base=base) == {"other-shape"}
    assert f"{WIDTH} x {WIDTH} here, {WIDTH} x {2 * WIDTH} there" in detail(folder, "other-shape", base)


def test_a_transposed_weight(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = normal(rng, 2, WIDTH), normal(rng, 3 * WIDTH, 2)
    name = "transformer.h.0.attn.c_attn"
    lora = {f"base_model.model.{name}.lora_A.weight": 0.02 * a, f"base_model.model.{name}.lora_B.weight": 0.02 * b}
    folder = write(tmp_path / "x", lora, r=2, target_modules=["c_attn"])
    model = {"h.0.attn.c_attn.weight": 0.1 * normal(rng, WIDTH, 3 * WIDTH)}
    assert rules(folder, base=write_base(tmp_path / "gpt2", model, model_type="gpt2")) == set()
    assert rules(folder, base=write_base(tmp_path / "other", model)) == {"other-shape"}


def test_a_prompt_of_another_width(tmp_path: Path) -> None:
    rows = {"prompt_embeddings": np.random.default_rng(0).standard_normal((3, WIDTH + 1)).astype(np.float32)}
    folder = write(tmp_path / "x", rows, peft_type="PROMPT_TUNING", num_virtual_tokens=3)
    base = write_base(tmp_path / "base")
    assert rules(folder, base=base) == {"other-width"}
    assert detail(folder, "other-width", base) == f"{WIDTH + 1} here, {WIDTH} there"


@pytest.mark.parametrize("part", ["oft_R.weight", "boft_s", "hada_w1_a", "lokr_w2", "vera_lambda_b", "hra_u"])
def test_the_places_of_a_method_that_is_not_read(part: str, tmp_path: Path) -> None:
    tensors = {f"{PREFIX}.{layer}.self_attn.q_proj.{part}": np.ones((4, 6), np.float32) for layer in range(LAYERS)}
    folder = write(tmp_path / "x", tensors, peft_type="ODD", lora_alpha=None)
    assert rules(folder, base=write_base(tmp_path / "base", weights())) == {"not-measured"}
    other = {key.replace("self_attn", "attention"): array for key, array in weights().items()}
    base = write_base(tmp_path / "other", other)
    assert rules(folder, base=base) == {"not-measured", "not-in-base"}
    assert f"{LAYERS} of {LAYERS} places" in detail(folder, "not-in-base", base)


@pytest.mark.parametrize(("layers", "keys", "expected"), [(LAYERS, WIDTH // 2, set()), (LAYERS + 1, WIDTH // 2, {"not-in-base"}),
                                                          (LAYERS, WIDTH, {"other-width"})])  # fmt: skip
def test_a_prefix_of_another_model(layers: int, keys: int, expected: set[str], tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((3, layers * 2 * keys)).astype(np.float32)
    config = {"peft_type": "PREFIX_TUNING", "num_layers": layers, "token_dim": keys, "num_virtual_tokens": 3}
    folder = write(tmp_path / "x", {"prompt_embeddings": rows}, **config)
    assert rules(folder, base=write_base(tmp_path / "base", weights())) == expected


@pytest.mark.parametrize(("width", "layers", "expected"), [(WIDTH, LAYERS, set()), (WIDTH, LAYERS + 1, {"not-in-base"}),
                                                           (WIDTH + 1, LAYERS, {"other-width"})])  # fmt: skip
def test_bottlenecks_of_another_model(width: int, layers: int, expected: set[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "adapter_down.0.weight": (2, width),
        "adapter_down.0.bias": (2,),
        "adapter_up.weight": (width, 2),
        "adapter_up.bias": (width,),
    }
    tensors = {
        f"bert.encoder.layer.{layer}.output.adapters.mine.{name}": (0.02 * rng.standard_normal(shape)).astype(
            np.float32
        )
        for layer in range(layers)
        for name, shape in shapes.items()
    }
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "adapter.safetensors").write_bytes(save(tensors))
    inside = {
        "architecture": None,
        "reduction_factor": 8,
        "non_linearity": "relu",
        "output_adapter": True,
        "mh_adapter": False,
    }
    config = {"config": inside, "model_name": "acme/tiny", "model_type": "bert", "name": "mine", "hidden_size": width}
    (tmp_path / "x" / "adapter_config.json").write_text(json.dumps(config))
    model = {
        f"encoder.layer.{layer}.output.dense.weight": np.ones((WIDTH, WIDTH), np.float32) for layer in range(LAYERS)
    }
    assert rules(tmp_path / "x", base=write_base(tmp_path / "base", model)) == expected


@pytest.mark.parametrize(("width", "expected"), [(WIDTH // 2, set()), (WIDTH, {"other-shape"})])
def test_ia3_of_another_model(width: int, expected: set[str], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"{PREFIX}.{layer}.self_attn.v_proj.ia3_l" for layer in range(LAYERS)]
    vectors = {name: (1 + 0.1 * rng.standard_normal((width, 1))).astype(np.float32) for name in names}
    folder = write(tmp_path / "x", vectors, peft_type="IA3", lora_alpha=None, target_modules=["v_proj"])
    assert rules(folder, base=write_base(tmp_path / "base", weights())) == expected


def test_tokens(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", weights())
    assert "vocabulary-resized" in rules(write(tmp_path / "x", with_table(VOCABULARY + 2)), base=base)
    assert "vocabulary-resized" not in rules(write(tmp_path / "same", with_table(VOCABULARY)), base=base)
    folder = write(tmp_path / "y")
    decoder = {str(number): {"content": f"<{number}>"} for number in (VOCABULARY - 1, VOCABULARY)}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    (folder / "added_tokens.json").write_text(json.dumps({"<x>": VOCABULARY + 1, "<y>": 0}))
    assert detail(folder, "tokens-without-rows", base) == (f"2 tokens, {VOCABULARY} rows: '<{VOCABULARY}>', '<x>'")


def test_a_part_of_the_weights(tmp_path: Path) -> None:
    found = {}
    for layer in range(LAYERS):
        for place in OUT:
            u, s, v = np.linalg.svd(weights()[f"model.layers.{layer}.self_attn.{place}.weight"], full_matrices=False)
            a, b = keys(layer, place)
            found[a], found[b] = np.sqrt(s[:RANK, None]) * v[:RANK], u[:, :RANK] * np.sqrt(s[:RANK])
    folder, base = write(tmp_path / "x", found, lora_alpha=RANK), write_base(tmp_path / "base", weights())
    assert rules(folder, base=base) == {"part-of-base"}
    assert rules(folder) == set()


def test_beside_the_weights(tmp_path: Path) -> None:
    folder = write(tmp_path / "x")
    assert rules(folder, base=write_base(tmp_path / "small", weights(1e-5))) == {"larger-than-base"}
    assert rules(folder, base=write_base(tmp_path / "large", weights(30))) == {"lost-in-bfloat16"}
    assert f"{2 * LAYERS} of {2 * LAYERS} blocks" in detail(folder, "lost-in-bfloat16", tmp_path / "large")


# --- the table -------------------------------------------------------------------------------------------------


def test_a_rule_can_be_left_out(tmp_path: Path) -> None:
    from tupate_hub.check.checking import Place, check_adapters

    place = Place("x", write(tmp_path / "x", scaled(0)))
    assert check_adapters([place], ignore=["all-zero"])[0].findings == ()
    with pytest.raises(UnknownName, match="'all-zeros'"):
        check_adapters([place], ignore=["all-zeros"])


def test_every_rule_is_complete() -> None:
    assert len(BY_ID) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.id)
        assert rule.severity in ("error", "warning", "note")
        assert (rule.find is None) == (rule.needs == "others") == (rule.among is not None)
        assert rule.sentence.endswith(".") and rule.advice.endswith(".") and rule.source


def test_every_rule_is_tried_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    others = {"other-base", "pickle"}  # in test_check_base.py and test_check_shared.py
    assert not [rule.id for rule in RULES if f'"{rule.id}"' not in text and rule.id not in others]


def test_the_page_has_every_rule() -> None:
    page = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (\w+) \| (.+) \| (.+) \| (.+) \|$", page, flags=re.MULTILINE)
    assert rows == [(rule.id, rule.severity, rule.sentence, rule.advice, rule.source) for rule in RULES]
