"""The written-out likelihood against gpytorch's, and what fitted processes believe."""

from __future__ import annotations

import math
from typing import Any

import gpytorch
import numpy as np
import pytest
import torch
from scipy.stats import norm
from threadpoolctl import threadpool_info, threadpool_limits

from sweeper.models import NINE_OF_TEN, GaussianProcess, Observations, fit_models, one_thread


def some_process(linear: bool, groups: list[int], robust: bool = False) -> GaussianProcess:
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (25, len(groups)))
    process = GaussianProcess(
        x, np.sin(3 * x[:, 0]) + x[:, 1], np.array(groups), linear=linear, robust=robust
    )
    process.set_hyper(process.hyper + 0.3 * generator.standard_normal(len(process.hyper)))
    return process


@pytest.mark.parametrize(("linear", "robust"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("groups", [[0, 1, 2], [0, 1, 1, 1]])
def test_likelihood_and_posterior_are_gpytorchs(linear: bool, robust: bool, groups: list[int]) -> None:
    process = some_process(linear, groups, robust)
    model = process.as_gpytorch()
    model.train()
    likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    x, y = torch.as_tensor(process.x), torch.as_tensor(process.y)
    reference = -likelihood(model(x), y).item() * len(process.y)
    assert process.loss(process.hyper, prior=False)[0] == pytest.approx(reference, abs=1e-4)
    at = np.random.default_rng(1).uniform(-1, 1, (9, len(groups)))
    model.eval()
    with torch.no_grad():
        posterior = model(torch.as_tensor(at))
    mean, sd = process.predict(at)
    np.testing.assert_allclose(mean, process.shift + process.scale * posterior.mean.numpy(), atol=1e-5)
    np.testing.assert_allclose(sd, process.scale * posterior.stddev.numpy(), atol=1e-5)
    np.testing.assert_array_equal(process.mean(at), mean)


@pytest.mark.parametrize(("linear", "warped"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("curves", [False, True])
def test_gradient_is_that_of_the_loss(linear: bool, warped: bool, curves: bool) -> None:
    x = np.random.default_rng(2).uniform(-1, 1, (12, 3))
    trials = np.arange(12) // 3 if curves else None
    process = GaussianProcess(
        x, x[:, 0] ** 2, np.array([0, 1, 1]), linear=linear, warped=warped, trials=trials
    )
    steps = 1e-5 * np.eye(len(process.hyper))
    around = [(process.loss(process.hyper + s)[0], process.loss(process.hyper - s)[0]) for s in steps]
    numeric = [(above - below) / 2e-5 for above, below in around]
    np.testing.assert_allclose(process.loss(process.hyper)[1], numeric, atol=1e-5)


def test_believing_its_own_mean_keeps_the_mean_and_shrinks_the_doubt() -> None:
    process = some_process(False, [0, 1])
    at = np.array([[0.9, -0.9]])
    mean, sd = process.predict(at)
    believing_mean, believing_sd = process.believe(at).predict(at)
    assert believing_mean == pytest.approx(mean, abs=1e-6)
    assert believing_sd < 0.6 * sd
    hopeful_mean, hopeful_sd = process.believe(at, hope=1.0).predict(at)
    assert mean + 0.7 * sd < hopeful_mean < mean + sd
    assert hopeful_sd == believing_sd


def test_what_nobody_tried_is_not_as_good_as_the_mean_of_many_good_trials() -> None:
    generator = np.random.default_rng(0)
    good, others = 0.5 + 0.1 * generator.standard_normal((40, 2)), generator.uniform(-1, 0, (8, 2))
    x = np.concatenate([good, others])
    scores = np.exp(-8 * ((x - 0.5) ** 2).sum(axis=1))
    process = GaussianProcess(x, scores, np.arange(2))
    far = process.predict(np.array([[30.0, -30.0]]))[0][0]
    assert scores[40:].max() < far < (scores.mean() + scores[40:].mean()) / 2


def test_the_linear_part_extrapolates_costs() -> None:
    x = np.linspace(-1, 0, 8)[:, None]
    process = GaussianProcess(x, 3 * x[:, 0], np.array([0]), linear=True, noise_variance=1e-3)
    process.fit([process.priors.mean], 40)
    assert process.predict(np.array([[1.0]]))[0][0] == pytest.approx(3.0, abs=0.6)


def test_ten_costs_tell_which_of_twenty_parameters_they_hang_on() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (40, 20))
    costs = 3 * x[:, 4] - x[:, 11]
    process = GaussianProcess(x[:10], costs[:10], np.arange(20), linear=True, noise_variance=1e-3)
    process.fit([process.priors.mean], 40)
    off = process.predict(x[10:])[0] - costs[10:]
    assert np.sqrt((off**2).mean()) < 0.3 * costs.std()


def test_a_category_that_always_fails_is_known_to_fail_everywhere() -> None:
    generator = np.random.default_rng(1)
    category = np.arange(30) % 3
    x = np.hstack([np.eye(3)[category], generator.uniform(-1, 0, (30, 3))])
    process = GaussianProcess(x, 1.0 * (category != 2), np.array([0, 0, 0, 1, 2, 3]), linear=True,
                              noise_variance=0.05)  # fmt: skip
    process.fit([process.priors.mean], 40)
    far = np.hstack([np.eye(3), np.full((3, 3), 0.9)])
    works, works_too, fails = process.predict(far)[0]
    assert fails < 0.3 < 0.7 < min(works, works_too)


@pytest.mark.parametrize("robust", [False, True])
@pytest.mark.parametrize("curves", [False, True])
def test_leaving_out_is_predicting_from_the_rest(curves: bool, robust: bool) -> None:
    generator = np.random.default_rng(3)
    x, luck = generator.uniform(-1, 1, (12, 2)), 0.1 * generator.standard_normal(12)
    trials = np.arange(12) // 3 if curves else np.arange(12)
    y = x[:, 0] + luck
    process = GaussianProcess(x, y, np.array([0, 1]), trials=trials if curves else None, robust=robust)
    process.set_hyper(process.hyper)
    off, sd = process.left_out()
    for trial in np.unique(trials):
        rest, left = trials != trial, trials == trial
        other = GaussianProcess(x[rest], y[rest], np.array([0, 1]), trials=trials[rest] if curves else None)
        other.shift, other.scale = process.shift, process.scale  # as the whole was standardised
        other.y = (y[rest] - process.shift) / process.scale
        other.noise_shape = process.noise_shape[rest][:, rest]  # and as its trials weigh
        mean, doubt = other.predict(x[left])
        np.testing.assert_allclose(off[left], y[left] - mean, atol=1e-6)
        np.testing.assert_allclose(sd[left], process.luck(doubt), atol=1e-6)


@pytest.mark.parametrize("luck", ["none", "normal", "accidents"])
def test_intervals_are_as_wide_as_misses_have_been(luck: str) -> None:
    inside, before = [], []
    for seed in range(8):
        generator = np.random.default_rng(seed)
        x = np.concatenate([generator.uniform(-1, 1, (10, 3)), generator.normal(0.3, 0.1, (40, 3))])
        y = np.exp(-(x**2).sum(1))
        if luck != "none":
            y += 0.03 * generator.standard_normal(50)
        if luck == "accidents":
            y *= generator.random(50) > 0.2
        process = GaussianProcess(x, y, np.arange(3), warped=True, robust=True)
        process.fit([process.priors.mean, process.priors.mean - 0.5], 40)
        off, sd = process.left_out()
        inside += list(np.abs(off) <= NINE_OF_TEN * sd)
        before += list(np.abs(off) <= NINE_OF_TEN * sd / process.width)
    assert 0.85 <= np.mean(inside) <= 0.95
    assert luck != "none" or np.mean(before) > 0.98  # the process alone is too modest


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 1e9, 1e300])
def test_magnitudes_do_not_matter(scale: float) -> None:
    x = np.linspace(-1, 1, 10)[:, None]
    for warped in (False, True):
        process = GaussianProcess(x, scale * np.sin(2 * x[:, 0]), np.array([0]), warped=warped)
        process.fit([process.priors.mean], 30)
        mean = process.unwarp(process.predict(np.array([[0.5]]))[0])
        assert mean[0] / scale == pytest.approx(np.sin(1.0), abs=0.05)


def test_scores_that_grow_by_factors_are_seen_to() -> None:
    x = np.linspace(-1, 0.5, 10)[:, None]
    process = GaussianProcess(x, np.exp(4 * x[:, 0]), np.array([0]), warped=True)
    process.fit([process.priors.mean], 40)
    beyond = process.unwarp(process.predict(np.array([[0.7]]))[0])[0]
    assert beyond == pytest.approx(np.exp(2.8), rel=0.3)  # the dearest seen: exp(2)


def test_a_straight_line_stays_straight() -> None:
    x = np.linspace(-1, 1, 15)[:, None]
    luck = 0.05 * np.random.default_rng(0).standard_normal(15)
    process = GaussianProcess(x, 1e-3 * x[:, 0] + 1e-3 * luck, np.array([0]), warped=True)
    process.fit([process.priors.mean], 40)
    at = np.array([[-0.5], [0.0], [0.5]])
    np.testing.assert_allclose(process.unwarp(process.predict(at)[0]), 1e-3 * at[:, 0], atol=8e-5)


def test_luck_where_scores_saturate_is_no_promise() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (60, 1))
    noise = np.random.default_rng(1).standard_normal(60)
    scores = 500 / (1 + np.exp(-6 * x[:, 0] - 0.7 * noise))  # solved from x = 0.7 on: there luck moves little
    process = GaussianProcess(x, scores, np.array([0]), warped=True)
    process.fit([process.priors.mean], 40)
    means = process.predict(np.array([[0.0], [0.9]]))[0]
    low, high = (process.unwarp(means + side * process.noise_sd) for side in (-1, 1))
    in_the_middle, solved = high - low
    assert solved < 0.3 * in_the_middle


