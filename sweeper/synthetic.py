"""Synthetic tasks whose truth is known: two parameters, a cost, three ways in which score grows with it.

A learning rate (best at 1e-3, `quality` falls off on both sides) and a number of steps at 10,000 steps a
second. The score rises linearly with cost, with the log of cost, or as a win rate that saturates at 0.999,
where the last hundredths count. Noise is one Gaussian draw of a stated sd a trial, or the luck of 1,000
games for the win rate.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sweeper.errors import ConfigError
from sweeper.pareto import staircase_area

STEPS_PER_SECOND = 10_000
NOISE_SD = 0.02  # of the best score, on the linear and the log task
GAMES = 1_000  # whose wins are counted on the noisy percentile task: sd sqrt(p (1 - p) / 1000)

# The first trial starts far from the best learning rate: the middle of the range would give it away.
PARAMETERS: dict[str, dict[str, Any]] = {
    "lr": {"distribution": "log", "min": 1e-5, "max": 0.1, "start": 0.03},
    "steps": {"distribution": "log", "type": "int", "min": 10_000, "max": 1_000_000},
}


@dataclass(frozen=True)
class Task:
    """One task. Costs are seconds, scores 0 to `best`, higher is better."""

    name: str
    curve: Callable[[float, float], float]  # (quality 0..1, cost in seconds) -> noise-free score
    best: float  # the score of the best params
    scale: str = "linear"  # as a user would declare it
    noisy: bool = False

    parameters = PARAMETERS
    fidelity = "steps"
    floor = 0.0
    cost_min = PARAMETERS["steps"]["min"] / STEPS_PER_SECOND
    cost_max = PARAMETERS["steps"]["max"] / STEPS_PER_SECOND

    def truth(self, params: Mapping[str, Any]) -> tuple[float, float]:
        """The noise-free (score, cost) of params."""
        quality = math.exp(-((math.log10(params["lr"]) + 3) ** 2))
        cost = params["steps"] / STEPS_PER_SECOND
        return self.curve(quality, cost), cost

    def evaluate(self, params: Mapping[str, Any], seed: int | Sequence[int] = 0) -> tuple[float, float]:
        """One trial's (score, cost); `seed` draws its noise."""
        score, cost = self.truth(params)
        if self.noisy:
            generator = np.random.default_rng(seed)
            if self.scale == "percentile":
                score = generator.binomial(GAMES, score) / GAMES
            else:
                score += NOISE_SD * self.best * generator.standard_normal()
        return float(score), float(cost)

    def ideal(self, costs: np.ndarray) -> np.ndarray:
        """The best noise-free score that each of `costs` [n] can buy: the known front."""
        return np.array([self.curve(1.0, float(cost)) for cost in costs])

    @cached_property
    def ideal_area(self) -> float:
        """Area under the ideal front over log10 cost, score times decades."""
        costs = np.geomspace(self.cost_min, self.cost_max, 4001)
        return float(np.trapezoid(self.ideal(costs), np.log10(costs)))

    def share(self, costs: Any, scores: Any) -> float:
        """The part of the ideal area under the staircase of trials with these noise-free costs and scores."""
        return staircase_area(costs, scores, self.cost_min, self.cost_max, self.floor) / self.ideal_area

    @property
    def random_cost(self) -> float:
        """Mean cost of a trial drawn uniformly from the space (log-uniform steps)."""
        return (self.cost_max - self.cost_min) / math.log(self.cost_max / self.cost_min)


_CURVES: dict[str, tuple[Callable[[float, float], float], float, str]] = {
    "linear": (lambda q, cost: q * cost / Task.cost_max, 1.0, "linear"),
    "log": (lambda q, cost: q * math.log(cost / Task.cost_min) / math.log(Task.cost_max / Task.cost_min), 1.0,
            "linear"),
    "percentile": (lambda q, cost: 1 - 0.001 ** (q * cost / Task.cost_max), 0.999, "percentile"),
}  # fmt: skip
TASKS = {
    name + suffix: Task(name + suffix, curve, best, scale, bool(suffix))
    for name, (curve, best, scale) in _CURVES.items()
    for suffix in ("", "-noisy")
}


def task(name: str) -> Task:
    """The task called `name`. Raises ConfigError for a name that is none."""
    if name not in TASKS:
        match = difflib.get_close_matches(str(name), TASKS, n=1)
        hint = f" (did you mean '{match[0]}'?)" if match else ""
        raise ConfigError(
            "objective.synthetic", f"no such task as {name!r}{hint}", f"one of {', '.join(TASKS)}"
        )
    return TASKS[name]
