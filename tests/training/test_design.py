"""The design space: formulas against real models, the table's coverage, budgets, and the page made from the table."""

import importlib.util
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub.errors import FormatError, UnknownName
from tupate_hub.training.design import (
    DESIGN,
    SIZES,
    SYMBOLS,
    Budget,
    count,
    evaluate,
    for_budget,
    parse_budget,
    require_modest,
    rows_of,
)
from tupate_hub.training.methods import METHODS, get_method
from tupate_hub.training.model import architecture, build_model, is_head, tuned_state

ROOT = Path(__file__).parents[2]

#: all-MiniLM-L6-v2 and bert-base-uncased: sizes, and parameters without heads.
MINILM = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 6}
MINILM_PARAMETERS = 22_713_216
BERT_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}

#: Every method as it is by default, every variant, and sizes that do not divide the width.
VARIANTS = [
    *((name, {}) for name in METHODS),
    ("lora", {"r": 3, "targets": ["query"]}),
    ("lora", {"r": 5, "targets": ["query", "key", "value"]}),
    ("lora", {"r": 4, "targets": ["intermediate", "output"]}),
    ("lora", {"r": 4, "targets": ["output"]}),
    ("lora", {"r": 2, "targets": ["value", "intermediate"]}),
    ("prefix", {"tokens": 1}),
    ("prefix", {"tokens": 7, "reparametrise": True}),
    ("prompt", {"tokens": 3}),
    ("adapter", {"r": 5}),
    ("adapter-houlsby", {"r": 13}),
    ("parallel", {"r": 11, "on": "attention"}),
    ("parallel", {"r": 1}),
    ("scaled-parallel", {"r": 6, "scaling": "learned"}),
    ("scaled-parallel", {"r": 6, "scaling": 2.0, "on": "attention"}),
    ("scaled-parallel", {"r": 6, "scaling": "learned", "on": "attention"}),
    ("multihead-parallel", {"tokens": 3}),
    ("mam", {"tokens": 2, "r": 7}),
    ("mam", {"tokens": 5, "r": 3, "scaling": "learned"}),
]
IDS = [f"{name}-{'-'.join(map(str, settings.values()))}" for name, settings in VARIANTS]
SIZED = [name for name, method in METHODS.items() if set(SIZES) & set(method.settings)]


def tuned_parameters(model):
    return sum(value.numel() for name, value in tuned_state(model).items() if not is_head(name))


@cache
def minilm_config():
    """The sizes of all-MiniLM-L6-v2, with a small vocabulary, which no method tunes."""
    from transformers import BertConfig

    return BertConfig(vocab_size=40, num_attention_heads=12, max_position_embeddings=64, **MINILM)


def in_minilm(name, settings):
    from adapters import BertAdapterModel

    model = BertAdapterModel(minilm_config())
    method = get_method(name, **settings)
    method.put(model, method.settings)
    return tuned_parameters(model)


# --- the table --------------------------------------------------------------------------------------------------


def test_every_method_is_in_the_table_and_nothing_else():
    assert {row.method for row in DESIGN} == set(METHODS)


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=IDS)
def test_every_variant_has_its_rows(name, settings):
    rows = rows_of(name, settings)
    assert rows
    assert {row.method for row in rows} == {name}


def test_every_row_is_some_variant_s():
    used = {id(row) for name, settings in VARIANTS for row in rows_of(name, settings)}
    assert used == {id(row) for row in DESIGN}


def test_parts_tell_the_rows_of_a_method_apart():
    assert len({(row.method, row.part) for row in DESIGN}) == len(DESIGN)


def test_the_words_of_the_table():
    assert {row.insertion for row in DESIGN} == {"sequential", "parallel", "input"}
    assert all(row.form and row.modifies and row.composition for row in DESIGN)


def test_a_formula_uses_the_explained_symbols_and_each_is_used():
    used = {word for row in DESIGN for word in re.findall(r"[a-z]+", row.parameters)}
    assert used == set(SYMBOLS)


