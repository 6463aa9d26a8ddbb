"""Predictors of transfer by name: what each of them looks at, the paper that it is from, and what it costs.

A predictor gives scores of shape (targets, sources), higher for a better source, NaN where it knows nothing of the
pair. Those that need a model and the tasks' data are measured by scripts/evaluation/measure_predictors.py and read here
from `zoo/truth/predictions/<name>.csv`, columns source, target, score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from tupate_hub.arrays import Float64Array
from tupate_hub.compare.kernel import kernel, pack
from tupate_hub.compare.lowrank import Factors, inner
from tupate_hub.compare.ranking import reciprocal_rank_fusion
from tupate_hub.compare.similarity import available
from tupate_hub.compare.view import View
from tupate_hub.embedding import Block, TaskEmbedding
from tupate_hub.errors import SpaceMismatch, UnknownName
from tupate_hub.evaluation.baselines import random_order, source_mean
from tupate_hub.evaluation.gain import gain_without_target
from tupate_hub.evaluation.strength import Traits, strength_without_target
from tupate_hub.evaluation.truth import Truth, read_truth
from tupate_hub.search.similar import pair_scores
from tupate_hub.zoo import Zoo

PREDICTIONS = "zoo/truth/predictions"


@dataclass(frozen=True)
class Evidence:
    """What predictors may look at: the truth (of other targets alone), a zoo and the space that is judged.

    `folder` holds the predictions that were measured with the tasks' data, where there are any.
    """

    truth: Truth
    zoo: Zoo
    space: str
    folder: Path | None = None

    def placed(self, tasks: Sequence[str], scores: Float64Array) -> Float64Array:
        """Scores between some tasks, of shape (tasks, tasks), in the truth's order; NaN for tasks that are missing."""
        place = {task: index for index, task in enumerate(tasks)}
        found = np.full(self.truth.scores.shape, np.nan)
        rows, columns = (
            [(at, place[name]) for at, name in enumerate(names) if name in place]
            for names in (self.truth.targets, self.truth.sources)
        )
        if rows and columns:
            here = np.ix_([at for at, _ in rows], [at for at, _ in columns])
            found[here] = scores[np.ix_([at for _, at in rows], [at for _, at in columns])]
        return found

    def affinity(self, method: str, view: View) -> Float64Array:
        """The similarity of targets and sources in the space of another method on the same base model.

        NaN where there is no such space, or where its embeddings do not compare (coordinates of different ranks).
        """
        base = self.zoo.registry.space(self.space).base
        for space in self.zoo.registry.spaces.values():
            if (space.base, space.method) == (base, method):
                tasks = [entry.task for entry in self.zoo.registry.in_space(space.name)]
                with suppress(SpaceMismatch):
                    return self.placed(tasks, pair_scores(self.zoo, space.name, view))
        return np.full(self.truth.scores.shape, np.nan)

    @property
    def method(self) -> str:
        """The method of the space that is judged."""
        return self.zoo.registry.space(self.space).method

    @cached_property
    def gain(self) -> Float64Array:
        """The expected effects by similarity and strength, fitted on the other targets; kept, since it is slow."""
        affinity = self.affinity(self.method, View())
        known = np.isfinite(affinity)
        truth = replace(self.truth, scores=np.where(known, self.truth.scores, np.nan))
        expected = gain_without_target(truth, np.where(known, affinity, 0.0), traits_of(self.zoo))
        return np.where(known, expected, np.nan)


def traits_of(zoo: Zoo) -> dict[str, Traits]:
    """Kind and data size of a zoo's tasks, which strengths start from."""
    return {name: Traits(task.kind, task.train_size) for name, task in zoo.registry.tasks.items()}


@dataclass(frozen=True)
class NamedPredictor:
    """A predictor: `needs` says what it looks at, `paper` where it is from."""

    name: str
    needs: str
    paper: str
    compute: Callable[[Evidence], Float64Array]


def _weights(method: str | None, similarity: str) -> Callable[[Evidence], Float64Array]:
    def compute(evidence: Evidence) -> Float64Array:
        return evidence.affinity(method or evidence.method, View(similarity))

    return compute


def _effect(evidence: Evidence) -> Float64Array:
    space = evidence.zoo.registry.space(evidence.space)
    if "effect" not in available(bool(space.moments)):
        return np.full(evidence.truth.scores.shape, np.nan)
    return evidence.affinity(space.method, View("effect"))


