"""BitFit: a file of biases, a checkpoint against its base model, and what is no BitFit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tupate_hub.errors import FormatError
from tupate_hub.readers import bitfit, detect, read_adapter
from tupate_hub.readers.bitfit import header_keys, read_named
from tupate_hub.storage.safetensors import TensorFile

DRAW = np.random.default_rng(5)


def base_model() -> dict[str, np.ndarray]:
    """A small BERT's tensors, under the names that BertModel gives them."""
    draw = np.random.default_rng(1)
    places = [
        f"encoder.layer.{layer}.{place}" for layer in (0, 1, 10) for place in ("output.dense", "output.LayerNorm")
    ]
    model = {f"{place}.bias": draw.normal(size=4).astype(np.float32) for place in places}
    model |= {f"{place}.weight": draw.normal(size=(2000, 4)).astype(np.float32) for place in places}
    return model


def tuned(prefix: str = "bert.") -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The model after BitFit, with a head, and the changes by block name."""
    draw = np.random.default_rng(2)
    model = base_model()
    changes = {key: draw.normal(size=4).astype(np.float32) for key in model if key.endswith("bias")}
    after = {prefix + key: value + changes.get(key, np.float32(0)) for key, value in model.items()}
    return {
        **after,
        "classifier.weight": np.ones((2, 4), np.float32),
        "classifier.bias": np.ones(2, np.float32),
    }, changes


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(TensorFile(arrays).to_bytes())
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    model = base_model()
    names = sorted(model)
    write(tmp_path / "base" / "model-00001-of-00002.safetensors", {name: model[name] for name in names[:5]})
    write(tmp_path / "base" / "model-00002-of-00002.safetensors", {name: model[name] for name in names[5:]})
    return tmp_path / "base"


def assert_changes(adapter: object, changes: dict[str, np.ndarray]) -> None:
    blocks = {block.name: block.parts["bias"] for block in adapter.blocks}  # type: ignore[attr-defined]
    assert blocks.keys() == changes.keys()
    for name, change in changes.items():
        np.testing.assert_allclose(blocks[name], change, atol=1e-6)


def test_a_checkpoint_against_its_base_model(base: Path, tmp_path: Path) -> None:
    model, changes = tuned()
    folder = write(tmp_path / "tuned" / "model.safetensors", model).parent
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert detect(folder).layout == "checkpoint"
    adapter = read_adapter(folder, base="bert-base-uncased", base_weights=base)
    assert (adapter.method, adapter.base, adapter.settings) == ("bitfit", "bert-base-uncased", {"delta": True})
    assert_changes(adapter, changes)
    assert adapter.left_out == {"heads": 2, "unchanged weights": 6}


def test_only_biases_are_read_from_a_checkpoint(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, changes = tuned()
    path = write(tmp_path / "model.safetensors", model)
    asked: list[int] = []
    real = Path.open

    def watched(self: Path, *args: object, **options: object) -> object:
        handle = real(self, *args, **options)  # type: ignore[call-overload]
        if self == path:
            read = handle.read
            handle = _Watched(handle, lambda size: asked.append(size) or read(size))
        return handle

    monkeypatch.setattr(Path, "open", watched)
    assert_changes(read_adapter(path, base_weights=base), changes)
    assert 0 < sum(asked) < path.stat().st_size


class _Watched:
    """A file whose reads are counted."""

    def __init__(self, handle: object, read: object) -> None:
        self._handle, self.read = handle, read

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *error: object) -> None:
        self._handle.close()  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._handle, name)


def test_a_checkpoint_alone_asks_for_its_base_model(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", tuned()[0])
    with pytest.raises(FormatError, match="is a whole model, not an adapter") as error:
        read_adapter(tmp_path)
    assert "`base_weights=FOLDER`" in error.value.hint
    with pytest.raises(FormatError, match="is a whole model"):
        read_adapter(path)


@pytest.mark.parametrize("row", [0, 700])
def test_full_fine_tuning_is_no_bitfit(row: int, base: Path, tmp_path: Path) -> None:
    model, _ = tuned()
    model["bert.encoder.layer.1.output.dense.weight"][row] += 1
    path = write(tmp_path / "model.safetensors", model)
    if row == 0:
        with pytest.raises(FormatError, match=r"differs from its base model in 'encoder.layer.1.output.dense.weight'"):
            read_adapter(path, base_weights=base)
    else:
        assert row * 16 > bitfit._PROBE  # the beginning of each weight is compared, not all of it
        assert read_adapter(path, base_weights=base).method == "bitfit"


def test_a_file_of_biases(base: Path, tmp_path: Path) -> None:
    model, changes = tuned("roberta.")
    path = write(tmp_path / "a" / "mine.safetensors", {key: value for key, value in model.items() if "bias" in key})
    raw = read_adapter(path.parent)
    assert raw.method == "bitfit" and any("raw" in note for note in raw.notes) and raw.settings == {"delta": False}
    np.testing.assert_array_equal(raw.blocks[0].parts["bias"], model["roberta." + raw.blocks[0].name])
    assert_changes(read_adapter(path, base_weights=base), changes)


def test_a_base_that_lacks_a_bias_is_named(base: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.safetensors", {"encoder.layer.7.output.dense.bias": np.ones(4, np.float32)})
    with pytest.raises(FormatError, match=r"encoder.layer.7.output.dense.bias' of shape \(4,\), which .* lacks"):
        read_adapter(path, base_weights=base)
    write(tmp_path / "mine.safetensors", {"encoder.layer.0.output.dense.bias": np.ones(5, np.float32)})
    with pytest.raises(FormatError, match="lacks"):
        read_adapter(path, base_weights=base)
    with pytest.raises(FormatError, match="holds no model weights"):
        (tmp_path / "empty").mkdir()
        read_adapter(path, base_weights=tmp_path / "empty")


def test_a_bias_is_a_vector_of_floats(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.safetensors", {"a.bias": np.ones((2, 2), np.float32)})
    with pytest.raises(FormatError, match="do not fit together"):
        read_adapter(path)
    write(path, {"a.bias": np.ones(2, np.float32), "bert.a.bias": np.ones(2, np.float32)})
    with pytest.raises(FormatError, match="two biases of one name"):
        read_adapter(path)
    write(path, {"classifier.bias": np.ones(2, np.float32)})
    with pytest.raises(FormatError, match="no tuned parameters"):
        read_adapter(path)


def test_single_tensors_are_read_by_range(base: Path) -> None:
    wanted = {"encoder.layer.0.output.dense.bias", "encoder.layer.10.output.LayerNorm.bias"}
    found = read_named(base, wanted)
    assert found.keys() == wanted
    for name in wanted:
        np.testing.assert_array_equal(found[name], base_model()[name])
    assert len(header_keys(base / "model-00001-of-00002.safetensors")) == 5


@pytest.mark.parametrize(
    "entry",
    [
        '{"dtype":"F32","shape":[4],"data_offsets":[0,99999]}',
        '{"dtype":"F32","shape":[4]}',
        "[]",
        '{"dtype":"F32","shape":[9],"data_offsets":[0,16]}',
        '{"dtype":7,"shape":[4],"data_offsets":[0,16]}',
        '{"dtype":"F32","shape":[4],"data_offsets":[-4,12]}',
    ],
)
def test_a_lying_header_of_the_base_model(entry: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mine" / "mine.safetensors", {"a.bias": np.ones(4, np.float32)})
    header = f'{{"a.bias":{entry}}}'.encode()
    lying = tmp_path / "base.safetensors"
    lying.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(FormatError, match=r"base\.safetensors"):
        read_adapter(path, base_weights=lying)


def test_torch_files_of_biases(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    state = {"bert.a.bias": torch.arange(3.0), "bert.b.bias": torch.arange(2.0), "classifier.bias": torch.ones(2)}
    torch.save(state, tmp_path / "bitfit.pt")
    adapter = read_adapter(tmp_path / "bitfit.pt")
    assert adapter.method == "bitfit" and adapter.left_out == {"heads": 1}
    assert [block.name for block in adapter.blocks] == ["a.bias", "b.bias"]
    (tmp_path / "base").mkdir()
    base = {"a.bias": torch.ones(3), "b.bias": torch.ones(2)}
    torch.save(base, tmp_path / "base" / "pytorch_model.bin")
    difference = read_adapter(tmp_path / "bitfit.pt", base_weights=tmp_path / "base")
    np.testing.assert_array_equal(difference.blocks[0].parts["bias"], [-1, 0, 1])
