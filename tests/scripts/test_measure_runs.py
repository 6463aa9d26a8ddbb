"""The script that measures runs: pairs by hand, early checkpoints of two forms, and a page that is filled in place."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import LORA, PROMPT, lora, place, prompt

from tupate_hub.embedding import make_block
from tupate_hub.errors import FormatError
from tupate_hub.registry import FILENAME, Entry, Registry, Repeat, SpaceEntry, Task
from tupate_hub.storage.safetensors import TensorFile
from tupate_hub.zoo import Zoo

SCRIPTS = Path(__file__).parents[2] / "scripts" / "evaluation"
TASKS = ("cola", "mnli", "qqp", "rte", "snli", "sst2")
TABLES = ("runs", "early", "learned")
SPACE = LORA.name


@pytest.fixture
def script(monkeypatch, tmp_path, load_script):
    """The script as a module whose page is the test's own."""
    module = load_script("measure_runs")
    monkeypatch.setattr(module, "PAGE", tmp_path / "docs" / "evaluation.md")
    monkeypatch.setattr(module, "EARLY", tmp_path / ".runs")
    monkeypatch.setattr(module, "RESAMPLES", 50)
    return module


def near(embedding, seed, noise=0.3):
    """Another run of an embedding's task: its factors with some noise."""
    rng = np.random.default_rng(seed)
    blocks = tuple(
        make_block(
            block.name,
            {name: part + noise * rng.standard_normal(part.shape).astype(np.float32) for name, part in block.parts.items()},
            block.scale,
        )
        for block in embedding.blocks
    )  # fmt: skip
    return replace(embedding, blocks=blocks)


@pytest.fixture
def zoo(tmp_path):
    """Six LoRA tasks; sst2 and snli have repeats of both kinds, near for the shared start and far for the other."""
    registry = Registry()
    for seed, task in enumerate(TASKS):
        main = lora(task, seed)
        kept = place(tmp_path, f"zoo/{SPACE}/{task}.safetensors", main.to_bytes())
        repeats = []
        if task in ("sst2", "snli"):
            for start, noise in ((0, 0.1), (1, 0.6)):
                data = near(main, 10 * seed + start, noise).to_bytes()
                file = f"zoo/{SPACE}/repeats/{task}-s1-i{start}.safetensors"
                repeats.append(Repeat(**place(tmp_path, file, data), seed=1, init_seed=start))
        primary = 0.51 if task == "rte" else 0.4 if task == "cola" else 0.9
        registry = registry.with_entry(
            Entry(
                task,
                SPACE,
                **kept,
                source={"validation_examples": 400},
                scores={"primary": primary, "baseline": 0.5},
                repeats=tuple(repeats),
            ),
            Task(task, task),
            SpaceEntry(SPACE, LORA.base, "lora"),
        )
    (tmp_path / FILENAME).write_text(registry.to_json(), encoding="utf-8")
    (tmp_path / "docs").mkdir()
    marked = "\n".join(f"## {name}\n\n<!-- table: {name} -->\nold\n<!-- end -->\n" for name in TABLES)
    (tmp_path / "docs" / "evaluation.md").write_text(marked, encoding="utf-8")
    return Zoo.open(tmp_path)


