"""The similarities of soft prompts that were tried, as a table of named functions for `compare_similarities.py`.

Each turns prompts of shape (tasks, positions, width) into scores of shape (targets, sources). What looks at a zoo sees
no more of the target than its prompt; means and neighbourhoods are those of the other tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np

from tupate_hub.arrays import Float64Array

Scores = Callable[[Float64Array], Float64Array]
ReScoring = Callable[[Float64Array], Float64Array]


def cosine(vectors: Float64Array) -> Float64Array:
    units = directions(vectors.reshape(len(vectors), -1))
    return units @ units.T


def directions(vectors: Float64Array) -> Float64Array:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def mean(prompts: Float64Array) -> Float64Array:
    return cosine(prompts.mean(axis=1))


def mean_of_directions(prompts: Float64Array) -> Float64Array:
    return cosine(directions(prompts).mean(axis=1))


def weighted_by_norm(prompts: Float64Array, power: float) -> Float64Array:
    return cosine((prompts * np.linalg.norm(prompts, axis=2, keepdims=True) ** power).mean(axis=1))


def coordinate_power(prompts: Float64Array, power: float) -> Float64Array:
    means = prompts.mean(axis=1)
    return cosine(np.sign(means) * np.abs(means) ** power)


def clipped(prompts: Float64Array, quantile: float = 0.99) -> Float64Array:
    means = prompts.mean(axis=1)
    bound = np.quantile(np.abs(means), quantile, axis=1, keepdims=True)
    return cosine(np.clip(means, -bound, bound))


def signal_to_noise(prompts: Float64Array, power: float) -> Float64Array:
    return cosine(prompts.mean(axis=1) / prompts.std(axis=1) ** power)


def largest_positions(prompts: Float64Array, share: float) -> Float64Array:
    norms = np.linalg.norm(prompts, axis=2)
    keep = norms >= np.quantile(norms, 1 - share, axis=1, keepdims=True)
    return cosine((prompts * keep[:, :, None]).sum(axis=1))


def euclidean(prompts: Float64Array) -> Float64Array:
    means = prompts.mean(axis=1)
    return -np.linalg.norm(means[:, None] - means[None], axis=2)


def dot(prompts: Float64Array) -> Float64Array:
    means = prompts.mean(axis=1)
    return means @ means.T


def second_moments(prompts: Float64Array) -> Float64Array:
    return cosine(np.einsum("tni,tnj->tij", directions(prompts), directions(prompts)))


def whitened(prompts: Float64Array, ridge: float) -> Float64Array:
    rows = prompts.reshape(-1, prompts.shape[2])
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    return mean(prompts @ (vectors / np.sqrt(values + ridge * values.mean())))


def set_kernel(prompts: Float64Array, pairwise: Callable[[Float64Array], Float64Array]) -> Float64Array:
    """Cosine of the mean embeddings of two clouds of directions, in the space of a kernel between positions."""
    tasks, positions, width = prompts.shape
    rows = directions(prompts).reshape(-1, width)
    gram = pairwise(rows @ rows.T).reshape(tasks, positions, tasks, positions).mean(axis=(1, 3))
    norms = np.sqrt(np.diag(gram))
    return gram / np.outer(norms, norms)


def gaussian(cosines: Float64Array, width: float) -> Float64Array:
    squares = 2 - 2 * cosines
    return np.exp(-squares / (width * np.median(squares)))


def signed_power(cosines: Float64Array, power: float) -> Float64Array:
    return np.sign(cosines) * np.abs(cosines) ** power


def best_match(prompts: Float64Array) -> Float64Array:
    """Mean over the source's positions of the largest cosine with any of the target's (Lin et al. 2024)."""
    units = directions(prompts)
    return np.array([[(target @ source.T).max(axis=0).mean() for source in units] for target in units])


def coverage(prompts: Float64Array, rank: int, of: str) -> Float64Array:
    """The share of one side's mean that lies in the span of the other side's leading directions."""
    units = directions(prompts.mean(axis=1))
    spans = [np.linalg.svd(rows, full_matrices=False)[2][:rank] for rows in prompts]
    covered = np.array([[np.linalg.norm(span @ unit) for span in spans] for unit in units])
    return covered if of == "target" else covered.T


def mean_discrepancy(prompts: Float64Array, width: float) -> Float64Array:
    """Minus the squared maximum mean discrepancy (Gretton et al. 2012) of two clouds of directions."""
    tasks, positions, size = prompts.shape
    rows = directions(prompts).reshape(-1, size)
    gram = gaussian(rows @ rows.T, width).reshape(tasks, positions, tasks, positions).mean(axis=(1, 3))
    return 2 * gram - np.diag(gram)[:, None] - np.diag(gram)[None]


def spectrum(prompts: Float64Array, reweigh: Callable[[Float64Array], Float64Array]) -> Float64Array:
    """Cosine of the means after changing the singular values of all means together."""
    left, values, _ = np.linalg.svd(directions(prompts.mean(axis=1)), full_matrices=False)
    return cosine(left * reweigh(values))


def source_alone(strength: Callable[[Float64Array], Float64Array]) -> Scores:
    def scores(prompts: Float64Array) -> Float64Array:
        return np.tile(strength(prompts), (len(prompts), 1))

    return scores


def start_removed(prompts: Float64Array, each: Scores = mean) -> Float64Array:
    """Take off the start that the zoo's prompts share, position by position, as far as it is still there.

    Prompts of one training code start from one initialisation. What two of them have in common at the same position and
    not at others is what is left of it: the mean over the other prompts, weighed by its regression on this one and by
    how well two halves of the zoo agree on it. Where nothing is shared, nothing is taken off.
    """
    moved = np.empty_like(prompts)
    for task, rows in enumerate(prompts):
        others = np.delete(prompts, task, axis=0)
        start = others.mean(axis=0)
        own, shared, first, second = (
            (part - part.mean(axis=0)).ravel()
            for part in (rows, start, others[::2].mean(axis=0), others[1::2].mean(axis=0))
        )
        agreement = first @ second / np.sqrt((first @ first) * (second @ second))
        moved[task] = rows - max(0.0, own @ shared / (shared @ shared)) * max(0.0, agreement) * start
    return each(moved)


def _neighbourhoods(scores: Float64Array) -> Iterator[tuple[int, int, float, Float64Array, Float64Array]]:
    """Target, source, their score, and the scores with all other tasks: the source's, then the target's."""
    tasks = range(len(scores))
    for target in tasks:
        for source in tasks:
            rest = [task for task in tasks if task not in (target, source)]
            if target != source:
                yield target, source, scores[target, source], scores[rest, source], scores[target, rest]


def _rescored(scores: Float64Array, rule: Callable[[float, Float64Array, Float64Array], float]) -> Float64Array:
    changed = np.zeros_like(scores)
    for target, source, score, of_source, of_target in _neighbourhoods(scores):
        changed[target, source] = rule(score, of_source, of_target)
    return changed


def centred(scores: Float64Array) -> Float64Array:
    """Cosines after moving the origin to the mean of the zoo, from the kernel of unit vectors alone."""
    changed = np.zeros_like(scores)
    for target in range(len(scores)):
        zoo = np.delete(np.arange(len(scores)), target)
        kernel, query = scores[np.ix_(zoo, zoo)], scores[target, zoo]
        squares = np.diag(kernel) - 2 * kernel.mean(axis=0) + kernel.mean()
        moved = query - query.mean() - kernel.mean(axis=0) + kernel.mean()
        changed[target, zoo] = moved / np.sqrt(squares)
    return changed


def less_hubs(scores: Float64Array, neighbours: int = 5) -> Float64Array:
    """CSLS (Conneau et al. 2018): twice the score minus the source's mean score with its nearest neighbours."""
    return _rescored(scores, lambda score, source, _: float(2 * score - np.sort(source)[::-1][:neighbours].mean()))


