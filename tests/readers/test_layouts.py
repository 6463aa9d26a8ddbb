"""Which layout a path has, and the sentence for each way in which it has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tupate_hub.embedding import embed
from tupate_hub.errors import FormatError, TupateHubError
from tupate_hub.readers import LAYOUTS, Detection, detect, find_adapters, read_adapter
from tupate_hub.storage.safetensors import TensorFile

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:56edc3ec5210b1\nsize 2962192\n"
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "bert-base-uncased"}
KEY = "base_model.model.bert.encoder.layer.0.attention.self.query"


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        f"{KEY}.lora_A.weight": draw.normal(size=(2, 8)).astype(np.float32),
        f"{KEY}.lora_B.weight": draw.normal(size=(6, 2)).astype(np.float32),
    }


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(TensorFile(arrays, {"format": "pt"}).to_bytes())
    return path


def make_peft(folder: Path, **config: Any) -> Path:
    write(folder / "adapter_model.safetensors", tensors())
    (folder / "adapter_config.json").write_text(json.dumps(LORA | config))
    return folder


def test_every_way_to_name_an_adapter(tmp_path: Path) -> None:
    folder = make_peft(tmp_path / "a")
    wanted = Detection(
        "peft",
        folder / "adapter_model.safetensors",
        folder / "adapter_config.json",
        "PEFT: adapter_config.json with a peft_type, and adapter_model.safetensors beside it",
    )
    assert detect(folder) == wanted
    assert detect(folder / "adapter_config.json") == wanted
    assert detect(folder / "adapter_model.safetensors") == wanted
    assert embed(read_adapter(folder), "sst2").space.name == "bert-base-uncased/lora"


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    folder = make_peft(tmp_path)
    code = (
        "import sys, pathlib; from tupate_hub.readers import read_adapter; read_adapter(pathlib.Path(sys.argv[1]));"
        "print(sorted({'torch', 'transformers', 'peft', 'adapters', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_safetensors_comes_before_the_pickle(tmp_path: Path) -> None:
    folder = make_peft(tmp_path)
    (folder / "adapter_model.bin").write_bytes(b"\x80\x02 os.system of a stranger" * 3)
    assert read_adapter(folder).method == "lora"


def test_a_weights_file_of_another_name_takes_the_configuration_beside_it(tmp_path: Path) -> None:
    folder = make_peft(tmp_path)
    (folder / "adapter_model.safetensors").rename(folder / "best.safetensors")
    assert detect(folder / "best.safetensors").layout == "peft"
    with pytest.raises(FormatError, match="no weights"):
        detect(folder)


def _no_weights(folder: Path) -> None:
    (folder / "adapter_model.safetensors").unlink()


def _no_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def _text(name: str, text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text(text)

    return damage


def _cut(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def _lie(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes((1 << 40).to_bytes(8, "little") + path.read_bytes()[8:])


def _folder_for_weights(folder: Path) -> None:
    _no_weights(folder)
    (folder / "adapter_model.safetensors").mkdir()


def _fp8(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F8_"'))


WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
SENTENCES: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights are a pointer": (_text(WEIGHTS, POINTER), r"safetensors is a Git LFS pointer, not the weights"),
    "the configuration is a pointer": (_text(CONFIG, POINTER), r"json is a Git LFS pointer, not the configuration"),
    "a placeholder": (_text(WEIGHTS, "fake weights\n"), "placeholder of 13 bytes, not weights"),
    "empty": (_text(WEIGHTS, ""), "is empty"),
    "truncated": (_cut, "truncated or malformed"),
    "a header that lies": (_lie, "its header claims 1099511627776 bytes"),
    "text in place of weights": (_text(WEIGHTS, "Entry not found, please log in first.\n"), "not a safetensors file"),
    "a dtype that is not read": (_fp8, "dtype 'F8_'"),
    "no weights": (_no_weights, "holds a configuration and no weights"),
    "a folder for weights": (_folder_for_weights, "holds a configuration and no weights"),
    "no configuration": (_no_config, "adapter_config.json is not: without it method and scale are unknown"),
    "configuration is not JSON": (_text(CONFIG, "{'peft_type': 'LORA'}"), "adapter_config.json is not JSON"),
    "configuration is cut": (_text(CONFIG, '{"peft_type": "LO'), "adapter_config.json is not JSON"),
    "configuration is a list": (_text(CONFIG, '["LORA"]'), "adapter_config.json is not a JSON object"),
    "configuration is deep": (_text(CONFIG, "[" * 100_000), "adapter_config.json is not JSON"),
    "configuration is huge": (_text(CONFIG, " " * 4_000_001), "more than 4000000 bytes"),
    "configuration is empty": (_text(CONFIG, ""), "adapter_config.json is not JSON"),
    "of no known library": (_text(CONFIG, '{"layers": 3, "a": 1}'), "not from a known library: it has 'a', 'layers'"),
    "says nothing": (_text(CONFIG, "{}"), "not from a known library: it has nothing"),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_each_defect_has_its_own_sentence(case: str, tmp_path: Path) -> None:
    damage, sentence = SENTENCES[case]
    folder = make_peft(tmp_path)
    damage(folder)
    with pytest.raises(FormatError, match=sentence) as error:
        read_adapter(folder)
    assert error.value.message.count("\n") == 0 and error.value.exit_code == 2


def test_a_path_that_is_not_there_and_a_folder_without_adapters(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="does not exist"):
        detect(tmp_path / "nowhere")
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(FormatError, match="holds no adapter"):
        detect(tmp_path)
    with pytest.raises(FormatError, match="is not a folder"):
        find_adapters(tmp_path / "README.md")


@pytest.mark.parametrize(
    "name", ["training_args.bin", "optimizer.pt", "rng_state.pth", "rng_state_0.pth", "scheduler.pt", "data.pkl"]
)
def test_neighbours_are_never_opened(name: str, tmp_path: Path) -> None:
    folder = make_peft(tmp_path)
    os.mkfifo(folder / name)  # whoever opens this waits for ever
    assert read_adapter(folder).method == "lora"
    assert find_adapters(tmp_path) == [folder]
    (folder / name).unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'echo hello'\ntR.")
    with pytest.raises(FormatError, match="never opened"):
        read_adapter(folder / name)


def test_a_pipe_in_place_of_weights_is_not_waited_for(tmp_path: Path) -> None:
    folder = make_peft(tmp_path)
    _no_weights(folder)
    os.mkfifo(folder / "adapter_model.safetensors")
    with pytest.raises(FormatError, match="no weights"):
        read_adapter(folder)
    with pytest.raises(FormatError, match="is not a file"):
        read_adapter(folder / "adapter_model.safetensors")


def test_a_file_beside_the_weights_is_no_adapter(tmp_path: Path) -> None:
    folder = make_peft(tmp_path)
    (folder / "README.md").write_text("# An adapter")
    with pytest.raises(FormatError, match=r"README.md is not an adapter.s weights file") as error:
        read_adapter(folder / "README.md")
    assert str(folder) in error.value.hint


def test_a_fusion_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "adapter_fusion_config.json").write_text("{}")
    (tmp_path / "pytorch_model_adapter_fusion.bin").write_bytes(b"x" * 100)
    with pytest.raises(FormatError, match="AdapterFusion"):
        detect(tmp_path)


def test_weights_that_nothing_explains(tmp_path: Path) -> None:
    path = write(tmp_path / "mystery.safetensors", tensors())
    with pytest.raises(FormatError, match="neither method nor scale"):
        read_adapter(path)


def test_find_adapters_goes_everywhere_but_into_hidden_folders(tmp_path: Path) -> None:
    one = make_peft(tmp_path / "one")
    two = make_peft(tmp_path / "deep" / "er" / "two")
    make_peft(tmp_path / ".cache" / "three")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_text("not JSON")
    orphan = write(tmp_path / "orphan" / "adapter_model.safetensors", tensors()).parent
    np.save(tmp_path / "vector.npy", np.ones(4))
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "task_prompt").write_bytes(b"x" * 40)
    biases = write(tmp_path / "biases" / "bitfit.safetensors", {"a.bias": np.ones(3, np.float32)})
    write(tmp_path / "other" / "images.safetensors", {"pixels": np.ones(3, np.float32)})
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    found = find_adapters(tmp_path)
    assert found == sorted(
        [one, two, broken, orphan, tmp_path / "vector.npy", tmp_path / "prompts" / "task_prompt", biases]
    )


def test_a_checkpoint_beside_its_run_is_two_adapters(tmp_path: Path) -> None:
    final = make_peft(tmp_path / "run")
    checkpoint = make_peft(tmp_path / "run" / "checkpoint-100")
    assert find_adapters(tmp_path) == [final, checkpoint]


def test_the_table_of_layouts_is_whole() -> None:
    assert {layout.name for layout in LAYOUTS} == {
        "peft",
        "adapterhub",
        "mlx",
        "mlx-bare",
        "array",
        "gguf",
        "diffusion",
        "numbered",
        "biases",
        "checkpoint",
    }
    assert all(layout.weights and layout.summary for layout in LAYOUTS)


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "A without B": ({f"{KEY}.lora_B.weight": None}, "lora_A without its lora_B"),
    "B without A": ({f"{KEY}.lora_A.weight": None}, "lora_B without its lora_A"),
    "rank 0": (
        {f"{KEY}.lora_A.weight": np.zeros((0, 8), np.float32), f"{KEY}.lora_B.weight": np.zeros((6, 0), np.float32)},
        "rank or width 0",
    ),
    "ranks that differ": ({f"{KEY}.lora_A.weight": np.ones((3, 8), np.float32)}, "do not fit together"),
    "a vector": ({f"{KEY}.lora_A.weight": np.ones(8, np.float32)}, "do not fit together"),
    "NaN": ({f"{KEY}.lora_B.weight": np.full((6, 2), np.nan, np.float32)}, "NaN or infinity"),
    "infinity": ({f"{KEY}.lora_A.weight": np.full((2, 8), np.inf, np.float32)}, "NaN or infinity"),
    "beyond float32": ({f"{KEY}.lora_A.weight": np.full((2, 8), 1e300)}, "NaN or infinity"),
    "whole numbers": ({f"{KEY}.lora_A.weight": np.ones((2, 8), np.int64)}, "only floating-point weights"),
    "nothing of the method": (
        {f"{KEY}.lora_A.weight": None, f"{KEY}.lora_B.weight": None, "classifier.weight": np.ones((2, 2), np.float32)},
        "holds no tuned parameters",
    ),
    "no tensors": ({f"{KEY}.lora_A.weight": None, f"{KEY}.lora_B.weight": None}, "holds no tensors"),
    "a key out of all proportion": ({"x" * 1001: np.ones(1, np.float32)}, "1001 characters"),
    "one place under two names": (
        {key.replace("base_model.model.", ""): value for key, value in tensors(1).items()},
        "two blocks of one name",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_tensors_are_refused_by_name(case: str, tmp_path: Path) -> None:
    changes, sentence = MALFORMED[case]
    folder = make_peft(tmp_path)
    changed = {key: value for key, value in {**tensors(), **changes}.items() if value is not None}
    write(folder / "adapter_model.safetensors", changed)
    with pytest.raises(FormatError, match=sentence):
        read_adapter(folder)


HOSTILE: list[dict[str, Any]] = [
    {"lora_alpha": 10**400},
    {"lora_alpha": float("nan")},
    {"lora_alpha": [[]]},
    {"enable_lora": [True] * 1000},
    {"enable_lora": [1, 0, 1]},
    {"enable_lora": "yes"},
    {"modules_to_save": [str(number) for number in range(2000)]},
    {"alpha_pattern": {f"layer.\\d+.x{number}": 1 for number in range(100)}},
    {"alpha_pattern": {"\\d+" * 90: 1}},
    {"alpha_pattern": {"q" * 301: 1}},
    {"peft_type": {}},
    {"peft_type": "LORA\n" * 1000},
    {"peft_type": "ADALORA"},
    {"peft_type": "ADALORA", "init_r": 0},
    {"peft_type": "IA3"},
    {"peft_type": "PREFIX_TUNING", "num_layers": 10**9},
    {"peft_type": "PROMPT_TUNING"},
    {"peft_type": "LN_TUNING"},
]


@pytest.mark.parametrize("config", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_configuration_gets_a_sentence(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(FormatError) as error:
        read_adapter(make_peft(tmp_path, **config))
    assert len(error.value.message) < 1000 and error.value.message.count("\n") == 0


@pytest.mark.parametrize(
    "config",
    [
        {"r": 10**9},
        {"target_modules": ["nothing", 3, None]},
        {"base_model_name_or_path": {"a": 1}},
        {"base_model_name_or_path": "../../etc/passwd"},
        {"modules_to_save": [None, 7, "classifier"] * 40},
        {"alpha_pattern": None, "rank_pattern": 7},
        {"unknown_option": [[[[]]]]},
    ],
)
def test_what_does_not_matter_does_not_matter(config: dict[str, Any], tmp_path: Path) -> None:
    adapter = read_adapter(make_peft(tmp_path, **config))
    assert adapter.blocks[0].scale == 2.0
    assert adapter.base == (None if "base_model_name_or_path" in config else "bert-base-uncased")


PREFIXES: dict[str, tuple[dict[str, Any], dict[str, np.ndarray], str]] = {
    "layers that do not divide": ({"num_layers": 3}, {"prompt_embeddings": np.ones((2, 8), np.float32)}, "3 layers"),
    "no layers": ({}, {"prompt_embeddings": np.ones((2, 8), np.float32)}, "0 layers"),
    "one dimension": ({"num_layers": 1}, {"prompt_embeddings": np.ones(8, np.float32)}, r"\(tokens, width\)"),
    "no positions": ({"num_layers": 1}, {"prompt_embeddings": np.ones((0, 8), np.float32)}, r"\(tokens, width\)"),
    "nothing": ({"num_layers": 1}, {"other": np.ones((2, 8), np.float32)}, "no 'prompt_embeddings'"),
}


@pytest.mark.parametrize("case", PREFIXES)
def test_a_prefix_that_does_not_divide(case: str, tmp_path: Path) -> None:
    config, arrays, sentence = PREFIXES[case]
    folder = make_peft(tmp_path, peft_type="PREFIX_TUNING", **config)
    write(folder / "adapter_model.safetensors", arrays)
    with pytest.raises(FormatError, match=sentence):
        read_adapter(folder)


def test_errors_are_the_projects_own() -> None:
    assert issubclass(FormatError, TupateHubError)


def test_find_adapters_in_a_folder_a_thousand_deep(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("task_prompt", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)
    (found,) = find_adapters(tmp_path)
    assert found == tmp_path.joinpath(*["d"] * 1200, "task_prompt")
    subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)
