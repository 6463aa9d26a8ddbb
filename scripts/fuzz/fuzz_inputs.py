"""What the fuzzer feeds on: seeds made in memory, and the ways in which they are changed.

A case is a set of files by name. Its seeds are small but whole: every layout that has a reader, written here with
numpy and the standard library alone. Mutations know bytes, JSON, safetensors headers, zip archives and pickles.
"""

from __future__ import annotations

import io
import json
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tupate_hub.storage.safetensors import TensorFile

Files = dict[str, bytes]
Arrays = dict[str, np.ndarray]

#: Extra seeds larger than this are left out, so that many mutations can be tried.
_LARGEST_EXTRA = 4_000_000


@dataclass(frozen=True)
class Seed:
    """A whole case: which target takes it, and its files."""

    target: str
    name: str
    files: Mapping[str, bytes]


# ---- seeds ----------------------------------------------------------------------------------------------------------


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _number(value: int) -> bytes:
    return b"K" + bytes([value]) if value < 256 else b"J" + struct.pack("<i", value)


def _numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"


def torch_bytes(tensors: Arrays | np.ndarray) -> bytes:
    """A file as torch.save writes it, in float32 or, where the array is uint16, bfloat16."""
    storages: list[bytes] = []

    def pickled(array: np.ndarray) -> bytes:
        kind = b"BFloat16Storage" if array.dtype == np.uint16 else b"FloatStorage"
        key, strides = str(len(storages)), tuple(step // array.itemsize for step in array.strides)
        storages.append(array.tobytes())
        of = b"(" + _text("storage") + b"ctorch\n" + kind + b"\n" + _text(key) + _text("cpu") + _number(array.size)
        hooks = b"\x89ccollections\nOrderedDict\n)R"
        shape = b"tQ" + _number(0) + _numbers(array.shape) + _numbers(strides)
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + of + shape + hooks + b"tR"

    if isinstance(tensors, dict):
        items = b"".join(_text(name) + b"q\x01" + pickled(array) for name, array in tensors.items())
        code = b"ccollections\nOrderedDict\n)Rq\x00(" + items + b"u"
    else:
        code = pickled(tensors)
    members = {"archive/data.pkl": b"\x80\x02" + code + b".", "archive/byteorder": b"little", "archive/version": b"3\n"}
    return _zipped({**members, **{f"archive/data/{index}": data for index, data in enumerate(storages)}})


def _zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def _numpy_bytes(arrays: Arrays | np.ndarray) -> bytes:
    buffer = io.BytesIO()
    if isinstance(arrays, dict):
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
    else:
        np.save(buffer, arrays)
    return buffer.getvalue()


def _peft(method: str, arrays: Arrays, pickled: bool = False, **config: Any) -> Files:
    config = {"peft_type": method, "base_model_name_or_path": "bert-base-uncased", "task_type": "SEQ_CLS", **config}
    files = {"adapter_config.json": json.dumps(config).encode()}
    if pickled:
        return {**files, "adapter_model.bin": torch_bytes(arrays)}
    return {**files, "adapter_model.safetensors": TensorFile(arrays, {"format": "pt"}).to_bytes()}


def _adapterhub(arrays: Arrays, **config: Any) -> Files:
    outer = {
        "config": config,
        "hidden_size": 8,
        "model_class": "BertAdapterModel",
        "model_name": "bert-base-uncased",
        "model_type": "bert",
        "name": "sst",
        "version": "adapters.1.3.0",
    }
    return {"adapter_config.json": json.dumps(outer).encode(), "pytorch_adapter.bin": torch_bytes(arrays)}


def adapter_folders(rng: np.random.Generator) -> dict[str, Files]:
    """One small folder for each layout that has a reader."""

    def random_array(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    def per_layer(**shapes: tuple[int, ...]) -> Arrays:
        return {
            f"{prefix}{layer}.{name.replace('__', '.')}": random_array(*shape)
            for layer in range(2)
            for name, shape in shapes.items()
        }

    prefix = "base_model.model.bert.encoder.layer."
    query, value = "attention__self__query__", "attention__self__value__"
    lora = per_layer(**{f"{query}lora_A__weight": (4, 8), f"{query}lora_B__weight": (8, 4)})
    head = {"base_model.model.classifier.weight": random_array(2, 8)}
    folders = {
        "lora": _peft("LORA", lora, r=4, lora_alpha=8, target_modules=["query"], use_rslora=True, fan_in_fan_out=False),
        "lora bin": _peft("LORA", lora, True, r=4, lora_alpha=8, target_modules="all", alpha_pattern={"query": 16}),
        "lora head": _peft("LORA", {**lora, **head}, r=4, lora_alpha=1),
        "prefix": _peft("PREFIX_TUNING", {"prompt_embeddings": random_array(3, 32)}, num_layers=2, token_dim=8),
        "prompt": _peft("PROMPT_TUNING", {"prompt_embeddings": random_array(3, 8)}, num_virtual_tokens=3),
        "ia3": _peft("IA3", per_layer(**{f"{value}ia3_l": (8, 1)}), feedforward_modules=[], target_modules=["value"]),
        "adalora": _peft(
            "ADALORA",
            per_layer(**{f"{value}lora_A": (4, 8), f"{value}lora_B": (8, 4), f"{value}lora_E": (4, 1)}),
            lora_alpha=8,
            r=4,
        ),
        "ln": _peft("LN_TUNING", per_layer(output__LayerNorm__ln_tuning_layers__weight=(8,))),
        **_products(random_array),
        "prompt array": {"task_prompt": torch_bytes(random_array(3, 8))},
        "prompt numpy": {"prompt.npy": _numpy_bytes(random_array(3, 8))},
        "prompt npz": {"prompt.npz": _numpy_bytes({"prompt": random_array(3, 8)})},
        "vector": {"squad.npy": _numpy_bytes(rng.standard_normal(16))},
    }
    prefix = "bert.encoder.layer."
    bottleneck = {
        "output__adapters__sst__adapter_down__0__weight": (2, 8),
        "output__adapters__sst__adapter_down__0__bias": (2,),
        "output__adapters__sst__adapter_up__weight": (8, 2),
        "output__adapters__sst__adapter_up__bias": (8,),
    }
    low_rank = {f"{query}loras__sst__lora_A": (4, 8), f"{query}loras__sst__lora_B": (8, 4)}
    folders["hub bottleneck"] = _adapterhub(per_layer(**bottleneck), reduction_factor=4, mh_adapter=False)
    folders["hub lora"] = _adapterhub(per_layer(**low_rank), architecture="lora", r=4, alpha=8)
    prompt = {"bert.prompt_tuning.prompt_tunings.sst.prompt_embedding.weight": np.full((3, 8), 16256, np.uint16)}
    folders["hub bfloat16"] = _adapterhub(prompt, architecture="prompt_tuning", prompt_length=3)
    pool = "bert.prefix_tuning.prefix_tunings.sst.self_prefix."
    shapes = {"wte.weight": (3, 8), "control_trans.0.weight": (4, 8), "control_trans.0.bias": (4,)}
    shapes |= {"control_trans.2.weight": (32, 4), "control_trans.2.bias": (32,)}
    reparametrised = {pool + name: random_array(*shape) for name, shape in shapes.items()}
    folders["hub prefix"] = _adapterhub(reparametrised, architecture="prefix_tuning", flat=False, prefix_length=3)
    prefix = "model.layers."
    mlx = {"self_attn__q_proj__lora_a": (8, 4), "self_attn__q_proj__lora_b": (4, 8)}
    settings = {"model": "Qwen/Qwen2.5-0.5B", "fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 10.0}}
    config = json.dumps(settings).encode()
    folders["mlx"] = {"adapter_config.json": config, "adapters.safetensors": TensorFile(per_layer(**mlx)).to_bytes()}
    folders["mlx npz"] = {"adapter_config.json": config, "adapters.npz": _numpy_bytes(per_layer(**mlx))}
    prefix = "bert.encoder.layer."
    folders |= _of_the_adapters_library(random_array)
    folders |= _containers(random_array)
    folders["bitfit"] = {"bitfit.safetensors": TensorFile(per_layer(output__dense__bias=(8,))).to_bytes()}
    return folders


Random = Callable[..., np.ndarray]


def _products(random_array: Random) -> dict[str, Files]:
    """PEFT's methods whose updates are products of what the file holds."""

    def module(method: str, shapes: dict[str, tuple[int, ...]], shared: Arrays | None = None, **config: Any) -> Files:
        query = "base_model.model.bert.encoder.layer.0.attention.self.query."
        arrays = {query + name: random_array(*shape) for name, shape in shapes.items()}
        return _peft(method, {**arrays, **(shared or {})}, **config)

    factors = {"hada_w1_a": (8, 2), "hada_w1_b": (2, 8), "hada_w2_a": (8, 2), "hada_w2_b": (2, 8)}
    core = {"hada_w1_a": (2, 8), "hada_w2_a": (2, 8), "hada_t1": (2, 2, 3, 3), "hada_t2": (2, 2, 3, 3)}
    kron = {"lokr_w1": (2, 2), "lokr_w2_a": (4, 2), "lokr_w2_b": (2, 4)}
    whole = {"lokr_w1": (2, 2), "lokr_w2": (4, 4)}
    shared = {"base_model.vera_A": random_array(4, 8), "base_model.vera_B": random_array(8, 4)}
    logits = {"vblora_logits_A": (2, 2, 5), "vblora_logits_B": (2, 2, 5)}
    bank = {"base_model.vblora_vector_bank": random_array(5, 4)}
    chosen = {f"vblora_logits_{half}_topk_weights": (2, 2, 1) for half in "AB"}
    query = "base_model.model.bert.encoder.layer.0.attention.self.query."
    indices = {f"{query}vblora_logits_{half}_topk_indices": np.ones((2, 2, 2), np.uint8) for half in "AB"}
    delora = {"delora_A": (2, 8), "delora_B": (8, 2), "delora_lambda": (1,), "delora_w_norm": (8,)}
    patterns = {"alpha_pattern": {"query": 3}, "rank_pattern": {"query": 2}}
    return {
        "loha": module("LOHA", factors, r=2, alpha=6, **patterns),
        "loha core": module("LOHA", {**factors, **core}, r=2, alpha=6),
        "lokr": module("LOKR", kron, r=2, alpha=6, **patterns),
        "lokr whole": module("LOKR", whole, r=2, alpha=6),
        "vera": module("VERA", {"vera_lambda_b": (8,), "vera_lambda_d": (4,)}, shared, r=4),
        "vb-lora": module("VBLORA", logits, bank, r=2, topk=2, num_vectors=5, vector_length=4),
        "vb-lora chosen": module("VBLORA", chosen, {**bank, **indices}, r=2, topk=2, save_only_topk_weights=True),
        "delora": module("DELORA", delora, r=2, delora_lambda=15),
    }


def _of_the_adapters_library(random_array: Random) -> dict[str, Files]:
    """VeRA and LoReFT as the adapters library saves them."""
    loras, shared = "bert.encoder.layer.0.attention.self.query.loras.sst.", "bert.shared_parameters.sst."
    vera = {f"{loras}vera_D": (2, 2), f"{loras}vera_B": (8, 8), f"{shared}lora_A": (2, 8), f"{shared}lora_B": (8, 2)}
    unit = "bert.encoder.layer.0.reft_layer.refts.sst.units.0."
    reft = {f"{unit}learned_source.weight": (2, 8), f"{unit}learned_source.bias": (2,)}
    reft |= {f"{unit}projection.parametrizations.weight.{name}": shape for name, shape in _PROJECTION.items()}
    arrays = [{key: random_array(*shape) for key, shape in shapes.items()} for shapes in (vera, reft)]
    settings = {"prefix_positions": 3, "suffix_positions": 0, "tied_weights": False, "non_linearity": None}
    return {
        "hub vera": _adapterhub(arrays[0], architecture="lora", r=2, alpha=4, vera_d=0.1, vera_b=0.0),
        "hub loreft": _adapterhub(arrays[1], architecture="reft", r=2, orthogonality=True, **settings),
    }


_PROJECTION: dict[str, tuple[int, ...]] = {"original": (2, 8), "0.base": (8, 8)}


def _containers(random_array: Random) -> dict[str, Files]:
    """LoRA in the files of other programs: one file each, with no configuration beside it."""
    place = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    kohya, down, up = f"lora_unet_{place.replace('.', '_')}", random_array(2, 8), random_array(8, 2)
    alpha = {f"{kohya}.alpha": np.array(4, np.float32)}
    pair = {f"{kohya}.lora_down.weight": down, f"{kohya}.lora_up.weight": up, **alpha}
    conv = {f"{kohya}.lora_down.weight": down[:, :, None, None], f"{kohya}.lora_up.weight": up[:, :, None, None]}
    conv[f"{kohya}.lora_mid.weight"] = random_array(2, 2, 3, 3)
    lycoris = {f"{kohya}.{name}": random_array(*shape) for name, shape in _LOKR.items()} | alpha
    said = json.dumps({"unet.lora_alpha": 4, "unet.r": 2, "unet.alpha_pattern": {"attn1.to_q": 2}})
    today = {f"unet.{place}.lora_A.weight": down, f"unet.{place}.lora_B.weight": up}
    old = {
        f"{place.replace('to_q', 'processor.to_q_lora')}.{half}.weight": x for half, x in (("down", down), ("up", up))
    }
    files = {
        "sd-scripts": TensorFile(pair, {"ss_base_model_version": "sd_v1", "ss_sd_model_name": "acme/sd"}),
        "sd-scripts convolution": TensorFile(conv),
        "lycoris": TensorFile(lycoris),
        "diffusers": TensorFile(today, {"lora_adapter_metadata": said}),
        "diffusers of old": TensorFile(old),
        "numbered": TensorFile({"w_a_000": down, "w_b_000": up}),
    }
    made: dict[str, Files] = {name: {"lora.safetensors": file.to_bytes()} for name, file in files.items()}
    return {
        **made,
        "gguf": {"lora.gguf": gguf_bytes({"blk.0.attn_q.weight.lora_a": down, "blk.0.attn_q.weight.lora_b": up})},
    }


_LOKR: dict[str, tuple[int, ...]] = {"lokr_w1_a": (2, 1), "lokr_w1_b": (1, 2), "lokr_w2": (4, 4)}


def gguf_bytes(tensors: Arrays) -> bytes:
    """A small adapter in GGUF, version 3; half of the tensors in float16."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    facts = {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora"}
    data = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts) + 2)
    for key, value in facts.items():
        data += text(key) + struct.pack("<I", 8) + text(value)
    data += text("adapter.lora.alpha") + struct.pack("<If", 6, 4.0)
    data += text("general.tags") + struct.pack("<IIQ", 9, 8, 2) + text("lora") + text("sst2")
    buffer = b""
    for number, (name, array) in enumerate(tensors.items()):
        stored = array.astype(np.float16) if number % 2 else array
        sizes = struct.pack(f"<{array.ndim}Q", *array.shape[::-1])
        data += text(name) + struct.pack("<I", array.ndim) + sizes + struct.pack("<IQ", number % 2, len(buffer))
        buffer += stored.tobytes() + bytes(-stored.nbytes % 32)
    return data + bytes(-len(data) % 32) + buffer


def _finetuned() -> list[Seed]:
    """A model and its base model, whole and in shards."""
    rng = np.random.default_rng(1)
    query, words = "bert.encoder.layer.0.attention.self.query.weight", "bert.embeddings.word_embeddings.weight"
    base = {
        query: rng.standard_normal((8, 8)).astype(np.float32),
        words: rng.standard_normal((9, 8)).astype(np.float16),
    }
    tuned = {key: array + array.dtype.type(1) for key, array in base.items()}
    index = json.dumps({"metadata": {}, "weight_map": {query: "model-0.safetensors", words: "model-1.safetensors"}})
    minus = {"base.safetensors": TensorFile(base).to_bytes()}
    shards = {
        f"model-{n}.safetensors": TensorFile({key: tuned[key]}).to_bytes() for n, key in enumerate((query, words))
    }
    return [
        Seed("finetuned", "whole", {"model.safetensors": TensorFile(tuned).to_bytes(), **minus}),
        Seed("finetuned", "shards", {"model.safetensors.index.json": index.encode(), **shards, **minus}),
    ]


def make_seeds() -> list[Seed]:
    """The seeds of every target; the same on every run."""
    folders = adapter_folders(np.random.default_rng(0))
    seeds = [Seed("adapter", name, files) for name, files in folders.items()]
    for name, files in folders.items():
        for file, data in files.items():
            pickled = data[:2] == b"PK" and not file.endswith(".npz")
            if file.endswith(".gguf"):
                seeds.append(Seed("gguffile", f"{name}/{file}", {"file": data}))
            target = "tensorfile" if file.endswith(".safetensors") else "torchfile"
            if pickled or target == "tensorfile":
                seeds.append(Seed(target, f"{name}/{file}", {"file": data}))
    arrays = {"layer.0.query.A": np.ones((2, 8), np.float16), "layer.0.query.B": np.ones((8, 2), np.float16)}
    meta = {"schema": "tupate-hub-embedding/1", "task": "sst2", "base": "bert-base-uncased", "method": "lora"}
    meta |= {"scales": '{"layer.0.query":2.0}', "settings": '{"r":2}'}
    seeds.append(Seed("embedding", "embedding", {"file": TensorFile(arrays, meta).to_bytes()}))
    return seeds + _finetuned()


def extra_seeds(folder: Path) -> list[Seed]:
    """The folders of adapters below a folder, and their weights on their own."""
    seeds = []
    for directory in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}
        if 0 < sum(map(len, files.values())) <= _LARGEST_EXTRA:
            seeds.append(Seed("adapter", directory.name, files))
            kinds = [("tensorfile", data) for name, data in files.items() if name.endswith(".safetensors")]
            pickled = {name: data for name, data in files.items() if data[:4] == b"PK\3\4" and ".np" not in name}
            kinds += [("torchfile", data) for data in pickled.values()]
            seeds.extend(Seed(target, f"{directory.name}/{target}", {"file": data}) for target, data in kinds)
    return seeds


# ---- mutations: each takes bytes and gives bytes --------------------------------------------------------------------

_NUMBERS = [0, 1, 2, 7, 8, 127, 128, 255, 256, 65535]
_NUMBERS += [2**bits - less for bits in (31, 32, 53, 63, 64) for less in (0, 1)]
_VALUES: list[Any] = [
    *_NUMBERS, -1, -8, 1e308, -1e308, 1e-320, 0.5, float("nan"), float("inf"), 10**400, None, True, False, "", "x",
    "é😀", "\x00", "\ud800", "../../x", "a" * 5000, [], {}, [[]], [{}], {"": ""}, [1, 2], [-1], ["query"], "LORA",
    "lora", "F32", "BF16", "I64", "BOOL", "(((((a*)*)*)*)*)*$", "none", "all", "lora_only", "8", [0, 2**63],
]  # fmt: skip


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _flip_early(data: bytes, rng: random.Random) -> bytes:
    edge = min(len(data), 400)
    return _flip(data[:edge], rng) + data[edge:]


def _flip_late(data: bytes, rng: random.Random) -> bytes:
    edge = max(0, len(data) - 400)
    return data[:edge] + _flip(data[edge:], rng)


def _remove(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice([1, 2, 8, 100, 1000]) :]


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice([1, 2, 8, 100])) + data[at:]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    start, at = rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)
    return data[:at] + data[start : start + rng.randrange(300)] * rng.choice([1, 2, 20]) + data[at:]


def _overwrite_number(data: bytes, rng: random.Random) -> bytes:
    width, at = rng.choice([1, 2, 4, 8]), rng.randrange(len(data) + 1)
    at = rng.choice([at, 0, max(0, len(data) - rng.randrange(1, 100)), min(at, 300)])
    number = rng.choice(_NUMBERS) % 256**width
    return data[:at] + number.to_bytes(width, "little") + data[at + width :]


def _change_digits(data: bytes, rng: random.Random) -> bytes:
    places = [at for at in range(min(len(data), 20_000)) if 48 <= data[at] <= 57]
    if not places:
        return _flip(data, rng)
    at = rng.choice(places)
    return data[:at] + str(rng.choice([*_NUMBERS, -1, "1e9", "9" * 5000])).encode() + data[at + 1 :]


def _replace(data: bytes, rng: random.Random) -> bytes:
    return rng.choice(
        [
            b"",
            b"\0" * len(data),
            b"fake weights!",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
            b"[" * 100_000,
            b'{"a":' * 50_000,
            b"{}",
            b"null",
            b"\xff\xfe{}",
            rng.randbytes(200),
        ]
    )


def _json_value(value: Any, rng: random.Random) -> Any:
    """The JSON value with one of its nodes changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key, changed = rng.choice(list(value)), dict(value)
        action = rng.randrange(6)
        if action == 0:
            del changed[key]
        elif action == 1:
            changed[rng.choice(["", "x", key + ".", key.upper(), "a" * 2000, key.replace("0", "1")])] = changed.pop(key)
        elif action == 2:
            changed[key], changed["peft_type"] = changed.get(rng.choice(list(value))), rng.choice(_VALUES)
        else:
            changed[key] = _json_value(changed[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        at, changed_list = rng.randrange(len(value)), list(value)
        changed_list[at] = _json_value(changed_list[at], rng)
        return rng.choice([changed_list, changed_list, changed_list[1:], changed_list * 2])
    if isinstance(value, str) and rng.random() < 0.3:
        try:
            return json.dumps(_json_value(json.loads(value), rng))
        except ValueError:
            return value[::-1]
    if type(value) is int and rng.random() < 0.5:
        return value + rng.choice([-8, -2, -1, 1, 2, 8])
    return _nested(rng) if rng.random() < 0.02 else rng.choice(_VALUES)


def _nested(rng: random.Random) -> Any:
    value: Any = 1
    for _ in range(rng.choice([3, 100, 700])):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _change_json(data: bytes, rng: random.Random) -> bytes:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return _flip(data, rng)
    for _ in range(rng.choice([1, 1, 2, 3])):
        value = _json_value(value, rng)
    return json.dumps(value).encode()


def _change_header(data: bytes, rng: random.Random) -> bytes:
    """A safetensors header changed as JSON, with its length put right most of the time."""
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= len(data) - 8:
        return _flip_early(data, rng)
    header = _change_json(data[8 : 8 + length], rng)
    said = len(header) if rng.random() < 0.95 else rng.choice(_NUMBERS) % 2**64
    return said.to_bytes(8, "little") + header + data[8 + length :]


_FILE_NAMES = [
    "adapter_model.bin", "adapter_model.safetensors", "pytorch_adapter.bin", "adapter_config.json", "adapters.npz",
    "x.npy", "x.safetensors", "x.gguf", "training_args.bin", "README.md", "x",
]  # fmt: skip

_FRAGMENTS = [
    b"cos\nsystem\n", b"cposix\nsystem\n", b"cbuiltins\neval\n", b"cbuiltins\ngetattr\n", b"ctorch\nload\n",
    b"X\x04\x00\x00\x00true\x85R", b"\x81", b"\x92", b"R", b"b", b"i", b"(S'true'\nios\nsystem\n", b"o", b"Q",
    b"P0\n", b"\x82\x01", b"\x8b\xff\xff\xff\x7f", b"\x8a\xff", b"\x8d" + b"\xff" * 8, b"\x96" + b"\xff" * 8,
    b"h\x00\x86q\x00" * 50, b"}", b"]", b")", b"(", b"t", b"u", b"s", b"0", b"2", b"1", b".", b"N", b"\x88",
    b"\x85" * 3000, b"}" * 3000, b"\x94", b"\x93",
    b"ctorch\nSize\n", b"ctorch\nHalfStorage\n", b"ctorch\nBoolStorage\n", b"ctorch\nDoubleStorage\n",
]  # fmt: skip


def _change_pickle(code: bytes, rng: random.Random) -> bytes:
    """A pickle with opcodes removed, repeated, swapped, or others put in."""
    try:
        starts = [position or 0 for _, _, position in pickletools.genops(code)]
    except Exception:  # whatever pickletools thinks of a pickle that is broken already
        return _flip(code, rng)
    steps = [code[start:end] for start, end in zip(starts, [*starts[1:], len(code)], strict=True)]
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at, other, action = rng.randrange(len(steps)), rng.randrange(len(steps)), rng.randrange(6)
        if action == 0:
            steps[at] = b""
        elif action == 1:
            steps[at] = steps[at] * rng.choice([2, 2, 1000])
        elif action == 2:
            steps[at], steps[other] = steps[other], steps[at]
        elif action == 3:
            steps[at] = rng.choice(_FRAGMENTS)
        elif action == 4:
            steps[at] += rng.choice(_FRAGMENTS)
        else:
            numbers = [index for index, step in enumerate(steps) if step[:1] in (b"K", b"M", b"J", b"\x8a")] or [at]
            number = rng.choice([*_NUMBERS, -1, -4, 3, 4, 5, 16, 33]) % 2**64
            steps[rng.choice(numbers)] = b"\x8a\x08" + number.to_bytes(8, "little")
    return b"".join(steps)


def _change_zip(data: bytes, rng: random.Random) -> bytes:
    """A zip archive with a member changed, and its checksums put right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # whatever zipfile thinks of an archive that is broken already
        return _flip_late(data, rng)
    if not members:
        return _flip_late(data, rng)
    pickles = [name for name in members if name.endswith("data.pkl")]
    name = rng.choice(list(members))
    action = rng.randrange(10)
    if pickles and action < 6:
        members[pickles[0]] = _change_pickle(members[pickles[0]], rng)
    elif action == 6:
        members[rng.choice(["../x", "/x", "a/../../b", "é", name + "x", "C:\\x", "a/data.pkl"])] = members.pop(name)
    elif action == 7:
        members[name] = rng.choice(_BYTES)(members[name], rng)
    elif action == 8:
        del members[name]
    else:
        return _zipped(members, zipfile.ZIP_DEFLATED)
    return _zipped(members)


def _places_of_numbers(data: bytes) -> list[tuple[int, int]]:
    """Where a GGUF file of this module's kind has its counts, lengths, types, sizes and offsets, with their widths."""
    found, at = [(4, 4), (8, 8), (16, 8)], 24

    def text(at: int) -> int:
        found.append((at, 8))
        return at + 8 + int.from_bytes(data[at : at + 8], "little")

    tensors, facts = (int.from_bytes(data[start : start + 8], "little") for start in (8, 16))
    for _ in range(min(facts, 20)):
        at = text(at)
        found.append((at, 4))
        kind, at = int.from_bytes(data[at : at + 4], "little"), at + 4
        if kind == 9:
            found += [(at, 4), (at + 4, 8)]
            count, at = int.from_bytes(data[at + 4 : at + 12], "little"), at + 12
            for _ in range(min(count, 20)):
                at = text(at)
        else:
            at = text(at) if kind == 8 else at + 4
    for _ in range(min(tensors, 20)):
        at = text(at)
        axes = min(int.from_bytes(data[at : at + 4], "little"), 4)
        found += [
            (at, 4),
            *((at + 4 + 8 * axis, 8) for axis in range(axes)),
            (at + 4 + 8 * axes, 4),
            (at + 8 + 8 * axes, 8),
        ]
        at += 16 + 8 * axes
    return [place for place in found if sum(place) <= len(data)]


def _change_gguf(data: bytes, rng: random.Random) -> bytes:
    """A GGUF file with one to three of its numbers changed."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        at, width = rng.choice(_places_of_numbers(data) or [(0, 4)])
        old = int.from_bytes(data[at : at + width], "little")
        new = rng.choice([*_NUMBERS, old + 1, max(old - 1, 0), old * 2, 32, 30, 28]) % 256**width
        data = data[:at] + new.to_bytes(width, "little") + data[at + width :]
    return data


_BYTES = [_cut, _flip, _flip_early, _flip_late, _remove, _insert, _repeat, _overwrite_number, _change_digits, _replace]
Mutation = Callable[[bytes, random.Random], bytes]


def _mutations_of(data: bytes) -> list[Mutation]:
    """The mutations that understand what the bytes are."""
    if data[:2] == b"PK":
        return [_change_zip]
    if data[:4] == b"GGUF":
        return [_change_gguf]
    if data[:1] == b"{":
        return [_change_json]
    return [_change_header] if data[8:9] == b"{" else [_change_digits]


def mutate(seed: Seed, others: list[Seed], rng: random.Random) -> Files:
    """The files of a seed with one to three of their places changed; the same random state gives the same files."""
    files = dict(seed.files)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        name = rng.choice(list(files))
        data, chance = files[name], rng.random()
        if chance < 0.6:
            files[name] = rng.choice(_mutations_of(data))(data, rng)
        elif chance < 0.93:
            files[name] = rng.choice(_BYTES)(data, rng)
        elif chance < 0.96:
            other = rng.choice(list(rng.choice(others).files.values()))
            at = rng.randrange(min(len(data), len(other)) + 1)
            files[name] = data[:at] + other[at:]
        elif seed.target in ("adapter", "finetuned"):
            files = _change_folder(files, name, rng.choice(others), rng)
    return files


def _change_folder(files: Files, name: str, other: Seed, rng: random.Random) -> Files:
    """A folder with a file gone, renamed, or of another adapter."""
    changed = dict(files)
    action = rng.randrange(3)
    if action == 0 and len(changed) > 1:
        del changed[name]
    elif action == 1:
        changed[rng.choice(_FILE_NAMES)] = changed.pop(name)
    else:
        changed.update({key if key != "file" else name: data for key, data in other.files.items()})
    return changed