def reverse(scores: Float64Array) -> Float64Array:
    """How many tasks the source is less close to than to the target; the score itself breaks ties."""
    return _rescored(scores, lambda score, source, _: float((source < score).mean() + 1e-6 * score))


def mutual(scores: Float64Array) -> Float64Array:
    """Mutual proximity (Schnitzer et al., JMLR 2012), empirical: the two directions' percentiles multiplied."""
    size = len(scores) - 1

    def rule(score: float, source: Float64Array, target: Float64Array) -> float:
        return float((source < score).sum() + 1) * float((target < score).sum()) / size**2 + 1e-6 * score

    return _rescored(scores, rule)


def standardised(scores: Float64Array) -> Float64Array:
    """The score in standard deviations of the source's other scores, plus the same of the target's."""
    return _rescored(
        scores,
        lambda score, source, target: float(
            (score - source.mean()) / source.std() + (score - target.mean()) / target.std()
        ),
    )


def local_scaling(scores: Float64Array, neighbours: int = 3) -> Float64Array:
    """The score over the source's mean score with its nearest neighbours (after Zelnik-Manor and Perona 2004)."""
    return _rescored(scores, lambda score, source, _: float(score / np.sort(source)[::-1][:neighbours].mean()))


def balanced(scores: Float64Array, temperature: float = 0.3, rounds: int = 200) -> Float64Array:
    """Sinkhorn: exponentials of the scores, rescaled until every task's sum to one."""
    plan = np.exp(scores / temperature)
    np.fill_diagonal(plan, 0)
    for _ in range(rounds):
        sums = np.sqrt(plan.sum(axis=1))
        plan = plan / np.outer(sums, sums)
    return plan


def fused_both_ways(scores: Float64Array, k: int = 60) -> Float64Array:
    """Reciprocal rank fusion of the source's rank for the target with the target's rank for the source."""
    return _rescored(
        scores, lambda score, source, target: 1 / (k + (source > score).sum()) + 1 / (k + (target > score).sum())
    )


