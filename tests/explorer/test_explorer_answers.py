"""What the page computes is what the command line says: rankings, notes, gains, and the sentences for bad files."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from builders import BASE, bottleneck, lora, peft, prompt, zoo_of

from tupate_hub.compare.sketch import Sketches
from tupate_hub.errors import TupateHubError
from tupate_hub.publish import site_factors, site_sketches, site_space
from tupate_hub.publish.frontmatter import About
from tupate_hub.publish.site import site_files, write_site
from tupate_hub.registry import Task
from tupate_hub.zoo import Zoo, bundled_root

#: Scores and gains of the page and of the command line, both from numbers of float16, agree so far.
TOLERANCE = 1e-4
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def page_of(folder: Path, zoo: Zoo, about: About | None = None, *, hub: bool = False) -> Path:
    write_site(folder, site_files(zoo, about or About("Toys"), hub=hub))
    return folder


@pytest.fixture
def toy_page(toy_zoo: Path, tmp_path: Path) -> Path:
    return page_of(tmp_path / "page", Zoo.open(toy_zoo))


def same_ranking(shown: list[tuple[str, float, list[str]]], told: dict[str, Any]) -> None:
    expected = told["neighbors"]
    assert [task for task, _, _ in shown] == [one["task"] for one in expected]
    assert [score for _, score, _ in shown] == pytest.approx([one["score"] for one in expected], abs=TOLERANCE)
    assert [notes for _, _, notes in shown] == [one["notes"] for one in expected]


# --- tasks of the registry --------------------------------------------------------------------------------------


def test_a_task_is_ranked_as_by_similar(open_page: Any, bundled_page: Path, invoke: Any) -> None:
    opened = open_page(bundled_page)
    for space in ("lora", "prefix", "adapter"):
        told = invoke("similar", "stsb", "--space", space, "-k", "1000", "--json").json()
        page = opened.go(f"#/task/stsb?space=all-MiniLM-L6-v2%2F{space}")
        shares = page.locator(".neighbours .score small").all_inner_texts()
        assert len(shares) == min(10, len(told["neighbors"]))
        for share, one in zip(shares, told["neighbors"], strict=False):
            assert float(share.split()[1]) == pytest.approx(min(one["percentile"], 99.9), abs=0.51)
        same_ranking(opened.all_ranked(), told)


def test_a_task_is_ranked_by_gain_as_by_similar(open_page: Any, bundled_page: Path, invoke: Any) -> None:
    told = invoke("similar", "stsb", "-k", "1000", "--rank-by", "gain", "--json").json()
    opened = open_page(bundled_page)
    page = opened.go("#/task/stsb")
    assert page.locator(".advice > p").all_inner_texts()[1:-1] == told["sentences"]
    assert page.inner_text(".advice .start a") == told["start"]
    page.click("text=by expected gain")
    shown = opened.all_ranked()
    assert [task for task, _, _ in shown] == [one["task"] for one in told["neighbors"]]
    gains = [float(one.split()[0]) for one in page.locator(".neighbours .gain").all_inner_texts()]
    assert gains == pytest.approx([one["expected"]["points"] for one in told["neighbors"]], abs=0.051)


def test_the_trust_is_that_of_evaluate(open_page: Any, bundled_page: Path, invoke: Any) -> None:
    told = {one["predictor"]: one for one in invoke("evaluate", "--json").json()["predictors"]}
    page = open_page(bundled_page).go("#/trust")
    rows = page.eval_on_selector_all(
        "[aria-label='How well the ranking orders sources'] tbody tr",
        "rows => rows.map(row => [...row.children].map(cell => cell.textContent))",
    )
    for row, name in zip(rows, ("update", "random", "source-mean"), strict=True):
        for text, metric in zip(
            row[1:], ("ndcg_rank", "rank_of_best", "regret@1", "regret@3", "regret@5"), strict=True
        ):
            assert float(text.split()[0]) == pytest.approx(told[name]["metrics"][metric]["mean"], abs=0.051), metric
    page.click("text=Target by target")
    picked = {one["target"]: one["picked"] for one in told["update"]["targets"]}
    shown = page.eval_on_selector_all(
        "details tbody tr", "rows => rows.map(row => [row.children[0].textContent, row.children[2].textContent])"
    )
    assert dict(shown) == picked


def test_blocks_add_what_explain_says(open_page: Any, bundled_page: Path, invoke: Any) -> None:
    told = invoke("explain", "sst2", "imdb", "--json").json()["contributions"]
    page = open_page(bundled_page).go("#/compare/sst2/imdb")
    rows = page.eval_on_selector_all(
        ".blocks tbody tr", "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
    )
    shown = {
        f"{layer}.attention.self.{place}": float(text)
        for layer, query, value, _ in rows
        for place, text in (("query", query), ("value", value))
    }
    assert shown.keys() == told.keys()
    assert [shown[name] for name in told] == pytest.approx(list(told.values()), abs=TOLERANCE)


def test_a_large_space_has_the_nearest_alone(
    open_page: Any, toy_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invoke: Any
) -> None:
    monkeypatch.setattr(site_space, "MOST_PAIRED", 5)
    monkeypatch.setattr(site_space, "NEAREST", 3)
    monkeypatch.setattr(site_factors, "MOST_BYTES", 0)
    opened = open_page(page_of(tmp_path / "page", Zoo.open(toy_zoo)))
    page = opened.go("#/task/mnli")
    told = invoke("similar", "mnli", "-k", "3", "--json", "--registry", toy_zoo).json()
    shown = opened.ranked()
    assert [task for task, _, _ in shown] == [one["task"] for one in told["neighbors"]]
    assert [score for _, score, _ in shown] == pytest.approx([one["score"] for one in told["neighbors"]], abs=TOLERANCE)
    shares = [float(one.split()[1]) for one in page.locator(".neighbours .score small").all_inner_texts()]
    assert shares == pytest.approx([min(one["percentile"], 99.9) for one in told["neighbors"]], abs=0.51)
    assert "too many for a heatmap" in opened.go("#/heatmap").inner_text("main")
    monkeypatch.setattr(site_sketches, "MOST_SKETCHED", 0)
    opened = open_page(page_of(tmp_path / "bare", Zoo.open(toy_zoo)))
    opened.go("#/drop")
    assert "too large for this page" in opened.drop(*peft(tmp_path / "mine", base_model_name_or_path=BASE).iterdir())


def test_of_a_large_space_scores_are_estimated_from_sketches(
    open_page: Any, toy_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very sketches of compare/sketch.py: but for bits whose entry rounds to either side of zero."""
    monkeypatch.setattr(site_factors, "MOST_BYTES", 0)
    monkeypatch.setattr(site_sketches, "_A_SCRIPT", 2)
    zoo = Zoo.open(toy_zoo)
    opened = open_page(page_of(tmp_path / "page", zoo))
    opened.go("#/drop")
    for make, space in ((lora, "tiny-bert/lora"), (prompt, "tiny-bert/prompt")):
        mine, file = make("mine", 77), tmp_path / "mine.safetensors"
        file.write_bytes(mine.to_bytes("float32"))
        said = opened.drop(file)
        assert "by sketches" in said
        assert "These scores are estimates" in said
        held = zoo.load_space(space)
        told = dict(zip((one.task for one in held), Sketches.of([mine, *held]).cosines(0)[1:], strict=True))
        shown = {task: score for task, score, _ in opened.ranked()}
        assert shown.keys() == told.keys()
        assert [shown[task] for task in told] == pytest.approx(list(told.values()), abs=2e-3)


