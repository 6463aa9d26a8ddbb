"""LogME against the evidence itself, maximised by a general optimiser, and what it must not depend on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from tupate_hub.training.predictors.evidence import log_evidence


def directly(features, y):
    """log p(y) of y ~ N(0, I / b + F Fᵀ / a), at the best a and b that a search without derivatives finds."""

    def minus(logs):
        a, b = np.exp(logs)
        covariance = np.eye(len(y)) / b + features @ features.T / a
        return -multivariate_normal(np.zeros(len(y)), covariance).logpdf(y)

    starts = [(0.0, 0.0), (3.0, 0.0), (-3.0, 3.0), (6.0, 1.0)]
    options = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 4000}
    return -min(minimize(minus, start, method="Nelder-Mead", options=options).fun for start in starts) / len(y)


def sample(rows, width, noise, seed):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, width))
    return features, features @ rng.standard_normal(width) + noise * rng.standard_normal(rows)


@pytest.mark.parametrize(("rows", "width"), [(40, 5), (12, 30)])
@pytest.mark.parametrize("noise", [0.3, 3.0])
def test_it_is_the_greatest_evidence(rows, width, noise):
    features, y = sample(rows, width, noise, seed=rows)
    assert log_evidence(features, y[:, None]) == pytest.approx(directly(features, y), abs=1e-6)


def test_it_agrees_with_the_fixed_point_of_scikit_learn():
    from sklearn.linear_model import BayesianRidge

    features, y = sample(60, 8, 1.0, seed=2)
    flat = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
    model = BayesianRidge(max_iter=3000, tol=1e-12, fit_intercept=False, compute_score=True, **flat).fit(features, y)
    assert log_evidence(features, y[:, None]) == pytest.approx(model.scores_[-1] / 60, abs=1e-6)


def test_columns_are_averaged():
    features, y = sample(30, 4, 1.0, seed=3)
    other = np.roll(y, 1)
    both = log_evidence(features, np.stack([y, other], axis=1))
    assert both == pytest.approx((log_evidence(features, y[:, None]) + log_evidence(features, other[:, None])) / 2)


@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_rotation_and_scale_of_the_features_do_not_matter(seed, scale):
    features, y = sample(25, 6, 1.0, seed)
    rotation, _ = np.linalg.qr(np.random.default_rng(seed + 1).standard_normal((6, 6)))
    assert log_evidence(scale * features @ rotation, y[:, None]) == pytest.approx(
        log_evidence(features, y[:, None]), abs=1e-8
    )


@given(st.integers(0, 1000), st.floats(1e-2, 1e2))
def test_the_unit_of_the_targets_moves_all_features_alike(seed, unit):
    features, y = sample(25, 6, 1.0, seed)
    moved = log_evidence(features, unit * y[:, None]) - log_evidence(features, y[:, None])
    assert moved == pytest.approx(-np.log(unit), abs=1e-8)


def test_features_that_tell_the_labels_win():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 100)
    one_hot = (labels[:, None] == np.arange(3)).astype(float)
    telling = one_hot @ rng.standard_normal((3, 10)) + rng.standard_normal((100, 10))
    silent = rng.standard_normal((100, 10))
    assert log_evidence(telling, one_hot) > log_evidence(silent, one_hot) + 0.1


def test_features_that_say_nothing_at_all_leave_the_noise():
    y = np.random.default_rng(5).standard_normal((50, 1))
    expected = -0.5 * (np.log(2 * np.pi * np.mean(y**2)) + 1)
    assert log_evidence(np.zeros((50, 4)), y) == pytest.approx(expected)