def _data_size(evidence: Evidence) -> Float64Array:
    sizes = [evidence.zoo.registry.tasks[name].train_size if name in evidence.zoo.registry.tasks else None
             for name in evidence.truth.sources]  # fmt: skip
    row = np.array([np.nan if size is None else float(size) for size in sizes])
    return np.tile(row, (len(evidence.truth.targets), 1))


def _gain(evidence: Evidence) -> Float64Array:
    return evidence.gain


def _ensemble(evidence: Evidence) -> Float64Array:
    """Reciprocal rank fusion of the paper's embeddings by every method, over the sources that all of them know."""
    methods = [space.method for space in evidence.zoo.registry.spaces.values()]
    found = [evidence.affinity(method, View("tupate")) for method in ("prompt", "prefix", "bitfit", "lora")
             if method in methods]  # fmt: skip
    rows = np.full(evidence.truth.scores.shape, np.nan)
    if not found:
        return rows
    known = np.asarray(np.isfinite(np.stack(found)).all(axis=0))
    for row in range(len(rows)):
        columns = np.flatnonzero(known[row])
        if len(columns):
            names = [evidence.truth.sources[column] for column in columns]
            rows[row, columns] = reciprocal_rank_fusion(np.stack([one[row, columns] for one in found]), names)
    return rows


def _averaged(evidence: Evidence) -> Float64Array:
    """Several runs of a task as one entry: the mean of their updates, each scaled to length 1."""
    entries = evidence.zoo.registry.in_space(evidence.space)
    runs = [(entry.task, evidence.zoo.load(run)) for entry in entries for run in entry.runs()]
    packed = pack([run for _, run in runs], "update")
    scores = kernel(packed, packed).scores()
    tasks = [entry.task for entry in entries]
    member = np.array([[task == owner for owner, _ in runs] for task in tasks], dtype=np.float64)
    member /= member.sum(axis=1, keepdims=True)
    total = member @ scores @ member.T
    norms = np.sqrt(np.diag(total))
    return evidence.placed(tasks, total / norms[:, None] / norms[None, :])


def output_factors(block: Block) -> Factors:
    """The factors of W Wᵀ for the update W = s B A: where it writes, whatever it reads and with whatever sign.

    With A Aᵀ = L Lᵀ it is M Mᵀ, M = s B L of shape (out, r).
    """
    a, b = block.parts["A"].astype(np.float64), block.parts["B"].astype(np.float64)
    values, vectors = np.linalg.eigh(a @ a.T)
    rows = (block.scale * b @ (vectors * np.sqrt(np.maximum(values, 0)))).T.astype(np.float32)
    return Factors(rows, rows)


def output_scores(embeddings: Sequence[TaskEmbedding]) -> Float64Array:
    """Cosines of W Wᵀ over all blocks, of shape (embeddings, embeddings); LoRA blocks alone count."""
    factors = [
        {block.name: output_factors(block) for block in one.blocks if block.form == "lowrank"} for one in embeddings
    ]
    count = len(embeddings)
    total = np.zeros((count, count))
    for row in range(count):
        for column in range(row, count):
            shared = factors[row].keys() & factors[column].keys()
            products = (inner(factors[row][name], factors[column][name]) for name in sorted(shared))
            total[row, column] = total[column, row] = sum(products)
    norms = np.sqrt(np.maximum(np.diag(total), 0.0))
    scale = np.outer(norms, norms)
    return np.asarray(np.divide(total, scale, out=np.full_like(total, np.nan), where=scale > 0))


def _outputs(evidence: Evidence) -> Float64Array:
    entries = evidence.zoo.registry.in_space(evidence.space)
    if evidence.method != "lora":
        return np.full(evidence.truth.scores.shape, np.nan)
    return evidence.placed([entry.task for entry in entries], output_scores(evidence.zoo.load_space(evidence.space)))


def _measured(name: str) -> Callable[[Evidence], Float64Array]:
    def compute(evidence: Evidence) -> Float64Array:
        path = None if evidence.folder is None else evidence.folder / f"{name}.csv"
        if path is None or not path.is_file():
            return np.full(evidence.truth.scores.shape, np.nan)
        table = _table(path)
        cells = {
            (target, source): table.scores[row, column]
            for row, target in enumerate(table.targets)
            for column, source in enumerate(table.sources)
        }
        return np.array(
            [
                [cells.get((target, source), np.nan) for source in evidence.truth.sources]
                for target in evidence.truth.targets
            ]
        )

    return compute