# --- what is dropped --------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Folders of adapters, pulled from the bundled zoo."""
    from tupate_hub.export import export

    def pulled(space: str, form: str) -> Path:
        folder = tmp_path_factory.mktemp(f"{space}-{form}") / "mine"
        folder.mkdir()
        embedding = Zoo.open(bundled_root()).embedding(
            "tweet_irony" if space == "lora" else "sst2", f"all-MiniLM-L6-v2/{space}"
        )
        for name, data in export(embedding, form, bare=form == "peft").items():
            (folder / name).write_bytes(data)
        return folder

    return pulled


FORMS = (("lora", "peft"), ("prefix", "peft"), ("ia3", "peft"), ("mam", "embedding"))


def test_an_adapter_is_ranked_as_by_similar(real: Any, open_page: Any, bundled_page: Path, invoke: Any) -> None:
    opened = open_page(bundled_page)
    opened.go("#/drop")
    for space, form in FORMS:
        folder = real(space, form)
        told = invoke("similar", folder, "-k", "1000", "--json").json()
        said = opened.drop(folder)
        same_ranking(opened.all_ranked(), told)
        assert (f"It is here as {told['itself']}" in said) == (told["itself"] is not None)
        if space == "lora":
            sentences = invoke("similar", folder, "--rank-by", "gain", "--json").json()["sentences"]
            assert opened.page.locator(".advice > p").all_inner_texts()[1:-1] == sentences


