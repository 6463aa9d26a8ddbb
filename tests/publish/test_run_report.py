"""Run report: one page that asks nothing of anyone, with what a run's user wants to know, whatever the data holds."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from tupate_hub.data.dataset import Loaded, TaskData
from tupate_hub.evaluation.performance import performance
from tupate_hub.publish.curves import curves
from tupate_hub.publish.run_report import RunStory, run_report
from tupate_hub.runrecord import DataRecord, Regime, RunRecord

NAMES = ("ham", "<script>alert(1)</script>")
GOLD, SAID = [0] * 6 + [1] * 4, [0] * 6 + [1, 0, 0, 0]
RECORD = RunRecord(
    task="sms", kind="classification", method="lora", settings={"r": 8, "init_seed": 0}, architecture={},
    base_sha256="0" * 64, regime=Regime(), steps=40, best_step=20, held_out_score=0.8, final_loss=0.3, examples_seen=640,
    train_examples=3, validation_examples=10, seconds=4.2, threads=1, scores={"primary": 0.7}, metric="accuracy",
    baseline=0.6, baseline_rule="always ham", data=DataRecord("sms", "CR", 3, "", "", "0"), software={},
)  # fmt: skip
DATA = TaskData(
    "sms", "classification", "accuracy", NAMES, [{"label": 0}, {"label": 0}, {"label": 1}], [{}], [{}] * 10,
    {"source": "sms & more.csv"}, "0",
)  # fmt: skip
LOADED = Loaded(DATA, {"text": "body", "label": "kind"}, ("sms.csv, line 3: the same text",), ("kind", "text"))
STORY = RunStory(
    RECORD,
    performance("classification", "accuracy", NAMES, GOLD, SAID),
    losses=[1 / (n + 1) for n in range(40)],
    looks=[(20, 0.8), (40, 0.7)],
    seeds=[(0, 0.7), (1, 0.65)],
    notes=("of 20% of the texts only the first 128 tokens are read",),
    advice=("--class-weights balanced",),
    commands=("tupate-hub similar 'a b'",),
    code="print('<b>')",
)


class Tags(HTMLParser):
    """Every tag with its attributes; end tags must close what is open."""

    def __init__(self):
        super().__init__()
        self.found, self.open = [], []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            assert tag in ("circle", "line", "polyline")


@pytest.fixture
def page():
    return run_report(STORY, LOADED)


def test_it_asks_nothing_of_anyone(page):
    tags = Tags()
    tags.feed(page)
    assert not {"script", "link", "img", "iframe"} & {tag for tag, _ in tags.found}
    assert not any(name in attributes for _, attributes in tags.found for name in ("src", "href", "onclick"))
    assert "default-src 'none'" in page and "http:" not in page and "https:" not in page
    assert "prefers-color-scheme: dark" in page
    assert set(tags.open) <= {"html"}


def test_it_tells_the_story(page):
    for said in (
        "<h1>sms</h1>", "0.700 accuracy", "On 10 examples", "always ham",
        "of 2 runs, which scored 0.700, 0.650", "sms &amp; more.csv", "classification (guessed)",
        "text = body (guessed), label = kind", "ham 2, &lt;script&gt;", "only the first 128 tokens", "line 3",
        "tupate-hub similar &#x27;a b&#x27;", "print(&#x27;&lt;b&gt;&#x27;)", "--class-weights balanced",
    ):  # fmt: skip
        assert said in page, said
    assert "<script>" not in page


def test_the_classes_and_what_they_were_taken_for(page):
    assert re.search(r"ham</td><td class=number>6</td><td class=number>0.667</td><td class=number>1.000", page)
    cells = re.findall(r'<td class="number" style="[^"]*">(\d+)</td>', page)
    assert cells == ["6", "0", "3", "1"]


def test_without_classes_it_shows_the_figures():
    measured = performance("regression", "pearson_and_spearman", (), [1.0, 2.0, 3.0, 4.0], [1.0, 2.5, 2.5, 4.0])
    record = dataclasses.replace(RECORD, kind="regression", metric="pearson_and_spearman")
    data = dataclasses.replace(DATA, kind="regression", label_names=())
    page = run_report(
        dataclasses.replace(STORY, record=record, measured=measured), dataclasses.replace(LOADED, data=data)
    )
    assert "mean_absolute_error" in page and "Right in rows" not in page


def test_curves_stay_inside_their_picture():
    drawn = curves([float(n % 7) for n in range(1000)], [(500, 0.5), (1000, 0.9)], "accuracy", 0.6)
    assert drawn.count("<svg") == 2 and drawn.count("<circle") == 2
    points = [
        tuple(map(float, point.split(","))) for line in re.findall(r'points="([^"]+)"', drawn) for point in line.split()
    ]
    assert all(0 <= x <= 420 and 0 <= y <= 180 for x, y in points)
    assert len(points) <= 122
    assert curves([], [], "accuracy", 0.5) == ""
    assert "NaN" not in curves([1.0], [(1, 0.5)], "accuracy", 0.5)