@pytest.mark.parametrize(
    ("name", "settings", "parts"),
    [
        ("prefix", {}, ["flat"]),
        ("prefix", {"reparametrise": True}, ["reparametrised"]),
        ("lora", {}, ["attention"]),
        ("lora", {"targets": ["output"]}, ["feed-forward"]),
        ("lora", {"targets": ["key", "output"]}, ["attention", "feed-forward"]),
        ("mam", {}, ["prefix", "scaled parallel"]),
        ("ia3", {}, [""]),
    ],
)
def test_the_settings_choose_the_parts(name, settings, parts):
    assert [row.part for row in rows_of(name, settings)] == parts


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("adaptor", {}, "Unknown tuning method 'adaptor'"),
        ("adapter", {"tokens": 3}, "adapter has no setting 'tokens'"),
        ("lora", {"targets": ["query", "ffn"]}, "lora has no target 'ffn'"),
    ],
)
def test_what_is_not_there_is_named(name, settings, said):
    with pytest.raises(UnknownName, match=said) as caught:
        count(name, settings, MINILM)
    assert "its settings: r" in caught.value.hint or "known: " in caught.value.hint


def test_lora_without_a_target_is_refused():
    with pytest.raises(FormatError, match="lora without a target changes nothing"):
        for_budget("lora", 0.005, MINILM_PARAMETERS, MINILM, {"targets": []})


# --- formulas against models ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=IDS)
def test_the_formula_counts_what_a_small_model_tunes(base, load, name, settings):
    model = build_model(base, load("toy_classes"), get_method(name, **settings), 0)
    assert count(name, settings, architecture(model)) == tuned_parameters(model)


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=IDS)
def test_the_formula_counts_what_minilm_tunes(name, settings):
    assert count(name, settings, MINILM) == in_minilm(name, settings)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("lora", 73_728),
        ("prefix", 73_728),
        ("multihead-parallel", 73_728),
        ("mam", 76_080),
        ("adapter", 76_128),
        ("parallel", 76_128),
        ("scaled-parallel", 76_128),
        ("adapter-houlsby", 78_432),
    ],
)
def test_the_default_sizes_compare(name, parameters):
    assert count(name, {}, MINILM) == parameters
    assert abs(parameters - 73_728) < 0.065 * 73_728


def test_the_counts_that_others_have_published():
    """The `adapters` library's sizes for bert-base, and TuPaTE's BitFit but for the pooler, which is not tuned here."""
    assert count("adapter", {"r": 48}, BERT_BASE) == 894_528
    assert count("adapter-houlsby", {"r": 48}, BERT_BASE) == 1_789_056
    assert count("parallel", {"r": 384}, BERT_BASE) == 7_091_712
    assert count("scaled-parallel", {"r": 384, "scaling": "learned"}, BERT_BASE) == 7_091_712 + 12
    assert count("lora", {"r": 8}, BERT_BASE) == 294_912
    assert count("ia3", {}, BERT_BASE) == 55_296
    assert count("bitfit", {}, BERT_BASE) == 102_912 - 768


def test_the_paper_s_counts_per_layer():
    """He et al. (2022): 2ld, 2rd, 4rd and 10rd a sub-layer, but for the adapters' biases."""
    d = 768
    one = {**BERT_BASE, "num_hidden_layers": 1}
    assert count("prefix", {"tokens": 30}, one) == 2 * 30 * d
    assert count("multihead-parallel", {"tokens": 30}, one) == 2 * 30 * d
    assert count("parallel", {"r": 30}, one) - (30 + d) == 2 * 30 * d
    assert count("lora", {"r": 30}, one) == 4 * 30 * d
    assert count("lora", {"r": 30, "targets": ["intermediate", "output"]}, one) == 10 * 30 * d
    assert count("prompt", {"tokens": 30}, BERT_BASE) == 30 * d


def test_the_inner_width_is_four_times_the_width_where_nothing_else_is_said():
    short = {"hidden_size": 384, "num_hidden_layers": 6}
    assert count("ia3", {}, short) == count("ia3", {}, MINILM)
    assert count("ia3", {}, {**short, "intermediate_size": 100}) == 6 * (2 * 384 + 100)


