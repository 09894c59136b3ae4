"""The parts of the rating, each against what it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from sweeper import Sweeper
from sweeper.acquisition import Acquisition, keys, log_expected_improvement, perturb
from sweeper.space import Space


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


def test_small_steps_lead_whole_numbers_to_their_neighbours_too() -> None:
    """As often as keeps their mean length: among 7 batch sizes, a third of the box apart, 1 step in 8."""
    space = Space({
        "batch": {"distribution": "pow2", "min": 512, "max": 32768},
        "share": {"distribution": "pow2", "min": 0.125, "max": 8},
        "layers": {"type": "int", "min": 1, "max": 7},
        "steps": {"distribution": "log", "type": "int", "min": 1e3, "max": 1e6},
    })  # fmt: skip
    units = perturb(space, np.zeros((20_000, 4)), np.full(20_000, 0.05), np.random.default_rng(0))
    away = np.abs(units)
    assert set(np.round(away[:, :3].ravel(), 6)) == {0, round(1 / 3, 6)}
    wanted = 0.05 * np.sqrt(2 / np.pi)  # the mean length of a step
    np.testing.assert_allclose(away.mean(axis=0), wanted, rtol=0.06)


def test_without_costs_the_models_choose_as_soon_as_they_know_something() -> None:
    """Costs that are all alike leave a front of one trial: it rises over all others."""
    tuner = Sweeper({"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}}, seed=3)
    luck, origins = np.random.default_rng(0), []
    for _ in range(40):
        trial = tuner.ask()
        origins.append(trial.origin)
        away = [trial.params["x"] - 0.7, trial.params["y"] - 0.2]
        tuner.tell(trial, score=np.exp(-10 * np.dot(away, away)) + 0.01 * luck.standard_normal(), cost=1.0)
    assert origins[12:].count("design") == 0
    assert np.exp(-10 * np.dot(away, away)) > 0.98


@pytest.mark.parametrize("seed", [0, 4])  # in which the first large ones are all bad
def test_costs_that_come_in_steps_are_climbed(seed: int) -> None:
    """The large size costs ten times the small one, with nothing between: no leap of two leads there."""
    space = {"x": {"min": 0, "max": 1}, "y": {"min": 0, "max": 1}, "size": {"values": ["small", "large"]}}
    tuner, luck, large = Sweeper(space, seed=seed), np.random.default_rng(0), 0
    for number in range(40):
        trial = tuner.ask()
        away, is_large = [trial.params["x"] - 0.7, trial.params["y"] - 0.2], trial.params["size"] == "large"
        large += number >= 10 and is_large
        score = np.exp(-30 * np.dot(away, away)) * (1.0 if is_large else 0.7)
        tuner.tell(trial, score=score + 0.01 * luck.standard_normal(), cost=10.0 if is_large else 1.0)
    assert large >= 2


def test_a_step_up_keeps_within_the_cost_limit() -> None:
    space = {"x": {"min": 0, "max": 1}, "size": {"values": ["small", "large"]}}
    tuner, sizes = Sweeper(space, seed=1, cost_limit=5.0), []
    for _ in range(30):
        trial = tuner.ask()
        sizes.append(trial.params["size"])
        tuner.tell(trial, score=trial.params["x"], cost=10.0 if sizes[-1] == "large" else 1.0)
    assert "large" not in sizes[8:]


def test_a_swap_is_of_another_category_where_scores_tell_settings_apart() -> None:
    parameters = {
        "optimizer": {"values": ["adam", "sgd", "muon"]},
        "memory": {"values": ["none", "lstm"], "when": {"optimizer": ["adam", "sgd"]}},
        "steps": {"distribution": "log", "min": 1e3, "max": 1e6},
    }
    tuner, luck = Sweeper(parameters, seed=1), np.random.default_rng(0)
    for _ in range(30):
        trial = tuner.ask()
        height = 1.0 if trial.params["optimizer"] == "adam" else 0.5
        score = height * np.log10(trial.params["steps"] / 1e3)
        tuner.tell(trial, score=score + 0.01 * luck.standard_normal(), cost=trial.params["steps"] / 1e3)
    space, (_, models, done) = tuner.space, tuner._fitted(np.random.default_rng(0))
    nothing = np.zeros((0, space.dim))
    acquisition = Acquisition(space, models, done, nothing, nothing, nothing, keys(done))
    heights = models.score.unwarp(acquisition.front_scores)
    risen = acquisition.front_costs[np.argmax(heights - heights[0] >= np.ptp(heights) / 3)]
    assert not acquisition.swap(30)  # not its turn
    for seed in range(5):
        assert acquisition.swap(31)
        unit = acquisition.best(np.random.default_rng(seed))
        assert unit is not None
        params, features = space.to_params(unit), space.features(unit[None])
        log_cost = models.log_cost.predict(features)[0][0]
        left = np.searchsorted(acquisition.front_costs, log_cost, side="right") - 1
        assert risen <= log_cost <= risen + np.log(4)
        there = done[np.argmin(np.abs(acquisition.costs - acquisition.front_costs[left]))]
        before = space.to_params(there)
        assert [params.get(n) for n in ("optimizer", "memory")] != [
            before.get(n) for n in ("optimizer", "memory")
        ]


def test_a_swap_keeps_away_from_a_category_that_fails() -> None:
    parameters = {"optimizer": {"values": ["adam", "lbfgs", "sgd"]}, "x": {"min": 0, "max": 1}}
    tuner = Sweeper(parameters, seed=0)
    for _ in range(30):
        trial = tuner.ask()
        if trial.params["optimizer"] == "lbfgs":
            tuner.tell(trial, failure="crash", cost=0.1)
        else:
            height = 1.0 if trial.params["optimizer"] == "adam" else 0.1
            tuner.tell(trial, score=height * trial.params["x"], cost=1 + trial.params["x"])
    _, models, done = tuner._fitted(np.random.default_rng(0))
    nothing = np.zeros((0, tuner.space.dim))
    acquisition = Acquisition(tuner.space, models, done, nothing, nothing, nothing, keys(done))
    assert acquisition.swap(31)
    units = tuner.space.sample(200, np.random.default_rng(0))
    rated = np.isfinite(acquisition.rating(units))
    assert rated.any()
    assert {tuner.space.to_params(unit)["optimizer"] for unit in units[rated]} == {"sgd"}


def test_later_swaps_are_rare_and_without_categories_there_are_none() -> None:
    def turns(parameters: dict[str, dict[str, object]], numbers: range) -> int:
        tuner = Sweeper({**parameters, "x": {"min": 0, "max": 1}}, seed=0)
        for _ in range(12):
            trial = tuner.ask()
            tuner.tell(trial, score=trial.params["x"], cost=1 + trial.params["x"])
        _, models, done = tuner._fitted(np.random.default_rng(0))
        nothing = np.zeros((0, tuner.space.dim))
        acquisition = Acquisition(tuner.space, models, done, nothing, nothing, nothing, set())
        return sum(acquisition.swap(number) for number in numbers)

    category: dict[str, dict[str, object]] = {"c": {"values": ["a", "b"]}}
    assert turns({}, range(1, 101)) == 0
    assert turns(category, range(1, 101)) == 15
    assert turns(category, range(101, 1001)) == 45


def test_no_predicted_cost_overflows() -> None:
    tuner = Sweeper({"x": {"min": 0, "max": 1}}, seed=0)
    for _ in range(12):
        trial = tuner.ask()
        tuner.tell(trial, score=trial.params["x"], cost=1e303 * (1 + trial.params["x"]))
    _, models, done = tuner._fitted(np.random.default_rng(0))
    models.log_cost.shift += 20  # as if others had said that all are dearer than any float
    nothing = np.zeros((0, tuner.space.dim))
    acquisition = Acquisition(tuner.space, models, done, done[:2], nothing, nothing, set())
    acquisition.probe(1e303, 0.0, 12)
    assert acquisition.cap < np.inf