@pytest.mark.parametrize("curves", [False, True])
def test_a_row_weighs_by_what_the_others_say_of_it(curves: bool) -> None:
    generator = np.random.default_rng(4)
    x, trials = generator.uniform(-1, 1, (12, 2)), np.arange(12) // 3 if curves else np.arange(12)
    y = x[:, 0] + 0.05 * generator.standard_normal(12)
    y[[4, 10, 11]] += 4.0  # accidents, but the last row is a failure's
    process = GaussianProcess(
        x, y, np.array([0, 1]), robust=True, failed=1, trials=trials if curves else None
    )
    process.set_hyper(process.hyper)
    noise, kernel = math.exp(process.hyper[3]), process._kernel(process.x, process.x)
    same, targets = trials[:, None] == trials[None, :], process.y
    shape = np.where(np.eye(12) > 0, 1.0, 0.7 * same)  # 0.7 of a curve's luck is its seed's
    weight, share = np.ones(12), 1 / 20
    for _ in range(4):
        chance, density = np.zeros(12), np.zeros(12)
        for row in range(12):
            rest = trials != trials[row]
            luck = noise * (shape + np.diag(1 / weight - 1))[rest][:, rest]
            gain = kernel[row, rest] @ np.linalg.inv(kernel[rest][:, rest] + luck)
            mean, doubt = gain @ targets[rest], kernel[row, row] - gain @ kernel[rest, row]
            plain = (1 - share) * norm.pdf(targets[row], mean, math.sqrt(doubt + noise))
            accident = share * norm.pdf(targets[row], mean, math.sqrt(doubt + noise + 1)) * (row < 11)
            accident *= targets[row] > mean  # these are no scores: costs, which are none if lower
            density[row], chance[row] = accident + plain, accident / (accident + plain)
        weight = 1 - chance + chance * noise / (noise + 1)
        share = (1 + chance.sum()) / (20 + 11)
    np.testing.assert_allclose(process.noise_shape, shape + np.diag(1 / weight - 1), rtol=1e-4)
    assert weight[[4, 10]].max() < 0.2 < weight[11] == 1
    assert process.evidence == pytest.approx(np.log(density).sum(), rel=1e-4)


