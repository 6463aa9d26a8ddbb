"""Memory: whatever a file says, reading it takes at most 4 times its bytes and 64 MB, as SECURITY.md promises."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tupate_hub.embedding import embed, parse_embedding, read_embedding
from tupate_hub.errors import FormatError, TupateHubError
from tupate_hub.readers import read_adapter
from tupate_hub.readers.bitfit import read_named
from tupate_hub.storage.safetensors import TensorFile, load_tensorfile, parse_tensorfile, read_pieces, read_tensors

MEGABYTE = 1_000_000
TIMES, MORE = 4, 64 * MEGABYTE
LORA = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "base_model_name_or_path": "bert-base-uncased"}


def raw(header: Any, buffer: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + buffer


def overlapping(count: int, size: int = 10 * MEGABYTE, metadata: dict[str, str] | None = None) -> bytes:
    """So many tensors of bfloat16 that all lie in one range."""
    entry = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}
    named = {f"encoder.layer.{number}.output.dense.bias": entry for number in range(count)}
    return raw({**({"__metadata__": metadata} if metadata else {}), **named}, bytes(size))


@pytest.fixture
def peak() -> Iterator[Callable[[Callable[[], object]], int]]:
    """The most memory that a call took, in bytes; what it refuses is a sentence."""

    def measure(call: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            try:
                kept = call()
            except TupateHubError as error:
                kept = error.message
            assert kept is not None
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    yield measure


# --- tensors that overlap --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [200, 2000])
def test_tensors_that_overlap_are_refused_before_one_is_converted(
    count: int, peak: Callable[..., int], tmp_path: Path
) -> None:
    data = overlapping(count)
    path = tmp_path / "biases.safetensors"
    path.write_bytes(data)
    (tmp_path / "model.safetensors").write_bytes(data)
    readers: list[Callable[[], object]] = [
        lambda: parse_tensorfile(data, "x"),
        lambda: read_adapter(path, base="bert-base-uncased"),
        lambda: read_tensors(path, lambda name: True),
        lambda: list(read_pieces(path)),
        lambda: read_named(path, {f"encoder.layer.{number}.output.dense.bias" for number in range(count)}),
        lambda: read_adapter(path, base="bert-base-uncased", base_weights=tmp_path),
    ]
    for reader in readers:
        with pytest.raises(FormatError, match="overlap"):
            reader()
        assert peak(reader) < len(data) + 8 * MEGABYTE


def test_so_are_those_of_an_embedding(peak: Callable[..., int], tmp_path: Path) -> None:
    meta = {"schema": "tupate-hub-embedding/1", "task": "x", "base": "b", "method": "bitfit", "scales": "{}"}
    data = overlapping(200, metadata=meta)
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    for reader in (
        lambda: parse_embedding(data, "x"),
        lambda: read_embedding(path),
        lambda: load_tensorfile(data, "x"),
    ):
        with pytest.raises(FormatError):
            reader()
        assert peak(reader) < len(data) + 8 * MEGABYTE


def test_a_part_of_a_file_whose_other_tensors_overlap(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw({"a": entry, "b": entry, "c": {**entry, "data_offsets": [4, 8]}}, bytes(8)))
    with pytest.raises(FormatError, match="overlap"):
        read_tensors(path, lambda name: name == "c")


# --- the limit -------------------------------------------------------------------------------------------------


def _numpy(array: Any, compressed: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, x=array)
    return file.getvalue()


def _bare(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _one_lora(kind: str, size: int) -> bytes:
    """A LoRA of one place, of about so many bytes."""
    width = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "U8": 1}[kind]
    columns = size // width // 16
    half = 8 * columns * width
    name = "base_model.model.encoder.layer.0.attention.self.query"
    header = {
        f"{name}.lora_A.weight": {"dtype": kind, "shape": [8, columns], "data_offsets": [0, half]},
        f"{name}.lora_B.weight": {"dtype": kind, "shape": [columns, 8], "data_offsets": [half, 2 * half]},
    }
    return raw(header, b"\x01" * (2 * half))


def _pieces(piece: bytes, size: int) -> bytes:
    return b"[" + b",".join([piece] * (size // (len(piece) + 1))) + b"]"


def _torch(kind: bytes, size: int) -> bytes:
    """What torch.save makes of one tensor of so many bytes."""
    items = size // {b"BFloat16Storage": 2, b"HalfStorage": 2, b"FloatStorage": 4}[kind]
    number = b"J" + items.to_bytes(4, "little")
    storage = b"(X\7\0\0\0storagectorch\n" + kind + b"\nX\1\0\0\0000X\3\0\0\0cpu" + number + b"tQ"
    shape = b"(K\1" + b"J" + items.to_bytes(4, "little") + b"t" + b"(" + number + b"K\1t"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\0" + shape + b"\x89ccollections\nOrderedDict\n)RtR"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + tensor + b".")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", b"\x01" * size)
    return file.getvalue()


def _embedding(kind: str, size: int) -> bytes:
    data = np.ones(size // np.dtype(kind).itemsize, kind)
    meta = {"schema": "tupate-hub-embedding/1", "task": "x", "base": "b", "method": "plain", "scales": "{}"}
    return TensorFile({"all.vector": data}, meta).to_bytes()


def _gguf(kind: int, in_block: int, block: int, size: int, numbers: int = 0) -> bytes:
    """A GGUF adapter of one tensor of that type, and a list of so many numbers among its key-values."""
    count = size // block * in_block
    lists = struct.pack("<Q1sIIQ", 1, b"k", 9, 0, numbers) + bytes(numbers) if numbers else b""
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1 + bool(numbers))
    head += struct.pack("<Q12sIQ7s", 12, b"general.type", 8, 7, b"adapter") + lists
    head += struct.pack("<Q8sIQIQ", 8, b"x.lora_a", 1, count, kind, 0)
    return head + bytes(-len(head) % 32) + bytes(size // block * block)


SIZE = 40 * MEGABYTE
CASES: dict[str, dict[str, Callable[[], bytes]]] = {
    **{
        f"LoRA in {kind}": {"adapter_model.safetensors": lambda kind=kind: _one_lora(kind, SIZE)}  # type: ignore[misc]
        for kind in ("BF16", "F16", "F32", "F64", "U8")
    },
    **{
        f"a prompt in {kind.decode()}": {"prompt.pt": lambda kind=kind: _torch(kind, SIZE)}  # type: ignore[misc]
        for kind in (b"BFloat16Storage", b"HalfStorage", b"FloatStorage")
    },
    **{
        f"an embedding in {kind}": {"embedding": lambda kind=kind: _embedding(kind, SIZE)}  # type: ignore[misc]
        for kind in ("float16", "float32", "float64", "uint8", "bool")
    },
    "a vector in float16": {"x.npy": lambda: _bare(np.ones(SIZE // 2, np.float16))},
    "an archive that grows": {"x.npz": lambda: _numpy(np.ones(60 * MEGABYTE, np.float16), compressed=True)},
    "an archive of one array": {"x.npz": lambda: _numpy(np.ones(SIZE // 4, np.float32))},
    "a header of objects": {"x.safetensors": lambda: raw(_pieces(b'{"a":1}', 15 * MEGABYTE))},
    "a header of empty objects": {"x.safetensors": lambda: raw(_pieces(b"{}", 15 * MEGABYTE))},
    "a header of numbers": {"x.safetensors": lambda: raw(_pieces(b"1234", 15 * MEGABYTE))},
    "a header of one name": {"x.safetensors": lambda: raw({"x" * (15 * MEGABYTE): {}})},
    "a header of distinct names": {
        "x.safetensors": lambda: raw(
            b"{" + b",".join(b'"%x":0' % number for number in range(1_000_000)) + b"}",
        )
    },
    **{
        f"GGUF in {name}": {"x.gguf": lambda sizes=sizes: _gguf(*sizes, SIZE)}  # type: ignore[misc]
        for name, sizes in {"F16": (1, 1, 2), "BF16": (30, 1, 2), "Q8_0": (8, 32, 34)}.items()
    },
    "GGUF with a list of numbers": {"x.gguf": lambda: _gguf(0, 1, 4, 400, numbers=1_000_000)},
    "a configuration of objects": {"adapter_config.json": lambda: _pieces(b'{"a":1}', 4 * MEGABYTE - 10)},
    "a configuration of lists": {"adapter_config.json": lambda: _pieces(b"[]", 4 * MEGABYTE - 10)},
}


@pytest.mark.parametrize("case", CASES)
def test_reading_takes_at_most_four_times_the_file_and_64_megabytes(
    case: str, peak: Callable[..., int], tmp_path: Path
) -> None:
    files = {name: make() for name, make in CASES[case].items()}
    if "adapter_model.safetensors" in files:
        files["adapter_config.json"] = json.dumps(LORA).encode()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    size = sum(map(len, files.values()))

    def reader() -> object:
        if "embedding" in files:
            return read_embedding(tmp_path / "embedding")
        path = tmp_path if "adapter_config.json" in files else tmp_path / next(iter(files))
        return embed(read_adapter(path, base="bert-base-uncased", task="x"), "x")

    assert peak(reader) < TIMES * size + MORE


def test_products_of_small_factors_take_at_most_256_megabytes_more(peak: Callable[..., int], tmp_path: Path) -> None:
    """A LoHa whose r² is beyond its widths: the update itself is formed, and an identity beside it."""
    shapes = {"hada_w1_a": (3900, 70), "hada_w1_b": (70, 3900), "hada_w2_a": (3900, 70), "hada_w2_b": (70, 3900)}
    key = "base_model.model.encoder.layer.0.attention.self.query."
    data = TensorFile({key + name: np.ones(shape, np.float32) for name, shape in shapes.items()}).to_bytes()
    (tmp_path / "adapter_model.safetensors").write_bytes(data)
    (tmp_path / "adapter_config.json").write_text(json.dumps({**LORA, "peft_type": "LOHA", "alpha": 8}))
    taken = peak(lambda: read_adapter(tmp_path))
    assert 2 * 4 * 3900**2 < taken < TIMES * len(data) + MORE + 256 * MEGABYTE


def test_the_limit_holds_for_the_whole_process(tmp_path: Path) -> None:
    """What the allocator of Python does not see counts as well: the address space of a process is held to the limit."""
    data = overlapping(2000)
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    program = f"""
import resource, sys
from pathlib import Path
import numpy
from tupate_hub.errors import FormatError
from tupate_hub.readers import read_adapter
pages = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages + {TIMES * len(data) + MORE},) * 2)
try:
    read_adapter(Path(sys.argv[1]), base="b")
except FormatError:
    sys.exit(7)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
