"""Tables: cells that cannot break their table, and the page of a zoo with every figure of its registry."""

from dataclasses import replace

import pytest

from tupate_hub.errors import FormatError
from tupate_hub.publish.table import fill_tables, margin, markdown_table, rows_on, zoo_page
from tupate_hub.registry import Entry, Registry, Repeat, SpaceEntry, Task


def rows_of(page):
    """The cells of every row of the spaces' tables that is neither a heading nor a rule."""
    page = page.partition("## Not clearly learned")[0]
    lines = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| task "))]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_rows_of_a_filled_table_are_those_it_was_made_of():
    rows = [["a|b", "", "0.5"], ["c", "two words", "|"]]
    page = "before\n<!-- table: one -->\n<!-- end -->\n<!-- table: other -->\n<!-- end -->\nafter\n"
    filled = fill_tables(page, {"one": markdown_table(["x", "y", "z"], rows), "other": markdown_table(["v"], [["1"]])})
    assert rows_on(filled, "one") == rows
    assert rows_on(filled, "other") == [["1"]]
    assert rows_on(page, "one") == []
    with pytest.raises(FormatError, match="no markers of table 'third'"):
        rows_on(filled, "third")


def entry(task, space="toy/lora", flags=(), size=150_000, **scores):
    return Entry(
        task,
        space,
        f"zoo/{space}/{task}.safetensors",
        size,
        "0" * 64,
        source={
            "kind": "trained",
            "train_examples": 90,
            "steps": 40,
            "batch_size": 32,
            "max_length": 128,
            "learning_rate": 0.0005,
            "seed": 0,
            "seconds": 12.6,
            "validation_examples": 400,
        },
        scores={"primary": 0.87654, "baseline": 0.5, "baseline_rule": "always 0", **scores},
        flags=flags,
    )


def registry(*entries, settings=None):
    made = Registry()
    for one in entries:
        base, _, method = one.space.rpartition("/")
        space = SpaceEntry(one.space, f"acme/{base}", method, "0" * 64, settings or {"r": 8, "alpha": 16})
        task = Task(one.task, one.task.upper(), kind="classification", metric="accuracy")
        made = made.with_entry(one, task, space)
    return made