OPTIONS: tuple[dict[str, Any], ...] = (
    {"lora_alpha": 3, "use_rslora": True},
    {"alpha_pattern": {"layer.1.query": 64, "value": 5, "^layer.0.query": 1}},
    {"use_dora": True},
    {"modules_to_save": ["classifier"]},
)


def test_options_of_lora_count_as_for_similar(
    open_page: Any, toy_page: Path, toy_zoo: Path, tmp_path: Path, invoke: Any
) -> None:
    opened = open_page(toy_page)
    opened.go("#/drop")
    for at, config in enumerate(OPTIONS):
        folder = peft(tmp_path / str(at) / "mine", base_model_name_or_path=BASE, **config)
        told = invoke("similar", folder, "-k", "100", "--json", "--registry", toy_zoo).json()
        opened.drop(folder)
        same_ranking(opened.all_ranked(), told)


def test_other_ranks_targets_and_widths(open_page: Any, tmp_path: Path, invoke: Any) -> None:
    """Blocks that one side lacks, another rank, a task of another width: left out with the command line's reason."""
    zoo = zoo_of(tmp_path / "zoo", lora("one", 1), lora("two", 2, rank=5), lora("long", 3, layers=6), index=True)
    page = page_of(tmp_path / "page", zoo)
    folder = peft(tmp_path / "mine", base_model_name_or_path=BASE)
    told = invoke("similar", folder, "-k", "100", "--json", "--registry", zoo.root).json()
    opened = open_page(page)
    opened.go("#/drop")
    opened.drop(*folder.iterdir())
    same_ranking(opened.all_ranked(), told)
    assert any("few shared blocks" in notes for _, _, notes in opened.ranked())


def rewritten(folder: Path, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
    file = folder / WEIGHTS
    file.write_bytes(safetensors.numpy.save(change(safetensors.numpy.load(file.read_bytes()))))


def raw(header: bytes, room: int = 64) -> bytes:
    return len(header).to_bytes(8, "little") + header + bytes(room)


def entry(**changed: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64], **changed}}).encode()


#: What is wrong with a folder that `peft` made; the page and the command line say the same of each.
DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda folder: (folder / WEIGHTS).write_bytes(b""),
    "placeholder": lambda folder: (folder / WEIGHTS).write_bytes(b"fake weights"),
    "pointer": lambda folder: (folder / WEIGHTS).write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    ),
    "cut": lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-9]),
    "claims": lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 64),
    "no json": lambda folder: (folder / WEIGHTS).write_bytes(raw(b"{nonsense}")),
    "a list": lambda folder: (folder / WEIGHTS).write_bytes(raw(b"[1, 2]")),
    "deep": lambda folder: (folder / WEIGHTS).write_bytes(raw(b"[" * 5000 + b"]" * 5000)),
    "twice": lambda folder: (folder / WEIGHTS).write_bytes(raw(entry()[:-1] + b"," + entry()[1:])),
    "entry": lambda folder: (folder / WEIGHTS).write_bytes(raw(entry(data_offsets=[0]))),
    "outside": lambda folder: (folder / WEIGHTS).write_bytes(raw(entry(data_offsets=[0, 65]))),
    "shape": lambda folder: (folder / WEIGHTS).write_bytes(raw(entry(shape=[2**60, 2**60]))),
    "dtype": lambda folder: (folder / WEIGHTS).write_bytes(raw(entry(dtype="<script>"))),
    "long name": lambda folder: (folder / WEIGHTS).write_bytes(
        raw(json.dumps({"x" * 10_000: {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}).encode())
    ),
    "overlap": lambda folder: (folder / WEIGHTS).write_bytes(
        raw(entry()[:-1] + b"," + entry().replace(b'"a"', b'"b"')[1:])
    ),
    "nan": lambda folder: rewritten(folder, lambda found: {k: v * np.float32("nan") for k, v in found.items()}),
    "integers": lambda folder: rewritten(folder, lambda found: {k: v.astype(np.int8) for k, v in found.items()}),
    "zero": lambda folder: rewritten(folder, lambda found: {k: v * 0 for k, v in found.items()}),
    "half": lambda folder: rewritten(folder, lambda found: {k: v for k, v in found.items() if "lora_A" in k}),
    "misfit": lambda folder: rewritten(
        folder, lambda found: {k: v[1:] if "lora_A" in k else v for k, v in found.items()}
    ),
    "wide": lambda folder: rewritten(
        folder, lambda found: {k: np.tile(v, (1, 3)) if "lora_A" in k else v for k, v in found.items()}
    ),
    "two adapters": lambda folder: rewritten(
        folder, lambda found: {f"{k.removesuffix('.weight')}.{n}.weight": v for k, v in found.items() for n in "xy"}
    ),
    "nothing": lambda folder: rewritten(folder, lambda found: {"classifier.weight": next(iter(found.values()))}),
    "config pointer": lambda folder: (folder / CONFIG).write_text("version https://git-lfs.github.com/spec/v1\n"),
    "config text": lambda folder: (folder / CONFIG).write_text("not json"),
    "config list": lambda folder: (folder / CONFIG).write_text("[]"),
    "config unknown": lambda folder: (folder / CONFIG).write_text('{"hello": 1, "<b>": 2}'),
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "no config": lambda folder: (folder / CONFIG).unlink(),
}
#: Configurations that are refused, or name a base model of which the zoo has nothing.
CONFIGS: dict[str, dict[str, Any]] = {
    "oft": {"peft_type": "OFT"},
    "strange": {"peft_type": "<img src=x onerror=hacked=1>"},
    "number": {"peft_type": 7},
    "qalora": {"use_qalora": True},
    "pissa": {"init_lora_weights": "pissa_niter_4"},
    "alpha": {"lora_alpha": "much"},
    "pattern": {"alpha_pattern": [1]},
    "enabled": {"enable_lora": [1, 2]},
    "wrong base": {"base_model_name_or_path": "google-bert/bert-base-uncased"},
    "local base": {"base_model_name_or_path": "/content/gemma3-270m-it"},
    "no base": {"base_model_name_or_path": None},
}


