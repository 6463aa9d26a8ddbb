"""Transfers: the runs whose rows zoo/truth is to hold, part by part, and how many of them it holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tupate_hub import Zoo
from tupate_hub.evaluation.transfer_rows import SCRATCH, TransferRun, runs_of
from tupate_hub.training.protocol import PROTOCOLS

ROOT = Path(__file__).resolve().parents[2]
TRUTH = ROOT / "zoo" / "truth"
BASE = "sentence-transformers/all-MiniLM-L6-v2"
#: Twenty targets of all kinds; the cheap ones first, so that whole rows are there early.
FEW_SHOT_TARGETS = tuple(
    "trec customer_reviews snli cola mit_restaurant_ner stsb tweet_irony copa sick_entailment squad "
    "subj emotion wic mrpc commonsense_qa scitail conll2003_ner rte tweet_stance boolq".split()
)
#: The paper's classification and regression, and every task whose answers are marked in a text.
CLASSES = tuple("cola sst2 mrpc stsb rte scitail snli wnli qnli qqp mnli".split())
QUESTIONS = tuple(
    "squad squad_v2 drop hotpotqa quoref ropes squadshifts_amazon squadshifts_new_wiki squadshifts_reddit".split()
)


@dataclass(frozen=True)
class Part:
    """Runs of one protocol between sources and targets; `sources` is None for every task of the zoo.

    The rows are in `folder`. Where `source_examples` is set, the sources are tuned on so many examples themselves, and
    that folder is their registry.
    """

    protocol: str
    sources: tuple[str, ...] | None
    targets: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    folder: Path = TRUTH
    source_examples: int | None = None


PARTS: Mapping[str, Part] = {
    "few-shot": Part("few-shot", None, FEW_SHOT_TARGETS),
    "converged": Part("few-shot-converged", (), FEW_SHOT_TARGETS, (0, 1, 2, 3, 4)),
    "limited": Part("limited", CLASSES, CLASSES, (0, 1, 2)),
    "limited-questions": Part("limited", QUESTIONS, QUESTIONS, (0, 1)),
    "full": Part("full", CLASSES, CLASSES),
    "limited-sources": Part("limited", CLASSES, CLASSES, (0, 1, 2), TRUTH / "limited-sources", 1000),
}


def space_of(method: str) -> str:
    """The space of a method on the base model."""
    return f"{BASE.rpartition('/')[2]}/{method}"


SPACE = space_of("lora")


def sources_in(zoo: Path, space: str) -> list[str]:
    """The tasks that a registry has in a space."""
    return [entry.task for entry in Zoo.open(zoo).registry.in_space(space)]


def plan(
    sources: Mapping[str, Sequence[str]], targets: Sequence[str], seeds: Sequence[int]
) -> tuple[list[TransferRun], list[TransferRun]]:
    """The runs from nothing, which have to be there first, then those from each target's sources, target by target."""
    pairs = [(target, seed) for target in targets for seed in seeds]
    scratch = [TransferRun(SCRATCH, *pair) for pair in pairs]
    return scratch, [TransferRun(source, *pair) for pair in pairs for source in sources[pair[0]] if source != pair[0]]


def table(folder: Path, protocol: str, steps: int, source: str = SCRATCH) -> Path:
    """Where the rows of a source are: those of blends, which are no tasks of the zoo, have a table of their own."""
    return folder / f"{'blends-' if '+' in source else ''}{protocol}-{steps}.csv"


def finished(folder: Path, protocol: str, steps: Collection[int]) -> set[TransferRun]:
    """The runs whose every score is in the tables."""
    return set.intersection(
        *({run for blend in ("", "+") for run in runs_of(table(folder, protocol, made, blend))} for made in steps)
    )


def held(name: str, zoo: Path = ROOT) -> tuple[int, int]:
    """How many runs of a part are made, of how many."""
    part = PARTS[name]
    sources = sources_in(zoo, SPACE) if part.sources is None else part.sources
    wanted = {run for runs in plan(dict.fromkeys(part.targets, sources), part.targets, part.seeds) for run in runs}
    return len(wanted & finished(part.folder, part.protocol, PROTOCOLS[part.protocol].score_at)), len(wanted)