@pytest.mark.parametrize("wrong", [{"hidden_size": None}, {"num_hidden_layers": "6"}, {"intermediate_size": 0}])
def test_a_configuration_without_its_sizes_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(FormatError, match=f"has no {name}"):
        count("ia3", {}, {**MINILM, **wrong})
    with pytest.raises(FormatError, match="has no hidden_size"):
        for_budget("lora", 0.005, MINILM_PARAMETERS, {"dim": 384, "n_layers": 6})


# --- the evaluator ----------------------------------------------------------------------------------------------


@given(st.integers(0, 999), st.integers(0, 999))
def test_formulas_are_arithmetic(x, y):
    assert evaluate("2 * x * (y + 1) + y", {"x": x, "y": y}) == 2 * x * (y + 1) + y


@pytest.mark.parametrize(
    "formula", ["x.real", "x()", "x ** 9", "-x", "1.5 * x", "unknown", "x - 1", "'x'", "True + x", "x if x else x"]
)
def test_nothing_but_sums_and_products_is_evaluated(formula):
    with pytest.raises(ValueError, match="no sum or product"):
        evaluate(formula, {"x": 2})


# --- budgets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "share"),
    [("0.5%", 0.005), ("100%", 1.0), (" 2 % ", 0.02), (".25%", 0.0025), ("0.000001%", 1e-8), ("12.5%", 0.125)],
)
def test_budgets_are_percentages(written, share):
    assert parse_budget(written) == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize(
    "written", ["", "0.5", "0%", "0.0%", "101%", "-1%", "1e-3%", "half", "%", "٥%", "nan%", "inf%", "5%%", "9" * 500]
)
def test_what_is_no_budget_is_refused(written):
    with pytest.raises(FormatError, match="is not a budget") as caught:
        parse_budget(written)
    assert caught.value.hint == "`budget='0.5%'`"
    assert len(caught.value.message) < 150


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("lora", {"r": 12, "alpha": 24}),
        ("prefix", {"tokens": 24}),
        ("prompt", {"tokens": 295}),
        ("adapter", {"r": 24}),
        ("adapter-houlsby", {"r": 11}),
        ("multihead-parallel", {"tokens": 24}),
        ("mam", {"tokens": 12, "r": 12}),
    ],
)
def test_half_a_percent_of_minilm(name, settings):
    budget = for_budget(name, 0.005, MINILM_PARAMETERS, MINILM)
    assert budget.settings == settings
    assert budget.parameters == in_minilm(name, budget.settings)
    assert budget.share == budget.parameters / MINILM_PARAMETERS <= 0.005


@given(st.sampled_from(SIZED), st.floats(0.002, 0.08))
def test_a_budget_is_met_from_below_by_the_largest_size(name, share):
    budget = for_budget(name, share, MINILM_PARAMETERS, MINILM)
    (size,) = {value for key, value in budget.settings.items() if key in SIZES}
    larger = {key: size + 1 for key in budget.settings if key in SIZES}
    allowed = share * MINILM_PARAMETERS
    assert budget.parameters == count(name, budget.settings, MINILM)
    assert size >= 1
    assert budget.parameters <= allowed
    assert count(name, larger, MINILM) > allowed or size == MINILM["hidden_size"]


@pytest.mark.parametrize("name", SIZED)
def test_a_budget_too_small_for_anything_is_refused_with_one_that_is_not(name):
    with pytest.raises(FormatError, match=f"{name} has at least") as caught:
        for_budget(name, 1e-9, MINILM_PARAMETERS, MINILM)
    enough = parse_budget(caught.value.hint.strip("`").removeprefix("budget=").strip("'"))
    assert for_budget(name, enough, MINILM_PARAMETERS, MINILM).share <= enough


def test_a_budget_and_a_size_exclude_each_other():
    with pytest.raises(FormatError, match="chooses r itself"):
        for_budget("lora", 0.005, MINILM_PARAMETERS, MINILM, {"r": 4})


