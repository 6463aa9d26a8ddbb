"""safetensors files: the same as the library's both ways, and no hostile byte gets further than a FormatError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tupate_hub.errors import FormatError
from tupate_hub.storage.safetensors import (
    TensorFile,
    load_tensorfile,
    parse_tensorfile,
    read_file_header,
    read_header,
    read_pieces,
    read_tensorfile,
    read_tensors,
)

WRITTEN = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]


def some(dtype: str, shape: tuple[int, ...] = (2, 3)) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


def raw(header: Any, buffer: bytes = b"", claim: int | None = None) -> bytes:
    """A file of any header, JSON or bytes, and buffer; `claim` is the header length that it states."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if claim is None else claim).to_bytes(8, "little") + text + buffer


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


# --- as the library does ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (1, 2, 1, 3), (0, 4)], ids=str)
@pytest.mark.parametrize("dtype", WRITTEN)
def test_the_library_reads_what_is_written(dtype: str, shape: tuple[int, ...]) -> None:
    array = some(dtype, shape)
    found = safetensors.numpy.load(TensorFile({"x": array}).to_bytes())["x"]
    assert (found.dtype, found.shape) == (array.dtype, shape)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (0, 4)], ids=str)
@pytest.mark.parametrize("dtype", WRITTEN)
def test_what_the_library_writes_is_read(dtype: str, shape: tuple[int, ...]) -> None:
    array = some(dtype, shape)
    file = parse_tensorfile(safetensors.numpy.save({"b": array, "a": array}, {"format": "pt"}), "x")
    assert set(file.tensors) == {"a", "b"}
    assert (file.tensors["a"].dtype, file.tensors["a"].shape) == (array.dtype, shape)
    np.testing.assert_array_equal(file.tensors["b"], array)
    assert file.metadata == {"format": "pt"}


def test_bfloat16_arrives_as_the_same_numbers_in_float32() -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    numbers = torch.tensor([[0.0, -0.0, 1.0, -2.5], [3.14159, 1e-38, 3e38, float("inf")]], dtype=torch.bfloat16)
    found = parse_tensorfile(save({"x": numbers}), "x").tensors["x"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, numbers.float().numpy())


