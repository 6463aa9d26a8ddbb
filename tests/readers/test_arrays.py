"""Bare arrays: NumPy's files without pickle, soft prompts, plain vectors, MLX, and one name for one place."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tupate_hub.embedding import make_block
from tupate_hub.errors import FormatError
from tupate_hub.readers import detect, read_adapter
from tupate_hub.readers.formats.numpyfile import parse_array, parse_numpy_file
from tupate_hub.readers.names import block_name, is_head
from tupate_hub.storage.safetensors import TensorFile


def npy(array: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@given(
    npst.arrays(st.sampled_from(["<f2", "<f4", "<f8", ">f4", "<i8", "u1"]), npst.array_shapes(min_dims=0, max_dims=4))
)
def test_arrays_are_what_numpy_wrote(array: np.ndarray) -> None:
    for one in (array, np.asfortranarray(array)):
        read = parse_array(npy(one), "it")
        assert read.dtype == one.dtype
        np.testing.assert_array_equal(read, one)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format(version: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.arange(6.0).reshape(2, 3), version=version)
    np.testing.assert_array_equal(parse_array(buffer.getvalue(), "it"), np.arange(6.0).reshape(2, 3))


@given(st.data())
def test_a_cut_or_flipped_file_is_refused_or_an_array(data: st.DataObject) -> None:
    whole = bytearray(npy(np.arange(12, dtype=np.float32).reshape(3, 4)))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    try:
        assert parse_array(bytes(whole), "it").nbytes <= len(whole)
    except FormatError as error:
        assert error.message.startswith("it ")
    with pytest.raises(FormatError):
        parse_array(npy(np.ones(3))[: data.draw(st.integers(0, 151))], "it")


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="Python objects, which are never unpickled"):
        read_adapter(tmp_path / "objects.npy")
    np.savez(tmp_path / "objects.npz", a=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="never unpickled"):
        read_adapter(tmp_path / "objects.npz")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 2, 2, 2, 2, 2, 2, 2, 2), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f1', 'fortran_order': False, 'shape': (64,), }",
        "{'descr': '<U4', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,), }",
        "(" * 9000,
        "",
    ],
)
def test_a_lying_header_allocates_nothing(header: str) -> None:
    text = header.encode()
    with pytest.raises(FormatError):
        parse_array(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64), "it")


def archive(path: Path, members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def numpy_file(path: Path) -> Any:
    return parse_numpy_file(path.read_bytes(), str(path))


def test_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=np.ones((2, 3)), b=np.zeros(4))
    arrays = numpy_file(tmp_path / "two.npz")
    assert isinstance(arrays, dict) and arrays.keys() == {"a", "b"}
    np.savez_compressed(tmp_path / "one.npz", np.ones((5, 3), np.float32))
    assert read_adapter(tmp_path / "one.npz").blocks[0].parts["rows"].shape == (5, 3)
    with pytest.raises(FormatError, match="holds 2 arrays"):
        read_adapter(tmp_path / "two.npz")


def test_hostile_archives(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "bomb.npz", {"a.npy": npy(np.zeros(10_000_000))})
    assert bomb.stat().st_size < 200_000
    with pytest.raises(FormatError, match="much more than its own size"):
        numpy_file(bomb)
    with pytest.raises(FormatError, match="a way that NumPy does not write"):
        numpy_file(archive(tmp_path / "lzma.npz", {"a.npy": npy(np.ones(3))}, zipfile.ZIP_LZMA))
    many = archive(tmp_path / "many.npz", {f"{number}.npy": b"" for number in range(10_001)}, zipfile.ZIP_STORED)
    with pytest.raises(FormatError, match="at most 10000"):
        numpy_file(many)
    with pytest.raises(FormatError, match="two arrays of the name 'a'"):
        numpy_file(archive(tmp_path / "twice.npz", {"a.npy": npy(np.ones(3)), "a": npy(np.ones(3))}))
    good = archive(tmp_path / "good.npz", {"a.npy": npy(np.arange(300.0))}).read_bytes()
    for position in range(0, len(good), 7):
        damaged = tmp_path / "damaged.npz"
        damaged.write_bytes(good[:position] + bytes([good[position] ^ 0x55]) + good[position + 1 :])
        try:
            numpy_file(damaged)
        except FormatError as error:
            assert "\n" not in error.message


@pytest.mark.parametrize("name", ["sst2.npy", "task_prompt", "prompt.npz"])
def test_a_soft_prompt_in_each_container(name: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)
    folder = tmp_path / "squadPromptT5Small"
    folder.mkdir()
    if name == "task_prompt":
        torch = pytest.importorskip("torch")
        torch.save(torch.tensor(rows), folder / name)
    elif name.endswith("npz"):
        np.savez(folder / name, rows)
    else:
        np.save(folder / name, rows)
    for path in (folder, folder / name):
        adapter = read_adapter(path, base="google-t5/t5-small")
        assert (adapter.method, adapter.base, adapter.layout) == ("prompt", "t5-small", "array")
        assert adapter.task == ("sst2" if name == "sst2.npy" else "squad")
        np.testing.assert_array_equal(adapter.blocks[0].parts["rows"], rows)
    assert read_adapter(folder, task="mine").task == "mine"
    assert read_adapter(folder).base is None


def test_vectors_are_plain_and_only_the_authors_have_their_space(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones(1024))
    np.save(tmp_path / "two.npy", np.ones(512))
    authors, other = read_adapter(tmp_path / "one.npy"), read_adapter(tmp_path / "two.npy")
    assert (authors.method, authors.base) == ("plain", "JetRunner/TuPaTE")
    assert (other.method, other.base) == ("plain", None)
    assert read_adapter(tmp_path / "one.npy", base="my/model").base == "my/model"
    np.save(tmp_path / "three.npy", np.ones((2, 3, 4)))
    with pytest.raises(FormatError, match=r"shape \(2, 3, 4\)"):
        read_adapter(tmp_path / "three.npy")
    with pytest.raises(
        FormatError, match=r"holds 3 files that could be read, 'one.npy', 'three.npy', 'two.npy'"
    ) as error:
        detect(tmp_path)
    assert "`add_all`" in error.value.hint


def make_mlx(folder: Path, arrays: dict[str, np.ndarray], config: dict[str, Any] | None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "adapters.safetensors").write_bytes(TensorFile(arrays).to_bytes())
    if config is not None:
        (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_mlx_is_transposed_and_scaled(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(8, 2)).astype(np.float32), draw.normal(size=(2, 6)).astype(np.float32)
    arrays = {"model.layers.3.self_attn.q_proj.lora_a": a, "model.layers.3.self_attn.q_proj.lora_b": b}
    config = {"fine_tune_type": "lora", "model": "Qwen/Qwen2.5-0.5B", "lora_parameters": {"rank": 2, "scale": 20.0}}
    adapter = read_adapter(make_mlx(tmp_path, arrays, config))
    (block,) = adapter.blocks
    assert (adapter.base, block.name, block.scale) == ("Qwen/Qwen2.5-0.5B", "layers.3.self_attn.q_proj", 20.0)
    x = draw.normal(size=(5, 8)).astype(np.float32)
    theirs = 20.0 * (x @ a) @ b  # mlx_lm/tuner/lora.py, LoRALinear
    ours = x @ (block.scale * block.parts["B"] @ block.parts["A"]).T
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    bare = read_adapter(make_mlx(tmp_path / "bare", arrays, None))
    assert bare.layout == "mlx-bare" and bare.base is None and bare.blocks[0].scale == 1.0
    dora = {**arrays, "model.layers.3.self_attn.q_proj.m": np.ones(6, np.float32)}
    assert read_adapter(make_mlx(tmp_path / "dora", dora, config)).left_out == {"DoRA magnitudes": 1}
    with pytest.raises(FormatError, match="MLX's 'full'"):
        read_adapter(make_mlx(tmp_path / "full", arrays, {**config, "fine_tune_type": "full"}))
    with pytest.raises(FormatError, match="lora_A without its lora_B"):
        read_adapter(make_mlx(tmp_path / "half", dict(list(arrays.items())[:1]), config))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("base_model.model.bert.encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.query"),
        ("bert.encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.query"),
        ("base_model.model.encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.query"),
        ("0.auto_model.encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self.query"),
        ("base_model.model.roberta.encoder.layer.3.output.dense", "encoder.layer.3.output.dense"),
        ("base_model.model.distilbert.transformer.layer.0.attention.q_lin", "transformer.layer.0.attention.q_lin"),
        ("transformer.layer.0.attention.q_lin", "transformer.layer.0.attention.q_lin"),
        ("base_model.model.transformer.h.0.attn.c_attn", "h.0.attn.c_attn"),
        ("h.0.attn.c_attn", "h.0.attn.c_attn"),
        ("base_model.model.model.layers.0.self_attn.q_proj", "layers.0.self_attn.q_proj"),
        ("model.layers.0.self_attn.q_proj", "layers.0.self_attn.q_proj"),
        ("base_model.model.model.language_model.layers.0.self_attn.q_proj", "layers.0.self_attn.q_proj"),
        ("base_model.model.model.decoder.layers.0.self_attn.q_proj", "decoder.layers.0.self_attn.q_proj"),
        ("base_model.model.decoder.block.0.layer.1.EncDecAttention.q", "decoder.block.0.layer.1.EncDecAttention.q"),
        ("transformer.decoder.block.0.layer.1.EncDecAttention.q", "decoder.block.0.layer.1.EncDecAttention.q"),
        ("base_model.model.bert.encoder.layer.0.output.dense.base_layer", "encoder.layer.0.output.dense"),
        ("base_model.model.vit.encoder.layer.0.attention.attention.query", "encoder.layer.0.attention.attention.query"),
    ],
)
def test_one_place_has_one_name(written: str, name: str) -> None:
    assert block_name(written) == name
    assert block_name(name) == name


@given(st.text(alphabet="abertmodl.0", max_size=60))
def test_a_canonical_name_is_its_own(text: str) -> None:
    assert block_name(block_name(text)) == block_name(text)


def test_heads_are_told_by_their_first_part() -> None:
    heads = ["base_model.model.classifier.weight", "score.weight", "bert.pre_classifier.bias", "heads.sst2.1.weight"]
    assert all(is_head(key) for key in (*heads, "base_model.model.qa_outputs.weight", "lm_head.weight"))
    assert not any(is_head(key) for key in ("encoder.layer.0.classifier.weight", "headset.weight", "scores"))


@pytest.mark.parametrize(
    ("kind", "bits"), [("<f2", b"\x01\x7d"), ("<f4", b"\x01\0\xa0\x7f"), ("<f8", b"\x01\0\0\0\0\0\xf4\x7f")]
)
def test_a_signalling_nan_is_refused_without_a_warning(kind: str, bits: bytes, tmp_path: Path) -> None:
    """Found by the fuzzer, case 341917 of seed 13: numpy warns of it when it makes float32 of it."""
    array = np.frombuffer(bits * 16, kind)
    np.save(tmp_path / "x.npy", array)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FormatError, match="NaN or infinity"):
            read_adapter(tmp_path / "x.npy", base="x")
        with pytest.raises(FormatError, match="NaN or infinity"):
            make_block("x", {"vector": array})
