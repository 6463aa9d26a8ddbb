"""Task names: each spelling of a task that everybody tunes on leads to one name, and no spelling to two."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tupate_hub import tasknames
from tupate_hub.registry import fold
from tupate_hub.tasknames import aliases, canonical, of_dataset, of_repository, of_tag, single

#: The tasks of "What to pre-train on?" (arXiv 2104.08247), as AdapterHub calls them after `-pf-`.
PF = """
anli_r3 art boolq cb cola commonsense_qa comqa conll2000 conll2003 conll2003_pos copa cosmos_qa cq drop duorc_p duorc_s
emo emotion fce_error_detection hellaswag hotpotqa imdb mit_movie_trivia mnli mrpc multirc newsqa pmb_sem_tagging qnli
qqp quail quartz quoref race record rotten_tomatoes rte scicite scitail sick snli social_i_qa squad squad_v2 sst2 stsb
swag trec ud_deprel ud_parsing ud_pos wic wikihop winogrande wnli wnut_17 yelp_polarity
""".split()
#: The tasks that TuPaTE published embeddings of.
TUPATE = """
boolq cola com_qa drop duorc_p duorc_s hotpot_qa mnli mrpc newsqa qnli qqp rte scitail snli squad squad_v2 sst2 stsb wnli
""".split()
OURS = json.loads((Path(__file__).parents[1] / "scripts" / "zoo" / "task_names.json").read_text(encoding="utf-8"))
EVERY = sorted({name for task in tasknames._ALIASES for name in (task, *aliases(task))})


def test_every_pf_task_has_a_name_of_its_own() -> None:
    assert len(PF) == 57
    assert len({canonical(name) for name in PF}) == 57
    assert {canonical(name) for name in PF} <= set(tasknames._ALIASES)


def test_tupates_tasks_are_those_of_the_table() -> None:
    assert {canonical(name) for name in TUPATE} <= set(tasknames._ALIASES)
    assert (canonical("com_qa"), canonical("hotpot_qa")) == ("comqa", "hotpotqa")


def test_the_zoos_names_are_the_ones() -> None:
    for name, facts in OURS.items():
        for written in (name, *facts["aliases"], *filter(None, [facts["dataset"]])):
            assert canonical(written) == name, written


def test_no_spelling_has_two_tasks() -> None:
    spelled = Counter(
        key for task in tasknames._ALIASES for key in {tasknames._fold(n) for n in (task, *aliases(task))}
    )
    assert [key for key, count in spelled.items() if count > 1] == []


def test_no_spelling_clashes_in_a_registry() -> None:
    owners: dict[str, str] = {}
    for task in tasknames._ALIASES:
        for name in (task, *aliases(task)):
            assert owners.setdefault(fold(name), task) == task


@pytest.mark.parametrize(
    ("written", "task"),
    [
        ("SST-2", "sst2"),
        ("glue/sst2", "sst2"),
        ("glue_sst2", "sst2"),
        ("super_glue_record", "record"),
        ("superglue-boolq", "boolq"),
        ("Multi NLI", "mnli"),
        ("rotten_tomatoes", "movie_reviews"),
        ("social_i_qa", "socialiqa"),
        ("wnut_17", "wnut17_ner"),
        ("squad2", "squad_v2"),
        ("squad", "squad"),
        ("my-reviews", "my-reviews"),
        ("", ""),
    ],
)
def test_spellings(written: str, task: str) -> None:
    assert canonical(written) == task


@given(st.sampled_from(EVERY), st.sampled_from(["-", "_", " ", "/", ":"]), st.booleans())
def test_case_and_separators_do_not_matter(name: str, separator: str, upper: bool) -> None:
    changed = name.replace("_", separator).replace("-", separator)
    assert canonical(changed.upper() if upper else changed) == canonical(name)


@given(st.text(max_size=40))
def test_any_text_is_a_name_of_itself_or_of_the_table(text: str) -> None:
    found = canonical(text)
    assert found == text or found in tasknames._ALIASES
    assert canonical(found) == found


@pytest.mark.parametrize(
    ("tag", "task"),
    [
        ("sentiment/sst-2", "sst2"),
        ("sentiment/imdb", "imdb"),
        ("sentiment/rotten_tomatoes", "movie_reviews"),
        ("nli/multinli", "mnli"),
        ("sts/sts-b", "stsb"),
        ("qa/squad1", "squad"),
        ("qa/squad2", "squad_v2"),
        ("comsense/csqa", "commonsense_qa"),
        ("comsense/siqa", "socialiqa"),
        ("comsense/cosmosqa", "cosmos_qa"),
        ("ner/conll2003", "conll2003_ner"),
        ("pos/conll2003", "conll2003_pos"),
        ("chunk/conll2000", "conll2000"),
        ("pos/ud_ewt", "ud_pos"),
        ("deprel/ud_ewt", "ud_deprel"),
        ("dp/ud_ewt", "ud_parsing"),
        ("semtag/pmb", "pmb_sem_tagging"),
        ("ged/fce", "fce_error_detection"),
        ("ner/mit_movie_trivia", "mit_movie_ner"),
        ("rc/record", "record"),
        ("other", "other"),
        ("ner/mine", "mine"),
    ],
)
def test_adapterhubs_tags(tag: str, task: str) -> None:
    assert of_tag(tag) == task


@pytest.mark.parametrize(
    ("dataset", "task"),
    [
        ("stanfordnlp/imdb", "imdb"),
        ("allenai/social_i_qa", "socialiqa"),
        ("someone/imdb", "imdb"),
        ("someone/theirs", "theirs"),
        ("glue", None),
        ("nyu-mll/glue", None),
        ("universal_dependencies", None),
    ],
)
def test_datasets(dataset: str, task: str | None) -> None:
    assert of_dataset(dataset) == task


def test_one_dataset_of_one_task_is_what_a_task_stands_on() -> None:
    assert [single(one) for one in ("acme/imdb", "imdb, squad", "glue", "")] == ["acme/imdb", "", "", ""]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("bert-base-uncased-pf-squad", "squad"),
        ("roberta-base-pf-rotten_tomatoes", "movie_reviews"),
        ("roberta-base-pf-mine", "mine"),
        ("distilbert-base-uncased-lora-sst2", "sst2"),
        ("roberta-large_lora_sst-2_r8", "sst2"),
        ("peft-squad-v2", "squad_v2"),
        ("xlm-roberta-base-finetuned-ag_news", "ag_news"),
        ("imdb", "imdb"),
        ("my-lora", "my-lora"),
        ("bert-base-uncased-lora", "bert-base-uncased-lora"),
        ("art-critic-lora", "art-critic-lora"),
    ],
)
def test_names_of_repositories(name: str, task: str) -> None:
    assert of_repository(name) == task


@pytest.mark.parametrize("name", PF)
def test_every_published_name_gives_its_task(name: str) -> None:
    assert of_repository(f"bert-base-uncased-pf-{name}") == of_repository(f"roberta-base-pf-{name}") == canonical(name)