@pytest.mark.parametrize("retry", [True, False])
def test_accidents_that_drowned_in_noise_are_found_again(retry: bool) -> None:
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (80, 2))
    scores = np.exp(-((x[:, 0] - 0.3) ** 2)) * (2 + x[:, 1])
    collapsed = generator.random(80) < 0.25
    scores[collapsed] *= 0.1
    process = GaussianProcess(x, scores, np.array([0, 1]), warped=True, robust=True)
    loud = process.priors.mean.copy()
    loud[process.dim + 1] = math.log(0.4)  # of the variance of all scores: what fits fall into and stay in
    found = process.fit([loud], 15, [] if retry else None).collapsed() > 0.5
    assert (found[collapsed].mean() > 0.9 and not found[~collapsed].any()) == retry


def test_evidence_is_of_scores_whatever_their_warp() -> None:
    """So that fits of different warps can be told apart: by what was measured, not by how it was bent."""
    x = np.linspace(-1, 1, 30)[:, None]
    evidence = []
    for scores in (x[:, 0], np.exp(4 * x[:, 0])):  # a line, and what the least offsets make one of
        for offsets in ((100.0, 100.0), (0.005, 100.0)):
            process = GaussianProcess(x, scores, np.array([0]), warped=True, robust=True)
            process.set_hyper(np.append(process.priors.mean[:-2], np.log(offsets)))
            evidence.append(process.evidence)
    assert evidence[0] > evidence[1] + 10
    assert evidence[3] > evidence[2] + 10


