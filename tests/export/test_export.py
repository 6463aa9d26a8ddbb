"""The forms of an export: what each method can be written as, what is refused and how, and the embedding's own file."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE, lora, prompt
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.embedding import Block, TaskEmbedding, make_block, order_blocks, parse_embedding
from tupate_hub.errors import FormatError, TupateHubError, UnknownName
from tupate_hub.export import EXPORTS, export
from tupate_hub.readers import read_adapter
from tupate_hub.space import Space

WIDTH, LAYERS = 6, 2
ARCHITECTURE = {"model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
KINDS = {
    "classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "extractive_qa": "AutoModelForQuestionAnswering",
    "multiple_choice": "AutoModelForMultipleChoice",
    "token_classification": "AutoModelForTokenClassification",
}
#: The forms that have a place for what this project tunes, beside its own.
PLACES = {
    "lora": ("adapters", "peft"),
    "ia3": ("adapters", "peft"),
    "prefix": ("adapters", "peft"),
    "prompt": ("adapters",),
    "adapter": ("adapters",),
    "adapter-houlsby": ("adapters",),
    "parallel": ("adapters",),
    "scaled-parallel": ("adapters",),
    "mam": ("adapters",),
    "bitfit": (),
    "multihead-parallel": (),
}
AFTER, BESIDE = "attention.output", "output"


def blocks_of(method: str) -> list[Block]:
    """The blocks of a method on a BERT of two layers, of numbers that are no zeros."""
    rng, scale = np.random.default_rng(len(method)), 4.0 if method in ("scaled-parallel", "mam") else 1.0

    def bottleneck(name: str) -> Block:
        shapes = {"down": (2, WIDTH), "down_bias": (2,), "up": (WIDTH, 2), "up_bias": (WIDTH,)}
        return make_block(name, {part: rng.standard_normal(shape) for part, shape in shapes.items()}, scale)

    if method == "prompt":
        return [make_block("prompt", {"rows": rng.standard_normal((3, WIDTH))})]
    found = []
    for layer in range(LAYERS):
        place = f"encoder.layer.{layer}"
        if method in ("lora", "multihead-parallel"):
            name = f"{place}.attention.self.{'query' if method == 'lora' else 'head.0'}"
            parts = {"A": rng.standard_normal((2, WIDTH)), "B": rng.standard_normal((WIDTH, 2))}
            found.append(make_block(name, parts, 2.0))
        if method == "ia3":
            found.append(make_block(f"{place}.attention.self.key", {"scaling": rng.standard_normal(WIDTH)}))
        if method == "bitfit":
            found.append(make_block(f"{place}.attention.self.query.bias", {"bias": rng.standard_normal(WIDTH)}))
        if method in ("prefix", "mam"):
            rows = rng.standard_normal((2, 3, WIDTH))
            found += [
                make_block(f"layer.{layer}.{half}", {"rows": rows[at]}) for at, half in enumerate(("keys", "values"))
            ]
        if method in ("adapter", "adapter-houlsby", "parallel", "scaled-parallel", "mam"):
            found.append(bottleneck(f"{place}.{BESIDE}"))
        if method == "adapter-houlsby":
            found.append(bottleneck(f"{place}.{AFTER}"))
    return found


def trained(method: str, **facts: Any) -> TaskEmbedding:
    """An embedding as this project's training makes it."""
    known = {
        "task_kind": "classification",
        "architecture": ARCHITECTURE,
        "settings": {"non_linearity": "relu"},
        "source": {"kind": "trained"},
    }
    return TaskEmbedding("toy", Space(BASE, method), order_blocks(blocks_of(method)), {**known, **facts})


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


