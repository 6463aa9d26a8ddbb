"""Files of torch.save read without torch: equal to what torch reads, and nothing but tensors out of hostile ones."""

from __future__ import annotations

import collections
import gc
import io
import os
import pickle
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tupate_hub.errors import FormatError
from tupate_hub.extras import install_command
from tupate_hub.readers.formats.torchfile import parse_torch_file
from tupate_hub.training.legacy import load_legacy

SHARED = Path(__file__).parents[3] / "shared" / "adapters"
DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]

# ---- what torch writes, read back -----------------------------------------------------------------------------------


def saved(value: Any, **options: Any) -> bytes:
    """The bytes that torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as the reader promises it."""
    plain = tensor.detach()
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()


def check_equal(read: np.ndarray, tensor: torch.Tensor) -> None:
    """Same dtype, shape and numbers."""
    expected = as_numpy(tensor)
    assert read.dtype == expected.dtype
    assert read.shape == expected.shape
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype: str, protocol: int) -> None:
    tensor = (torch.arange(-6, 6).reshape(3, 4) * 1.7).to(getattr(torch, dtype))
    check_equal(parse_torch_file(saved(tensor, pickle_protocol=protocol), "x"), tensor)
    read = parse_torch_file(saved({"a": tensor, "b": tensor[1:]}, pickle_protocol=protocol), "x")
    check_equal(read["a"], tensor)
    check_equal(read["b"], tensor[1:])


def test_bfloat16_keeps_every_bit() -> None:
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int16)
    tensor = bits.view(torch.bfloat16)
    read = parse_torch_file(saved(tensor), "x")
    np.testing.assert_array_equal(read.view(np.uint32), tensor.float().numpy().view(np.uint32))


BASE = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0))
VIEWS = {
    "transposed": BASE.transpose(0, 2),
    "sliced": BASE[1:5, ::2, 3],
    "one number": BASE[2, 3, 1],
    "row": BASE[3],
    "flipped strides": BASE.permute(2, 0, 1)[1:3],
    "unsqueezed": BASE[:1, None, :, :1],
    "empty": BASE[:0],
    "scalar": torch.tensor(3.5),
    "no numbers": torch.zeros(0, 768),
    "huge stride of one": torch.as_strided(torch.ones(1), (1, 1), (2**62, 1)),
    "non-leaf": (torch.ones(3, requires_grad=True) * 2),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str) -> None:
    check_equal(parse_torch_file(saved(VIEWS[name]), "x"), VIEWS[name])


@settings(deadline=None, max_examples=60)
@given(
    shape=st.lists(st.integers(1, 4), max_size=4).map(tuple),
    order=st.randoms(use_true_random=False),
    step=st.integers(1, 3),
    dtype=st.sampled_from(DTYPES),
)
def test_any_view_of_any_dtype(shape: tuple[int, ...], order: Any, step: int, dtype: str) -> None:
    axes = list(range(len(shape)))
    order.shuffle(axes)
    numbers = torch.arange(int(np.prod(shape)), dtype=torch.int64).reshape(shape).to(getattr(torch, dtype))
    turned = numbers.permute(axes)
    view = turned[tuple(slice(order.randrange(size), None, step) for size in turned.shape)]
    check_equal(parse_torch_file(saved({"v": view}), "x")["v"], view)


def test_shared_storage_is_read_once_and_arrays_are_read_only_views() -> None:
    whole = torch.randn(50, 40)
    data = saved({"whole": whole, "again": whole, "row": whole[7], "turned": whole.t()})
    read = parse_torch_file(data, "x")
    assert read["whole"] is read["again"]
    assert np.shares_memory(read["whole"], read["row"])
    check_equal(read["turned"], whole.t())
    assert not any(array.flags.writeable for array in read.values())
    with pytest.raises(ValueError, match="read-only"):
        read["whole"][0, 0] = 1


