"""The parts of the rating, each against what it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from sweeper import Sweeper
from sweeper.acquisition import log_expected_improvement


@pytest.mark.parametrize("mean", [-3.0, -0.5, 0.0, 0.4, 2.0])
@pytest.mark.parametrize("sd", [0.01, 0.3, 1.5])
def test_expected_improvement_is_the_integral(mean: float, sd: float) -> None:
    incumbent = 0.2
    wanted, _ = quad(
        lambda z: (expit(mean + sd * z) - expit(incumbent)) * norm.pdf(z),
        max((incumbent - mean) / sd, -40.0),
        40.0,
        points=[0.0, sd] if (incumbent - mean) / sd < 0 else None,
        epsabs=0,
        limit=400,
    )
    found = log_expected_improvement(np.array([mean]), np.array([sd]), np.array([incumbent]))[0]
    if wanted > 1e-200:
        assert found == pytest.approx(np.log(wanted), abs=1e-4)
    else:
        assert found < -400


def test_expected_improvement_ranks_even_the_hopeless() -> None:
    means = -np.array([0.0, 1.0, 10.0, 100.0, 1e4, 1e6])
    found = log_expected_improvement(means, np.full(6, 0.1), np.zeros(6))
    assert np.isfinite(found).all()
    assert (np.diff(found) < 0).all()
    certain = log_expected_improvement(np.array([1.0]), np.array([1e-6]), np.array([0.0]))[0]
    assert certain == pytest.approx(np.log(expit(1.0) - 0.5), abs=1e-5)


def test_nothing_is_proposed_beside_a_trial_that_runs() -> None:
    tuner, luck = Sweeper({"x": {"min": 0, "max": 1}}), np.random.default_rng(0)
    for _ in range(12):
        trial = tuner.ask()
        tuner.tell(trial, score=-((trial.params["x"] - 0.3) ** 2) + 0.01 * luck.standard_normal(), cost=1)
    running = sorted(trial.params["x"] for trial in tuner.ask(60))
    assert np.diff(running).min() > 0.000999