# --- which methods, which forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["adapters", "peft"])
@pytest.mark.parametrize("method", PLACES)
def test_a_method_is_written_where_it_has_a_place_and_refused_by_name_elsewhere(
    method: str, form: str, tmp_path: Path
) -> None:
    one = trained(method)
    if form in PLACES[method]:
        again = read_adapter(write(tmp_path / "out", export(one, form)))
        assert (again.method, again.base) == (method, BASE)
        assert [block.name for block in again.blocks] == [block.name for block in one.blocks]
        for read, block in zip(again.blocks, one.blocks, strict=True):
            assert read.scale == block.scale
            for part, array in block.parts.items():
                np.testing.assert_array_equal(read.parts[part], array)
        return
    with pytest.raises(FormatError) as caught:
        export(one, form)
    assert caught.value.message.startswith(f"'toy' ({method}) cannot be written in the form {form!r}: ")
    instead = "adapters" if PLACES[method] else "embedding"
    assert caught.value.hint == f"take another form: `form={instead!r}`"
    assert export(one, instead)


@pytest.mark.parametrize("form", EXPORTS)
def test_the_same_embedding_gives_the_same_bytes(form: str) -> None:
    for method, places in PLACES.items():
        if form in (*places, "embedding"):
            assert export(trained(method), form) == export(trained(method), form)


def test_unknown_form_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="Unknown form 'gguf'") as caught:
        export(lora("x", 0), "gguf")
    assert all(form in caught.value.hint for form in EXPORTS)


def test_the_docs_table_says_what_the_code_does() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    rows = [
        line.split("|")[1:-1]
        for line in page.partition("# Formats that are written")[2].splitlines()
        if line[:1] == "|"
    ]
    said = {
        name.strip(" `"): tuple(
            form for form, cell in zip(("adapters", "peft"), cells, strict=True) if not cell.startswith(" no")
        )
        for names, *cells in rows[2:]
        for name in names.split(",")
    }
    assert said == PLACES


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_names_the_model_class_that_fits(kind: str) -> None:
    one = trained("lora", task_kind=kind)
    assert f"import {KINDS[kind]}\n" in export(one, "peft")["README.md"].decode()
    assert "import AutoModel\n" in export(one, "peft", bare=True)["README.md"].decode()


