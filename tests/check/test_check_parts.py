"""What the rules stand on: sizes of updates, pickles read off their opcodes, base models, alpha."""

from __future__ import annotations

import json
import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest
from builders import bottleneck, lora, normal
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from tiny_adapters import LAYERS, VOCABULARY, WIDTH, factors, weights, write, write_base

from tupate_hub.check.alpha import alphas
from tupate_hub.check.architecture import shape_of
from tupate_hub.check.basemodel import open_base, read_base
from tupate_hub.check.beside import beside
from tupate_hub.check.evidence import gather
from tupate_hub.check.pickles import foreign_names
from tupate_hub.check.updates import SHARE, fingerprint, measure
from tupate_hub.embedding import Block, make_block
from tupate_hub.errors import FormatError

# --- updates ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(-30, 30))
def test_sizes_are_those_of_the_formed_update(seed: int, rank: int, power: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = normal(rng, rank, 7), normal(rng, 6, rank) * np.float32(10.0**power)
    a[rank // 2] *= np.float32(1e-2)
    (update,) = measure([make_block("x", {"A": a, "B": b}, -1.5)])
    exact = np.linalg.svd(-1.5 * b.astype(float) @ a.astype(float), compute_uv=False)[:rank]
    # singular values are roots of those of r x r products, whose rounding is that of float32
    np.testing.assert_allclose(update.values, exact, atol=2e-3 * exact[0])
    assert update.norm == pytest.approx(np.linalg.norm(exact), rel=1e-5)
    assert update.shape == (6, 7)
    kept = np.cumsum(exact**2) / np.sum(exact**2)
    assert kept[update.rank_needed - 1] >= SHARE - 1e-4
    assert update.rank_needed == 1 or kept[update.rank_needed - 2] < SHARE + 1e-4


def test_an_update_of_nothing_and_one_of_another_form() -> None:
    zero = make_block("x", {"A": np.zeros((2, 3)), "B": np.ones((4, 2))})
    (update,) = measure([zero])
    assert (update.norm, update.rank_needed, update.effective_rank) == (0, 0, 0)
    blocks = bottleneck("x", 0).blocks
    parts = blocks[0].parts
    plain = 1.5 * np.hstack(
        [parts["up"] @ parts["down"], (parts["up"] @ parts["down_bias"] + parts["up_bias"])[:, None]]
    )
    assert measure(blocks)[0].norm == pytest.approx(np.linalg.norm(plain), rel=1e-5)


@given(st.integers(0, 10**6))
def test_the_effective_rank_of_equal_directions_is_their_number(seed: int) -> None:
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))[0].astype(np.float32)
    (update,) = measure([make_block("x", {"A": basis[:3], "B": basis[:, :3]})])
    assert update.effective_rank == pytest.approx(3, rel=1e-4)


def test_numbers_for_whose_product_float32_has_no_room() -> None:
    large = make_block("x", {"A": np.full((1, 4), 1e30), "B": np.full((4, 1), 1e30)}, 1e20)
    small = make_block("y", {"A": np.full((1, 4), 1e-30), "B": np.full((4, 1), 1e-12)}, 1e20)
    assert [update.norm for update in measure([large, small])] == pytest.approx([4e80, 4e-22], rel=1e-5)


def test_rows_that_depend_on_one_another() -> None:
    rng = np.random.default_rng(0)
    a = np.vstack([normal(rng, 1, 7)] * 4) * np.float32([[1], [3], [1e-3], [0]])
    b = normal(rng, 6, 4)
    (update,) = measure([make_block("x", {"A": a, "B": b})])
    exact = np.linalg.svd(b.astype(float) @ a.astype(float), compute_uv=False)
    np.testing.assert_allclose(update.values[0], exact[0], rtol=1e-5)
    assert update.rank_needed == 1


def test_what_has_no_room_at_all_is_infinite() -> None:
    blocks = bottleneck("x", 0).blocks
    parts = {part: np.full_like(array, 1e38) for part, array in blocks[0].parts.items()}
    first, second = measure([Block("wild", parts, 1e30), blocks[1]])
    assert (first.norm, first.rank_needed, first.effective_rank) == (np.inf, 0, 0)
    assert 0 < second.norm < np.inf
    assert fingerprint("x", (first, second)) is None


def test_a_fingerprint_tells_updates_apart() -> None:
    def of(one: tuple[Block, ...]) -> np.ndarray:
        found = fingerprint("x", measure(one))
        assert found is not None
        return found.direction

    first, other = of(lora("x", 0).blocks), of(lora("x", 1).blocks)
    assert np.linalg.norm(first - other) > 0.5 * np.linalg.norm(first)
    np.testing.assert_allclose(first, of(lora("x", 0, scale=7.0).blocks), rtol=1e-4)
    assert fingerprint("x", measure(lora("x", 0, scale=0.0).blocks)) is None


# --- pickles ---------------------------------------------------------------------------------------------------