def test_what_explains_the_trials_better_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def stay(process: GaussianProcess, starts: list[np.ndarray], steps: int) -> None:
        process.set_hyper(starts[0])

    monkeypatch.setattr(GaussianProcess, "_search", stay)
    x = np.random.default_rng(0).uniform(-1, 1, (30, 2))
    process = GaussianProcess(x, np.sin(3 * x[:, 0]), np.array([0, 1]), warped=True, robust=True)
    apart = process.priors.mean.copy()
    apart[:2] = math.log(0.01)  # lengthscales: no trial tells another anything
    assert process.fit([apart], 40).explained() < 0.2
    assert process.fit([apart], 40, [process.priors.mean]).explained() > 0.9
    assert process.fit([process.priors.mean], 40, [apart]).explained() > 0.9


def test_now_and_then_a_fit_is_tried_from_draws_while_trials_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int | None] = []
    fit = GaussianProcess.fit

    def spy(process: GaussianProcess, starts: Any, steps: int, retries: Any = None) -> GaussianProcess:
        if process.warped:
            tried.append(None if retries is None else len(retries))
        return fit(process, starts, 1)

    monkeypatch.setattr(GaussianProcess, "fit", spy)
    x, record, none = np.random.default_rng(0).uniform(-1, 1, (160, 1)), {}, np.zeros((0, 1))
    for count in (10, 11, 12, 13, 150, 160):
        record = fit_models(
            seen(x[:count], x[:count, 0], none), np.arange(1), record, np.random.default_rng(0)
        ).record
    assert tried == [3, None, 3, None, 3, 0]