@pytest.mark.parametrize("architecture", [{}, {"model_type": "mamba"}, {"model_type": ["bert"]}, ["bert"], "bert"])
def test_an_unknown_model_type_points_to_bare(architecture: object) -> None:
    one = lora("x", 0, architecture=architecture)
    with pytest.raises(TupateHubError, match="not known to the exporter") as caught:
        export(one, "peft")
    assert "`bare=True`" in caught.value.hint
    assert "adapter_config.json" in export(one, "peft", bare=True)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, tupate_hub.export; print(sorted({'torch', 'transformers', 'adapters', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- the embedding's own file ---------------------------------------------------------------------------------------


def test_the_embedding_form_is_the_same_embedding() -> None:
    one = lora("sst2", 0, licence="cc-by-4.0")
    ((name, data),) = export(one, "embedding").items()
    assert name == "sst2.safetensors"
    read = parse_embedding(data, name)
    assert (read.task, read.space, dict(read.facts)) == (one.task, one.space, dict(one.facts))
    np.testing.assert_array_equal(read.vector(), one.vector())


@pytest.mark.parametrize(
    ("settings", "relative"), [({}, True), ({"delta": True}, True), ({"delta": False}, False), ({"delta": "?"}, None)]
)
def test_biases_come_with_the_lines_that_put_them_into_the_model(
    settings: dict[str, Any], relative: bool | None, tmp_path: Path
) -> None:
    one = trained("bitfit", settings=settings)
    folder = write(tmp_path / "out", export(one, "embedding"))
    page = (folder / "README.md").read_text()
    assert (folder / "toy.safetensors").exists()
    if relative is None:
        assert "Nothing says" in page
        assert "```" not in page
        return
    transformers = pytest.importorskip("transformers")
    from loading import run_readme

    config = transformers.BertConfig(
        vocab_size=20, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=8
    )
    base = transformers.BertModel(config)
    base.save_pretrained(tmp_path / "base")
    loaded = run_readme(folder, tmp_path / "base")
    for name, value in base.named_parameters():
        change = one.by_name[name].parts["bias"] if name in one.by_name else np.zeros(1, dtype=np.float32)
        before = value.detach().numpy() * (relative or name not in one.by_name)
        np.testing.assert_allclose(loaded.get_parameter(name).detach(), before + change, atol=1e-6)


def test_biases_of_a_stranger_need_a_word_on_what_they_are() -> None:
    one = trained("bitfit", source={"kind": "file", "layout": "biases"})
    assert "Nothing says" in export(one, "embedding")["README.md"].decode()


# --- facts that strangers wrote -------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(
    "kind layout left_out model_type hidden_size num_hidden_layers num_attention_heads scaling leave_out "
    "non_linearity original_ln_before combine delta trained peft bert".split()
)
GROUPS = JSON | st.dictionaries(WORDS, JSON | WORDS, max_size=6)


@given(
    method=st.sampled_from([*PLACES, "plain", "lora+prompt", "", "+", "unipelt"]),
    content=st.sampled_from(list(PLACES)),
    form=st.sampled_from(list(EXPORTS)),
    bare=st.booleans(),
    facts=st.dictionaries(st.sampled_from(["settings", "architecture", "source", "task_kind", "blend"]), GROUPS),
)
def test_hostile_facts_end_in_files_or_in_a_sentence(
    method: str, content: str, form: str, bare: bool, facts: dict[str, Any]
) -> None:
    one = replace(trained(content, **facts), space=Space(BASE, method))
    try:
        files = export(one, form, bare=bare)
    except TupateHubError as error:
        assert error.hint
        return
    if form != "embedding":
        json.loads(files["adapter_config.json"])


@pytest.mark.parametrize("base", ['x"); import os; ("', "x\n```\n# rm", "\\", "'"])
def test_a_base_model_s_name_stays_text_in_the_readme(base: str) -> None:
    for method, form in (("lora", "adapters"), ("lora", "peft"), ("prefix", "peft"), ("bitfit", "embedding")):
        one = replace(trained(method), space=Space(base, method))
        page = export(one, form)["README.md"].decode()
        (code,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
        assert page.count("\n```") == 2
        texts = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
        assert base in texts
        assert not {"os"} & {
            name.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import) for name in node.names
        }


@pytest.mark.parametrize(
    ("fact", "said"),
    [
        (
            {"of": ["a", "b"], "weights": [0.5, 2.0], "kept": 0.875},
            "The sum of the updates 0.5 x a, 2 x b, with 87.50%",
        ),
        (
            {"of": ["x\n```python\nimport os", "b"], "weights": [0.5, 2.0], "kept": 0.5},
            "0.5 x x ```python import os, 2",
        ),
        ({"of": ["a"], "weights": [0.5, 2.0], "kept": 0.5}, ""),
        ({"of": ["a"], "weights": ["0.5"], "kept": 0.5}, ""),
        ({"of": "a", "weights": [0.5], "kept": 0.5}, ""),
        ({"of": ["a"], "weights": [0.5]}, ""),
        (["a"], ""),
    ],
)
def test_the_readme_says_what_a_blend_is_the_sum_of(fact: Any, said: str) -> None:
    """The fact of an embedding file may be a stranger's."""
    page = export(trained("lora", blend=fact), "peft")["README.md"].decode()
    assert said in page if said else "sum of the updates" not in page
    assert page.count("\n```") == 2


@pytest.mark.parametrize("form", ["peft", "adapters"])
@pytest.mark.parametrize("scale", [1e300, -1e300, 1e31])
def test_a_scale_that_no_file_can_hold_is_refused(scale: float, form: str) -> None:
    one = trained("lora")
    with pytest.raises(FormatError, match="has a scale of"):
        export(replace(one, blocks=tuple(replace(block, scale=scale) for block in one.blocks)), form)


def test_a_prompt_without_an_origin_is_refused() -> None:
    for form in ("peft", "adapters"):
        with pytest.raises(FormatError, match="nothing says which library's prompt it is") as caught:
            export(prompt("x", 0), form)
        assert caught.value.hint.endswith("`form='embedding'`")