@cache
def _table(path: Path) -> Truth:
    return read_truth(path)


_VU, _POTH = "Vu et al., EMNLP 2020", "Poth et al., EMNLP 2021"
_TUPATE, _HERE = "Zhou et al., EMNLP 2022", "this project"
NOTHING, TRANSFER, WEIGHTS, DATA = "nothing", "transfer to other targets", "tuned parameters", "the target's data"

PREDICTORS: Mapping[str, NamedPredictor] = {
    one.name: one
    for one in (
        NamedPredictor("random", NOTHING, "", lambda evidence: random_order(evidence.truth)),
        NamedPredictor("data-size", "data sizes", _VU, _data_size),
        NamedPredictor("source-mean", TRANSFER, "Choshen et al., 2022", lambda one: source_mean(one.truth)),
        NamedPredictor(
            "strength", TRANSFER, _HERE, lambda one: strength_without_target(one.truth, traits_of(one.zoo))
        ),
        NamedPredictor("update", WEIGHTS, _HERE, _weights(None, "update")),
        NamedPredictor("effect", WEIGHTS, _HERE, _effect),
        NamedPredictor("outputs", WEIGHTS, _HERE, _outputs),
        NamedPredictor("update-averaged", f"{WEIGHTS} of several runs", _HERE, _averaged),
        NamedPredictor("tupate-lora", WEIGHTS, _TUPATE, _weights("lora", "tupate")),
        NamedPredictor("tupate-prefix", WEIGHTS, _TUPATE, _weights("prefix", "tupate")),
        NamedPredictor("tupate-bitfit", WEIGHTS, _TUPATE, _weights("bitfit", "tupate")),
        NamedPredictor("prompt-emb", WEIGHTS, "Vu et al., ACL 2022 (SPoT)", _weights("prompt", "tupate")),
        NamedPredictor("update-bitfit", WEIGHTS, _HERE, _weights("bitfit", "update")),
        NamedPredictor("tupate-ensemble", WEIGHTS, _TUPATE, _ensemble),
        NamedPredictor("vocabulary", DATA, "Lin et al., 2024", _measured("vocabulary")),
        NamedPredictor("text-emb", DATA, _VU, _measured("text-emb")),
        NamedPredictor("task-emb", f"{DATA}, tuned models", _VU, _measured("task-emb")),
        NamedPredictor("curve-grad", "loss curves of the sources", _VU, _measured("curve-grad")),
        NamedPredictor("log-me", f"{DATA}, tuned models", "You et al., ICML 2021", _measured("log-me")),
        NamedPredictor("esm-log-me", DATA, "Schulte et al., EMNLP 2024", _measured("esm-log-me")),
        NamedPredictor("task-emb-examples", f"{DATA}, tuned models", _VU, _measured("task-emb-examples")),
        NamedPredictor("log-me-mean", f"{DATA}, tuned models", "You et al., ICML 2021", _measured("log-me-mean")),
        NamedPredictor("esm-log-me-mean", DATA, "Schulte et al., EMNLP 2024", _measured("esm-log-me-mean")),
        NamedPredictor("delta-activations", "tuned models", "Xu et al., 2025", _measured("delta-activations")),
        NamedPredictor("gain", f"{WEIGHTS}, {TRANSFER}", _HERE, _gain),
    )
}  # fmt: skip


def get_predictor(name: str) -> NamedPredictor:
    """The predictor of that name.

    Raises
    ------
    UnknownName
        Listing the known predictors.
    """
    if name not in PREDICTORS:
        raise UnknownName(f"Unknown predictor {name!r}.", hint="known: " + ", ".join(PREDICTORS))
    return PREDICTORS[name]


def known_cells(truth: Truth, prediction: Float64Array) -> Truth:
    """The truth as far as a prediction knows its cells, so that two predictors can be judged on the same ones.

    Targets with fewer than two sources left are taken away; all of them where a prediction knows nothing.
    """
    left = replace(truth, scores=np.where(np.isfinite(prediction), truth.scores, np.nan))
    return left.rows([row for row, count in enumerate(left.candidates().sum(axis=1)) if count >= 2])