@pytest.fixture
def run(script, monkeypatch, capsys):
    """`run("--check")` is the exit code and what was said."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["measure_runs.py", *map(str, arguments)])
        code = script.main()
        printed = capsys.readouterr()
        assert printed.out == ""
        return code, printed.err

    return call


def table(page, name):
    inside = page.partition(f"<!-- table: {name} -->\n")[2].partition("<!-- end -->")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in inside.splitlines()]


# ---- pairs -----------------------------------------------------------------------------------------------------------


def four(script, scores=None):
    """Two tasks: sst2 with three runs, the last from a start of its own, and rte with one."""
    tasks, starts = np.array(["rte", "sst2", "sst2", "sst2"]), np.array([0, 0, 0, 1])
    return script.Runs(tasks, starts, np.zeros((4, 4)) if scores is None else np.array(scores, dtype=float))


def test_pairs_by_start(script):
    scores = [[9, 1, 2, 3], [1, 9, 4, 5], [2, 4, 9, 6], [3, 5, 6, 9]]
    runs = four(script, scores)
    shared, separate = script.pairs_of(runs, True), script.pairs_of(runs, False)
    assert shared.of_one_task(True).scores.tolist() == [4]
    assert shared.of_one_task(False).scores.tolist() == [1, 2]
    assert separate.of_one_task(True).scores.tolist() == [5, 6]
    assert separate.of_one_task(False).scores.tolist() == [3]
    assert runs.repeated == ["sst2"]


def test_no_pairs_are_none(script):
    lonely = script.Runs(np.array(["rte"]), np.array([0]), np.ones((1, 1)))
    assert script.pairs_of(lonely, True).scores.tolist() == []
    assert lonely.repeated == []


def test_a_repeat_that_finds_its_task_first(script):
    scores = [[1, 0.2, 0.3, 0.9], [0.2, 1, 0.8, 0.5], [0.3, 0.8, 1, 0.4], [0.9, 0.5, 0.4, 1]]
    runs = four(script, scores)
    assert script.found_first(runs, True) == (1, 1)
    assert script.found_first(runs, False) == (0, 1)  # the run of another start lies nearer to rte
    assert script.found_first(script.Runs(np.array(["a", "b"]), np.zeros(2), np.eye(2)), True) == (0, 0)


def test_the_runs_of_a_space(script, zoo):
    runs = script.runs_of(zoo, SPACE, "update")
    assert runs.tasks.tolist() == ["cola", "mnli", "qqp", "rte", "snli", "snli", "snli", "sst2", "sst2", "sst2"]
    assert runs.starts.tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0, 1]
    np.testing.assert_allclose(runs.scores, runs.scores.T)
    np.testing.assert_allclose(np.diag(runs.scores), 1, atol=1e-6)
    assert runs.scores[4, 5] > runs.scores[4, 6] > 0.2  # the nearer repeat is nearer


def test_the_area_has_an_interval_around_it_that_depends_on_the_seed_alone(script, zoo):
    runs = script.runs_of(zoo, SPACE, "update")
    rng = np.random.default_rng(3)
    noisy = replace(runs, scores=rng.standard_normal(runs.scores.shape))
    pairs = script.pairs_of(noisy, True)
    area, low, high = script.area_with_interval(pairs, noisy.repeated)
    assert 0 <= low <= area <= high <= 1
    assert high - low > 0.05
    assert script.area_with_interval(pairs, noisy.repeated) == (area, low, high)
    same, different = (pairs.of_one_task(yes).scores for yes in (True, False))
    assert area == pytest.approx(np.mean(same[:, None] > different[None, :]))


def test_a_pair_counts_as_often_as_both_of_its_tasks_were_drawn(script):
    pairs, drawn = (np.array([0, 0, 1]), np.array([0, 1, 2])), np.array([2.0, 3.0, 0.0])
    assert script.drawn_times(*pairs, drawn).tolist() == [2, 6, 0]


def test_perfect_separation_has_no_width(script, zoo):
    pairs = script.pairs_of(script.runs_of(zoo, SPACE, "update"), True)
    assert script.area_with_interval(pairs, ["snli", "sst2"]) == (1.0, 1.0, 1.0)


# ---- early checkpoints -----------------------------------------------------------------------------------------------


def keep_early(folder, zoo, noise, raw=()):
    """Early checkpoints of every task: the run with noise that shrinks."""
    for seed, entry in enumerate(zoo.registry.in_space(SPACE)):
        final = zoo.load(entry)
        for share in ("0.05", "0.1", "0.25", "0.5"):
            early = near(final, 100 + seed, noise * (1 - float(share)))
            place(
                folder,
                f"{entry.task}/early-{share}.safetensors",
                as_raw(early) if entry.task in raw else early.to_bytes(),
            )


def as_raw(one):
    """The factors under the library's names, as earlier versions of train_zoo.py kept them."""
    named = {
        f"bert.{b.name}.loras.task.lora_{part}": b.parts[part].astype(np.float16) for b in one.blocks for part in "AB"
    }
    return TensorFile(named).to_bytes()


def test_an_early_checkpoint_is_read_in_both_forms(script, tmp_path):
    final = lora("sst2", 0)
    early = near(final, 5)
    for name, data in (("new", early.to_bytes()), ("old", as_raw(early))):
        (tmp_path / name).write_bytes(data)
        read = script.read_early(tmp_path / name, final)
        assert (read.task, read.space) == ("sst2", LORA)
        np.testing.assert_allclose(read.vector(), early.vector(), atol=2e-3)
        assert [block.scale for block in read.blocks] == [block.scale for block in final.blocks]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lora("rte", 0).to_bytes(), "is of rte in"),
        (prompt("sst2", 0).to_bytes(), "is of sst2 in tiny-bert/prompt"),
        (TensorFile({"bert.bias": np.zeros(3, dtype=np.float32)}).to_bytes(), "bert.bias is no parameter of LoRA"),
        (b"", "early"),
    ],
)
def test_what_is_no_early_checkpoint_of_the_run_is_refused(script, tmp_path, data, said):
    (tmp_path / "early").write_bytes(data)
    with pytest.raises(FormatError, match=said):
        script.read_early(tmp_path / "early", lora("sst2", 0))


