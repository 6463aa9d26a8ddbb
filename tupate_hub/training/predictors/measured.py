"""Parts: what is measured of a task for one predictor or several, with the base model, the tuned one, or the text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tupate_hub.arrays import Float32Array
from tupate_hub.training.batches import collate
from tupate_hub.training.measure import probe_text
from tupate_hub.training.predictors.evidence import log_evidence
from tupate_hub.training.predictors.fisher import fisher
from tupate_hub.training.predictors.labelled import labelled_states
from tupate_hub.training.predictors.subject import SEED, Arrays, Subject, base_encoder, encode_texts, states, text_of
from tupate_hub.training.protocol import PROTOCOLS
from tupate_hub.training.tuner import score_on_the_way
from tupate_hub.training.warmstart import method_of

_CURVE_STEPS = 40
#: How much the map of a source is held to the identity, from hardly to all but entirely; the best is chosen by leaving
#: one example out.
_RIDGES = 10.0 ** np.arange(-3, 5)


def vocabulary(subject: Subject) -> Arrays:
    """Which of the tokenizer's tokens the training texts have, a bit each."""
    data, tokenizer = subject.data, subject.tokenizer
    texts = [part for example in data.train for part in text_of(data.kind, example) if part]
    rows = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    there = np.zeros(len(tokenizer), dtype=bool)
    there[np.concatenate([np.array(row, dtype=np.int64) for row in rows])] = True
    return {"bits": np.packbits(there)}


def text(subject: Subject) -> Arrays:
    """The mean over up to 500 training texts of the base model's mean token state, of shape (width,)."""
    return {"mean": subject.base_states.mean.mean(axis=0)}


def space_map(subject: Subject) -> Arrays:
    """A linear map from the base model's states of the task's texts to the tuned model's.

    Schulte et al. (2024, arXiv:2410.15148) fit it on 10,000 examples by gradient steps. These are up to 500, so it is
    the ridge regression of the difference: what the texts do not tell stays as it was.
    """
    from sklearn.linear_model import RidgeCV

    tuned = states(subject.encoder, subject.texts, subject.tokenizer.pad_token_id)
    found = {}
    for name in ("cls", "mean"):
        before, after = getattr(subject.base_states, name), getattr(tuned, name)
        ridge = RidgeCV(_RIDGES).fit(before, after - before)
        found[f"{name}.weight"] = (ridge.coef_ + np.eye(before.shape[1])).astype(np.float32)
        found[f"{name}.bias"] = ridge.intercept_.astype(np.float32)
    return found


def shift(subject: Subject) -> Arrays:
    """The mean shift of each layer's token states on the project's probe text, of shape (layers, width).

    After Delta Activations (2025, arXiv:2509.04442), which takes the last token of the last layer of a decoder.
    """
    return {"layers": _probe_states(subject.encoder, subject.tokenizer) - _base_probe_states(subject.base)}


@lru_cache(maxsize=1)
def _base_probe_states(base: Path) -> Float32Array:
    from tupate_hub.training.model import load_tokenizer

    return _probe_states(base_encoder(base), load_tokenizer(base))


def _probe_states(model: Any, tokenizer: Any) -> Float32Array:
    batch = collate(encode_texts(tokenizer, [(line, "") for line in probe_text()]), tokenizer.pad_token_id)
    del batch["labels"]
    mask = batch["attention_mask"][None, ..., None].float()
    with torch.inference_mode():
        output = model(**batch, output_hidden_states=True)
    hidden = torch.stack(output.hidden_states[-model.config.num_hidden_layers :])
    return np.asarray(((hidden * mask).sum((1, 2)) / mask.sum()).numpy())


def curve(subject: Subject) -> Arrays:
    """The loss of each of the first 40 steps of a run from nothing on 1,000 examples."""
    method = method_of(subject.source)
    protocol = PROTOCOLS["limited"]
    regime = replace(protocol.regime(subject.data.kind, method, SEED), steps=_CURVE_STEPS)
    means = [0.0]
    run = score_on_the_way(
        subject.base,
        protocol.cut(subject.data, SEED),
        method,
        regime,
        at=(),
        pulse=lambda step, mean, held_out: means.append(mean),
    )
    deque(run, maxlen=0)
    sums = np.arange(len(means)) * np.array(means)  # of so few steps a pulse tells the mean of all
    return {"losses": np.diff(sums).astype(np.float32)}


def examples(subject: Subject) -> Arrays:
    """As a target: the base model's states of its few examples and what is to be predicted; nothing where undefined."""
    found = labelled_states(base_encoder(subject.base), subject.tokenizer, subject.data)
    return {} if found is None else {"cls": found.states.cls, "mean": found.states.mean, "targets": found.targets}


def evidence(subject: Subject) -> Arrays:
    """As a source: LogME of each target's few examples under the tuned model, from first tokens and from means."""
    found = {}
    for target in subject.targets:
        if target.name == subject.data.name:
            continue
        labelled = labelled_states(subject.encoder, subject.tokenizer, target)
        if labelled is not None:
            values = [log_evidence(one, labelled.targets) for one in (labelled.states.cls, labelled.states.mean)]
            found[target.name] = np.array(values)
    return found


#: Cheap and shared ones first.
PARTS: Mapping[str, Callable[[Subject], Arrays]] = {
    "vocabulary": vocabulary,
    "text": text,
    "map": space_map,
    "shift": shift,
    "examples": examples,
    "evidence": evidence,
    "fisher": fisher,
    "curve": curve,
}