@pytest.mark.parametrize(("seed", "least", "most"), [(0, 0.6, 0.9), (1, 0.3, 0.97)])
def test_scattered_collapses_are_no_islands(seed: int, least: float, most: float) -> None:
    """However the last fit saw them: each at a place of its own, which nothing came near to deny."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, (80, 3))
    failed = generator.uniform(-1, 1, (20, 3))
    seen = Observations(x, np.zeros(80), np.zeros(80), np.arange(80), failed, np.zeros(20), results=100)
    before = fit_models(seen, np.arange(3), {}, np.random.default_rng(0)).record
    islands = [math.log(0.01)] * 3 + [0.3, math.log(0.05)] + [math.log(0.03)] * 3
    models = fit_models(seen, np.arange(3), before | {"success": islands, "seen": 96}, generator)
    assert least < models.success_probability(failed).min() < models.success_probability(x).max() < most


def test_a_seed_that_failed_bends_nothing() -> None:
    x = np.linspace(-1, 1, 21)[:, None]
    scores = 100 * x[:, 0] + np.random.default_rng(0).standard_normal(21)
    scores[15] = -80.0  # where others say 50
    off = {}
    for robust in (False, True):
        process = GaussianProcess(x, scores, np.array([0]), warped=True, robust=robust)
        process.fit([process.priors.mean], 40)
        off[robust] = np.abs(process.unwarp(process.predict(x)[0]) - 100 * x[:, 0]).max()
    assert off[True] < 4 < 12 < off[False]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_first_success_is_a_discovery_and_a_first_collapse_none(sign: int) -> None:
    generator = np.random.default_rng(0)
    x, scores = generator.uniform(-1, 1, (60, 2)), 0.01 * np.abs(generator.standard_normal(60))
    scores[30] = 0.5  # as good as all that is known is bad
    process = GaussianProcess(x, sign * scores, np.array([0, 1]), warped=True, robust=True)
    process.fit([process.priors.mean], 40)
    noise = process.noise_shape[30, 30]  # of an ordinary trial 1
    assert noise < 1.2 if sign > 0 else noise > 5


@pytest.mark.parametrize("again", [True, False])
def test_a_first_success_that_ran_again_is_as_good_as_both_runs_say(again: bool) -> None:
    generator = np.random.default_rng(0)
    x, scores = generator.uniform(-1, 1, (60, 2)), 0.01 * np.abs(generator.standard_normal(60))
    x[31], scores[30:32] = x[30], (0.5, 0.5 if again else 0.01)
    process = GaussianProcess(x, scores, np.array([0, 1]), warped=True, robust=True)
    process.fit([process.priors.mean], 40)
    assert process.unwarp(process.predict(x[30:31])[0]) == pytest.approx(scores[31], abs=0.03)
    assert process.accident[30] < 0.1 if again else process.accident[30] > 0.9
    assert process.accident[31] < 0.1


@pytest.mark.parametrize("sign", [1, -1])
def test_a_trial_may_be_dearer_by_accident_and_is_never_cheaper(sign: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (40, 1))
    log_costs = x[:, 0] + 0.03 * generator.standard_normal(40)
    log_costs[20] += 1.5 * sign
    process = GaussianProcess(x, log_costs, np.array([0]), linear=True, robust=True, noise_variance=1e-3)
    process.fit([process.priors.mean], 40)
    assert process.accident[20] > 0.99 if sign > 0 else process.accident[20] < 1e-9


def test_equal_scores_are_no_division_by_zero() -> None:
    x = np.linspace(-1, 1, 6)[:, None]
    process = GaussianProcess(x, np.full(6, 7.0), np.array([0]), warped=True)
    process.fit([process.priors.mean], 40)
    assert process.unwarp(process.predict(x)[0]) == pytest.approx(7.0)


def seen(features: np.ndarray, scores: np.ndarray, failed: np.ndarray) -> Observations:
    count = len(scores)
    costs = np.zeros(count), np.full(len(failed), 3.0)
    return Observations(features, scores, costs[0], np.arange(count), failed, costs[1], count + len(failed))


def test_failures_teach_where_they_lie_and_what_they_cost() -> None:
    x = np.linspace(-1, 0.2, 8)[:, None]
    failed = np.linspace(0.5, 1, 4)[:, None]
    models = fit_models(seen(x, x[:, 0], failed), np.array([0]), {}, np.random.default_rng(0))
    probability = models.success_probability(np.array([[-0.5], [0.8]]))
    assert probability[0] > 0.8
    assert probability[1] < 0.3
    costs = models.log_cost.predict(np.array([[-0.5], [0.8]]))[0]
    assert costs[0] < 0.5
    assert costs[1] > 1.5


def test_one_disaster_does_not_flatten_the_others() -> None:
    x = np.linspace(-1, 1, 12)[:, None]
    scores = np.sin(2 * x[:, 0])
    scores[0] = -1e12
    models = fit_models(seen(x, scores, np.zeros((0, 1))), np.array([0]), {}, np.random.default_rng(0))
    mean = models.score.unwarp(models.score.predict(np.array([[0.8], [-0.4]]))[0])
    assert mean[0] - mean[1] > 0.8


def test_a_busy_machine_does_not_make_a_setting_dear() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    log_costs = 3 * x[:, 0]
    log_costs[7] += math.log(4)
    known = Observations(x, x[:, 1], log_costs, np.arange(20), np.zeros((0, 2)), np.zeros(0), 20)
    models = fit_models(known, np.arange(2), {}, np.random.default_rng(0))
    np.testing.assert_allclose(models.log_cost.predict(x)[0], 3 * x[:, 0], atol=0.1)


def test_explained_tells_signal_from_noise() -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    noise = np.random.default_rng(1).standard_normal(20)
    none = np.zeros((0, 2))
    signal = fit_models(seen(x, x[:, 0], none), np.arange(2), {}, np.random.default_rng(0))
    assert signal.explained > 0.9
    assert fit_models(seen(x, noise, none), np.arange(2), {}, np.random.default_rng(0)).explained < 0.3
    assert fit_models(seen(x, 0 * noise, none), np.arange(2), {}, np.random.default_rng(0)).explained == 0


def test_the_users_threads_come_back() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(3, user_api="blas"):
        assert threads() == {3}
        with one_thread():
            assert threads() == {1}
        assert threads() == {3}


def test_of_sweeps_in_two_threads_the_last_one_out_brings_the_users_threads_back() -> None:
    def threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(limits=3, user_api="blas"):
        first, second = one_thread(), one_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert threads() == {1}  # the second still computes
        second.__exit__(None, None, None)
        assert threads() == {3}


def test_warp_and_unwarp_are_inverse() -> None:
    x = np.linspace(-1, 1, 9)[:, None]
    process = GaussianProcess(x, 5 + 2 * x[:, 0], np.array([0]), warped=True)
    targets = np.array([3.0, 4.5, 7.0, 9.0])
    np.testing.assert_allclose(process.unwarp(process.warp(targets)), targets)
