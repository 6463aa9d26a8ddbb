"""GGUF: files of a small writer of the tests' own, and of the gguf package where it is installed."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tupate_hub.check.alpha import alphas
from tupate_hub.check.evidence import gather
from tupate_hub.errors import FormatError
from tupate_hub.readers import find_adapters, read_adapter
from tupate_hub.readers.formats.gguffile import parse_gguf_file, parse_gguf_header

ADAPTER = {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora"}
HEADS, GROUPED, WIDTH = 4, 2, 16


def packed(value: Any) -> bytes:
    """A value with its type, as the format has it."""
    if isinstance(value, str):
        return struct.pack("<IQ", 8, len(value.encode())) + value.encode()
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    items = b"".join(packed(item)[4:] for item in value)
    return struct.pack("<I", 9) + packed(value[0])[:4] + struct.pack("<Q", len(value)) + items


def write_gguf(facts: dict[str, Any], tensors: dict[str, np.ndarray], alignment: int = 32) -> bytes:
    """A file of version 3; float32, float16 and bfloat16 (as uint16) tensors."""
    codes = {"float32": 0, "float16": 1, "float64": 28, "uint16": 30}
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts))
    for key, value in facts.items():
        header += packed(key)[4:] + packed(value)
    buffer = b""
    for name, array in tensors.items():
        sizes = struct.pack(f"<{array.ndim}Q", *array.shape[::-1])
        header += packed(name)[4:] + struct.pack("<I", array.ndim) + sizes
        header += struct.pack("<IQ", codes[array.dtype.name], len(buffer))
        buffer += array.tobytes() + bytes(-array.nbytes % alignment)
    return header + bytes(-len(header) % alignment) + buffer


def permuted(rows: np.ndarray, heads: int) -> np.ndarray:
    """As llama.cpp's converter reorders q and k: the two halves of each head's rows, one by one in turn."""
    size = len(rows) // heads
    order = [head * size + half * size // 2 + at for head in range(heads) for at in range(size // 2) for half in (0, 1)]
    return np.ascontiguousarray(rows[order])


def factors(out: int = WIDTH, inner: int = WIDTH, rank: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rank, inner)).astype(np.float32), rng.standard_normal((out, rank)).astype(np.float32)


def saved(folder: Path, tensors: dict[str, np.ndarray], **facts: Any) -> Path:
    path = folder / "adapter.gguf"
    path.write_bytes(write_gguf({**ADAPTER, "adapter.lora.alpha": 6.0, **facts}, tensors))
    return path


def layer(seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A layer's tensors as the converter writes them, and the updates that PEFT would have, by the names of transformers."""
    tensors, updates = {}, {}
    places = {"attn_q": ("self_attn.q_proj", WIDTH, HEADS), "attn_k": ("self_attn.k_proj", WIDTH // 2, GROUPED)}
    for place, (name, out, heads) in {**places, "ffn_down": ("mlp.down_proj", WIDTH, 0)}.items():
        a, b = factors(out, seed=seed + len(place))
        tensors[f"blk.0.{place}.weight.lora_a"] = a
        tensors[f"blk.0.{place}.weight.lora_b"] = permuted(b, heads) if heads else b
        updates[f"layers.0.{name}"] = 2.0 * b @ a
    return tensors, updates


def test_q_and_k_are_put_back_in_order_where_the_base_model_says_its_heads(tmp_path: Path) -> None:
    tensors, updates = layer()
    (tmp_path / "base").mkdir()
    config = {"num_attention_heads": HEADS, "num_key_value_heads": GROUPED}
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    url = "https://hub.example/acme/tiny-llama"
    path = saved(tmp_path, tensors, **{"general.base_model.0.repo_url": url})
    adapter = read_adapter(path, base_weights=tmp_path / "base")
    assert (adapter.method, adapter.base, adapter.layout, adapter.notes) == ("lora", "acme/tiny-llama", "gguf", ())
    found = {block.name: block.scale * block.parts["B"] @ block.parts["A"] for block in adapter.blocks}
    assert found.keys() == updates.keys()
    for name, update in updates.items():
        np.testing.assert_allclose(found[name], update, rtol=1e-6)


def test_the_places_are_those_of_peft(tmp_path: Path) -> None:
    """A LoRA that PEFT saved of a tiny Llama, and the same one as llama.cpp's converter writes it."""
    pytest.importorskip("torch")
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    from tiny_models import shake

    sizes = {"vocab_size": 30, "hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=HEADS, num_key_value_heads=GROUPED)
    config.save_pretrained(tmp_path / "base")
    model = peft.get_peft_model(
        transformers.LlamaForCausalLM(config), peft.LoraConfig(r=3, lora_alpha=6, target_modules="all-linear")
    )
    shake([value for value in model.parameters() if value.requires_grad])
    model.save_pretrained(tmp_path / "peft")
    expected = read_adapter(tmp_path / "peft", base="acme/tiny-llama")
    short = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    short |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    short |= {"mlp.down_proj": "ffn_down"}
    tensors = {}
    for block in expected.blocks:
        _, number, place = block.name.split(".", 2)
        heads = {"self_attn.q_proj": HEADS, "self_attn.k_proj": GROUPED}.get(place)
        b = block.parts["B"]
        tensors[f"blk.{number}.{short[place]}.weight.lora_a"] = block.parts["A"]
        tensors[f"blk.{number}.{short[place]}.weight.lora_b"] = permuted(b, heads) if heads else b
    found = read_adapter(saved(tmp_path, tensors), base="acme/tiny-llama", base_weights=tmp_path / "base")
    assert [block.name for block in found.blocks] == [block.name for block in expected.blocks]
    for block, other in zip(found.blocks, expected.blocks, strict=True):
        assert block.scale == other.scale
        for part in "AB":
            np.testing.assert_array_equal(block.parts[part], other.parts[part])


def test_without_the_heads_q_and_k_keep_a_name_of_their_own(tmp_path: Path) -> None:
    tensors, _ = layer()
    adapter = read_adapter(saved(tmp_path, tensors), base="acme/tiny-llama")
    names = {block.name for block in adapter.blocks}
    assert names == {
        "layers.0.self_attn.q_proj.permuted",
        "layers.0.self_attn.k_proj.permuted",
        "layers.0.mlp.down_proj",
    }
    assert any(note.startswith("2 blocks of q and k") for note in adapter.notes)


def test_other_families_are_not_reordered(tmp_path: Path) -> None:
    a, b = factors()
    tensors = {"blk.3.attn_q.weight.lora_a": a, "blk.3.attn_q.weight.lora_b": b}
    (block,) = read_adapter(saved(tmp_path, tensors, **{"general.architecture": "qwen2"}), base="x/y").blocks
    assert block.name == "layers.3.self_attn.q_proj"
    np.testing.assert_array_equal(block.parts["B"], b)


def test_an_unknown_architecture_keeps_its_names(tmp_path: Path) -> None:
    a, b = factors()
    tensors = {"blk.3.attn_q.weight.lora_a": a, "blk.3.attn_q.weight.lora_b": b}
    adapter = read_adapter(saved(tmp_path, tensors, **{"general.architecture": "gpt2"}), base="x/y")
    assert adapter.blocks[0].name == "blk.3.attn_q" and any("keep GGUF's names" in note for note in adapter.notes)


def test_the_token_embeddings_a_is_turned_back(tmp_path: Path) -> None:
    a, b = factors(out=WIDTH, inner=50)
    tensors = {"token_embd.weight.lora_a": np.ascontiguousarray(a.T), "token_embd.weight.lora_b": b}
    tensors["blk.0.attn_norm.weight"] = np.ones(WIDTH, np.float32)
    adapter = read_adapter(saved(tmp_path, tensors), base="x/y")
    assert adapter.blocks[0].name == "embed_tokens" and adapter.left_out == {"norms": 1}
    np.testing.assert_array_equal(adapter.blocks[0].parts["A"], a)


@pytest.mark.parametrize("alpha", [0.0, None])
def test_without_an_alpha_the_update_is_not_scaled(alpha: float | None, tmp_path: Path) -> None:
    a, b = factors()
    facts = {**ADAPTER} if alpha is None else {**ADAPTER, "adapter.lora.alpha": alpha}
    path = tmp_path / "x.gguf"
    path.write_bytes(write_gguf(facts, {"blk.0.attn_v.weight.lora_a": a, "blk.0.attn_v.weight.lora_b": b}))
    adapter = read_adapter(path, base="x/y")
    assert adapter.blocks[0].scale == 1.0 and any("no alpha" in note for note in adapter.notes)


def test_half_floats_are_widened(tmp_path: Path) -> None:
    a, b = factors()
    upper = (b.view(np.uint32) >> 16).astype(np.uint16)
    tensors = {"blk.0.attn_v.weight.lora_a": a.astype(np.float16), "blk.0.attn_v.weight.lora_b": upper}
    (block,) = read_adapter(saved(tmp_path, tensors), base="x/y").blocks
    np.testing.assert_array_equal(block.parts["A"], a.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(block.parts["B"], (upper.astype(np.uint32) << 16).view(np.float32))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_the_gguf_package_writes_is_read(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    a, b = factors(out=64, inner=64, rank=32)
    path = tmp_path / "real.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    writer.add_array("general.tags", ["lora", "test", "peft", "reviews", "five"])
    quantised = gguf.quants.quantize(b, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.attn_v.weight.lora_a", a.astype(np.float16))
    writer.add_tensor("blk.0.attn_v.weight.lora_b", quantised, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (block,) = read_adapter(path, base="x/y").blocks
    assert block.name == "layers.0.self_attn.v_proj" and block.scale == 0.5
    np.testing.assert_array_equal(block.parts["A"], a.astype(np.float16).astype(np.float32))
    expected = gguf.quants.dequantize(quantised, gguf.GGMLQuantizationType.Q8_0)
    np.testing.assert_allclose(block.parts["B"], expected, rtol=1e-6)


def test_a_configuration_left_beside_the_file_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    assert read_adapter(saved(tmp_path, layer()[0]), base="x/y").layout == "gguf"


# --- hostile files -------------------------------------------------------------------------------------------------

PAIR = dict(zip(("v.lora_a", "v.lora_b"), factors(), strict=True))
GOOD = write_gguf({**ADAPTER, "x": "y"}, PAIR)


def changed(at: int, value: bytes) -> bytes:
    return GOOD[:at] + value + GOOD[at + len(value) :]


def tensor_header(name: str, *numbers: int) -> bytes:
    return packed(name)[4:] + struct.pack("<I", len(numbers) - 2) + struct.pack(f"<{len(numbers) - 2}Q", *numbers[:-2]) + (
        struct.pack("<IQ", *numbers[-2:])
    )  # fmt: skip


def of_tensors(*tensors: bytes, room: int = 4096) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 0) + b"".join(tensors) + bytes(room)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "not one": (b"PK" + GOOD[2:], "not a GGUF file"),
    "before GGUF": (b"algg" + GOOD[4:], "GGLA"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3) + GOOD[8:], "big-endian"),
    "version 1": (b"GGUF" + struct.pack("<I", 1) + GOOD[8:], "of version 1"),
    "cut": (GOOD[:40], "truncated"),
    "cut in its tensors": (GOOD[:-200], "does not fit the file"),
    "countless tensors": (changed(8, b"\xff" * 8), "claims"),
    "countless key-values": (changed(16, b"\xff" * 8), "claims"),
    "a long text": (changed(24, b"\xff" * 8), "longer than the file"),
    "a list of lists": (write_gguf({}, {})[:16] + struct.pack("<QQ", 1, 1) + b"k" + struct.pack("<II", 9, 9) + bytes(99), "a list of type"),
    "a list of any length": (
        write_gguf({}, {})[:16] + struct.pack("<QQ", 1, 1) + b"k" + struct.pack("<IIQ", 9, 0, 2**60), "items in a list"
    ),
    "a list beyond the end": (
        write_gguf({}, {})[:16] + struct.pack("<QQ", 1, 1) + b"k" + struct.pack("<IIQ", 9, 10, 500_000), "longer than the file"
    ),
    "a vast shape": (of_tensors(tensor_header("x", 2**40, 2**40, 0, 0)), "impossible shape"),
    "a shape that wraps": (of_tensors(tensor_header("x", 2**32, 2**32, 0, 0)), "impossible shape"),
    "tensors that overlap": (of_tensors(tensor_header("x", 16, 1, 0), tensor_header("y", 16, 1, 16)), "overlap"),
    "beyond the end": (of_tensors(tensor_header("x", 16, 0, 2**63)), "does not fit the file"),
    "two of one name": (of_tensors(tensor_header("x", 16, 0, 0), tensor_header("x", 16, 0, 64)), "the name of another"),
    "a quantised one": (of_tensors(tensor_header("x", 256, 12, 0)), "GGML's type 12"),
    "blocks that do not divide": (of_tensors(tensor_header("x", 33, 8, 0)), "impossible shape"),
    "no alignment": (write_gguf({"general.alignment": 0}, PAIR), "alignment"),
    "a text for an alignment": (write_gguf({"general.alignment": "8"}, PAIR), "alignment"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_gets_a_sentence(case: str) -> None:
    data, sentence = HOSTILE[case]
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=sentence):
            parse_gguf_file(data, "x.gguf")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_every_cut_is_refused_or_whole() -> None:
    for end in range(len(GOOD)):
        try:
            parse_gguf_header(GOOD[:end], "x")
        except FormatError:
            continue
        assert end > len(GOOD) - 32  # what fills up to the alignment may be missing


FACTS: dict[str, tuple[dict[str, Any], str]] = {
    "a whole model": ({"general.type": "model"}, "whole model in GGUF"),
    "nothing said": ({"general.type": 3}, "whole model in GGUF"),
    "another kind": ({"adapter.type": "control"}, "type 'control'"),
    "an alpha that is a text": ({"adapter.lora.alpha": "much"}, "not a number"),
}


@pytest.mark.parametrize("case", FACTS)
def test_what_is_no_lora_is_refused(case: str, tmp_path: Path) -> None:
    facts, sentence = FACTS[case]
    with pytest.raises(FormatError, match=sentence):
        read_adapter(saved(tmp_path, PAIR, **facts), base="x/y")


def test_half_a_pair_and_heads_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="without its lora_B"):
        read_adapter(saved(tmp_path, {"v.lora_a": factors()[0]}), base="x/y")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 5}))
    with pytest.raises(FormatError, match="divide into 5 heads"):
        read_adapter(saved(tmp_path, layer()[0]), base="x/y", base_weights=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": "many"}))
    with pytest.raises(FormatError, match="how many attention heads"):
        read_adapter(saved(tmp_path, layer()[0]), base="x/y", base_weights=tmp_path)


def test_a_whole_model_is_not_read_to_find_out_what_it_is(tmp_path: Path) -> None:
    """Its first bytes say it; the rest of this one is a hole of a gigabyte."""
    path = tmp_path / "model.gguf"
    path.write_bytes(write_gguf({"general.architecture": "llama", "general.type": "model"}, {}))
    with path.open("ab") as file:
        file.truncate(1_000_000_000)
    saved(tmp_path, PAIR)
    tracemalloc.start()
    try:
        assert find_adapters(tmp_path) == [tmp_path / "adapter.gguf"]
        with pytest.raises(FormatError, match="whole model in GGUF"):
            read_adapter(path)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_what_is_no_gguf_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(FormatError, match="Git LFS pointer"):
        read_adapter(tmp_path / "x.gguf")
    (tmp_path / "x.gguf").write_bytes(bytes(100))
    with pytest.raises(FormatError, match="not a GGUF file"):
        read_adapter(tmp_path / "x.gguf")
    (tmp_path / "ggml-adapter-model.bin").write_bytes(b"algg" + bytes(100))
    with pytest.raises(FormatError, match="GGLA file, from before GGUF"):
        read_adapter(tmp_path / "ggml-adapter-model.bin")


def test_check_finds_alpha_in_the_header(tmp_path: Path) -> None:
    a, b = factors()
    path = tmp_path / "lora.gguf"
    tensors = {"blk.0.attn_v.weight.lora_a": a, "blk.0.attn_v.weight.lora_b": b}
    path.write_bytes(write_gguf({**ADAPTER, "adapter.lora.alpha": 6.0}, tensors))
    evidence = gather(path, "lora")
    assert evidence.adapter is not None
    assert [(one.where, one.values) for one in alphas(evidence)] == [("adapter.lora.alpha of the header", (6.0,))]
