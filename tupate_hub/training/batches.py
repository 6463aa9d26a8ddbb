"""Batches: features of similar length as the tensors that a model takes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from tupate_hub.training.features import NO_LABEL, Feature

Batch = dict[str, torch.Tensor]


def collate(features: Sequence[Feature], pad_id: int) -> Batch:
    """Pad features to their longest: `input_ids`, `attention_mask`, label tensors, and `token_type_ids` if not all 0.

    Ids have shape (batch, length), or (batch, choices, length) for multiple choice; labels (batch,), or (batch, length)
    for tags, with -100 where there is none.
    """
    length = max(feature.length for feature in features)
    rows, choices = len(features), len(features[0].ids)
    ids = np.full((rows, choices, length), pad_id, dtype=np.int64)
    types = np.zeros_like(ids)
    mask = np.zeros_like(ids)
    for row, feature in enumerate(features):
        for choice, tokens in enumerate(feature.ids):
            ids[row, choice, : len(tokens)] = tokens
            types[row, choice, : len(tokens)] = feature.types[choice]
            mask[row, choice, : len(tokens)] = 1
    arrays = {"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": types} if types.any() else {})
    if choices == 1:
        arrays = {name: array[:, 0] for name, array in arrays.items()}
    batch = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    for name, value in features[0].labels.items():
        labels = [feature.labels[name] for feature in features]
        real = isinstance(value[0] if isinstance(value, tuple) else value, float)
        if isinstance(value, tuple) and not real:
            labels = [row + (NO_LABEL,) * (length - len(row)) for row in labels]
        kind = torch.float32 if real else torch.int64
        batch[name] = torch.tensor(labels, dtype=kind)
    return batch


def grouped_batches(features: Sequence[Feature], batch_size: int, seed: int) -> Iterator[list[Feature]]:
    """Batches of similar length without end, in an order that the seed and the epoch alone decide.

    Each epoch is shuffled, cut into pools of 50 batches, sorted by length inside a pool, and its batches are shuffled.
    """
    epoch = 0
    while True:
        order = list(range(len(features)))
        shuffle = random.Random(f"{seed}:{epoch}")
        shuffle.shuffle(order)
        pool = 50 * batch_size
        batches = []
        for start in range(0, len(order), pool):
            chunk = sorted(order[start : start + pool], key=lambda index: features[index].length)
            batches += [chunk[at : at + batch_size] for at in range(0, len(chunk), batch_size)]
        shuffle.shuffle(batches)
        for batch in batches:
            yield [features[index] for index in batch]
        epoch += 1