@pytest.mark.parametrize(
    ("name", "settings"), [("lora", {"r": 385}), ("prefix", {"tokens": 10**6}), ("mam", {"r": 385})]
)
def test_sizes_beyond_the_width_of_the_model_are_refused(name, settings):
    with pytest.raises(FormatError, match="wider than the base model, which has 384") as caught:
        require_modest(get_method(name, **settings), MINILM)
    ((size, _),) = settings.items()
    assert caught.value.hint == f"`settings={{{size!r}: {get_method(name).settings[size]!r}}}`"
    require_modest(get_method(name, **dict.fromkeys(settings, 384)), MINILM)


def test_a_bottleneck_grows_no_wider_than_the_model():
    assert for_budget("lora", 1.0, MINILM_PARAMETERS, MINILM).settings["r"] == 384
    assert for_budget("mam", 1.0, MINILM_PARAMETERS, MINILM).settings == {"tokens": 384, "r": 384}


@pytest.mark.parametrize("name", ["bitfit", "ia3"])
def test_a_method_without_a_size_is_refused_by_name(name):
    with pytest.raises(FormatError, match=f"{name} has no size") as caught:
        for_budget(name, 0.005, MINILM_PARAMETERS, MINILM)
    assert "lora, prefix, prompt" in caught.value.hint
    assert name not in caught.value.hint


def test_the_variant_counts_and_is_kept():
    targets = ["intermediate", "output"]
    budget = for_budget("lora", 0.005, MINILM_PARAMETERS, MINILM, {"targets": targets})
    assert budget.settings == {"targets": targets, "r": 4, "alpha": 8}
    through_network = for_budget("prefix", 0.2, MINILM_PARAMETERS, MINILM, {"reparametrise": True})
    assert through_network.settings["reparametrise"]
    assert through_network.parameters == count("prefix", through_network.settings, MINILM)
    learned = for_budget("scaled-parallel", 0.005, MINILM_PARAMETERS, MINILM, {"scaling": "learned"})
    assert learned.parameters == for_budget("scaled-parallel", 0.005, MINILM_PARAMETERS, MINILM).parameters + 6


def test_the_settings_of_a_budget_are_ones_that_the_method_takes():
    for name in SIZED:
        budget = for_budget(name, 0.01, MINILM_PARAMETERS, MINILM)
        assert budget.settings.items() <= get_method(name, **budget.settings).settings.items()


def test_lora_keeps_its_scale():
    settings = for_budget("lora", 0.005, MINILM_PARAMETERS, MINILM, {"alpha": 4}).settings
    assert settings == {"r": 12, "alpha": 6}
    odd = for_budget("lora", 0.0007, MINILM_PARAMETERS, MINILM, {"alpha": 4}).settings
    assert odd == {"r": 1, "alpha": 0.5}


def test_a_budget_reads_as_a_sentence():
    budget = Budget("mam", {"tokens": 12, "r": 12}, 112_968, 112_968 / MINILM_PARAMETERS)
    assert str(budget) == "mam with tokens 12, r 12: 112,968 parameters, 0.497 % of the base model"


# --- without torch, and the page --------------------------------------------------------------------------------


def test_the_table_needs_no_heavy_package():
    code = "import sys, tupate_hub.training.design; print(sorted({'torch', 'adapters', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("methods_page", ROOT / "scripts" / "zoo" / "methods_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_table_says(script):
    assert (ROOT / "docs" / "methods.md").read_text(encoding="utf-8") == script.page()


def test_the_page_has_every_row(script):
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in script.page().splitlines()]
    for row in DESIGN:
        (found,) = [one for one in cells if len(one) == 7 and one[:2] == [f"`{row.method}`", row.part or "–"]]
        assert found[2:6] == [row.form, row.insertion, row.modifies, row.composition]
        assert found[6].replace("·", " * ") == row.parameters


def test_the_check_notices(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "PAGE", tmp_path / "methods.md")
    assert script.main(["--check"]) == 1
    assert "methods.md" in capsys.readouterr().err
    assert not (tmp_path / "methods.md").exists()
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