@pytest.mark.parametrize("name", ["float16", "float32", "float64", "int64", "bool"])
def test_what_torch_writes_is_read(name: str) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    tensor = torch.arange(6).reshape(2, 3).to(getattr(torch, name))
    found = parse_tensorfile(save({"x": tensor}), "x").tensors["x"]
    np.testing.assert_array_equal(found, tensor.numpy())
    assert found.dtype == tensor.numpy().dtype


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "complex64"])
def test_what_is_not_read_is_named(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save

    with pytest.raises(FormatError, match=r"'x' has dtype '[FC]"):
        parse_tensorfile(save({"x": torch.zeros(2).to(getattr(torch, dtype))}), "here")


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name != "__metadata__"),
        arrays.arrays(st.sampled_from(WRITTEN), arrays.array_shapes(min_dims=0, max_dims=3, max_side=3)),
        max_size=4,
    ),
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        max_size=3,
    ),
)
def test_a_file_survives_writing_and_reading(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    data = TensorFile(tensors, metadata).to_bytes()
    file = parse_tensorfile(data, "x")
    assert file.metadata == metadata
    assert set(file.tensors) == set(tensors)
    for name, array in tensors.items():
        assert (file.tensors[name].dtype, file.tensors[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(file.tensors[name], array)
    assert file.to_bytes() == data
    assert set(safetensors.numpy.load(data)) == set(tensors)


# --- writing ---------------------------------------------------------------------------------------------------


def test_the_bytes_depend_on_the_content_alone() -> None:
    tensors = {"b": some("float32"), "a": some("float16"), "c": some("int64")}
    metadata = {"z": "1", "a": "2", "é": "感"}
    first = TensorFile(tensors, metadata).to_bytes()
    second = TensorFile(dict(reversed(tensors.items())), dict(reversed(metadata.items()))).to_bytes()
    assert first == second
    length = int.from_bytes(first[:8], "little")
    assert (8 + length) % 8 == 0
    header = json.loads(first[8 : 8 + length])
    assert list(header) == ["__metadata__", "c", "b", "a"]  # the widest numbers first, as the library lays them out
    assert list(header["__metadata__"]) == ["a", "z", "é"]


def test_views_and_byte_orders_are_written_by_their_values() -> None:
    array = some("float32", (4, 6))
    for same in (np.asfortranarray(array), array.astype(">f4"), np.repeat(array, 2, axis=0)[::2]):
        assert TensorFile({"x": same}).to_bytes() == TensorFile({"x": array}).to_bytes()
    turned = parse_tensorfile(TensorFile({"x": array.T}).to_bytes(), "x").tensors["x"]
    np.testing.assert_array_equal(turned, array.T)


def test_without_metadata_there_is_no_field_for_it() -> None:
    assert b"__metadata__" not in TensorFile({"x": some("int8")}).to_bytes()


@pytest.mark.parametrize("dtype", ["complex64", "uint64", "U3"])
def test_a_dtype_that_is_not_written_is_named(dtype: str) -> None:
    with pytest.raises(FormatError, match=r"'x' has dtype .* not written"):
        TensorFile({"x": np.zeros(2, dtype)}).to_bytes()


@pytest.mark.parametrize("file", [TensorFile({"\ud800": some("int8")}), TensorFile({}, {"a": "\udfff"})])
def test_half_a_character_is_not_written(file: TensorFile) -> None:
    with pytest.raises(FormatError, match="lone surrogate"):
        file.to_bytes()


# --- hostile files ---------------------------------------------------------------------------------------------

TINY = {"x": entry()}
HOSTILE = {
    "empty": b"",
    "seven bytes": b"\0" * 7,
    "no header": (0).to_bytes(8, "little"),
    "claims one byte more": raw(TINY, claim=len(json.dumps(TINY)) + 1),
    "claims all there is": raw(TINY, b"\0" * 4, claim=2**64 - 1),
    "claims 2^63": raw(TINY, b"\0" * 4, claim=2**63),
    "not JSON": raw(b"{"),
    "not UTF-8": raw(b'{"\xff": 1}'),
    "UTF-16": raw(json.dumps(TINY).encode("utf-16"), b"\0" * 4),
    "deep nesting": raw(b"[" * 100_000),
    "deep nesting inside": raw(b'{"x":' * 50_000),
    "a list": raw([]),
    "a number": raw(3),
    "null": raw(None),
    "huge number": raw(b'{"x": ' + b"9" * 5000 + b"}"),
    "one name twice": raw(
        b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
        b"ab",
    ),
    "metadata a list": raw({"__metadata__": [1]}),
    "metadata of numbers": raw({"__metadata__": {"a": 1}}),
    "metadata text": raw({"__metadata__": "x"}),
    "zip": b"PK\x03\x04" + b"\0" * 60,
    "pickle": b"\x80\x02}q\x00." + b"\0" * 60,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_file_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^here\.safetensors "):
        parse_tensorfile(data, "here.safetensors")


ENTRIES = {
    "text": "F32",
    "null": None,
    "list": [],
    "no dtype": {"shape": [1], "data_offsets": [0, 4]},
    "no shape": {"dtype": "F32", "data_offsets": [0, 4]},
    "no offsets": {"dtype": "F32", "shape": [1]},
    "one offset": entry(offsets=[0]),
    "three offsets": entry(offsets=[0, 4, 8]),
    "offsets a number": entry(offsets=4),
    "offsets an object": entry(offsets={"a": 0, "b": 4}),
    "unknown dtype": entry("F99"),
    "dtype a list": entry(["F32"]),
    "dtype null": entry(None),
    "shape a number": entry(shape=1),
    "shape null": entry(shape=None),
    "shape text": entry(shape=""),
    "shape an object": entry(shape={}),
    "shape of text": entry(shape=["1"]),
    "shape of lists": entry(shape=[[1]]),
    "negative shape": entry(shape=[-1]),
    "two negatives": entry(shape=[-1, -1]),
    "shape a boolean": entry(shape=[True]),
    "shape a fraction": entry(shape=[1.0]),
    "huge product": entry(shape=[2**40, 2**40]),
    "huge product of zero": entry(shape=[0, 2**70], offsets=[0, 0]),
    "large product of zero": entry(shape=[0, 2**31, 2**31], offsets=[0, 0]),
    "product wraps to 1": entry(shape=[2**32 + 1, 2**64 - 2**32 + 1]),
    "many dimensions": entry(shape=[1] * 65),
    "negative start": entry(offsets=[-4, 0]),
    "backwards": entry(offsets=[4, 0]),
    "offsets fractions": entry(offsets=[0.0, 4.0]),
    "offsets booleans": entry("U8", [1], [False, True]),
    "past the end": entry(shape=[2], offsets=[0, 8]),
    "far past the end": entry(offsets=[2**62, 2**62 + 4]),
    "too few bytes": entry(shape=[2], offsets=[0, 4]),
    "too many bytes": entry(shape=[], offsets=[0, 4], dtype="U8"),
}


@pytest.mark.parametrize("hostile", ENTRIES.values(), ids=ENTRIES.keys())
def test_a_tensor_that_does_not_fit_is_named(hostile: Any) -> None:
    with pytest.raises(FormatError, match=r"^here\b.*'x'"):
        parse_tensorfile(raw({"x": hostile}, b"\0" * 4), "here")


@pytest.mark.parametrize(("first", "second"), [((0, 4), (0, 4)), ((0, 8), (4, 8)), ((4, 8), (0, 8)), ((0, 8), (2, 6))])
def test_tensors_that_overlap_are_refused(first: tuple[int, int], second: tuple[int, int]) -> None:
    spans = {"x": first, "y": second}
    header = {name: entry("U8", [stop - start], [start, stop]) for name, (start, stop) in spans.items()}
    with pytest.raises(FormatError, match="overlap"):
        parse_tensorfile(raw(header, b"\0" * 8), "here")


def test_tensors_that_touch_do_not_overlap() -> None:
    header = {"a": entry("U8", [2], [2, 4]), "b": entry("U8", [0], [2, 2]), "c": entry("U8", [2], [0, 2])}
    found = parse_tensorfile(raw(header, b"abcd"), "x").tensors
    assert {name: array.tobytes() for name, array in found.items()} == {"a": b"cd", "b": b"", "c": b"ab"}


def test_numbers_need_not_be_aligned() -> None:
    header = {"a": entry("U8", [1], [0, 1]), "b": entry("F32", [2], [1, 9]), "c": entry("BF16", [1], [9, 11])}
    buffer = b"\7" + np.array([1.5, -2], "<f4").tobytes() + b"\x80\x3f"
    found = parse_tensorfile(raw(header, buffer), "x").tensors
    assert found["b"].tolist() == [1.5, -2]
    assert found["c"].tolist() == [1.0]


def test_a_file_cut_anywhere_is_refused() -> None:
    data = TensorFile({"a": some("float32"), "b": some("float16")}, {"k": "v"}).to_bytes()
    for length in range(len(data)):
        with pytest.raises(FormatError, match=r"^cut "):
            parse_tensorfile(data[:length], "cut")


@given(st.data())
def test_one_changed_byte_gives_a_file_or_an_error(data: st.DataObject) -> None:
    whole = bytearray(TensorFile({"a": some("float32"), "b": some("int8")}, {"k": "v"}).to_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        file = parse_tensorfile(bytes(whole), "x")
    except FormatError:
        return
    assert all(isinstance(array, np.ndarray) for array in file.tensors.values())


@given(st.binary(max_size=200))
def test_any_bytes_give_a_file_or_an_error(data: bytes) -> None:
    for candidate in (data, raw(data), raw({"x": entry()}, data)):
        try:
            file = parse_tensorfile(candidate, "x")
        except FormatError:
            continue
        assert isinstance(file, TensorFile)


def test_what_is_read_cannot_be_changed_in_place() -> None:
    found = parse_tensorfile(TensorFile({"x": some("float32")}).to_bytes(), "x").tensors["x"]
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


# --- from disk -------------------------------------------------------------------------------------------------


def test_the_header_alone_is_enough_when_the_size_is_known() -> None:
    data = TensorFile({"x": some("float32", (100,))}, {"k": "v"}).to_bytes()
    header, begin = read_header(data[: len(data) - 400], "x", size=len(data))
    assert begin == len(data) - 400
    assert header["__metadata__"] == {"k": "v"}
    assert header["x"] == {"dtype": "F32", "shape": [100], "data_offsets": [0, 400]}


def test_a_header_of_more_than_16_megabytes_is_not_read() -> None:
    with pytest.raises(FormatError, match="at most 16000000"):
        read_header((16_000_001).to_bytes(8, "little"), "x", size=20_000_000)


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"x": some("float32")}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read_tensorfile(tmp_path / "a.safetensors").tensors["x"], some("float32"))


def test_what_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"missing\.safetensors cannot be read: No such file"):
        read_tensorfile(tmp_path / "missing.safetensors")
    with pytest.raises(FormatError, match="cannot be read: Is a directory"):
        read_tensorfile(tmp_path)


def test_a_part_of_a_file_is_what_the_whole_has(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = {name: some(dtype, (2, 3)) for name, dtype in zip("abc", ["float16", "int8", "float64"], strict=True)}
    path.write_bytes(TensorFile(tensors, {"k": "v"}).to_bytes())
    assert read_file_header(path) == read_header(path.read_bytes(), "x")
    (found,) = read_tensors(path, lambda name: name == "c").items()
    assert found[0] == "c"
    np.testing.assert_array_equal(found[1], tensors["c"])
    assert {name: data for name, _, data in read_pieces(path, most=2)} == {
        name: array.tobytes()[:2] for name, array in tensors.items()
    }


@pytest.mark.parametrize("hostile", ENTRIES.values(), ids=ENTRIES.keys())
def test_a_hostile_part_of_a_file_is_named(hostile: Any, tmp_path: Path) -> None:
    path = tmp_path / "here.safetensors"
    path.write_bytes(raw({"x": hostile}, b"\0" * 4))
    with pytest.raises(FormatError, match=r"here\.safetensors\b.*'x'"):
        read_tensors(path, lambda name: True)


def test_a_part_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    for read in (read_file_header, lambda path: list(read_pieces(path))):
        with pytest.raises(FormatError, match="cannot be read"):
            read(tmp_path / "missing.safetensors")


# --- through the library ---------------------------------------------------------------------------------------


def test_a_checked_file_is_read_as_any_other_and_cannot_be_changed() -> None:
    data = TensorFile({dtype: some(dtype) for dtype in WRITTEN}, {"k": "v", "j": "w"}).to_bytes()
    ours, theirs = parse_tensorfile(data, "x"), load_tensorfile(data, "x")
    assert theirs.metadata == ours.metadata == {"k": "v", "j": "w"}
    assert theirs.tensors.keys() == ours.tensors.keys()
    for name, array in ours.tensors.items():
        assert theirs.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(theirs.tensors[name], array)
        with pytest.raises(ValueError, match="read-only"):
            theirs.tensors[name][0] = 0


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_checked_file_may_be_hostile_all_the_same(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^here "):
        load_tensorfile(data, "here")


@pytest.mark.parametrize("hostile", ENTRIES.values(), ids=ENTRIES.keys())
def test_so_may_its_tensors(hostile: Any) -> None:
    with pytest.raises(FormatError, match=r"^here\b"):
        load_tensorfile(raw({"x": hostile}, b"\0" * 4), "here")


@pytest.mark.parametrize("code", ["BF16", "U64", "C64", "F8_E4M3"])
def test_a_checked_file_of_numbers_that_are_not_written(code: str) -> None:
    size = {"BF16": 2, "F8_E4M3": 1}.get(code, 8)
    with pytest.raises(FormatError, match=r"^here\b"):
        load_tensorfile(raw({"x": entry(code, [1], [0, size])}, b"\0" * size), "here")


@given(st.data())
def test_one_changed_byte_of_a_checked_file_gives_a_file_or_an_error(data: st.DataObject) -> None:
    whole = bytearray(TensorFile({"a": some("float32"), "b": some("int8")}, {"k": "v"}).to_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        file = load_tensorfile(bytes(whole), "x")
    except FormatError:
        return
    assert all(isinstance(array, np.ndarray) for array in file.tensors.values())
