"""What a table of shares does not say: stalls, waste, failures, reported fronts, gaps, workers, calibration.

`python -m benchmarks.proposer checks` runs ours without curves and prints each figure beside its aim.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.proposer.proposers import Ours
from benchmarks.proposer.report import perfect
from benchmarks.proposer.run import Sweep, run_sweep
from benchmarks.proposer.tasks import SPENT, Task, task
from sweeper import pareto

STALLING = ("linear-noisy", "log-noisy", "percentile-noisy", "noisy")  # cheap scores lie under the noise
NOISY = (*STALLING, "drift", "sparse20", "accidents")
SMOOTH = ("linear", "log", "percentile")  # the author's, without noise
WORKERS = 16
BEGUN = 20  # trials, after which failures should be rare
SOLVED = 100.0  # seconds, of `plateau`
WIDE = 1.645  # sds: 90 % of a normal
LOOKED = (20, 40, 60, 80, 100)  # trials after which each trial is left out and predicted from the others


@dataclass
class Watched:
    """One sweep of ours, with what its models believed."""

    sweep: Sweep
    front: list[tuple[float, float, float, float]]  # (reported score, its truth, reported cost, true cost)
    ahead: list[bool] = field(default_factory=list)  # was the next score inside its 90 % interval?
    left_out: list[bool] = field(default_factory=list)  # was each score in that from the others?
    again: list[bool] = field(default_factory=list)  # did a fresh trial of the front lie in its own?


def watch(name: str, seed: int, trials: int) -> Watched:
    """Runs a sweep and looks over its shoulder."""
    one = task(name)
    tuner = Ours(one, seed)
    seen = Watched(Sweep(name, "ours", seed), [])
    for number in range(trials):
        params = tuner.ask()
        failure = one.failure(params)
        score, cost = (None, failure[1]) if failure is not None else one.evaluate(params, [seed, number])
        if score is not None and tuner.trial.predicted_score is not None:
            seen.ahead.append(inside(tuner, one, params, score))
        tuner.tell(params, score, cost, None if failure is None else failure[0], [])
        seen.sweep.scores.append(float("nan") if failure is not None else one.truth(params)[0])
        seen.sweep.costs.append(cost)
        if number + 1 in LOOKED:
            seen.left_out += left_out(tuner)
    for member in tuner.sweeper.front():
        score, cost = one.truth(member.params)
        seen.front.append((member.score, score, member.cost, cost))
        if one.failure(member.params) is None:
            fresh = one.evaluate(member.params, [seed, trials + len(seen.front)])[0]
            seen.again.append(member.low <= fresh <= member.high)
    return seen


def inside(tuner: Ours, one: Task, params: Any, score: float) -> bool:
    """Whether a score lies in the 90 % interval that the models of its ask gave it, luck included."""
    sweeper = tuner.sweeper
    process = sweeper._fit[1].score
    mean, sd = process.predict(sweeper.space.features(sweeper.space.to_unit(params)[None]))
    off = process.warp(sweeper._to_value(np.array([score]))) - mean
    return bool(abs(off[0]) <= WIDE * process.luck(sd)[0])


def left_out(tuner: Ours) -> list[bool]:
    """For each finished trial, whether its score lies in the interval from all others."""
    sweeper = tuner.sweeper
    process = sweeper._fitted(np.random.default_rng(0))[1].score
    off, sd = process.left_out()
    return list(np.abs(off) <= WIDE * sd)


def share_at_cost(one: Task, sweep: Sweep, average: float) -> float:
    costs, scores = np.array(sweep.costs), np.array(sweep.scores)
    use = np.isfinite(scores) & (np.cumsum(costs) <= average * one.random_cost)
    return one.share(costs[use], scores[use])


def stalls(seeds: Sequence[int], trials: int, echo: Callable[[str], Any]) -> None:
    for name in STALLING:
        one = task(name)
        random = [run_sweep(name, "random", seed, trials) for seed in range(20)]
        quarter = float(np.quantile([share_at_cost(one, s, SPENT[-1]) for s in random], 0.25))
        shares = [share_at_cost(one, watch(name, seed, trials).sweep, SPENT[-1]) for seed in seeds]
        count = sum(share < quarter for share in shares)
        echo(
            f"stalls, {name}: {count} of {len(shares)} seeds below random's lower quartile {quarter:.2f} "
            f"at the large cost; lowest {min(shares):.2f} (aim 0)"
        )


def sweeps(name: str, seeds: Sequence[int], trials: int) -> list[Watched]:
    return [watch(name, seed, trials) for seed in seeds]


def waste(seeds: Sequence[int], trials: int, echo: Callable[[str], Any]) -> None:
    parts = []
    for seen in sweeps("plateau", seeds, trials):
        costs = np.array(seen.sweep.costs)
        parts.append(float(costs[costs > 3 * SOLVED].sum() / costs.sum()))
    low, mid, high = np.quantile(parts, (0.25, 0.5, 0.75))
    echo(f"plateau: {mid:.0%} ({low:.0%} to {high:.0%}) of all spent beyond three times its cost (aim 15 %)")


def failures(seeds: Sequence[int], trials: int, echo: Callable[[str], Any]) -> None:
    for name in ("failures", "mixed"):
        failed = np.array([np.isnan(seen.sweep.scores) for seen in sweeps(name, seeds, trials)])
        low, mid, high = np.quantile(failed.sum(axis=1), (0.25, 0.5, 0.75))
        echo(
            f"{name}: {mid:g} ({low:g} to {high:g}) of {trials} trials failed (aim 5); "
            f"of those after the first {BEGUN} {failed[:, BEGUN:].mean():.1%} (aim 10 %)"
        )


def reported(seeds: Sequence[int], trials: int, echo: Callable[[str], Any]) -> None:
    for name in NOISY:
        signed, absolute, again = [], [], []
        for seen in sweeps(name, seeds, trials):
            again += seen.again
            off = np.array([score - truth for score, truth, _, _ in seen.front])
            signed.append(off.mean())
            absolute.append(np.abs(off).mean())
        echo(
            f"reported front, {name}: {np.mean(signed):+.3f} above the truth on average, members off by "
            f"{np.mean(absolute):.3f} (aim 0.02); {np.mean(again):.0%} of fresh trials in their 90 % interval"
        )


def gaps(seeds: Sequence[int], trials: int, echo: Callable[[str], Any]) -> None:
    """After 40 trials: the share beside a perfect chooser's, and how evenly the front is filled.

    Neighbours are as far apart as they are in the picture: cost in logs and score, each over its range.
    """
    for name in SMOOTH:
        one, shares, ratios = task(name), [], []
        for seen in sweeps(name, seeds, min(trials, 40)):
            costs, scores = np.array(seen.sweep.costs), np.array(seen.sweep.scores)
            shares.append(one.share(costs, scores))
            front = pareto.front(costs, scores)
            x = np.diff(np.log(costs[front])) / np.log(one.cost_max / one.cost_min)
            between = np.hypot(x, np.diff(scores[front]) / (one.best - one.floor))
            ratios.append(between.max() / between.mean())
        best = perfect(name, ("40 trials", 40.0))
        echo(
            f"front, {name}: {np.median(shares) / best:.1%} of what 40 perfect trials reach (aim 95 %); "
            f"largest gap {np.median(ratios):.1f} times the mean, at worst {max(ratios):.1f} (aim 3)"
        )


def workers(seeds: Sequence[int], trials: int, echo: Callable[[str], Any]) -> None:
    """What many workers reach after as many trials as one, each running for as long as its trial costs."""
    ratios = []
    for name in (*SMOOTH, "linear-noisy", "log-noisy", "percentile-noisy"):
        one = task(name)
        found = [parallel(name, seed, trials, count) for count in (1, WORKERS) for seed in seeds]
        shares = [one.share(np.array(costs), np.array(scores)) for costs, scores, _ in found]
        alone, many = np.median(shares[: len(seeds)]), np.median(shares[len(seeds) :])
        ratios.append(many / alone)
        nearest = min(between for _, _, between in found)
        echo(
            f"{WORKERS} workers, {name}: {many:.3f} of the ideal area after {trials} trials, one worker "
            f"{alone:.3f}: {1 - many / alone:+.1%} lost (aim 10 %); the nearest two pending trials were "
            f"{nearest:.3g} apart (aim 0.001)"
        )


def parallel(name: str, seed: int, trials: int, count: int) -> tuple[list[float], list[float], float]:
    """True costs and scores of so many trials on `count` workers; the least distance, in the box [0, 1], of a
    new trial to those then pending, deliberate repeats aside."""
    one, tuner = task(name), Ours(task(name), seed)
    running: list[tuple[float, int, Any, Any]] = []
    costs, scores, nearest, now = [], [], float("inf"), 0.0
    while len(costs) < trials:
        while len(running) < min(count, trials - len(costs)):
            params = tuner.ask()
            trial = tuner.trial
            if trial.origin != "repeat":
                away = [float(np.abs(trial.unit - other.unit).max()) / 2 for *_, other in running]
                nearest = min([nearest, *away])
            heapq.heappush(running, (now + one.truth(params)[1], trial.number, params, trial))
        now, number, params, tuner.trial = heapq.heappop(running)
        score, cost = one.evaluate(params, [seed, number])
        tuner.tell(params, score, cost, None, [])
        scores.append(one.truth(params)[0])
        costs.append(one.truth(params)[1])
    return costs, scores, nearest


CHECKS: dict[str, Callable[[Sequence[int], int, Callable[[str], Any]], None] | None] = {
    "stalls": stalls,
    "waste": waste,
    "failures": failures,
    "reported": reported,
    "gaps": gaps,
    "workers": workers,
    "calibration": None,
}


def run(
    only: Sequence[str], tasks: Sequence[str], seeds: Sequence[int], trials: int, echo: Callable[[str], Any]
) -> None:
    """The checks named; `tasks` are those of the calibration, the others have their own."""
    for name in only:
        check = CHECKS[name]
        if check is None:
            calibration(tasks, seeds, trials, echo)
        else:
            check(seeds, trials, echo)


def calibration(tasks: Sequence[str], seeds: Sequence[int], trials: int, echo: Callable[[str], Any]) -> None:
    for name in tasks:
        if task(name).pool:
            continue
        watched = sweeps(name, seeds, trials)
        ahead = np.mean([hit for seen in watched for hit in seen.ahead])
        others = np.mean([hit for seen in watched for hit in seen.left_out])
        echo(
            f"calibration, {name}: {others:.0%} of scores in the 90 % interval from all other trials "
            f"(aim 85 to 95), {ahead:.0%} of the next scores in theirs"
        )