def test_state_dict_of_a_module_with_metadata_and_parameters() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    state = module.state_dict()
    assert hasattr(state, "_metadata")
    state["weight_itself"] = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    read = parse_torch_file(saved(state), "x")
    assert list(read) == list(state)
    for name, tensor in state.items():
        check_equal(read[name], tensor)
    check_equal(parse_torch_file(saved(torch.nn.Parameter(torch.ones(2))), "x"), torch.ones(2))


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model"])
def test_checkpoints_are_unwrapped_once_and_other_values_left_out(wrapper: str) -> None:
    tensor = torch.ones(2)
    inner = collections.OrderedDict(a=tensor, name="lora", shape=tensor.shape, nothing=None, lr=1e-3, steps=2**40)
    checkpoint = {"epoch": 3, wrapper: inner, "history": [1, (2.0, "x", True)], "deeper": {"state_dict": {"b": tensor}}}
    read = parse_torch_file(saved(checkpoint), "x")
    assert list(read) == ["a"]
    assert list(parse_torch_file(saved({"a": tensor, "state_dict": {"b": tensor}}), "x")) == ["a"]


def test_text_of_any_length_and_language() -> None:
    names = ["", "é" * 100, "层.0." * 90, "x" * 70_000]
    read = parse_torch_file(saved({name: torch.ones(1) for name in names}), "x")
    assert list(read) == names
    assert list(parse_torch_file(saved(dict.fromkeys(names, torch.ones(1)), pickle_protocol=4), "x")) == names


def test_many_tensors() -> None:
    state = {f"layer.{index}": torch.full((2, 3), float(index)) for index in range(3000)}
    read = parse_torch_file(saved(state), "x")
    assert len(read) == 3000
    assert read["layer.2999"][1, 2] == 2999


