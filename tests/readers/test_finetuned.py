"""Full fine-tunes: a model minus its base model, of files made here, whole or in shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tupate_hub.collect.add import open_or_start
from tupate_hub.collect.finetuned import add_finetuned
from tupate_hub.embedding import Adapter
from tupate_hub.errors import FormatError, TargetExists
from tupate_hub.readers.finetuned import open_finetuned, read_finetuned
from tupate_hub.storage.safetensors import TensorFile

BASE = "acme/tiny-bert"
QUERY, WORDS = "bert.encoder.layer.0.attention.self.query.weight", "bert.embeddings.word_embeddings.weight"
BIAS, HEAD = "bert.encoder.layer.0.attention.self.query.bias", "classifier.weight"


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def weights() -> dict[str, np.ndarray]:
    tensors = {QUERY: normal(24, 20), WORDS: normal(50, 20), BIAS: normal(24)}
    return {**tensors, "bert.embeddings.position_ids": np.arange(20)[None, :]}


def saved(folder: Path, tensors: dict[str, np.ndarray], shards: int = 0, **config: Any) -> Path:
    folder.mkdir(parents=True)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    if not shards:
        (folder / "model.safetensors").write_bytes(TensorFile(tensors).to_bytes())
        return folder
    names = {key: f"model-{number % shards}.safetensors" for number, key in enumerate(tensors)}
    for file in set(names.values()):
        part = {key: array for key, array in tensors.items() if names[key] == file}
        (folder / file).write_bytes(TensorFile(part).to_bytes())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def tuned() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A model and what was added to its matrices, of ranks 2 and 3."""
    added = {QUERY: normal(24, 2, seed=1) @ normal(2, 20, seed=2), WORDS: normal(50, 3, seed=3) @ normal(3, 20, seed=4)}
    tensors = {key: array + added.get(key, np.float32(0)) for key, array in weights().items() if key in (QUERY, WORDS)}
    rest = {key: array for key, array in weights().items() if key not in tensors}
    return {**tensors, **rest, BIAS: weights()[BIAS] + 1, HEAD: normal(2, 20)}, added


def read(model: Path, minus: Path, **options: Any) -> Adapter:
    pair = open_finetuned(model, minus)
    return read_finetuned(pair, pair.names, **{"base": BASE, **options})


@pytest.mark.parametrize("shards", [0, 2])
def test_the_change_is_the_update(shards: int, tmp_path: Path) -> None:
    model, added = tuned()
    adapter = read(saved(tmp_path / "tuned", model, shards), saved(tmp_path / "base", weights(), shards and 3), rank=3)
    assert (adapter.method, adapter.base, adapter.layout) == ("lora", BASE, "finetuned")
    found = {block.name: block.parts["B"] @ block.parts["A"] for block in adapter.blocks}
    np.testing.assert_allclose(found["encoder.layer.0.attention.self.query"], added[QUERY], atol=1e-4)
    np.testing.assert_allclose(found["embeddings.word_embeddings"], added[WORDS].T, atol=1e-4)  # as PEFT has tables
    assert adapter.left_out == {"biases and norms": 1, "heads": 1, "tensors of integers": 1}
    assert adapter.settings["kept"] == 1.0 and adapter.settings["tuned_as"] == "full"
    assert "rank 3 keeps 100.0% of the norm" in adapter.notes[0] and "is left out" in adapter.notes[1]


def test_what_a_rank_keeps_is_the_share_of_the_whole_changes_norm(tmp_path: Path) -> None:
    model, added = tuned()
    adapter = read(saved(tmp_path / "tuned", model), saved(tmp_path / "base", weights()), rank=1)
    values = [np.linalg.svd(change, compute_uv=False) for change in added.values()]
    expected = np.sqrt(sum(each[0] ** 2 for each in values) / sum(np.sum(each**2) for each in values))
    assert adapter.settings["kept"] == pytest.approx(float(expected), abs=1e-3)
    base = np.sqrt(sum(np.sum(weights()[key] ** 2) for key in added))
    change = np.sqrt(sum(np.sum(each**2) for each in values))
    assert adapter.settings["change"] == pytest.approx(float(change / base), rel=1e-3)
    assert any("right base model" in note for note in adapter.notes)  # these changes are large