def test_bad_files_get_the_sentences_of_the_command_line(
    open_page: Any, toy_page: Path, toy_zoo: Path, tmp_path: Path, invoke: Any
) -> None:
    opened = open_page(toy_page)
    opened.go("#/drop")
    for name in (*DAMAGES, *CONFIGS):
        folder = peft(tmp_path / name / "mine", **{"base_model_name_or_path": BASE, **CONFIGS.get(name, {})})
        (folder / "README.md").unlink()
        DAMAGES.get(name, lambda folder: None)(folder)
        told = invoke("similar", folder, "--registry", toy_zoo)
        assert told.code == 2, name
        shown = opened.drop(folder)
        sentence = told.err.splitlines()[0].removeprefix("Error: ").replace(f"{folder.parent}/", "")
        assert shown.splitlines()[0] == sentence, name


def test_mutated_files_get_the_same_verdict(open_page: Any, toy_page: Path, toy_zoo: Path, tmp_path: Path) -> None:
    """Bytes changed at random in header, numbers and configuration: the same ranking, or the same sentence."""
    rng, zoo, opened = np.random.default_rng(0), Zoo.open(toy_zoo), open_page(toy_page)
    opened.go("#/drop")
    whole = peft(tmp_path / "whole", base_model_name_or_path=BASE)
    for at in range(12):
        folder = Path(shutil.copytree(whole, tmp_path / str(at) / "mine"))
        file = folder / (CONFIG if at % 3 == 0 else WEIGHTS)
        data = bytearray(file.read_bytes())
        header = int.from_bytes(data[:8], "little") if at % 3 == 1 else len(data) - 8
        for place in rng.integers(0 if at % 3 == 0 else 8, 8 + header, size=rng.integers(1, 4)):
            data[place] = rng.choice([*b'0123456789{}[]",:FBI', rng.integers(256)])
        file.write_bytes(data)
        try:
            told = zoo.similar(folder)
        except TupateHubError as error:
            assert opened.drop(folder).splitlines()[0] == error.message.replace(f"{folder.parent}/", "")
            continue
        opened.drop(folder)
        shown = [score for _, score, _ in opened.ranked()]
        assert shown == pytest.approx([one.score for one in told], abs=TOLERANCE)


def test_the_visitor_says_the_base_model(
    open_page: Any, toy_page: Path, toy_zoo: Path, tmp_path: Path, invoke: Any
) -> None:
    folder = peft(tmp_path / "mine", base_model_name_or_path="/content/model")
    opened = open_page(toy_page)
    opened.go("#/drop")
    assert "names a local base model, '/content/model'" in opened.drop(*folder.iterdir())
    opened.page.click(f".refusal button:has-text('{BASE}')")
    opened.page.wait_for_selector(".result h2")
    told = invoke("similar", folder, "-k", "100", "--json", "--base", BASE, "--registry", toy_zoo).json()
    same_ranking(opened.all_ranked(), told)


