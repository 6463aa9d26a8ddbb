"""Subspaces on a card: a picture of the tasks that each was found over, and a sentence about it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tupate_hub.publish.pictures import Point, task_map
from tupate_hub.subspace.subspace import Subspace


def subspace_map(subspace: Subspace, groups: Mapping[str, str]) -> str:
    """The tasks of a subspace as SVG text, by the two directions of their coordinates that carry most.

    `groups` gives tasks their marks. In each direction the largest coordinate is positive, so that neither a rerun nor
    another machine mirrors the picture.
    """
    codes = subspace.codes - subspace.codes.mean(axis=0)
    _, lengths, axes = np.linalg.svd(codes, full_matrices=False)
    places = np.zeros((len(codes), 2))
    shares = np.zeros(2)
    for at in range(min(2, len(axes))):
        along = codes @ axes[at]
        places[:, at] = np.round(along * np.sign(along[np.abs(along).argmax()]), 3)
        shares[at] = lengths[at] ** 2 / max(float((lengths**2).sum()), 1e-12)
    points = [
        Point(task, float(x), float(y), groups.get(task, ""))
        for task, (x, y) in zip(subspace.tasks, places, strict=True)
    ]
    return task_map(f"Tasks in a subspace of {subspace.dim} dimensions: {subspace.space.name}", points, shares.tolist())


def subspace_section(subspaces: Mapping[str, Subspace], pictures: Mapping[str, str]) -> str:
    """What the card says of the subspaces, by the names of their spaces, with links to their pictures."""
    parts = [
        "## Subspaces\n\nA few coordinates that the tuned parameters of many tasks share (IPT, "
        "[2110.07867](https://arxiv.org/abs/2110.07867)): `tupate-hub subspace encode` gives those of a task, "
        "`subspace tune` tunes one by them alone.\n"
    ]
    for space, subspace in subspaces.items():
        count = len(subspace.tasks)
        parts.append(f"![{count} tasks in a subspace of {subspace.dim} dimensions of {space}]({pictures[space]})\n")
    return "\n".join(parts)