class Caller:
    """Calls what it is made with when it is unpickled."""

    def __init__(self, *called: object) -> None:
        self.called = called

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.called[0], self.called[1:]  # type: ignore[return-value]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_names_are_found_in_every_protocol(protocol: int) -> None:
    named = [Caller(eval, "1"), {"a": Caller(eval, "2")}, Caller(pickle.loads, "")]
    (first, second) = foreign_names(pickle.dumps(named, protocol=protocol))
    assert first in ("builtins.eval", "__builtin__.eval")
    assert second in ("pickle.loads", "_pickle.loads")


def test_a_name_whose_parts_were_remembered_is_found() -> None:
    text = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94N0h\x00h\x01\x93\x8c\x02ls\x85R."
    assert [opcode.name for opcode, *_ in pickletools.genops(text)][-1] == "STOP"
    assert foreign_names(text) == ("posix.system",)


def test_tensors_alone_name_nothing() -> None:
    assert foreign_names(b"ctorch._utils\n_rebuild_tensor_v2\nctorch\nFloatStorage\nccollections\nOrderedDict\n.") == ()
    assert foreign_names(b"ctorch.hub\nload\n.") == ("torch.hub.load",)
    assert foreign_names(b"ctorch\nload\n.") == ("torch.load",)


@given(st.binary(max_size=60))
def test_any_bytes_are_scanned(data: bytes) -> None:
    assert isinstance(foreign_names(data), tuple)
    assert isinstance(foreign_names(b"\x80\x04" + data), tuple)


def test_a_text_with_an_odd_escape_is_scanned_without_a_warning() -> None:
    assert foreign_names(b"S'\\_'\ncposix\nsystem\n.") == ("posix.system",)


def test_one_after_the_other() -> None:
    assert foreign_names(pickle.dumps(1) + pickle.dumps(Caller(eval, "1"))) == ("builtins.eval",)


# --- base models -----------------------------------------------------------------------------------------------