def test_pickles_and_other_libraries_are_left_to_the_command_line(
    open_page: Any, toy_page: Path, tmp_path: Path
) -> None:
    folder = peft(tmp_path / "mine", base_model_name_or_path=BASE)
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    opened = open_page(toy_page)
    opened.go("#/drop")
    assert "is a torch file, which the command line reads" in opened.drop(*folder.iterdir())
    (folder / CONFIG).write_text('{"config": {}, "model_name": "x"}')
    assert "AdapterHub's" in opened.drop(*folder.iterdir())
    (folder / CONFIG).unlink()
    assert "holds no adapter" in opened.drop(folder / "README.md")


def test_files_are_dropped_by_hand(open_page: Any, toy_page: Path, tmp_path: Path) -> None:
    """A real drop event on any view, with the files' bytes."""
    folder = peft(tmp_path / "mine", base_model_name_or_path=BASE)
    opened = open_page(toy_page)
    page = opened.go("#/list")
    given = {name: list((folder / name).read_bytes()) for name in (WEIGHTS, CONFIG)}
    page.evaluate(
        """given => {
          const transfer = new DataTransfer();
          for (const [name, bytes] of Object.entries(given)) transfer.items.add(new File([new Uint8Array(bytes)], name));
          document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""",
        given,
    )
    page.wait_for_selector(".result h2")
    assert page.evaluate("location.hash") == "#/drop"
    assert len(opened.ranked()) == 6


def test_real_adapters_are_ranked_and_refused_as_by_similar(
    open_page: Any, shared: Path, tmp_path: Path, invoke: Any
) -> None:
    """LoRAs that strangers trained on DistilBERT, against each other."""
    root = tmp_path / "zoo"
    invoke("add", "--all", shared / "adapters", "--registry", root)
    zoo = Zoo.open(root)
    opened = open_page(page_of(tmp_path / "page", zoo))
    opened.go("#/drop")
    compared = 0
    for config in sorted((shared / "adapters").glob("*/adapter_config.json")):
        folder = config.parent
        if not re.search("distilbert", config.read_text(errors="replace")) or not (folder / WEIGHTS).exists():
            continue
        try:
            told = zoo.similar(folder)
        except TupateHubError as error:
            assert opened.drop(folder).splitlines()[0] == error.message.replace(f"{folder.parent}/", "")
            continue
        compared += 1
        opened.drop(folder)
        shown = {task: (score, notes) for task, score, notes in opened.all_ranked()}
        assert shown.keys() == {one.task for one in told}, folder.name
        for one in told:
            assert shown[one.task][0] == pytest.approx(one.score, abs=TOLERANCE), folder.name
            assert shown[one.task][1] == list(one.notes), folder.name
        if compared == 4:
            break
    assert compared == 4


# --- strangers and networks -------------------------------------------------------------------------------------

HOSTILE = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "\u202egnp.exe \u2066right to left",
    "x" * 10_000,
    "'; DROP TABLE tasks; --",
    "\x1b[31m\x07</script><!--",
]


def test_strangers_words_stay_words(open_page: Any, tmp_path: Path) -> None:
    tasks = {
        f"t{at}": Task(f"t{at}", text, (f"alias {at} {text[:30]}",), text[:30], text, 5, text, text, text)
        for at, text in enumerate(HOSTILE)
    }
    zoo = zoo_of(tmp_path / "zoo", *(lora(name, at) for at, name in enumerate(tasks)), index=True, **tasks)
    opened = open_page(page_of(tmp_path / "page", zoo, About(HOSTILE[0] + HOSTILE[2], HOSTILE[4])), width=700)
    for view in (
        "#/",
        *(f"#/task/{name}" for name in tasks),
        "#/list",
        "#/map",
        "#/heatmap",
        "#/compare/t0/t1",
        "#/trust",
    ):
        page = opened.go(view)
        assert page.evaluate("window.hacked") is None
        assert (
            page.evaluate("document.querySelectorAll('main script, main img, header script, header img').length") == 0
        )
        assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth"), view
    opened.go("#/task/t0")
    assert opened.page.inner_text(".lead") == HOSTILE[0]
    opened.page.fill("#search", "<script>")
    assert opened.page.inner_text("#search-found .title") == HOSTILE[0]
    opened.go("#/task/%3Cimg%20src%3Dx%20onerror%3Dhacked%3D1%3E")
    assert "<img src=x onerror=hacked=1>" in opened.page.inner_text("main")
    assert opened.page.evaluate("window.hacked") is None