def fused(prompts: Float64Array, parts: tuple[Scores, ...], k: int = 60) -> Float64Array:
    """Reciprocal rank fusion of several similarities."""
    total = np.zeros((len(prompts), len(prompts)))
    for part in parts:
        total += _rescored(part(prompts), lambda score, _, target: 1 / (k + 1 + (target > score).sum()))
    return total


def then(scores: Scores, *rescorings: ReScoring) -> Scores:
    def both(prompts: Float64Array) -> Float64Array:
        result = scores(prompts)
        for rescoring in rescorings:
            result = rescoring(result)
        return result

    return both


_quadratic = partial(set_kernel, pairwise=partial(signed_power, power=2))
_narrow = partial(set_kernel, pairwise=partial(gaussian, width=0.1))
_target_covered = partial(coverage, rank=5, of="target")

VARIANTS: Mapping[str, Scores] = {
    "mean over positions (`update`, `tupate`)": mean,
    "flattened": cosine,
    "mean of directions": mean_of_directions,
    "mean, positions weighed by norm": partial(weighted_by_norm, power=1),
    "mean, positions weighed by norm^-1/2": partial(weighted_by_norm, power=-0.5),
    "mean of the largest quarter of positions": partial(largest_positions, share=0.25),
    "median over positions": lambda prompts: cosine(np.median(prompts, axis=1)),
    "mean, outlying coordinates clipped": clipped,
    "mean, signs of coordinates": partial(coordinate_power, power=0),
    "mean, roots of coordinates": partial(coordinate_power, power=0.5),
    "mean, coordinates to the power 3/2": partial(coordinate_power, power=1.5),
    "signal to noise over positions": partial(signal_to_noise, power=1),
    "Euclidean distance of means": euclidean,
    "dot product of means": dot,
    "second moments of directions": second_moments,
    "whitened, ridge 1": partial(whitened, ridge=1),
    "whitened, ridge 10": partial(whitened, ridge=10),
    "set kernel, Gaussian, width 1": partial(set_kernel, pairwise=partial(gaussian, width=1)),
    "set kernel, Gaussian, width 0.1": _narrow,
    "set kernel, power 2": _quadratic,
    "set kernel, power 3": partial(set_kernel, pairwise=partial(signed_power, power=3)),
    "best match per position": best_match,
    "source's mean in the target's span, rank 5": partial(coverage, rank=5, of="source"),
    "target's mean in the source's span, rank 5": _target_covered,
    "target's mean in the source's span, rank 20": partial(coverage, rank=20, of="target"),
    "source alone: size of its mean": source_alone(lambda prompts: np.linalg.norm(prompts.mean(axis=1), axis=1)),
    "source alone: size of its positions": source_alone(lambda prompts: np.linalg.norm(prompts, axis=2).mean(axis=1)),
    "source alone: agreement of its positions": source_alone(
        lambda prompts: np.linalg.norm(directions(prompts).mean(axis=1), axis=1)
    ),
    "mean discrepancy, Gaussian, width 1": partial(mean_discrepancy, width=1),
    "means without their first common direction": partial(
        spectrum, reweigh=lambda values: values * (np.arange(len(values)) > 0)
    ),
    "means in their five first common directions": partial(
        spectrum, reweigh=lambda values: values * (np.arange(len(values)) < 5)
    ),
    "means, roots of their spectrum": partial(spectrum, reweigh=np.sqrt),
    "mean, centred": then(mean, centred),
    "mean of directions, centred": then(mean_of_directions, centred),
    "mean, less hubs": then(mean, less_hubs),
    "mean, reverse": then(mean, reverse),
    "mean, mutual": then(mean, mutual),
    "mean, standardised": then(mean, standardised),
    "mean, local scaling": then(mean, local_scaling),
    "mean, balanced (Sinkhorn)": then(mean, balanced),
    "mean, both ways fused": then(mean, fused_both_ways),
    "mean of directions, mutual": then(mean_of_directions, mutual),
    "set kernel, power 2, mutual": then(_quadratic, mutual),
    "target's mean in the source's span, mutual": then(_target_covered, mutual),
    "flattened, mutual": then(cosine, mutual),
    "start removed": start_removed,
    "start removed, flattened": partial(start_removed, each=cosine),
    "start removed, directions": lambda prompts: start_removed(directions(prompts)),
    "start removed, mutual": then(start_removed, mutual),
    "start removed, standardised": then(start_removed, standardised),
    "fused: mean, power 2": partial(fused, parts=(mean, _quadratic)),
    "fused: mean, span, Gaussian": partial(fused, parts=(mean, _target_covered, _narrow)),
    "fused: mean, start removed, span, power 2": partial(
        fused, parts=(mean, start_removed, _target_covered, _quadratic)
    ),
}