def test_a_base_model_in_a_folder(tmp_path: Path) -> None:
    base = read_base(write_base(tmp_path, weights()))
    assert (base.vocabulary, base.width, base.on_disk) == (VOCABULARY, WIDTH, True)
    assert base.shape("layers.0.self_attn.v_proj") == (WIDTH // 2, WIDTH)
    assert base.shape("embed_tokens") == (WIDTH, VOCABULARY)  # LoRA on an embedding is transposed
    assert not base.lacks("layers.0.self_attn.v_proj")
    assert base.lacks("layers.0.self_attn.k_proj")
    ((name, rows),) = base.first_rows(["layers.0.self_attn.v_proj", "nowhere"])
    np.testing.assert_array_equal(rows, weights()[f"model.{name}.weight"])
    (only,) = tmp_path.glob("*.safetensors")
    assert read_base(only).weights == base.weights


def test_bfloat16_and_quantised_weights(tmp_path: Path) -> None:
    numbers = np.full((4, 8), 0.5, dtype=np.float32)
    header = {
        "h.0.x.weight": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]},
        "h.0.y.weight": {"dtype": "U8", "shape": [16, 1], "data_offsets": [64, 80]},
    }
    text = json.dumps(header).encode()
    halves = (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + halves + bytes(16))
    base = read_base(tmp_path)
    ((name, rows),) = base.first_rows(["h.0.x", "h.0.y"])
    assert (name, rows.shape, rows.min(), rows.max()) == ("h.0.x", (4, 8), 0.5, 0.5)
    assert (base.shape("h.0.x"), base.shape("h.0.y"), base.lacks("h.0.y")) == ((4, 8), None, False)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_an_update_beside_its_weight(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weight, a, b = normal(rng, 9, 12), normal(rng, 2, 12), normal(rng, 9, 2)
    kept = weight.T.copy() if kind == "gpt2" else weight
    base = read_base(write_base(tmp_path, {"h.0.x.weight": kept}, model_type=kind))
    change = -0.5 * b.astype(float) @ a.astype(float)
    (found,) = beside(base, measure([make_block("h.0.x", {"A": a, "B": b}, -0.5)])).values()
    assert found.ratio == pytest.approx(np.linalg.norm(change) / np.linalg.norm(weight), rel=1e-4)
    cosine = np.sum(change * weight) / np.linalg.norm(change) / np.linalg.norm(weight)
    assert found.cosine == pytest.approx(cosine, abs=1e-5)
    assert found.chance == pytest.approx(1 / np.sqrt(9 * 12))
    assert beside(base, measure([make_block("h.0.x", {"A": a[:, 1:], "B": b})])) == {}


def test_of_a_large_weight_the_first_rows_are_enough(tmp_path: Path) -> None:
    large = np.random.default_rng(0).standard_normal((2000, 100)).astype(np.float32)
    base = read_base(write_base(tmp_path, {"h.0.x.weight": large}))
    ((_, rows),) = base.first_rows(["h.0.x"])
    assert rows.shape == ((1 << 19) // 400, 100)
    np.testing.assert_array_equal(rows, large[: len(rows)])


def test_pieces_that_are_not_all_there_say_nothing(tmp_path: Path) -> None:
    write_base(tmp_path)
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(save(weights()))
    assert not read_base(tmp_path).weights
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(save({"lm_head.weight": np.ones((2, 2), np.float32)}))
    assert "lm_head.weight" in read_base(tmp_path).weights


@pytest.mark.parametrize("name", ["nowhere", "a/b/c", "", "x" * 5000, "\0"])
def test_what_names_no_base_model(name: str) -> None:
    with pytest.raises(FormatError, match="neither a folder nor a model"):
        open_base(name)


def test_what_is_no_base_model(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="is no base model"):
        read_base(write(tmp_path / "adapter"))
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(FormatError, match="not a JSON object"):
        read_base(tmp_path)


def test_the_base_that_an_adapter_names_is_taken_where_it_is_a_folder(tmp_path: Path) -> None:
    from tiny_adapters import check

    base = write_base(tmp_path / "base", weights())
    (one,) = check(write(tmp_path / "x", base_model_name_or_path=str(base)))
    assert one.against == str(base)
    assert not one.not_applied
    for name in (f"//host/{base}", f"\\\\host{base}", str(tmp_path / "nowhere"), str(tmp_path / "x")):
        (one,) = check(write(tmp_path / "y", base_model_name_or_path=name))
        assert one.against is None, name


BERT = {"hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 48}
LLAMA = {"hidden_size": 12, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 20}


@pytest.mark.parametrize(
    ("config", "block", "shape"),
    [
        (BERT, "encoder.layer.0.attention.self.query", (12, 12)),
        (BERT, "encoder.layer.0.attention.output.dense", (12, 12)),
        (BERT, "encoder.layer.0.intermediate.dense", (48, 12)),
        (BERT, "encoder.layer.0.output.dense", None),
        (LLAMA, "layers.1.self_attn.q_proj", (24, 12)),
        (LLAMA, "layers.1.self_attn.v_proj", (8, 12)),
        (LLAMA, "layers.1.self_attn.o_proj", (12, 24)),
        (LLAMA, "layers.1.mlp.down_proj", (12, 20)),
        ({"text_config": LLAMA}, "layers.1.mlp.up_proj", (20, 12)),
        ({"n_embd": 12, "n_head": 2}, "h.0.attn.c_attn", (36, 12)),
        ({"dim": 12, "n_heads": 2, "hidden_dim": 48}, "transformer.layer.0.ffn.lin1", (48, 12)),
        ({}, "h.0.attn.c_attn", None),
        ({"hidden_size": "x", "num_attention_heads": -1}, "h.0.attn.c_attn", None),
    ],
)
def test_shapes_that_a_configuration_tells(config: dict[str, object], block: str, shape: object) -> None:
    assert shape_of(config, block) == shape


# --- alpha -----------------------------------------------------------------------------------------------------


def test_where_alpha_stands(tmp_path: Path) -> None:
    metadata = {
        "ss_network_alpha": "4.0",
        "transformer.lora_alpha": "16",
        "lora_adapter_metadata": json.dumps({"unet.lora_alpha": 8, "unet.r": 4, "x.lora_alpha": []}),
        "unet.lora_alpha": "many",
    }
    tensors = {
        **factors(),
        "x.alpha": np.array(2, np.float32),
        "y.alpha": np.float32([3]),
        "z.alpha": np.float32([np.nan]),
    }
    folder = write(tmp_path / "x", tensors, lora_alpha=None)
    (folder / "adapter_model.safetensors").write_bytes(save(tensors, metadata))
    found = {(one.where, one.values) for one in alphas(gather(folder, "x"))}
    assert found == {
        ("tensors called alpha", (2.0, 3.0)),
        ("ss_network_alpha of the metadata", (4.0,)),
        ("transformer.lora_alpha of the metadata", (16.0,)),
        ("unet.lora_alpha of the metadata", (8.0,)),
    }


# --- hostile files ---------------------------------------------------------------------------------------------


def test_a_damaged_file_is_checked_like_any_other(tmp_path: Path) -> None:
    from tiny_adapters import check

    rng = np.random.default_rng(0)
    folder, base = write(tmp_path / "x"), read_base(write_base(tmp_path / "base", weights()))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        sound = (folder / name).read_bytes()
        for _ in range(150):
            data = bytearray(sound)
            for at in rng.integers(0, len(data) if name.endswith("json") else 4000, size=rng.integers(1, 6)):
                data[at] = rng.integers(0, 256)
            (folder / name).write_bytes(bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.2 else data))
            (one,) = check(folder, base=base)
            json.dumps(one.facts, allow_nan=False)
        (folder / name).write_bytes(sound)
    assert len(check(folder)[0].facts["layers"]) == LAYERS