@pytest.mark.parametrize("dtype", ["BF16", "float16"])
def test_the_rounding_of_the_file_is_no_change(dtype: str, tmp_path: Path) -> None:
    """A model that was stored in a narrower type, and one weight of which was tuned."""
    base = {QUERY: normal(24, 20), "bert.encoder.layer.0.attention.self.key.weight": normal(24, 20, seed=8)}
    change = 0.25 * np.sign(normal(24, 1)) @ np.sign(normal(1, 20))
    model = {**base, QUERY: base[QUERY] + change.astype(np.float32)}
    folder = tmp_path / "tuned"
    if dtype == "float16":
        saved(folder, {key: array.astype(np.float16) for key, array in model.items()})
    else:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(bfloat16_file(model))
    adapter = read(folder, saved(tmp_path / "base", base), rank=1)
    assert adapter.left_out == {"unchanged weights": 1} and len(adapter.blocks) == 1


def bfloat16_file(tensors: dict[str, np.ndarray]) -> bytes:
    """A safetensors file of the nearest bfloat16 numbers, ties to even, found by comparing both neighbours."""
    header, buffer = {}, b""
    for key, array in tensors.items():
        below = array.view(np.uint32) & np.uint32(0xFFFF0000)
        above = below + np.uint32(0x10000)
        exact = array.astype(np.float64)
        far, near = (np.abs(each.view(np.float32).astype(np.float64) - exact) for each in (below, above))
        up = (near < far) | ((near == far) & (((below >> 16) & 1) == 1))
        data = (np.where(up, above, below) >> 16).astype("<u2").tobytes()
        offsets = [len(buffer), len(buffer) + len(data)]
        header[key] = {"dtype": "BF16", "shape": list(array.shape), "data_offsets": offsets}
        buffer += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + buffer


def test_gpt2s_weights_are_turned(tmp_path: Path) -> None:
    key = "transformer.h.0.attn.c_attn.weight"
    added = normal(20, 1) @ normal(1, 60)
    folder = saved(tmp_path / "tuned", {key: normal(20, 60, seed=1) + added})
    (block,) = read(folder, saved(tmp_path / "base", {key: normal(20, 60, seed=1)})).blocks
    assert block.name == "h.0.attn.c_attn"
    np.testing.assert_allclose(block.parts["B"] @ block.parts["A"], added.T, atol=1e-4)


def test_convolutions_and_stacks(tmp_path: Path) -> None:
    base = {"conv.weight": normal(8, 4, 3, 3), "experts.weight": normal(2, 5, 6)}
    model = {key: array + 1 for key, array in base.items()}
    adapter = read(saved(tmp_path / "tuned", model), saved(tmp_path / "base", base))
    assert adapter.blocks[0].parts["A"].shape[1] == 36 and adapter.left_out == {"stacked matrices": 1}


def test_what_has_no_counterpart_is_counted(tmp_path: Path) -> None:
    model, _ = tuned()
    model |= {"bert.new.weight": normal(4, 4), WORDS: normal(51, 20)}
    adapter = read(saved(tmp_path / "tuned", model), saved(tmp_path / "base", weights()))
    assert adapter.left_out["tensors that the base lacks"] == 1 and adapter.left_out["tensors of another shape"] == 1


def test_the_base_is_what_the_models_configuration_says(tmp_path: Path) -> None:
    folder = saved(tmp_path / "tuned", tuned()[0], _name_or_path="google-bert/bert-base-uncased")
    assert read(folder, saved(tmp_path / "base", weights()), base=None).base == "bert-base-uncased"


