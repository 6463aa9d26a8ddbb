"""Optimizer: what weighs how much in the loss."""

import dataclasses

import numpy as np
import pytest
import torch

from tupate_hub.errors import FormatError
from tupate_hub.training.optimizer import balanced_weights, loss_of


def test_balanced_classes_weigh_the_same(load):
    sklearn = pytest.importorskip("sklearn.utils.class_weight", reason="needs scikit-learn")
    data = load("toy_classes")
    skewed = [one for at, one in enumerate(data.train) if one["label"] or at % 5 == 0]
    data = dataclasses.replace(data, train=skewed)
    labels = [one["label"] for one in skewed]
    expected = sklearn.compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    torch.testing.assert_close(balanced_weights(data), torch.tensor(expected, dtype=torch.float32))


def test_only_classes_can_be_weighed(load):
    with pytest.raises(FormatError, match="only classes can be weighed"):
        balanced_weights(load("toy_numbers"))


def test_the_loss_is_the_model_s_or_a_weighed_mean():
    class Output:
        loss = torch.tensor(7.0)
        logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]])

    labels, weights = torch.tensor([0, 1]), torch.tensor([1.0, 3.0])
    assert loss_of(Output, labels, None) == 7.0
    each = torch.nn.functional.cross_entropy(Output.logits, labels, reduction="none")
    torch.testing.assert_close(loss_of(Output, labels, weights), (each[0] + 3 * each[1]) / 4)
