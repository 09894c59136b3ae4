"""What early stop saves, what it loses, and what it wrongly ends, where the truth is known.

    python -P benchmarks/early_stop.py --seeds 20
    python -P benchmarks/early_stop.py --seeds 20 --random
    python -P benchmarks/early_stop.py --seeds 20 --oracle 0.02

Each synthetic task is swept twice a seed, with and without early stop, one trial at a time: as it is, where
the learning rate is all there is to get wrong, and with seven more parameters, each of which can spoil it.
With --random the trials are drawn at random, as in a grid of one's own: then far more of them are hopeless.
With --oracle a trial is ended by one who knows the truth, at the first point from which it will nowhere lift
the true front by more than this share of the best score: no rule that spares the others can save more. A
trial reports a curve of so many points, whose noise is shared within the trial but for a third.

not run   the share of its trials' cost that a sweep with early stop does not spend
cost      what it spends, beside the sweep without, for as many trials (the trials differ: what is saved early
          may go into dearer ones later)
area      the area under its trials' true front, beside the sweep without, after as many trials; in both each
          point of a curve counts as the shorter trial that it is
equal     the same when both have spent what the thriftier one spends
wrongly   of the trials that were ended, those which would have lifted the true front by more than two
          hundredths of the best score somewhere on the rest of their way
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from sweeper import synthetic
from sweeper.loop import HOPELESS
from sweeper.proposer import Point, Sweeper, Trial
from sweeper.synthetic import STEPS_PER_SECOND, Task

LIFT = 0.02
MORE = {f"x{i}": {"min": 0.0, "max": 1.0} for i in range(1, 8)}  # each is best at 0.7


class Hard(Task):
    """A synthetic task with seven more parameters; far from their best, the score is a fraction of itself."""

    parameters: ClassVar = {**synthetic.PARAMETERS, **MORE}

    def truth(self, params: Mapping[str, Any]) -> tuple[float, float]:
        off = sum((params[name] - 0.7) ** 2 for name in MORE)
        quality = np.exp(-((np.log10(params["lr"]) + 3) ** 2) - 2 * off)
        cost = params["steps"] / STEPS_PER_SECOND
        return self.curve(float(quality), cost), cost


TASKS = {**synthetic.TASKS}
for _name, _task in synthetic.TASKS.items():
    TASKS[f"hard-{_name}"] = Hard(f"hard-{_name}", _task.curve, _task.best, _task.scale, _task.noisy)


@dataclass
class Sweep:
    """One sweep: what it spent, the truth about its trials, how many it ended, how many of them wrongly."""

    spent: float = 0.0
    full: float = 0.0  # what its trials would have cost, run to their ends
    costs: list[float] = field(default_factory=list)  # of all points, as below
    scores: list[float] = field(default_factory=list)
    when: list[float] = field(default_factory=list)  # what was spent when each of them was over
    ran: list[dict[str, float]] = field(default_factory=list)  # params of its trials, as far as each was run
    ended: int = 0
    wrong: int = 0


def curve(task: Task, params: dict[str, float], count: int, generator: np.random.Generator) -> list[Point]:
    """Points of one trial, at steps that lie evenly."""
    shared, points = generator.standard_normal(), []
    for step in np.linspace(0, params["steps"], count + 1)[1:]:
        score, cost = task.truth({**params, "steps": max(step, 1.0)})
        if task.noisy:
            noise = np.sqrt(0.7) * shared + np.sqrt(0.3) * generator.standard_normal()
            sd = synthetic.NOISE_SD * task.best
            if task.scale == "percentile":
                sd = np.sqrt(max(score * (1 - score), 1e-6) / synthetic.GAMES)
            score = score + sd * noise
            if task.scale == "percentile":
                score = float(np.clip(score, 0, 1))
        points.append(Point(float(step), float(cost), float(score)))
    return points


def sweep(
    task: Task, seed: int, trials: int, count: int, stop: bool, blind: bool, oracle: float | None
) -> Sweep:
    """One sweep of so many trials; `blind`: of params drawn at random, not of proposals."""
    tuner = Sweeper(task.parameters, seed=seed, scale=task.scale, fidelity=task.fidelity)
    result, space = Sweep(), tuner.space
    drawn = [space.to_params(unit) for unit in space.sample(trials, np.random.default_rng([seed, 1]))]
    for params in drawn:
        trial = tuner.ask(among=[params] if blind else None)
        points = curve(task, trial.params, count, np.random.default_rng([seed, trial.number]))
        shown = next(
            (n for n in range(1, count) if stop and hopeless(task, result, tuner, trial, points[:n], oracle)),
            count,
        )
        result.spent += points[shown - 1].cost
        result.full += points[-1].cost
        if shown == count:
            tuner.tell(trial, score=points[-1].score, cost=points[-1].cost, points=points)
        else:
            tuner.stop(trial, points[:shown])
            result.ended += 1
            result.wrong += lifts(task, result, trial.params, points[shown - 1].step, LIFT)
        result.ran.append({**trial.params, "steps": points[shown - 1].step})
        for point in points[:shown]:
            score, cost = task.truth({**trial.params, "steps": max(point.step, 1.0)})
            result.costs.append(cost)
            result.scores.append(score)
            result.when.append(result.spent)
    return result


def hopeless(
    task: Task, known: Sweep, tuner: Sweeper, trial: Trial, shown: list[Point], oracle: float | None
) -> bool:
    """Whether a trial that has shown these points is to be ended."""
    if oracle is None:
        return tuner.chance(trial, shown) < HOPELESS
    return not lifts(task, known, trial.params, shown[-1].step, oracle)


def lifts(task: Task, known: Sweep, params: dict[str, float], step: float, by: float) -> bool:
    """Whether these params would lift the true front so far, somewhere between this step and their end, by
    more than a share `by` of the best score. Trials could have been ended anywhere on their way."""
    for further in np.linspace(step, params["steps"], 50)[1:]:
        left = max((task.truth({**p, "steps": min(further, p["steps"])})[0] for p in known.ran), default=0.0)
        if task.truth({**params, "steps": further})[0] > left + by * task.best:
            return True
    return False


def share(task: Task, sweep: Sweep, spent: float = float("inf")) -> float:
    """Of the ideal area, when so much was spent."""
    count = sum(when <= spent for when in sweep.when)
    return task.share(sweep.costs[:count], sweep.scores[:count])


def compare(
    task: Task, seed: int, trials: int, count: int, blind: bool, oracle: float | None
) -> tuple[list[float], Sweep]:
    """(not run, cost, area, area at equal cost) of one seed, and the sweep with early stop."""
    without, with_it = (sweep(task, seed, trials, count, stop, blind, oracle) for stop in (False, True))
    least = min(without.spent, with_it.spent)
    figures = [
        1 - with_it.spent / with_it.full,
        with_it.spent / without.spent - 1,
        share(task, with_it) / share(task, without) - 1,
        share(task, with_it, least) / share(task, without, least) - 1,
    ]
    return figures, with_it


def interval(values: list[float]) -> str:
    """Mean and half the width of its 95 % interval, in percent."""
    half = 1.96 * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{100 * statistics.fmean(values):+6.1f} ±{100 * half:5.1f} %"


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--points", type=int, default=10)
    parser.add_argument("--random", action="store_true", help="trials drawn at random, not proposed")
    parser.add_argument("--oracle", type=float, metavar="LIFT", help="ended by one who knows the truth")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    options = parser.parse_args()
    print(f"{options.seeds} seeds, {options.trials} trials of {options.points} points")
    print(f"{'task':<22} {'not run':>16} {'cost':>16} {'area':>16} {'equal':>16}   ended  wrongly")
    everything: list[list[float]] = []
    for name in options.tasks:
        found = [
            compare(TASKS[name], seed, options.trials, options.points, options.random, options.oracle)
            for seed in range(1000, 1000 + options.seeds)
        ]
        rows = [figures for figures, _ in found]
        everything += rows
        ended, wrong = sum(sweep.ended for _, sweep in found), sum(sweep.wrong for _, sweep in found)
        share_ended = 100 * ended / (options.seeds * options.trials)
        columns = " ".join(interval(list(column)) for column in zip(*rows, strict=True))
        print(f"{name:<22} {columns}  {share_ended:4.1f} %  {wrong} of {ended}", flush=True)
    columns = " ".join(interval(list(column)) for column in zip(*everything, strict=True))
    print(f"{'all':<22} {columns}")


if __name__ == "__main__":
    main()