def broken(folder: Path, case: str) -> Path:
    """A folder of a model that cannot be read."""
    saved(folder, tuned()[0], shards=2)
    index = folder / "model.safetensors.index.json"
    if case == "elsewhere":
        index.write_text(json.dumps({"weight_map": {"x": "../base/model.safetensors"}}))
    elif case == "a name without end":
        index.write_text(json.dumps({"weight_map": {"x": "9" * 5000 + ".safetensors"}}))
    elif case == "no names":
        index.write_text(json.dumps({"weight_map": [1]}))
    elif case == "a shard is missing":
        (folder / "model-1.safetensors").unlink()
    elif case == "a name twice":
        data = TensorFile({"encoder.x.weight": normal(2, 2), "bert.encoder.x.weight": normal(2, 2)}).to_bytes()
        (folder / "model-0.safetensors").write_bytes(data)
    elif case == "NaN":
        (folder / "model.safetensors").write_bytes(TensorFile({QUERY: normal(24, 20) * np.float32("nan")}).to_bytes())
    elif case == "the same":
        (folder / "model.safetensors").write_bytes(TensorFile(weights()).to_bytes())
    else:
        (folder / "model.safetensors").write_bytes(TensorFile({"other.weight": normal(3, 3)}).to_bytes())
    return folder


BROKEN = {
    "elsewhere": "names files that are not safetensors beside it",
    "a name without end": "names files that are not safetensors beside it",
    "no names": "no 'weight_map'",
    "a shard is missing": "is not a file",
    "a name twice": "two tensors called",
    "NaN": "by NaN, infinity",
    "the same": "does not differ from",
    "another model": "not its base model",
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_subtracted_gets_a_sentence(case: str, tmp_path: Path) -> None:
    base = saved(tmp_path / "base", weights())
    with pytest.raises(FormatError, match=BROKEN[case]):
        read(broken(tmp_path / "tuned", case), base)


# --- into a registry -------------------------------------------------------------------------------------------------


def test_it_is_added_beside_lora(tmp_path: Path) -> None:
    model, base = saved(tmp_path / "reviews", tuned()[0]), saved(tmp_path / "base", weights())
    zoo, embedding = add_finetuned(open_or_start(tmp_path / "zoo"), model, base, base=BASE, rank=3)
    assert (embedding.task, embedding.space.method) == ("reviews", "lora")
    assert zoo.embedding("reviews").facts["settings"]["kept"] == 1.0
    with pytest.raises(TargetExists):
        add_finetuned(zoo, model, base, base=BASE)
    with pytest.raises(FormatError, match="names no base model"):
        add_finetuned(zoo, model, base, task="other")


def test_the_command_says_what_is_kept(tmp_path: Path, invoke: Any) -> None:
    model, base = saved(tmp_path / "reviews", tuned()[0]), saved(tmp_path / "base", weights())
    common = ("add", model, "--minus", base, "--base", BASE, "--registry", tmp_path / "zoo")
    done = invoke(*common, "--rank", "1")
    assert done.code == 0 and "rank 1 keeps" in done.err
    done = invoke(*common, "--rank", "3", "--force", "--json")
    assert json.loads(done.out) == {"task": "reviews", "space": "tiny-bert/lora", "blocks": 2, "kept": 1.0}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--rank", "3"), "--minus PATH"),
        (("--minus", "base", "--all"), "leave one of them out"),
        (("--minus", "nowhere"), "hf download"),
        (("--minus", "base", "--rank", "0"), "0"),
    ],
)
def test_options_that_do_not_go_together(options: tuple[str, ...], sentence: str, tmp_path: Path, invoke: Any) -> None:
    saved(tmp_path / "base", weights())
    paths = [tmp_path / "base" if option == "base" else option for option in options]
    done = invoke("add", saved(tmp_path / "tuned", tuned()[0]), *paths, "--registry", tmp_path / "zoo")
    assert done.code == 2 and sentence in done.err