def test_hostile_folders_and_keys(open_page: Any, toy_page: Path, tmp_path: Path) -> None:
    folder = peft(tmp_path / "mine", base_model_name_or_path=BASE)
    rewritten(
        folder, lambda found: {**found, "<img src=x onerror=hacked=1>.lora_A.weight": np.ones((2, 6), np.float32)}
    )
    opened = open_page(toy_page)
    opened.go("#/drop")
    assert "'<img src=x onerror=hacked=1>'" in opened.drop(*folder.iterdir())
    assert opened.page.evaluate("window.hacked") is None


def test_served_by_http_it_asks_its_own_host_alone(open_page: Any, served: Any, toy_page: Path, tmp_path: Path) -> None:
    """`open_page` sees to it that nothing else was asked; the page's own policy would not let it either."""
    folder = peft(tmp_path / "mine", base_model_name_or_path=BASE)
    opened = open_page(served(toy_page))
    opened.go("#/drop")
    before = len(opened.requests)
    opened.drop(*folder.iterdir())
    asked = [url.rpartition("/")[2] for url in opened.requests[before:] if not url.startswith("blob:")]
    assert sorted(asked) == sorted({*asked}) and all(name.endswith(".js") for name in asked)
    refused = opened.page.evaluate("fetch('data.js').then(() => 'let', () => 'refused')")
    opened.errors[:] = [one for one in opened.errors if "Content Security Policy" not in one]
    assert refused == "refused"


def test_an_adapter_of_the_hub_is_fetched_where_the_page_lies_there(
    browser: Any, served: Any, toy_zoo: Path, tmp_path: Path
) -> None:
    """The Hub's answers are the adapter's own bytes; its address is answered by the test, which has no network."""
    folder = peft(tmp_path / "mine", base_model_name_or_path=BASE)
    page_of(tmp_path / "page", Zoo.open(toy_zoo), hub=True)
    context = browser.new_context()
    asked = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        file = folder / route.request.url.rpartition("/")[2]
        known = "/someone/adapter/" in route.request.url
        headers = {"Access-Control-Allow-Origin": "*"}
        route.fulfill(status=200 if known else 404, body=file.read_bytes() if known else b"", headers=headers)

    context.route("https://huggingface.co/**", answer)
    page = context.new_page()
    page.goto(served(tmp_path / "page") + "#/drop")
    page.fill(".hub input", "someone/adapter")
    page.press(".hub input", "Enter")
    page.wait_for_selector(".result h2")
    assert page.inner_text(".result h2") == "Neighbours of adapter"
    assert [url.rpartition("/")[2] for url in asked] == [CONFIG, WEIGHTS]
    for written, said in (
        ("someone/else", "The Hub has no adapter_config.json in someone/else"),
        ("nonsense", "names no repository"),
    ):
        page.fill(".hub input", written)
        page.press(".hub input", "Enter")
        page.wait_for_selector(f".refusal:has-text('{said}')")
    context.close()


def test_a_page_that_lost_its_embeddings_says_so(browser: Any, toy_page: Path, tmp_path: Path) -> None:
    shutil.rmtree(toy_page / "factors")
    page = browser.new_page()
    page.goto((toy_page / "index.html").as_uri() + "#/drop")
    folder = peft(tmp_path / "mine", base_model_name_or_path=BASE)
    page.set_input_files("#adapter-files", [str(folder / name) for name in (WEIGHTS, CONFIG)])
    page.wait_for_selector(".refusal")
    assert "factors/0-0.js of this page is missing." in page.inner_text(".refusal")
    page.close()


def test_bottlenecks_of_a_registry_of_ones_own(open_page: Any, tmp_path: Path, invoke: Any) -> None:
    zoo = zoo_of(
        tmp_path / "zoo", bottleneck("one", 1), bottleneck("two", 2), bottleneck("three", 3, hidden=4), index=True
    )
    file = tmp_path / "four.safetensors"
    file.write_bytes(bottleneck("four", 4).to_bytes("float32"))
    told = invoke("similar", file, "--json", "--registry", zoo.root).json()
    opened = open_page(page_of(tmp_path / "page", zoo))
    opened.go("#/drop")
    opened.drop(file)
    same_ranking(opened.ranked(), told)
