"""`check` on the command line: one line a finding, the exit code for a pipeline, JSON, the base model from the Hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import snapshot
from loopback import LoopbackHub
from orchards import hub_cache
from safetensors.numpy import save
from tiny_adapters import LAYERS, factors, weights, write, write_base

Invoke = Callable[..., Any]


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write(tmp_path / "sound")


@pytest.fixture
def idle(tmp_path: Path) -> Path:
    tensors = {key: array * np.float32("A" in key) for key, array in factors().items()}
    return write(tmp_path / "idle", tensors, base_model_name_or_path="/content/model")


def test_a_line_a_finding(sound: Path, idle: Path, invoke: Invoke) -> None:
    result = invoke("check", sound, idle)
    assert result.code == 1
    assert result.out.splitlines() == [
        f"{sound}: nothing found (peft, lora on acme/tiny)",
        f"{idle}: error all-zero: Every update is zero: the model with it is the base model "
        f"({2 * LAYERS} of {2 * LAYERS} blocks). Train it: B starts at zero. If it was trained, it was saved before, or "
        "from the wrong object.",
        f"{idle}: warning base-unnamed: The configuration names no base model that others can find (it says "
        "'/content/model'). Write the model's id on the Hub into base_model_name_or_path.",
    ]
    first, second = result.err.splitlines()
    assert first == "2 checked: 1 error, 1 warning, 0 notes"
    assert second.startswith(
        "  2 without a base model (name it: --base MODEL); not applied: not-in-base, other-shape, "
    )


def test_the_folder_one_stands_in(sound: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sound)
    assert invoke("check", ".").out == ".: nothing found (peft, lora on acme/tiny)\n"
    (sound / "adapter_model.safetensors").write_bytes(b"x" * 20)
    assert "(adapter_model.safetensors is a placeholder of 20 bytes, not weights)" in invoke("check", ".").out
    assert "(adapter_model.safetensors is a placeholder of 20 bytes, not weights)" in invoke("check", sound).out


def test_exit_codes(sound: Path, idle: Path, tmp_path: Path, invoke: Invoke) -> None:
    assert invoke("check", sound).code == 0
    unnamed = write(tmp_path / "unnamed", base_model_name_or_path="/content/model")
    assert invoke("check", unnamed).code == 0
    assert invoke("check", unnamed, "--strict").code == 1
    assert invoke("check", unnamed, "--strict", "--ignore", "base-unnamed").code == 0
    assert invoke("check", idle, "--ignore", "all-zero").code == 0
    for arguments in (["nowhere"], [sound, "--ignore", "nothing"], [sound, "--base", "nowhere"], []):
        result = invoke("check", *arguments)
        assert (result.code, result.out) == (2, ""), arguments
        assert "Error: " in result.err


def test_everything_below_a_folder(sound: Path, idle: Path, tmp_path: Path, invoke: Invoke) -> None:
    result = invoke("check", "--all", tmp_path)
    assert [line.partition(":")[0] for line in result.out.splitlines()] == [str(idle), str(idle), str(sound)]
    assert invoke("check", "--all", sound.parent, sound, "--ignore", "base-unnamed").out.count("sound") == 1
    (tmp_path / "empty").mkdir()
    assert invoke("check", "--all", tmp_path / "empty").code == 2


def test_json(sound: Path, idle: Path, tmp_path: Path, invoke: Invoke) -> None:
    base = write_base(tmp_path / "base", weights())
    result = invoke("check", sound, idle, "--base", base, "--json")
    found = result.json()
    assert (result.code, result.err) == (1, "")
    assert {name: value for name, value in found.items() if name != "adapters"} == {
        "errors": 1,
        "warnings": 1,
        "notes": 0,
    }
    first, second = found["adapters"]
    assert (first["path"], first["findings"], first["not_applied"]) == (str(sound), [], [])
    assert first["checked_against"] == str(base)
    assert first["norm"] > 0 == second["norm"]
    assert [one["rule"] for one in second["findings"]] == ["all-zero", "base-unnamed"]
    assert set(second["findings"][0]) == {"rule", "severity", "sentence", "detail", "names", "advice", "source"}


def test_names_with_control_characters_stay_on_their_line(tmp_path: Path, invoke: Invoke) -> None:
    folder = write(tmp_path / "x", base_model_name_or_path="/a\x1b[31m\nb", target_modules=["q_proj\n\x07"])
    result = invoke("check", folder)
    assert len(result.out.splitlines()) == 2
    assert "\x1b" not in result.out + result.err
    assert "\x1b" not in invoke("check", folder, "--json").out


# --- the base model from the Hub ---------------------------------------------------------------------------------


def published(hub: LoopbackHub, tmp_path: Path, pieces: int = 1) -> None:
    """The base model acme/tiny, its weights in so many pieces, beside a file that nobody should fetch."""
    folder = write_base(tmp_path / "published")
    ballast = {"ballast": np.zeros(200_000, dtype=np.float32)}
    names = sorted(weights())
    for piece in range(pieces):
        own = {name: weights()[name] for name in names[piece::pieces]}
        name = "model.safetensors" if pieces == 1 else f"model-{piece + 1:05}-of-{pieces:05}.safetensors"
        (folder / name).write_bytes(save(own | (ballast if not piece else {})))
    (folder / "adapter_model.safetensors").write_bytes(save(ballast))
    hub.store.put("models", "acme/tiny", snapshot(folder))


@pytest.mark.parametrize("pieces", [1, 3])
def test_headers_alone_are_fetched(
    pieces: int, hub: LoopbackHub, sound: Path, tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(hub, tmp_path, pieces)
    result = invoke("check", sound, "--base", "acme/tiny", "--json")
    assert result.code == 0, result.err
    (one,) = result.json()["adapters"]
    assert one["checked_against"].startswith("hf://acme/tiny@")
    assert one["findings"] == []
    assert one["not_applied"] == ["part-of-base", "larger-than-base", "lost-in-bfloat16"]
    asked = [request for request in hub.requests() if "safetensors" in request]
    assert len(asked) == pieces
    assert not [request for request in asked if "adapter_model" in request]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # kept by commit
    before = len(hub.requests())
    assert invoke("check", sound, "--base", "acme/tiny").code == 0
    assert len(hub.requests()) == before


def test_another_model_of_the_hub(hub: LoopbackHub, tmp_path: Path, invoke: Invoke) -> None:
    published(hub, tmp_path)
    other = {key.replace("self_attn", "attention"): array for key, array in factors().items()}
    folder = write(tmp_path / "x", other, base_model_name_or_path="acme/other")
    result = invoke("check", folder, "--base", "acme/tiny")
    assert result.code == 1
    assert "not-in-base: The base model has no such modules" in result.out
    assert "note other-base: " in result.out
    assert "acme/other there" in result.out


def test_offline_and_missing(hub: LoopbackHub, sound: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke("check", sound, "--base", "acme/nowhere")
    assert (result.code, result.out) == (2, "")
    hub.store.put("models", "acme/bare", {"README.md": b"x"})
    result = invoke("check", sound, "--base", "acme/bare")
    assert result.code == 2
    assert "is no base model" in result.err
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = invoke("check", sound, "--base", "acme/tiny")
    assert (result.code, result.out) == (3, "")
    assert "HF_HUB_OFFLINE" in result.err


def test_an_adapter_on_the_hub(hub: LoopbackHub, sound: Path, invoke: Invoke) -> None:
    hub.store.put("models", "me/my-lora", snapshot(sound))
    result = invoke("check", "me/my-lora")
    assert (result.code, result.out) == (0, "me/my-lora: nothing found (peft, lora on acme/tiny)\n")


def test_a_damaged_header(hub: LoopbackHub, sound: Path, tmp_path: Path, invoke: Invoke) -> None:
    published(hub, tmp_path)
    config = json.dumps({"hidden_size": 16}).encode()
    hub.store.put("models", "acme/odd", {"config.json": config, "model.safetensors": b"\xff" * 100})
    result = invoke("check", sound, "--base", "acme/odd")
    assert result.code == 2
    assert "model.safetensors is truncated or not a safetensors file" in result.err


def test_a_model_in_the_cache_of_the_hub_is_measured_without_a_request(
    hub: LoopbackHub, sound: Path, tmp_path: Path, invoke: Invoke
) -> None:
    commit = "a" * 40
    home = hub_cache() / "models--acme--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    folder = write_base(home / "snapshots" / commit, weights())
    result = invoke("check", sound, "--base", "acme/tiny", "--json")
    (one,) = result.json()["adapters"]
    assert (one["checked_against"], one["not_applied"], one["findings"]) == (str(folder), [], [])
    assert hub.requests() == []