def test_reads_without_torch(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(saved({"a": torch.ones(2, 3)}))
    code = (
        "import sys; from pathlib import Path; from tupate_hub.readers.source import read_weights;"
        f"a = read_weights(Path({str(tmp_path / 'x.bin')!r}))['a'];"
        "assert a.sum() == 6 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)


def read_torch_file(path: Path, legacy: Any = None) -> Any:
    return parse_torch_file(path.read_bytes(), str(path), None if legacy is None else lambda: legacy(path))


def _real_files() -> list[Path]:
    return sorted([*SHARED.glob("*/*.bin"), *SHARED.glob("*/task_prompt")])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared adapters are not here")
def test_real_files_equal_torch() -> None:
    files = _real_files()
    assert len(files) == 41
    for path in files:
        expected, read = torch.load(path, weights_only=True, map_location="cpu"), read_torch_file(path)
        if isinstance(expected, torch.Tensor):
            expected, read = {"": expected}, {"": read}
        assert list(read) == list(expected)
        for name, tensor in expected.items():
            check_equal(read[name], tensor)


# ---- the format from before torch 1.6 -------------------------------------------------------------------------------


def test_legacy_files_ask_for_torch_and_are_read_with_it(tmp_path: Path) -> None:
    path = tmp_path / "old.bin"
    state = {"a": torch.randn(3, 2), "b": torch.ones(2, dtype=torch.bfloat16), "n": 3}
    path.write_bytes(saved(state, _use_new_zipfile_serialization=False))
    with pytest.raises(FormatError, match="before torch 1") as error:
        read_torch_file(path)
    assert error.value.hint == install_command("train")
    read = read_torch_file(path, legacy=load_legacy)
    assert list(read) == ["a", "b"]
    check_equal(read["a"], state["a"])
    check_equal(read["b"], state["b"])
    path.write_bytes(saved(state["a"], _use_new_zipfile_serialization=False))
    check_equal(read_torch_file(path, legacy=load_legacy), state["a"])


def test_new_files_never_go_through_torch(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(saved({"a": torch.ones(2)}))

    def fail(path: Path) -> dict[str, np.ndarray]:
        raise AssertionError(path)

    assert list(read_torch_file(tmp_path / "x.bin", legacy=fail)) == ["a"]


@pytest.mark.parametrize("keep", [20, 60, 200])
def test_damaged_and_hostile_legacy_files(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "old.bin"
    path.write_bytes(saved({"a": torch.ones(9)}, _use_new_zipfile_serialization=False)[:keep])
    with pytest.raises(FormatError):
        read_torch_file(path, legacy=load_legacy)
    path.write_bytes(saved({"a": Calls(os.system, "true")}, _use_new_zipfile_serialization=False))
    with pytest.raises(FormatError, match="refused by torch"):
        read_torch_file(path, legacy=load_legacy)
    path.write_bytes(saved({"a": 1}, _use_new_zipfile_serialization=False))
    with pytest.raises(FormatError, match="no tensors"):
        read_torch_file(path, legacy=load_legacy)


# ---- what is no such file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (pickle.dumps({"a": 1}), "not a zip archive"),
        (b"fake weights!", "not a zip archive"),
    ],
)
def test_other_kinds_of_file(data: bytes, sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        parse_torch_file(data, "x")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({}, "no tensors"),
        ({"epoch": 1, "name": "x"}, "no tensors"),
        ([torch.ones(2)], "neither a tensor nor a dict"),
        ((torch.ones(2), 1), "neither a tensor nor a dict"),
        (None, "neither a tensor nor a dict"),
        ("text", "neither a tensor nor a dict"),
        ({0: torch.ones(2)}, "numbers its tensors"),
        ({(1, 2): torch.ones(2)}, "neither text nor whole numbers"),
        ({1.5: torch.ones(2)}, "neither text nor whole numbers"),
        ({"a": torch.float32}, "'torch.float32'"),
        ({"a": torch.device("cpu")}, "'torch.device'"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "'torch.ComplexFloatStorage'"),
        ({"a": torch.ones(2).to(torch.float8_e5m2)}, "is refused: it names"),
        ({"a": torch.eye(2).to_sparse()}, "'torch._utils._rebuild_sparse_tensor'"),
        ({"a": torch.nn.Linear(1, 1)}, "'torch.nn.modules.linear.Linear'"),
        ({"a": np.ones(2)}, "is refused: it names 'numpy"),
        ({"a": torch.ones(1).expand(1000)}, "beyond its storage"),
        ({"a": torch.ones((1,) * 9)}, "9 dimensions"),
        ({"a": 2**70}, "a number of 9 bytes"),
        ({"a": {1, 2}}, "is refused"),
        ({"a": b"bytes"}, "is refused"),
        ({"a": torch._neg_view(torch.ones(2))}, "metadata"),
    ],
)
def test_what_torch_writes_and_is_not_read(value: Any, sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        parse_torch_file(saved(value), "x")


# ---- hostile files --------------------------------------------------------------------------------------------------

_seen: list[str] = []
_recording = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _recording:
        _seen.append(event)


sys.addaudithook(_audit)


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> Iterator[None]:
    """Import beforehand what the refusals import, so that no event at all is allowed while a file is read."""
    import pickletools

    assert pickletools.opcodes
    yield


def refusal(data: bytes) -> FormatError:
    """The error for hostile bytes, after checking that nothing ran, and that time and memory are bounded."""
    global _recording
    _seen.clear()
    gc.freeze()  # neither what other tests have left to collect nor their threads are the reader's time
    began = time.thread_time()
    _recording = True
    try:
        with pytest.raises(FormatError) as caught:
            parse_torch_file(data, "x")
    finally:
        _recording = False
        took = time.thread_time() - began
        gc.unfreeze()
    assert took < 3
    # id() is harmless, and the others are pytest's own.
    assert set(_seen) <= {"builtins.id", "object.__getattr__", "sys._getframe"}
    assert len(caught.value.message) < 1000
    assert "\x1b" not in caught.value.message
    return caught.value


def peak_of_refusal(data: bytes) -> int:
    """Bytes allocated at most while hostile bytes are refused."""
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            parse_torch_file(data, "x")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def torch_zip(code: bytes, storages: dict[str, bytes] | None = None, **others: bytes) -> bytes:
    """An archive as torch.save writes it, around any pickle."""
    inside = {"data.pkl": code, "version": b"3\n", **others}
    inside |= {f"data/{key}": data for key, data in (storages or {}).items()}
    return zipped({f"archive/{name}": data for name, data in inside.items()})


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def text(value: str) -> bytes:
    """The opcode that pushes a string."""
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def whole(value: int) -> bytes:
    """The opcode that pushes a number of up to 64 bits."""
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def row(values: tuple[int, ...]) -> bytes:
    """The opcodes that push a tuple of numbers."""
    return b"(" + b"".join(whole(value) for value in values) + b"t"


def storage(length: int, key: str = "0", kind: str = "FloatStorage") -> bytes:
    """The opcodes that push a storage."""
    return b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu") + whole(length) + b"tQ"


def tensor(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0, **of: Any) -> bytes:
    """The opcodes that push a tensor."""
    arguments = storage(**{"length": 4, **of}) + whole(offset) + row(shape) + row(strides) + b"\x89N"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def test_the_assembler_makes_readable_files() -> None:
    data = torch_zip(b"\x80\x02" + tensor((2, 2), (1, 2)) + b".", {"0": np.arange(4, dtype="<f4").tobytes()})
    np.testing.assert_array_equal(parse_torch_file(data, "x"), [[0, 2], [1, 3]])
    by_torch = torch.load(io.BytesIO(data), weights_only=True)
    assert by_torch.tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "payload",
    [
        Calls(os.system, "touch /nonexistent"),
        Calls(eval, "1"),
        Calls(exec, "1"),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(subprocess.Popen, ["true"]),
        Calls(open, "x", "w"),
        Calls(pickle.loads, b"N."),
        Calls(torch.load, "x"),
        Calls(np.load, "x"),
        Calls(bytearray, 10**12),
        collections.Counter("aa"),
        collections.deque([1]),
    ],
)
def test_calls_are_refused(payload: Any, protocol: int) -> None:
    for value in (payload, {"a": payload}, [payload]):
        assert "refused" in refusal(torch_zip(pickle.dumps(value, protocol), {"0": bytes(16)})).message


@pytest.mark.parametrize("name", ["os.system", "posix.system", "builtins.eval", "torch._utils._rebuild_tensor_v3"])
def test_a_refused_global_is_named(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    assert f"'{name}'" in refusal(torch_zip(f"c{module}\n{attribute}\n.".encode())).message
    assert f"'{name}'" in refusal(torch_zip(text(module) + text(attribute) + b"\x93.")).message


ORDERED = b"ccollections\nOrderedDict\n"
HOSTILE = {
    "call on a storage type": b"ctorch\nFloatStorage\n)R.",
    "call on a tensor": tensor((1,), (1,)) + b")R.",
    "call on text": text("system") + b")R.",
    "arguments are no tuple": ORDERED + b"]R.",
    "ordered dict of pairs": ORDERED + b"]]K\x00K\x01eae\x85R.",
    "build on a tensor": tensor((1,), (1,)) + b"}b.",
    "build on a list": b"]}b.",
    "build with a tuple of slots": ORDERED + b")RN}\x86b.",
    "build on a global": ORDERED + b"}b.",
    "inst": b"(S'true'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nX\x04\x00\x00\x00trueo.",
    "newobj": ORDERED + b")\x81.",
    "newobj_ex": ORDERED + b")}\x92.",
    "ext1": b"\x82\x01.",
    "ext2": b"\x83\x01\x00.",
    "ext4": b"\x84\x01\x00\x00\x00.",
    "persid": b"P0\n.",
    "long4": b"\x8b\xff\xff\xff\x7f" + bytes(100) + b".",
    "long text": b"X\xff\xff\xff\xff.",
    "longer text": b"\x8d" + b"\xff" * 8 + b".",
    "bytearray8": b"\x96" + b"\xff" * 8 + b".",
    "frame": b"\x95" + b"\xff" * 8 + b".",
    "next buffer": b"\x97.",
    "decimal integer": b"I" + b"9" * 100_000 + b"\n.",
    "global without an end": b"cos",
    "global of any length": b"c" + b"a" * 100_000 + b"\nb\n.",
    "global with an escape": b"c\x1b[31mos\nsystem\n.",
    "stack global of tuples": b"))\x93.",
    "stack global on nothing": b"\x93.",
    "text that is no UTF-8": b"X\x01\x00\x00\x00\xff.",
    "surrogates": b"X\x03\x00\x00\x00\xed\xa0\x80.",
    "empty": b"",
    "stop alone": b".",
    "two values": b"NN.",
    "no stop": b"N",
    "mark left": b"N(.",
    "pop of nothing": b"R.",
    "pop below a mark": b"NN(s.",
    "mark that is missing": b"Nt.",
    "items that are odd": b"}(K\x01u.",
    "items of a tuple": b")(K\x01K\x02u.",
    "items below a mark": b"(K\x01K\x02u.",
    "append to a tuple": b")K\x01a.",
    "extend a dict": b"}(K\x01e.",
    "memo that is missing": b"h\x05.",
    "memo of nothing": b"q\x00.",
    "unknown opcode": b"\xff.",
    "binput far away": b"r\xff\xff\xff\xff.",
    "persistent id of text": text("storage") + b"Q.",
    "persistent id too short": b"(" + text("storage") + b"tQ.",
    "persistent id of another kind": storage(4).replace(b"storage", b"storagf") + b".",
    "storage of a function": storage(4, kind="Size") + b".",
    "storage without a member": storage(4, key="9") + b".",
    "storage outside": storage(4, key="../../../etc/passwd") + b".",
    "storage is the pickle": storage(4, key="../data.pkl") + b".",
    "storage longer than its member": tensor((4,), (1,), length=2**60) + b".",
    "storage shorter than its member": tensor((1,), (1,), length=1) + b".",
    "storage of negative length": tensor((1,), (1,), length=-4) + b".",
    "storage of odd bytes": tensor((1,), (1,), key="odd") + b".",
    "storage of another width": tensor((4,), (1,), kind="DoubleStorage") + b".",
    "a storage alone": storage(4) + b".",
    "shape beyond": tensor((5,), (1,)) + b".",
    "stride beyond": tensor((2, 2), (3, 1)) + b".",
    "offset beyond": tensor((2,), (1,), offset=3) + b".",
    "offset negative": tensor((2,), (1,), offset=-1) + b".",
    "size negative": tensor((-2,), (1,)) + b".",
    "two negative sizes": tensor((-2, -2), (1, 1)) + b".",
    "stride negative": tensor((2,), (-1,), offset=3) + b".",
    "stride bomb": tensor((2**40,), (0,)) + b".",
    "stride bomb of many dimensions": tensor((2**12,) * 4, (0,) * 4) + b".",
    "product that wraps": tensor((2**32, 2**32), (0, 0)) + b".",
    "empty but huge": tensor((0, 2**62, 2**62), (1, 1, 1)) + b".",
    "shape and strides differ": tensor((2, 2), (1,)) + b".",
    "too many dimensions": tensor((1,) * 60, (1,) * 60) + b".",
    "shape of text": tensor((1,), (1,)).replace(row((1,)), b"(" + text("1") + b"t", 1) + b".",
    "shape of a bool": tensor((1,), (1,)).replace(row((1,)), b"(\x88t", 1) + b".",
    "shape of a list": tensor((1,), (1,)).replace(row((1,)), b"]K\x01a", 1) + b".",
    "too few arguments": b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "parameter of text": b"ctorch._utils\n_rebuild_parameter\n(" + text("a") + b"\x89NtR.",
    "size of text": b"ctorch\nSize\n" + text("a") + b"\x85R.",
    "unhashable key": b"}]Ns.",
    "tensor as a key": b"}" + tensor((1,), (1,)) + b"Ns.",
    "a dict that holds itself": b"}q\x00" + text("a") + b"h\x00s.",
    "a list that holds itself": b"]q\x00h\x00a.",
    "recursive metadata": b"ctorch._utils\n_rebuild_tensor_v2\n("
    + storage(4)
    + b"K\x00K\x01\x85K\x01\x85\x89N}q\x00K\x00h\x00stR.",
    "metadata that is a tensor": b"ctorch._utils\n_rebuild_tensor_v2\n("
    + storage(4)
    + b"K\x00K\x01\x85K\x01\x85\x89N"
    + tensor((4,), (1,))
    + b"tR.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(name: str) -> None:
    refusal(torch_zip(HOSTILE[name], {"0": bytes(16), "odd": bytes(17)}))


def laughs(depth: int) -> bytes:
    """A tuple that would have 2 ** depth leaves if anything walked it."""
    return text("ha") + b"q\x00" + b"h\x00\x86q\x00" * depth


BOMBS = {
    "billion laughs": b"}" + text("a") + laughs(10_000) + b"s.",
    "billion laughs as a key": b"}" + laughs(10_000) + b"Ns.",
    "billion laughs as a shape": tensor((1,), (1,)).replace(row((1,)), laughs(200), 1) + b".",
    "billion laughs as a persistent id": laughs(200) + b"Q.",
    "billion laughs as a name": laughs(200) + laughs(200) + b"\x93.",
    "nested tuples": b")" + b"\x85" * 400_000 + b".",
    "nested lists": b"]" * 200_000 + b"a" * 199_999 + b".",
    "nested dicts": b"}K\x00" * 150_000 + b"}" + b"s" * 150_000 + b".",
    "dicts": b"}" * 3_900_000,
    "marks": b"(" * 3_900_000,
    "memo": b"}" + b"\x94" * 3_900_000,
    "dicts in the memo": b"}\x94" * 1_900_000,
    "dicts of one": b"}K\x00Ns" * 700_000,
    "long pickle": b"N" * 5_000_000,
    "wide text": b"X" + (3_900_000).to_bytes(4, "little") + "😀".encode() + b"a" * 3_899_996 + b".",
    "tensors": b"ctorch._utils\n_rebuild_tensor_v2\nq\x00("
    + storage(4)
    + b"K\x00K\x01\x85K\x01\x85\x89Ntq\x01R"
    + b"h\x00h\x01R" * 200_000
    + b".",
}

#: The bombs that come closest to the limit; counting allocations is slow.
MEASURED = {"dicts in the memo", "dicts of one", "wide text", "billion laughs"}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    data = torch_zip(BOMBS[name], {"0": bytes(16)})
    refusal(data)
    if name in MEASURED:
        assert peak_of_refusal(data) <= 4 * len(data) + 64_000_000


@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_overlapping_views_do_not_multiply_the_file(dtype: str) -> None:
    kind = {"<f4": "FloatStorage", "<f2": "HalfStorage"}[dtype]
    length = 1_000_000
    views = [
        text(str(index)) + tensor((length - index,), (1,), offset=index, length=length, kind=kind)
        for index in range(50)
    ]
    data = torch_zip(b"}(" + b"".join(views) + b"u.", {"0": np.zeros(length, dtype).tobytes()})
    assert "overlap" in refusal(data).message
    assert peak_of_refusal(data) < 4_000_000


def test_one_tensor_under_many_names_does_not_multiply_the_file() -> None:
    """A view costs nothing here, and its float32 copies cost the caller whatever the file pleases."""
    tensor_ = torch.zeros(8, 4096, dtype=torch.float16)
    state = {f"encoder.layer.{index}.attention.self.query.lora_A.weight": tensor_ for index in range(300)}
    assert "overlap" in refusal(saved(state)).message
    tied = {"embeddings": torch.zeros(500, 1000), "other": torch.zeros(500, 1000)}
    tied["decoder"] = tied["embeddings"]
    assert len(parse_torch_file(saved(tied), "x")) == 3


def test_the_prefix_that_every_layer_saves_again_is_read() -> None:
    prefix = torch.zeros(1000, 768)
    rest = "prefix_tuning{pool}.prefix_tunings.sst.self_prefix.wte.weight"
    state = {"bert." + rest.format(pool=""): prefix}
    state |= {f"bert.encoder.layer.{n}.attention.self.{rest.format(pool='.pool')}": prefix for n in range(24)}
    read = parse_torch_file(saved(state), "x")
    assert len(read) == 25
    assert len({id(array) for array in read.values()}) == 1
    elsewhere = {f"x{n}.layer.0.attention.self.{rest.format(pool='.pool')}": prefix for n in range(24)}
    assert "overlap" in refusal(saved(elsewhere)).message


def test_unused_storages_are_not_converted() -> None:
    data = torch_zip(tensor((4,), (1,), kind="BFloat16Storage") + b".", {"0": bytes(8), "1": bytes(30_000_000)})
    tracemalloc.start()
    assert parse_torch_file(data, "x").shape == (4,)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_bool_is_true_or_false() -> None:
    read = parse_torch_file(torch_zip(tensor((4,), (1,), kind="BoolStorage") + b".", {"0": b"\x00\x01\x02\xff"}), "x")
    assert read.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_byte_order() -> None:
    code = tensor((4,), (1,)) + b"."
    assert parse_torch_file(torch_zip(code, {"0": bytes(16)}, byteorder=b"little"), "x").shape == (4,)
    assert "byte order" in refusal(torch_zip(code, {"0": bytes(16)}, byteorder=b"big")).message
    refusal(torch_zip(code, {"0": bytes(16)}, byteorder=b"\x1b[2J"))


def test_which_member_is_the_pickle() -> None:
    code, data = tensor((4,), (1,)) + b".", bytes(16)
    assert "no data.pkl" in refusal(zipped({"a/other": data})).message
    refusal(zipped({"data.pkl": code, "data/0": data}))
    refusal(zipped({"a/b/data.pkl": code, "a/b/data/0": data}))
    refusal(zipped({"a/data.pkl": code, "b/data.pkl": code, "a/data/0": data, "b/data/0": data}))
    assert parse_torch_file(zipped({"any name/data.pkl": code, "any name/data/0": data}), "x").shape == (4,)


def small_files() -> dict[str, bytes]:
    """Small files of torch's own."""
    state = collections.OrderedDict(w=torch.arange(6.0).reshape(2, 3), b=torch.nn.Parameter(torch.ones(2)))
    return {"state": saved(state), "bare": saved(torch.ones(3, dtype=torch.bfloat16))}


@pytest.mark.parametrize("name", ["state", "bare"])
def test_truncated_at_every_byte(name: str) -> None:
    data = small_files()[name]
    for length in range(len(data)):
        with pytest.raises(FormatError):
            parse_torch_file(data[:length], "x")


@pytest.mark.parametrize("name", ["state", "bare"])
def test_pickles_truncated_or_flipped_at_every_byte(name: str) -> None:
    """The checksum is right here, so the bytes reach the machine."""
    with zipfile.ZipFile(io.BytesIO(small_files()[name])) as archive:
        members = {entry.split("/", 1)[1]: archive.read(entry) for entry in archive.namelist()}
    code = members.pop("data.pkl")
    storages = {key.removeprefix("data/"): data for key, data in members.items() if key.startswith("data/")}
    for at in range(len(code)):
        with pytest.raises(FormatError):
            parse_torch_file(torch_zip(code[:at], storages), "x")
    read = 0
    for at in range(len(code)):
        for flip in (0x01, 0x04, 0x80, 0xFF):
            changed = code[:at] + bytes([code[at] ^ flip]) + code[at + 1 :]
            try:
                parse_torch_file(torch_zip(changed, storages), "x")
                read += 1
            except FormatError:
                pass
    assert 0 < read < 2 * len(code)