@pytest.mark.parametrize("layout", ["tiny-bert/lora", "lora"])
def test_checkpoints_are_found_in_both_layouts_and_only_whole(script, zoo, tmp_path, layout):
    folder = tmp_path / "elsewhere"
    keep_early(folder / layout, zoo, 1.0)
    assert script.early_files([tmp_path / "none", folder], SPACE, "sst2") == {
        share: folder / layout / "sst2" / f"early-{share}.safetensors" for share in script.SHARES
    }
    (folder / layout / "sst2" / "early-0.25.safetensors").unlink()
    assert script.early_files([folder], SPACE, "sst2") == {}
    assert script.early_files([folder], SPACE, "unknown") == {}


def test_correlations_leave_the_target_out(script):
    scores = np.array([[1, 0.1, 0.2, 0.3], [0.1, 1, 0.5, 0.4], [0.2, 0.5, 1, 0.6], [0.3, 0.4, 0.6, 1]])
    assert script.correlations(scores, scores).tolist() == pytest.approx([1, 1, 1, 1])
    turned = scores.copy()
    turned[0, 1:] = [3, 2, 1]
    turned[1, 0] = 100
    assert script.correlations(turned, scores).tolist() == pytest.approx([-1, -0.5, 1, 1])
    assert script.correlations(scores + 7 * np.eye(4), scores).tolist() == pytest.approx([1, 1, 1, 1])


def test_rankings_that_do_not_look_at_their_target_are_alike(script):
    popular = np.arange(6.0)[None, :] + np.zeros((6, 1))
    assert script.between_targets(popular) == pytest.approx(1)
    assert script.between_targets(popular * np.array([1, -1, 1, -1, 1, -1])[:, None]) == pytest.approx(-0.2)


def test_a_similarity_that_is_another_one_is_measured_once(script, zoo, tmp_path):
    registry = Registry()
    for seed in range(3):
        kept = place(tmp_path, f"zoo/{PROMPT.name}/{TASKS[seed]}.safetensors", prompt(TASKS[seed], seed).to_bytes())
        space = SpaceEntry(PROMPT.name, PROMPT.base, "prompt")
        registry = registry.with_entry(Entry(TASKS[seed], PROMPT.name, **kept), Task(TASKS[seed], ""), space)
    one_row = replace(zoo, registry=registry)
    assert script.distinct(zoo, SPACE) == ["update", "tupate"]
    assert script.distinct(one_row, PROMPT.name) == ["update"]  # both are the mean over positions


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_filled_and_a_rerun_changes_nothing(zoo, run, tmp_path):
    keep_early(tmp_path / ".runs" / "lora", zoo, 1.0, raw=("sst2", "rte"))
    assert run() == (0, "")
    page = (tmp_path / "docs" / "evaluation.md").read_text()
    assert "old" not in page
    assert [line for line in page.splitlines() if line.startswith("##")] == [f"## {name}" for name in TABLES]
    heading, _, *rows = table(page, "runs")
    assert heading[:4] == ["method", "start", "similarity", "ROC area"]
    assert [row[:3] for row in rows] == [
        ["lora", start, f"`{name}`"] for start in ("shared", "separate") for name in ("update", "tupate")
    ]
    assert rows[0][3] == "1.000 [1.000, 1.000]"
    assert rows[0][-2:] == ["2 / 27", "2 of 2"]  # 8 runs of the start 0 are 28 pairs, the two of the start 1 one
    assert rows[2][-2] == "4 / 12"  # two runs of other starts: with 8, and with each other not
    assert run() == (0, "")
    assert (tmp_path / "docs" / "evaluation.md").read_text() == page
    assert run("--check") == (0, "nothing to do\n")


