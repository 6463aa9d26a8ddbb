"""The predictors by name: what each measures of a task, what of it is kept, and how sources are scored for a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tupate_hub.arrays import Array
from tupate_hub.compare.ranking import reciprocal_rank_fusion
from tupate_hub.errors import UnknownName
from tupate_hub.evaluation.transfer_rows import SCRATCH
from tupate_hub.training.predictors.evidence import log_evidence
from tupate_hub.training.predictors.subject import Arrays

#: What was measured of a task: the arrays of each part (`measured.PARTS`).
Measured = Mapping[str, Arrays]
Scores = dict[str, float]

_FIRST_LOSSES = 5


@dataclass(frozen=True)
class Predictor:
    """A predictor of transfer: `score(target, its parts, the sources' parts)` is higher for better sources.

    `parts` are measured of every task, `target_parts` of a target as well. `keeps` are the arrays, as `part.` or
    `part.array`, that a zoo would store of a source; none where it stores the tuned parameters themselves. A predictor
    that is not `symmetric` reads a target's labels; sources for which it is not defined are left out.
    """

    name: str
    paper: str
    parts: tuple[str, ...]
    keeps: tuple[str, ...]
    score: Callable[[str, Measured, Mapping[str, Measured]], Scores]
    target_parts: tuple[str, ...] = ()
    symmetric: bool = True

    def kept_bytes(self, measured: Measured) -> int:
        """How many bytes would be stored of a source."""
        arrays = {f"{part}.{name}": array for part in self.parts for name, array in measured[part].items()}
        return sum(array.nbytes for name, array in arrays.items() if name.startswith(self.keeps)) if self.keeps else 0


def get_predictor(name: str) -> Predictor:
    """The predictor of that name.

    Raises
    ------
    UnknownName
        Listing the known ones.
    """
    if name not in PREDICTORS:
        raise UnknownName(f"Unknown predictor {name!r}.", hint="known: " + ", ".join(PREDICTORS))
    return PREDICTORS[name]


def _overlap(target: str, own: Measured, sources: Mapping[str, Measured]) -> Scores:
    """Jaccard: tokens in both texts among those in either."""
    bits = own["vocabulary"]["bits"]
    return {name: _jaccard(bits, one["vocabulary"]["bits"]) for name, one in sources.items()}


def _jaccard(one: Array, other: Array) -> float:
    both, either = (int(np.unpackbits(packed.astype(np.uint8)).sum()) for packed in (one & other, one | other))
    return both / either if either else 0.0


def _cosine_of(part: str, array: str) -> Callable[[str, Measured, Mapping[str, Measured]], Scores]:
    def score(target: str, own: Measured, sources: Mapping[str, Measured]) -> Scores:
        return {name: cosine(own[part][array], one[part][array]) for name, one in sources.items()}

    return score


def cosine(one: Array, other: Array) -> float:
    """Cosine of two arrays as vectors; 0 where one of them is zero."""
    x, y = (np.asarray(array, dtype=np.float64).ravel() for array in (one, other))
    length = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / length if length else 0.0


def _fused_components(prefixes: tuple[str, ...]) -> Callable[[str, Measured, Mapping[str, Measured]], Scores]:
    def score(target: str, own: Measured, sources: Mapping[str, Measured]) -> Scores:
        """Each component of the Fisher information ranks the sources by its cosine; reciprocal rank fusion merges them.

        Where the target has none of a component, it ranks nothing: no tag is read from the first token.
        """
        names, mine = list(sources), own["fisher"]
        components = sorted(name for name in mine if name.startswith(prefixes) and mine[name].any())
        cosines = [[cosine(mine[part], sources[name]["fisher"][part]) for name in names] for part in components]
        return dict(zip(names, reciprocal_rank_fusion(np.array(cosines), names).tolist(), strict=True))

    return score


def _steepness(target: str, own: Measured, sources: Mapping[str, Measured]) -> Scores:
    """How steeply a source's early loss falls; the target does not matter."""
    return {name: steepness(one["curve"]["losses"]) for name, one in sources.items()}


def steepness(losses: Array) -> float:
    """Minus the least-squares slope of the losses over their mean in the first five steps."""
    relative = np.asarray(losses, dtype=np.float64) / float(np.mean(losses[:_FIRST_LOSSES]))
    return -float(np.polyfit(np.arange(len(relative)), relative, 1)[0])


def _tried(column: int) -> Callable[[str, Measured, Mapping[str, Measured]], Scores]:
    def score(target: str, own: Measured, sources: Mapping[str, Measured]) -> Scores:
        found = {name: one["evidence"][target] for name, one in sources.items() if target in one["evidence"]}
        scores = {name: float(values[column]) for name, values in found.items()}
        examples = own["examples"]
        if examples:  # the base model's own, which says whether a source explains more
            scores[SCRATCH] = log_evidence(examples[("cls", "mean")[column]], examples["targets"])
        return scores

    return score


def _mapped(pooled: str) -> Callable[[str, Measured, Mapping[str, Measured]], Scores]:
    def score(target: str, own: Measured, sources: Mapping[str, Measured]) -> Scores:
        examples = own["examples"]
        if not examples:
            return {}
        return {
            name: log_evidence(
                examples[pooled] @ one["map"][f"{pooled}.weight"].T + one["map"][f"{pooled}.bias"], examples["targets"]
            )
            for name, one in sources.items()
        }

    return score


_LOGME = "You et al. 2021, arXiv:2102.11005"
_ESM = "Schulte et al. 2024, arXiv:2410.15148"
_VU = "Vu et al. 2020, arXiv:2005.00770"
_BATCHES = ("fisher.layer.", "fisher.cls")
PREDICTORS: Mapping[str, Predictor] = {
    one.name: one
    for one in (
        Predictor("vocabulary", "Lin et al. 2024, arXiv:2407.16245", ("vocabulary",), ("vocabulary.",), _overlap),
        Predictor("text-emb", _VU, ("text",), ("text.",), _cosine_of("text", "mean")),
        Predictor("task-emb", _VU, ("fisher",), _BATCHES, _fused_components(("layer.", "cls"))),
        Predictor("task-emb-examples", _VU, ("fisher",), ("fisher.example.",), _fused_components(("example.",))),
        Predictor(
            "curve-grad", f"Bingel and Søgaard 2017, arXiv:1702.08303; {_VU}", ("curve",), ("curve.",), _steepness
        ),
        Predictor("log-me", _LOGME, ("evidence",), (), _tried(0), ("examples",), symmetric=False),
        Predictor("log-me-mean", _LOGME, ("evidence",), (), _tried(1), ("examples",), symmetric=False),
        Predictor("esm-log-me", _ESM, ("text", "map"), ("map.cls",), _mapped("cls"), ("examples",), symmetric=False),
        Predictor(
            "esm-log-me-mean", _ESM, ("text", "map"), ("map.mean",), _mapped("mean"), ("examples",), symmetric=False
        ),
        Predictor("delta-activations", "arXiv:2509.04442", ("shift",), ("shift.",), _cosine_of("shift", "layers")),
    )
}