def test_a_table():
    assert markdown_table(["a", "b"], [["1", "2"], ["3", ""]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 |  |\n"


def test_a_table_without_rows_is_a_heading():
    assert markdown_table(["a"], []) == "| a |\n| --- |\n"


def test_a_bar_in_a_cell_is_no_column():
    assert markdown_table(["a"], [["x|y"]]).splitlines()[-1] == "| x\\|y |"


def test_each_embedding_is_a_row():
    page = zoo_page(registry(entry("sst2"), entry("rte", flags=("weak",), primary=0.5, baseline_rule="always 1")), {})
    assert rows_of(page) == [
        [
            "rte",
            "classification",
            "accuracy",
            "0.500",
            "",
            "0.500",
            "always 1",
            "90",
            "40",
            "32",
            "128",
            "0.0005",
            "13",
            "weak",
        ],
        [
            "sst2",
            "classification",
            "accuracy",
            "0.877",
            "",
            "0.500",
            "always 0",
            "90",
            "40",
            "32",
            "128",
            "0.0005",
            "13",
            "",
        ],
    ]


def test_the_columns_are_named():
    heading = next(line for line in zoo_page(registry(entry("sst2")), {}).splitlines() if line.startswith("| task"))
    columns = ["task", "kind", "metric", "score", "with head", "baseline", "baseline rule", "examples"]
    columns += ["steps", "batch", "tokens", "rate", "seconds", "note"]
    assert [cell.strip() for cell in heading.strip("|").split("|")] == columns


@pytest.mark.parametrize(("weak", "said"), [(0, "0"), (2, "2")])
def test_a_space_is_summed_up(weak, said):
    entries = [entry(name, flags=("weak",) if number < weak else ()) for number, name in enumerate(("a", "b", "c"))]
    page = zoo_page(registry(*entries), {})
    assert f"## toy/lora\n\n3 tasks on `acme/toy` by lora (alpha 16, r 8), 0.5 MB, {said} weak.\n" in page


def test_each_space_has_its_own_table():
    page = zoo_page(registry(entry("sst2", "one/lora"), entry("rte", "two/lora"), entry("sst2", "two/lora")), {})
    first, second = page.split("## two/lora")
    assert [row[0] for row in rows_of(first)] == ["sst2"]
    assert [row[0] for row in rows_of(second)] == ["rte", "sst2"]
    assert rows_of(second)[1] == ["sst2", "accuracy", "0.877", "0.500", "40", "0.0005", "13", ""]


def test_the_default_space_comes_first_and_tells_most():
    made = registry(entry("sst2", "b/lora"), entry("sst2", "a/lora"))
    assert made.default_space == "b/lora"
    page = zoo_page(made, {})
    assert page.index("## b/lora") < page.index("## a/lora")
    assert page.count("| baseline rule |") == 1
    assert page.index("| baseline rule |") < page.index("## a/lora")


def test_a_margin_is_counted_in_standard_errors():
    assert margin(entry("sst2", primary=0.55)) == pytest.approx(2.0)  # one of 400 coin flips is .025
    assert margin(entry("sst2", primary=0.4)) == pytest.approx(-4.0)


def test_what_is_not_clearly_learned_is_named_with_its_reason():
    runs = [
        entry("rte", primary=0.54),
        entry("rte", "toy/ia3", primary=0.5),
        entry("cola", primary=0.551),
        entry("wnli", "toy/ia3", primary=0.3),
    ]
    page = zoo_page(registry(*runs), {"rte": "few examples", "cola": "not shown"})
    table = page.partition("## Not clearly learned")[2]
    assert "3 of 4" in table
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[6:]]
    assert rows == [
        ["rte", "lora", "0.540", "0.500", "1.6", "few examples"],
        ["rte", "ia3", "0.500", "0.500", "0.0", "as above"],
        ["wnli", "ia3", "0.300", "0.500", "-8.0", "not looked into"],
    ]


def test_where_everything_is_learned_nothing_is_listed():
    assert "Not clearly learned" not in zoo_page(registry(entry("sst2")), {})


def test_repeats_are_counted_and_named():
    again = Repeat("zoo/toy/lora/repeats/sst2-s1-i0.safetensors", 100_000, "1" * 64, 1, 0)
    page = zoo_page(registry(replace(entry("sst2"), repeats=(again,)), entry("rte")), {})
    assert "2 embeddings of 2 tasks in 1 spaces, and 1 repeats" in page
    assert "0.4 MB, 0 weak. Repeated with other seeds: sst2.\n" in page


def test_the_page_says_how_it_is_made():
    assert zoo_page(Registry(), {}).startswith("# The bundled zoo\n\nGenerated from `registry.json` by ")
    assert "scripts/zoo/build_zoo.py" in zoo_page(Registry(), {})


def test_the_same_registry_gives_the_same_page():
    pair = entry("sst2"), entry("rte")
    assert zoo_page(registry(*pair), {}) == zoo_page(registry(*pair[::-1]), {})


def headed(name, primary, fitted=True):
    head = {
        "file": f"zoo/toy/lora/heads/{name}.safetensors",
        "bytes": 1,
        "sha256": "0" * 64,
        "scores": {"primary": primary},
    }
    return replace(entry(name), head={**head, **({"fitted": True} if fitted else {})})


def test_heads_that_were_fitted_again_are_compared_with_their_runs():
    page = zoo_page(registry(headed("a", 0.87), headed("b", 0.80), headed("c", 0.5, fitted=False), entry("d")), {})
    assert "Of 2 such heads, the score differs from the run's by -0.042 on average" in page
    assert "by -0.077 at worst (b)" in page
    short = [line for line in page.splitlines() if line.startswith("| b | toy/lora |")]
    assert short == ["| b | toy/lora | 0.877 | 0.800 | -0.077 | -4.7 |"]
    assert not any(line.startswith("| a | toy/lora |") for line in page.splitlines())
    assert "## Heads" not in zoo_page(registry(headed("c", 0.5, fitted=False), entry("d")), {})