@pytest.mark.parametrize(
    ("said", "here", "same"),
    [
        ("| 0.717 (0.680 to 0.754) |", "| 0.718 (0.679 to 0.754) |", True),
        ("| 0.717 |", "| 0.719 |", False),
        ("| 0.999 |", "| 1.000 |", True),
        ("| -0.000 |", "| 0.001 |", True),
        ("| 2.5 |", "| 2.6 |", True),
        ("| 2.50 |", "| 2.52 |", False),
        ("| 10 of 10 |", "| 9 of 10 |", False),
        ("| 0.5 | 0.5 |", "| 0.5 |", False),
        ("| lora | 0.5 |", "| ia3 | 0.5 |", False),
    ],
)
def test_pages_agree_but_for_the_last_digit_of_a_fraction(script, said, here, same):
    assert script.agree(said, here) == script.agree(here, said) == same


def test_a_page_that_is_right_but_for_rounding_stays(zoo, run, tmp_path):
    run()
    page = tmp_path / "docs" / "evaluation.md"
    elsewhere = page.read_text().replace("1.000 [1.000, 1.000]", "0.999 [1.000, 1.000]")
    page.write_text(elsewhere)
    assert run("--check") == (0, "nothing to do\n")
    assert run() == (0, "")
    assert page.read_text() == elsewhere
    page.write_text(elsewhere.replace("0.999 [", "0.998 ["))
    assert run("--check")[0] == 1
    run()
    assert "0.998 [" not in page.read_text()


def test_a_ranking_gets_better_with_the_steps(script, zoo, run, tmp_path):
    keep_early(tmp_path / "kept" / "tiny-bert" / "lora", zoo, 0.8)
    assert run("--early", tmp_path / "kept") == (0, "")
    rows = table((tmp_path / "docs" / "evaluation.md").read_text(), "early")[2:]
    assert [row[:4] for row in rows] == [
        ["lora", f"`{name}`", "6", f"early against {what}"]
        for name in ("update", "tupate")
        for what in ("early", "the zoo")
    ]
    for row in rows:
        first, last = float(row[4].split()[0]), float(row[-2].split()[0])
        assert -1 <= first < last <= 1


def test_early_rows_of_a_method_without_checkpoints_stay(script, zoo, run, tmp_path):
    path = tmp_path / "docs" / "evaluation.md"
    stale, other = ([method, *["0.1"] * 8] for method in ("lora", "bitfit"))
    stored = {"early": script.markdown_table(script.EARLY_COLUMNS, [stale, other])}
    path.write_text(script.fill_tables(path.read_text(), stored))
    keep_early(tmp_path / "kept" / "tiny-bert" / "lora", zoo, 0.8)
    assert run("--early", tmp_path / "kept") == (0, "")
    rows = table(path.read_text(), "early")[2:]
    assert rows[0] == other
    assert [row[0] for row in rows[1:]] == ["lora"] * 4
    assert stale not in rows


def test_without_checkpoints_their_table_stays(zoo, run, tmp_path):
    assert run() == (0, "")
    page = (tmp_path / "docs" / "evaluation.md").read_text()
    assert table(page, "early") == [["old"]]
    assert table(page, "learned")[2:] == [["lora", "6", "5", "4 (67%)"]]


def test_a_check_writes_nothing_and_leaves_the_checkpoints_out(zoo, run, tmp_path):
    page = tmp_path / "docs" / "evaluation.md"
    before = page.read_bytes()
    code, said = run("--check")
    assert (code, said) == (1, "evaluation.md is out of date: make runs\n")
    assert page.read_bytes() == before
    run()
    keep_early(tmp_path / ".runs" / "lora", zoo, 1.0)
    assert run("--check") == (0, "nothing to do\n")


def test_a_zoo_without_repeats_has_an_empty_table(zoo, run, tmp_path):
    data = json.loads((tmp_path / FILENAME).read_text())
    for entry in data["embeddings"]:
        entry.pop("repeats", None)
    (tmp_path / FILENAME).write_text(json.dumps(data))
    assert run() == (0, "")
    assert len(table((tmp_path / "docs" / "evaluation.md").read_text(), "runs")) == 2


def test_a_page_without_markers_says_which(zoo, run, tmp_path):
    (tmp_path / "docs" / "evaluation.md").write_text("nothing here")
    code, said = run()
    assert code == 2
    assert "no markers of table 'runs'" in said
    assert (tmp_path / "docs" / "evaluation.md").read_text() == "nothing here"


def test_the_project_s_own_page_has_the_markers():
    page = (SCRIPTS.parents[1] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert all(page.count(f"<!-- table: {name} -->\n") == 1 for name in TABLES)
