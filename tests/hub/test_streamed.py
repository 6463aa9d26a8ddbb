"""StreamedAdapter: an adapter by as few requests as may be, whole or in part, with nothing on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE
from loopback import LoopbackHub
from orchards import adapterhub_files, hub_cache, peft_files, plant

from tupate_hub.errors import FormatError, SpaceMismatch, WorkFailed
from tupate_hub.hub import streamed
from tupate_hub.hub.cache import cache_root
from tupate_hub.hub.location import MODEL, Location
from tupate_hub.hub.streamed import StreamedAdapter, open_streamed
from tupate_hub.storage.safetensors import TensorFile, parse_tensorfile

WEIGHTS = "adapter_model.safetensors"


def opened(hub: LoopbackHub, files: dict[str, bytes], in_part: bool = False, tagged: str = BASE) -> StreamedAdapter:
    at = Location(MODEL, "acme/lora", plant(hub, "acme/lora", files))
    return open_streamed(at, [name for name in files if "/" not in name], BASE, tagged, in_part)


def large_files(layers: int = 6, width: int = 400, rank: int = 40) -> dict[str, bytes]:
    """A LoRA of 1.5 MB, its tensors in order of their names."""
    rng, tensors = np.random.default_rng(0), {}
    for layer in range(layers):
        for place in ("query", "value"):
            module = f"base_model.model.bert.encoder.layer.{layer}.attention.self.{place}"
            tensors[f"{module}.lora_A.weight"] = rng.standard_normal((rank, width)).astype(np.float32)
            tensors[f"{module}.lora_B.weight"] = rng.standard_normal((width, rank)).astype(np.float32)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "base_model_name_or_path": BASE}
    return {"adapter_config.json": json.dumps(config).encode(), WEIGHTS: TensorFile(tensors, {}).to_bytes()}


def asked(hub: LoopbackHub) -> list[str]:
    """What was asked for of files: the file and the range; redirections to the storage left out."""
    return [f"{one.path.rpartition('/')[2]} {one.range}" for one in hub.seen if "/resolve/" in one.path]


def test_a_small_one_is_two_requests(hub: LoopbackHub) -> None:
    files = peft_files(1)
    adapter = opened(hub, files)
    assert adapter.read() == files[WEIGHTS]
    assert asked(hub) == ["adapter_config.json bytes=0-4000000", f"{WEIGHTS} bytes=0-7999999"]
    assert (adapter.size, adapter.file) == (len(files[WEIGHTS]), WEIGHTS)
    assert adapter.sha256 == hub.store.repository("models", "acme/lora").commit("main").files[WEIGHTS].sha256


def test_of_a_large_one_the_rest_is_asked_for(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "_START", 512_000)
    files = large_files()
    adapter = opened(hub, files)
    assert adapter.begun == 512_000
    assert adapter.read() == files[WEIGHTS]
    assert asked(hub)[1:] == [f"{WEIGHTS} bytes=0-511999", f"{WEIGHTS} bytes=512000-{len(files[WEIGHTS]) - 1}"]


@pytest.mark.parametrize("in_part", [False, True])
def test_nothing_is_kept_on_the_disk(in_part: bool, hub: LoopbackHub) -> None:
    adapter = opened(hub, large_files(), in_part)
    if in_part:
        outline = adapter.outline()
        outline.read(outline.chosen(lambda name: True))
    else:
        adapter.read()
    assert not [path for root in (cache_root(), hub_cache()) for path in Path(root).rglob("*") if path.is_file()]


def test_a_part_is_fetched_by_its_ranges(hub: LoopbackHub) -> None:
    files = large_files()
    outline = opened(hub, files, in_part=True).outline()
    chosen = outline.chosen(lambda name: ".value." in name and (".layer.3." in name or ".layer.5." in name))
    tensors = outline.read(chosen)
    whole = parse_tensorfile(files[WEIGHTS], "whole").tensors
    assert list(tensors) == [name for name in whole if name in tensors] and len(tensors) == 4
    assert all(np.array_equal(tensors[name], whole[name]) for name in tensors)
    sent = sum(one.sent for one in hub.seen if one.path.endswith(".safetensors"))
    assert sent == outline.fetched(chosen) == 64_000 + 4 * 40 * 400 * 4
    assert len(asked(hub)) == 4  # configuration, header, and a range for each layer


def test_what_came_with_the_header_is_not_fetched_again(hub: LoopbackHub) -> None:
    outline = opened(hub, peft_files(1), in_part=True).outline()
    chosen = outline.chosen(lambda name: "value" in name)
    assert len(outline.read(chosen)) == 4
    assert len(asked(hub)) == 2
    assert outline.fetched(chosen) == outline.adapter.size


def test_a_long_header_is_asked_for_again(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "_START_OF_PART", 100)
    files = peft_files(1)
    outline = opened(hub, files, in_part=True).outline()
    assert outline.spans.keys() == parse_tensorfile(files[WEIGHTS], "whole").tensors.keys()


def test_another_base_model_is_told_before_weights(hub: LoopbackHub) -> None:
    with pytest.raises(SpaceMismatch, match="is an adapter of acme/other"):
        opened(hub, peft_files(1, base="acme/other"))
    assert asked(hub) == ["adapter_config.json bytes=0-4000000"]


def test_pickles_are_not_fetched_in_part(hub: LoopbackHub) -> None:
    files = {"adapter_config.json": peft_files(1)["adapter_config.json"], "adapter_model.bin": b"\x80\x04" * 50}
    with pytest.raises(FormatError, match="cannot be fetched in part"):
        opened(hub, files, in_part=True).outline()


@pytest.mark.parametrize(("kind", "where"), [("wrong", "/storage/"), ("cut", "/storage/")])
def test_what_arrives_damaged_is_no_refusal(kind: str, where: str, hub: LoopbackHub, pauses: list[float]) -> None:
    hub.fault(kind, where)
    with pytest.raises(WorkFailed):
        opened(hub, peft_files(1)).read()


def test_damaged_headers(hub: LoopbackHub) -> None:
    files = peft_files(1)
    for data in (b"", files[WEIGHTS][:40], b"\xff" * 200, files[WEIGHTS][:-9]):
        with pytest.raises(FormatError):
            adapter = opened(hub, {**files, WEIGHTS: data}, in_part=True)
            outline = adapter.outline()
            outline.read(outline.chosen(lambda name: True))


def test_a_storage_that_knows_no_ranges(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from loopback import server

    def whole(handler: Any, data: bytes, headers: dict[str, str]) -> None:
        handler._bytes(data, 200, headers, len(data))

    monkeypatch.setattr(server._Handler, "_file", whole)
    monkeypatch.setattr(streamed, "_START", 512_000)
    files = large_files()
    assert opened(hub, files).read() == files[WEIGHTS]
    outline = opened(hub, files, in_part=True).outline()
    name = max(outline.spans)
    tensors = outline.read(outline.chosen(lambda one: one == name))
    assert np.array_equal(tensors[name], parse_tensorfile(files[WEIGHTS], "whole").tensors[name])


def test_adapters_of_adapterhub_and_without_configuration(hub: LoopbackHub) -> None:
    assert opened(hub, adapterhub_files(1, "squad")).file == "adapter.safetensors"
    adapter = opened(hub, {"my-lora.safetensors": peft_files(1)[WEIGHTS]})
    assert (adapter.config, adapter.file, adapter.config_size) == (None, "my-lora.safetensors", 0)
    with pytest.raises(FormatError, match="does not hold an adapter"):
        opened(hub, {"model.safetensors": b"x"})
