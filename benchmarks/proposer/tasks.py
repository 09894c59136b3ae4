"""Synthetic tasks whose ideal front is known exactly, for any proposer.

Every task has the interface of `sweeper.synthetic.Task`, and what users meet besides: a goal, constraints,
failures with their cost, honest learning curves. Scores are built so that the best params at each cost are
known in closed form: settings that only tune (learning rate, discount) have a quality of 1 at values that
are computed, settings that also cost (batch, width) are few and all tried. `best_params(cost)` reaches the
ideal front; a test searches for params that beat it.

Tasks with `held_out` are for reporting only: no rule or constant is chosen by looking at them.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sweeper import synthetic
from sweeper.pareto import front, staircase_area
from sweeper.space import Space

Params = Mapping[str, Any]
SPENT = (1.5, 4.5, 13.5)  # average random trials: the small, the middle and the large spent cost
DRAWS = 4000  # random params whose mean cost is the cost of a random trial
CURVE = np.geomspace(1 / 32, 1, 6)  # of the steps: where a learning curve is looked at
SHARED_LUCK = 0.7  # correlation between the noise of a curve's points and the noise at its end


@dataclass(frozen=True)
class Task:
    """One task. `score_of` and `cost_of` are its noise-free truth, `best_params(cost)` its ideal front.

    Costs are seconds. The measure is the area between `floor` and the best score over log10 cost on
    [cost_min, cost_max], in units of `value(score)`; where `flat`, all costs are alike and the measure is
    the best value found. `noise(score, generator)` draws one trial's score.
    """

    name: str
    parameters: dict[str, dict[str, Any]]
    score_of: Callable[[Params], float]
    cost_of: Callable[[Params], float]
    best_params: Callable[[float], dict[str, Any]]
    cost_min: float
    cost_max: float
    floor: float = 0.0
    best: float = 1.0
    goal: str = "maximize"
    scale: str = "linear"  # as a user would declare it
    fidelity: str | None = "steps"  # None: no honest curves
    constraints: tuple[str, ...] = ()
    fixed: Mapping[str, Any] | None = None
    noise: Callable[[float, np.random.Generator], float] | None = None
    fails: Callable[[Params], tuple[str, float] | None] | None = None  # (name, cost)
    value: Callable[[Any], Any] | None = None
    flat: bool = False
    held_out: bool = False
    pool: tuple[dict[str, Any], ...] | None = None  # a table's: the only params there are

    @cached_property
    def space(self) -> Space:
        return Space(self.parameters, self.constraints, self.fixed)

    def truth(self, params: Params) -> tuple[float, float]:
        """The noise-free (score, cost) of params."""
        return float(self.score_of(params)), float(self.cost_of(params))

    def failure(self, params: Params) -> tuple[str, float] | None:
        """(name, cost) where these params fail, else None."""
        return None if self.fails is None else self.fails(params)

    def evaluate(self, params: Params, seed: int | Sequence[int] = 0) -> tuple[float, float]:
        """One trial's (score, cost); `seed` draws its noise."""
        score, cost = self.truth(params)
        if self.noise is not None:
            score = self.noise(score, np.random.default_rng(seed))
        return float(score), cost

    def curve(
        self, params: Params, seed: int | Sequence[int] | None = None
    ) -> list[tuple[float, float, float]]:
        """(step, cost, score) along the run, the last its end; noise-free without a seed.

        The luck of a run colours its whole curve, of each point as far as luck moves it at all: where nothing
        is learned yet there is none. Without a fidelity there is only the end.
        """
        end = self.truth(params) if seed is None else self.evaluate(params, seed)
        if self.fidelity is None:
            return [(1.0, end[1], end[0])]
        low, steps = self.parameters[self.fidelity]["min"], params[self.fidelity]
        shorter = sorted({round(steps * part) for part in CURVE[:-1]})
        points = []
        generator = None if seed is None else np.random.default_rng([*np.atleast_1d(seed), 1])
        for step in shorter:
            if not low <= step < steps:
                continue
            score, cost = self.truth({**params, self.fidelity: step})
            if generator is not None and self.noise is not None:
                own = self.noise(score, generator) - score
                shared = self.noise(score, np.random.default_rng(seed)) - score  # the draw that made the end
                score += SHARED_LUCK * shared + math.sqrt(1 - SHARED_LUCK**2) * own
                if self.scale == "percentile":
                    score = min(max(score, 0.0), 1.0)
            points.append((float(step), cost, float(score)))
        return [*points, (float(steps), end[1], end[0])]

    def ideal(self, costs: Any) -> np.ndarray:
        """The best noise-free score that each of `costs` [n] can buy: the known front."""
        return np.array([self.score_of(self.best_params(float(cost))) for cost in costs])

    @cached_property
    def ideal_area(self) -> float:
        """Area under the ideal front in `value` units, times decades of cost (not where `flat`)."""
        if self.flat:
            return float(abs(self._value(self.best) - self._value(self.floor)))
        costs = np.geomspace(self.cost_min, self.cost_max, 1001)
        return float(np.trapezoid(self.heights(costs), np.log10(costs)))

    def heights(self, costs: Any) -> np.ndarray:
        """How far the ideal front lies beyond the floor at `costs` [n], in `value` units."""
        return np.abs(self._value(self.ideal(costs)) - self._value(self.floor))

    def share(self, costs: Any, scores: Any) -> float:
        """The part of the ideal area under the staircase of trials with these noise-free costs and scores."""
        values, floor = self._value(np.asarray(scores, float)), float(self._value(self.floor))
        if self.flat:
            lifts = (values - floor) * (1 if self.goal == "maximize" else -1)
            return max(0.0, float(lifts.max(initial=0.0))) / self.ideal_area
        area = staircase_area(costs, values, self.cost_min, self.cost_max, floor, self.goal)
        return area / self.ideal_area

    def _value(self, scores: Any) -> Any:
        return scores if self.value is None else self.value(scores)

    @cached_property
    def random_cost(self) -> float:
        """Mean cost of a trial drawn uniformly from the space, failures at what they cost."""
        space = self.space
        units = space.sample(DRAWS, np.random.default_rng(0))
        if self.fidelity is not None:  # the steps rule the cost: spread evenly, the mean settles sooner
            column = space.column[self.fidelity]
            even = (np.arange(len(units)) + 0.5) / len(units) * 2 - 1
            units[:, column] = even[np.argsort(np.argsort(units[:, column], kind="stable"), kind="stable")]
            units = units[space.feasible(space.snap(units))]
        total = 0.0
        for unit in units:
            params = space.to_params(unit)
            failure = self.failure(params)
            total += self.cost_of(params) if failure is None else failure[1]
        return total / len(units)


# -- pieces ----------------------------------------------------------------------------------------


def _log(low: float, high: float, start: float | None = None, kind: str | None = None) -> dict[str, Any]:
    return _range("log", low, high, start, kind)


def _range(
    distribution: str, low: float, high: float, start: float | None = None, kind: str | None = None
) -> dict[str, Any]:
    made: dict[str, Any] = {"distribution": distribution, "min": low, "max": high}
    if kind is not None:
        made["type"] = kind
    if start is not None:
        made["start"] = start
    return made


def _odds(share: float) -> float:
    """log10 of the odds."""
    return math.log10(share / (1 - share))


def _share(odds: float) -> float:
    """The inverse of `_odds`."""
    return 1 / (1 + 10**-odds)


def _bell(*distances: float) -> float:
    """1 where all distances (in widths) are 0."""
    return math.exp(-0.5 * sum(d * d for d in distances))


def _whole(steps: float, low: float, high: float) -> int:
    """The most whole steps not above `steps`, inside the range."""
    return int(min(max(math.floor(steps + 1e-9), low), high))


def _gauss(sd: float) -> Callable[[float, np.random.Generator], float]:
    return lambda score, generator: score + sd * generator.standard_normal()


# -- the author's three ------------------------------------------------------------------------------


def _author(task: synthetic.Task) -> Task:
    def best(cost: float) -> dict[str, Any]:
        return {"lr": 1e-3, "steps": _whole(cost * synthetic.STEPS_PER_SECOND, 1e4, 1e6)}

    noise: Callable[[float, np.random.Generator], float] | None = None
    if task.noisy and task.scale == "percentile":

        def wins(score: float, generator: np.random.Generator) -> float:
            return float(generator.binomial(synthetic.GAMES, score) / synthetic.GAMES)

        noise = wins
    elif task.noisy:
        noise = _gauss(synthetic.NOISE_SD * task.best)
    return Task(
        task.name, task.parameters, lambda p: task.truth(p)[0], lambda p: task.truth(p)[1], best,
        task.cost_min, task.cost_max, best=task.best, scale=task.scale, noise=noise,
    )  # fmt: skip


# -- PPO: ten parameters -----------------------------------------------------------------------------

PPO: dict[str, dict[str, Any]] = {
    "steps": _log(1e5, 3e8, 1e7, "int"),
    "lr": _log(1e-5, 0.1, 3e-4),
    "gamma": _range("logit", 0.8, 0.9999, 0.99),
    "gae_lambda": _range("logit", 0.6, 0.995, 0.95),
    "ent_coef": _log(1e-5, 0.2, 0.01),
    "clip": _range("log", 0.02, 1.0, 0.2),
    "vf_coef": _log(0.1, 10, 0.5),
    "minibatch": _range("pow2", 512, 65536, 4096),
    "envs": _range("pow2", 64, 8192, 1024),
    "hidden": _range("pow2", 32, 1024, 128),
}
_PPO_GRID = [
    {"minibatch": m, "envs": e, "hidden": h}
    for m, e, h in itertools.product(
        [2**i for i in range(9, 17)], [2**i for i in range(6, 14)], [2**i for i in range(5, 11)]
    )
]


@dataclass(frozen=True)
class _Ppo:
    """A made-up PPO: steps, batch, environments and width cost; the rest only tunes.

    Distances (in widths) of the tuned settings from their best go through `mix`, an upper triangular
    matrix: with entries off the diagonal the settings lean on one another, and the best stays where all
    distances are 0. What lies off loses sample efficiency and some of the asymptote.
    """

    lr: float  # best log10 learning rate at minibatch 4096; it grows with the root of the minibatch
    gamma: float
    gae: float
    ent: float  # best log10 entropy coefficient
    clip: float
    vf: float
    drift: float  # decades of learning rate lost per decade of steps beyond 1e7
    half: float  # steps to half of the asymptote at best settings
    power: float
    few: float  # environments below which learning is poorer
    many: float  # minibatch above which samples are wasted
    rate: float  # steps a second at minibatch 4096, 1,024 environments, hidden 128
    mix: tuple[tuple[float, ...], ...] | None = None

    def distances(self, p: Params) -> np.ndarray:
        lr = self.lr + 0.5 * math.log10(p["minibatch"] / 4096) - self.drift * math.log10(p["steps"] / 1e7)
        away = np.array([
            (math.log10(p["lr"]) - lr) / 0.65,
            (_odds(p["gamma"]) - _odds(self.gamma)) / 0.8,
            (_odds(p["gae_lambda"]) - _odds(self.gae)) / 0.9,
            (math.log10(p["ent_coef"]) - self.ent) / 1.3,
            math.log10(p["clip"] / self.clip) / 0.7,
            math.log10(p["vf_coef"] / self.vf) / 1.2,
        ])  # fmt: skip
        return away if self.mix is None else np.asarray(self.mix) @ away

    def efficiency(self, p: Params) -> float:
        """Of a step, at best tuning."""
        return 1 / ((1 + p["minibatch"] / self.many) * (1 + self.few / p["envs"]))

    def asymptote(self, p: Params) -> float:
        return 1 - 0.45 * math.exp(-p["hidden"] / 110)

    def score(self, p: Params) -> float:
        quality = _bell(*self.distances(p))
        effective = max(p["steps"] * quality * self.efficiency(p), 1e-200)
        return quality**0.2 * self.asymptote(p) / (1 + (self.half / effective) ** self.power)

    def seconds_per_step(self, p: Params) -> float:
        width = 0.5 + 0.5 * (p["hidden"] / 128) ** 1.2
        parallel = 0.6 + 0.4 * math.sqrt(1024 / p["envs"])
        batch = 0.6 + 0.4 * math.sqrt(4096 / p["minibatch"])
        return width * parallel * batch / self.rate

    def cost(self, p: Params) -> float:
        return p["steps"] * self.seconds_per_step(p)

    def best(self, cost: float) -> dict[str, Any]:
        most = np.minimum(cost / self._grid_seconds, PPO["steps"]["max"])
        scores = self._grid_asymptote / (1 + (self.half / (most * self._grid_efficiency)) ** self.power)
        scores[most < PPO["steps"]["min"]] = -1
        i = int(np.argmax(scores))
        steps = _whole(most[i], PPO["steps"]["min"], PPO["steps"]["max"])
        lr = (
            self.lr
            + 0.5 * math.log10(_PPO_GRID[i]["minibatch"] / 4096)
            - self.drift * math.log10(steps / 1e7)
        )
        return {
            "steps": steps, "lr": 10**lr, "gamma": self.gamma, "gae_lambda": self.gae,
            "ent_coef": 10**self.ent, "clip": self.clip, "vf_coef": self.vf, **_PPO_GRID[i],
        }  # fmt: skip

    @cached_property
    def _grid_seconds(self) -> np.ndarray:
        return np.array([self.seconds_per_step(p) for p in _PPO_GRID])

    @cached_property
    def _grid_efficiency(self) -> np.ndarray:
        return np.array([self.efficiency(p) for p in _PPO_GRID])

    @cached_property
    def _grid_asymptote(self) -> np.ndarray:
        return np.array([self.asymptote(p) for p in _PPO_GRID])


def _ppo_task(name: str, ppo: _Ppo, **settings: Any) -> Task:
    return Task(name, PPO, ppo.score, ppo.cost, ppo.best, 5.0, 1e5, **settings)


_PPO_PLAIN = _Ppo(-2.5, 0.985, 0.92, -2.2, 0.16, 1.6, 0.0, 6e6, 0.75, 200, 9000, 25_000)
_PPO_ROTATED = _Ppo(
    -3.1, 0.995, 0.86, -3.1, 0.3, 0.7, 0.18, 2e7, 0.6, 500, 25_000, 40_000,
    mix=((0.9, 0.5, 0.0, 0.4, 0.5, 0.0), (0.0, 0.9, 0.6, 0.0, 0.0, 0.2), (0.0, 0.0, 0.9, 0.0, 0.3, 0.0),
         (0.0, 0.0, 0.0, 0.9, 0.0, 0.4), (0.0, 0.0, 0.0, 0.0, 0.9, 0.3), (0.0, 0.0, 0.0, 0.0, 0.0, 0.9)),
)  # fmt: skip


# -- tasks of a few parameters, at 10,000 steps a second -----------------------------------------------

RATE = 10_000.0
LOW, HIGH = 1e5, 1e8  # steps: 10 s to 10,000 s
_STEPS = {"steps": _log(LOW, HIGH, 1e6, "int")}
_COSTS: dict[str, Any] = {"cost_min": LOW / RATE, "cost_max": HIGH / RATE}


def _seconds(p: Params) -> float:
    return p["steps"] / RATE


def _progress(p: Params) -> float:
    """0 at the fewest steps, 1 at the most, by decades."""
    return math.log(p["steps"] / LOW) / math.log(HIGH / LOW)


def _at(cost: float, rate: float = RATE) -> int:
    return _whole(cost * rate, LOW, HIGH)


def _rise(progress: float) -> float:
    """A plain front: 0.1 at the cheap end, 1 at the dear one, bent like most learning curves."""
    return 0.1 + 0.9 * (1 - (1 - progress) ** 1.7)


def _few() -> dict[str, dict[str, Any]]:
    """Learning rate, discount and entropy beside the steps; starts lie off the best."""
    return {
        "lr": _log(1e-5, 0.1, 0.02),
        "gamma": _range("logit", 0.8, 0.999, 0.9),
        "ent_coef": _log(1e-5, 0.2, 0.1),
        **_STEPS,
    }


_FEW_BEST = {"lr": 1e-3, "gamma": 0.98, "ent_coef": 2e-3}


def _few_quality(p: Params, lr: float = -3.0, gamma: float = 0.98, ent: float = math.log10(2e-3)) -> float:
    return _bell(
        (math.log10(p["lr"]) - lr) / 0.55,
        (_odds(p["gamma"]) - _odds(gamma)) / 0.5,
        (math.log10(p["ent_coef"]) - ent) / 1.0,
    )


def _plateau() -> Task:
    solved = 100.0  # seconds at the best settings; everything dearer is waste

    def score(p: Params) -> float:
        quality = _few_quality(p)
        return quality**0.5 * min(1.0, (quality * _seconds(p) / solved) ** 0.8)

    return Task("plateau", _few(), score, _seconds, lambda c: {**_FEW_BEST, "steps": _at(c)}, **_COSTS)


def _cliff() -> Task:
    best, edge = -2.0, -1.9  # log10 of lr / (1 - momentum): the best lies a fifth below the edge

    def effective(p: Params) -> float:
        return math.log10(p["lr"] / (1 - p["momentum"]))

    def score(p: Params) -> float:
        quality = _bell(
            (effective(p) - best) / 0.5,
            (_odds(p["momentum"]) - _odds(0.9)) / 0.7,
            (math.log10(p["ent_coef"]) + 3) / 1.0,
        )
        return quality * _rise(_progress(p)) * (1.0 if effective(p) <= edge else 0.02)

    parameters = {
        "lr": _log(1e-5, 0.1, 1e-4),
        "momentum": _range("logit", 0.1, 0.99, 0.5),
        "ent_coef": _log(1e-5, 0.2, 0.05),
        **_STEPS,
    }

    def reach(cost: float) -> dict[str, Any]:
        return {"lr": 10**best * 0.1, "momentum": 0.9, "ent_coef": 1e-3, "steps": _at(cost)}

    return Task("cliff", parameters, score, _seconds, reach, **_COSTS)


def _drift() -> Task:
    def centre(progress: float) -> tuple[float, float, float]:
        """Best log10 lr, discount, log10 entropy coefficient."""
        return (
            -2.0 - 2.0 * progress,
            _share(_odds(0.9) + progress * (_odds(0.995) - _odds(0.9))),
            -4 + 2 * progress,
        )

    def score(p: Params) -> float:
        lr, gamma, ent = centre(_progress(p))
        quality = _bell(
            (math.log10(p["lr"]) - lr) / 0.4,
            (_odds(p["gamma"]) - _odds(gamma)) / 0.5,
            (math.log10(p["ent_coef"]) - ent) / 0.8,
        )
        return quality * _rise(_progress(p))

    def reach(cost: float) -> dict[str, Any]:
        steps = _at(cost)
        lr, gamma, ent = centre(_progress({"steps": steps}))
        return {"lr": 10**lr, "gamma": gamma, "ent_coef": 10**ent, "steps": steps}

    return Task("drift", _few(), score, _seconds, reach, **_COSTS, noise=_gauss(0.01))


def _sparse20() -> Task:
    matter = {"a": 0.62, "b": 0.3, "c": 0.45, "d": 0.75}  # best places in 0..1; the rest does nothing
    parameters: dict[str, dict[str, Any]] = {**_STEPS}
    for name in matter:
        parameters[name] = _range("linear", 0.0, 1.0, 0.5)
    for i in range(15):
        parameters[f"idle{i}"] = _log(1e-4, 1.0) if i % 2 else _range("linear", 0.0, 1.0)

    def score(p: Params) -> float:
        return _bell(*[(p[name] - best) / 0.18 for name, best in matter.items()]) * _rise(_progress(p))

    def reach(cost: float) -> dict[str, Any]:
        idle = {name: 0.5 for name in parameters if name.startswith("idle")}
        return {"steps": _at(cost), **matter, **idle}

    return Task("sparse20", parameters, score, _seconds, reach, **_COSTS, noise=_gauss(0.01))


def _lucky(
    name: str, noise: Callable[[float, np.random.Generator], float], fidelity: str | None = "steps"
) -> Task:
    """The plain front, reached by one setting at every cost; what is hard is the luck of the runs."""

    def score(p: Params) -> float:
        return _few_quality(p) * _rise(_progress(p))

    def reach(cost: float) -> dict[str, Any]:
        return {**_FEW_BEST, "steps": _at(cost)}

    return Task(name, _few(), score, _seconds, reach, **_COSTS, fidelity=fidelity, noise=noise)


def _noisy() -> Task:
    def noise(score: float, generator: np.random.Generator) -> float:
        return score + 0.1 * generator.standard_t(3) / math.sqrt(3)  # sd 0.1 of the range, heavy tails

    return _lucky("noisy", noise)


def _accidents() -> Task:
    """Every sixth run or so collapses, whatever its params: it ends at three tenths of what it should."""

    def noise(score: float, generator: np.random.Generator) -> float:
        collapsed = generator.random() < 1 / 6
        return (0.3 if collapsed else 1.0) * score + 0.01 * generator.standard_normal()

    return _lucky("accidents", noise, fidelity=None)  # when on its way a run collapses is another story


def _failures() -> Task:
    """One optimizer of five always fails; of the others those with a high step size and little clipping."""

    def fails(p: Params) -> tuple[str, float] | None:
        if p["optimizer"] == "lbfgs":
            return "crash", 1.0
        height = (math.log10(p["lr"]) + 3) / 2 + 0.6 * (math.log10(p["max_grad_norm"]))  # each -1..1
        return ("diverged", 0.3 * _seconds(p)) if height > 0.825 else None

    centres = {"adam": -3.0, "rmsprop": -3.3, "sgd": -1.6, "muon": -2.3, "lbfgs": -3.0}
    heights = {"adam": 0.9, "rmsprop": 0.8, "sgd": 0.75, "muon": 1.0, "lbfgs": 0.0}

    def score(p: Params) -> float:
        quality = _bell(
            (math.log10(p["lr"]) - centres[p["optimizer"]]) / 0.5,
            (_odds(p["gamma"]) - _odds(0.97)) / 0.5,
            (math.log10(p["max_grad_norm"]) - 0.3) / 0.9,
        )
        return heights[p["optimizer"]] * quality * _rise(_progress(p))

    parameters = {
        "optimizer": {"values": list(centres)},
        "lr": _log(1e-5, 0.1, 1e-4),
        "max_grad_norm": _log(0.1, 10, 1.0),
        "gamma": _range("logit", 0.8, 0.999, 0.9),
        **_STEPS,
    }

    def reach(cost: float) -> dict[str, Any]:
        return {
            "optimizer": "muon",
            "lr": 10**-2.3,
            "max_grad_norm": 10**0.3,
            "gamma": 0.97,
            "steps": _at(cost),
        }

    return Task("failures", parameters, score, _seconds, reach, **_COSTS, noise=_gauss(0.01), fails=fails)


_SPEED = {"none": 1.0, "gru": 0.55, "lstm": 0.4}  # of 10,000 steps a second
_MEMORY = {
    "none": (0.55, 0.0),
    "gru": (0.7, 0.28),
    "lstm": (0.7, 0.32),
}  # asymptote without, with much memory
_SIZES = [2**i for i in range(4, 10)]


def _memory_speed(core: str, size: int) -> float:
    return RATE * _SPEED[core] / (1.0 if core == "none" else 0.7 + 0.3 * (size / 64))


def _memory_score(core: str, size: int, progress: float, late: float) -> float:
    """Memory learns later and reaches higher."""
    plain, more = _MEMORY[core]
    asymptote = plain + more * (0.0 if core == "none" else 1 - math.exp(-size / 60))
    delay = 0.0 if core == "none" else late
    return asymptote * _rise(max(0.0, progress - delay) / (1 - delay))


def _cored(
    name: str,
    late: float,
    centres: dict[str, float],
    extras: dict[str, tuple[str, float, float]],
    lstm_sizes: Sequence[int] = _SIZES,
    **settings: Any,
) -> Task:
    """Categories with settings that only one of them has: an optimizer's own, a memory's width.

    `lstm_sizes`: those that do not fail. The first of `centres` is the best optimizer.
    """
    options = [("none", 0)] + [("gru", size) for size in _SIZES] + [("lstm", size) for size in lstm_sizes]
    heights = {optimizer: 1.0 - 0.06 * i for i, optimizer in enumerate(centres)}

    def seconds(p: Params) -> float:
        return p["steps"] / _memory_speed(p["memory"], p.get("size", 0))

    def score(p: Params) -> float:
        away = [(math.log10(p["lr"]) - centres[p["optimizer"]]) / 0.5]
        for optimizer, (extra, best, width) in extras.items():
            if p["optimizer"] == optimizer:
                away.append((_odds(p[extra]) - _odds(best)) / width)
        reached = _memory_score(p["memory"], p.get("size", 0), _progress(p), late)
        return heights[p["optimizer"]] * _bell(*away) * reached

    parameters: dict[str, dict[str, Any]] = {
        "optimizer": {"values": list(centres)[::-1]},
        "lr": _log(1e-5, 0.1, 1e-4),
        **{
            extra: {**_range("logit", 0.5, 0.999), "when": {"optimizer": optimizer}}
            for optimizer, (extra, _, _) in extras.items()
        },
        "memory": {"values": list(_SPEED)},
        "size": {**_range("pow2", _SIZES[0], _SIZES[-1]), "when": {"memory": ["gru", "lstm"]}},
        **_STEPS,
    }
    first = next(iter(centres))

    def reach(cost: float) -> dict[str, Any]:
        best, found = -1.0, options[0]
        for core, size in options:
            rate = _memory_speed(core, size)
            if cost * rate < LOW * (1 - 1e-9):
                continue
            reached = _memory_score(core, size, _progress({"steps": _at(cost, rate)}), late)
            if reached > best:
                best, found = reached, (core, size)
        made: dict[str, Any] = {"optimizer": first, "lr": 10 ** centres[first], "memory": found[0]}
        if first in extras:
            made[extras[first][0]] = extras[first][1]
        if found[0] != "none":
            made["size"] = found[1]
        return {**made, "steps": _at(cost, _memory_speed(*found))}

    return Task(name, parameters, score, seconds, reach, LOW / RATE, 4e4, **settings)


def _minimise() -> Task:
    """A negative log likelihood from 2 down to -3."""

    def score(p: Params) -> float:
        return 2 - 5 * _few_quality(p, -2.4, 0.95, -3.0) ** 0.7 * _rise(_progress(p))

    def reach(cost: float) -> dict[str, Any]:
        return {"lr": 10**-2.4, "gamma": 0.95, "ent_coef": 1e-3, "steps": _at(cost)}

    return Task(
        "minimise", _few(), score, _seconds, reach, **_COSTS, floor=2.0, best=-3.0, goal="minimize",
        noise=_gauss(0.05),
    )  # fmt: skip


def _constant() -> Task:
    """Steps are fixed: every trial costs ten seconds within a hundredth, only the score is to be found."""
    best = {"lr": -2.7, "gamma": 0.985, "ent_coef": -2.5, "clip": 0.15, "vf_coef": 2.0}

    def score(p: Params) -> float:
        return _bell(
            (math.log10(p["lr"]) - best["lr"] - 0.25 * math.log2(p["minibatch"] / 2048)) / 0.5,
            (_odds(p["gamma"]) - _odds(best["gamma"])) / 0.5,
            (math.log10(p["ent_coef"]) - best["ent_coef"]) / 0.9,
            math.log10(p["clip"] / best["clip"]) / 0.45,
            math.log10(p["vf_coef"] / best["vf_coef"]) / 0.8,
            math.log2(p["minibatch"] / 2048) / 2.5,
        )

    def seconds(p: Params) -> float:
        return 10.0 + 0.05 * math.log2(4096 / p["minibatch"]) / 3

    parameters = {
        "lr": _log(1e-5, 0.1, 3e-4),
        "gamma": _range("logit", 0.8, 0.9999, 0.99),
        "ent_coef": _log(1e-5, 0.2, 0.01),
        "clip": _log(0.02, 1.0, 0.3),
        "vf_coef": _log(0.1, 10, 0.5),
        "minibatch": _range("pow2", 512, 32768, 4096),
    }

    def reach(cost: float) -> dict[str, Any]:
        return {**best, "lr": 10 ** best["lr"], "ent_coef": 10 ** best["ent_coef"], "minibatch": 2048}

    return Task(
        "constant", parameters, score, seconds, reach, 9.95, 10.05, fidelity=None, noise=_gauss(0.02),
        flat=True,
    )  # fmt: skip


# -- held out: for the report only ---------------------------------------------------------------------


def _nines(rate: Any) -> Any:
    """0 at a win rate of 0.99 or less, 1 at 0.999: only the distance to 1 counts."""
    return np.maximum(-np.log10(np.maximum(1 - np.asarray(rate, float), 1e-12)) - 2, 0.0)


def _near_one() -> Task:
    games = 20_000

    def score(p: Params) -> float:
        return 1 - 0.5 * 0.002 ** (_few_quality(p, -2.6, 0.96, -1.9) ** 0.6 * _progress(p) ** 0.8)

    def noise(rate: float, generator: np.random.Generator) -> float:
        return float(generator.binomial(games, rate) / games)

    def reach(cost: float) -> dict[str, Any]:
        return {"lr": 10**-2.6, "gamma": 0.96, "ent_coef": 10**-1.9, "steps": _at(cost)}

    return Task(
        "near-one", _few(), score, _seconds, reach, **_COSTS, floor=0.99, best=0.999, scale="percentile",
        noise=noise, value=_nines, held_out=True,
    )  # fmt: skip


def _misleading() -> Task:
    """Greedy settings win every cheap comparison and lead nowhere; patient ones pay only later."""

    def parts(p: Params) -> tuple[float, float]:
        greedy = _few_quality(p, -2.1, 0.9, -3.6) * 0.5 * (0.3 + 0.7 * min(1.0, 3 * _progress(p)))
        patient = _few_quality(p, -3.4, 0.99, -2.2) / (1 + math.exp(-11 * (_progress(p) - 0.6)))
        return greedy, patient

    def score(p: Params) -> float:
        return max(parts(p))

    def reach(cost: float) -> dict[str, Any]:
        steps = {"steps": _at(cost)}
        greedy = {"lr": 10**-2.1, "gamma": 0.9, "ent_coef": 10**-3.6, **steps}
        patient = {"lr": 10**-3.4, "gamma": 0.99, "ent_coef": 10**-2.2, **steps}
        return max(greedy, patient, key=score)

    return Task("misleading", _few(), score, _seconds, reach, **_COSTS, noise=_gauss(0.015), held_out=True)


def _loss() -> Task:
    """A loss that falls as a power of compute; width and steps share the budget, the run anneals."""
    widths = [2**i for i in range(6, 12)]

    def seconds(p: Params) -> float:
        return p["steps"] * (0.2 + (p["width"] / 256) ** 1.5) / 2e4

    def floor_of(width: int, steps: float) -> float:
        return 1.2 + 1.3 * (64 / width) ** 0.5 + 2.2 * (LOW / steps) ** 0.35

    def score(p: Params) -> float:
        lr = -2.3 - 0.6 * math.log10(p["width"] / 64)
        off = _bell(
            (math.log10(p["lr"]) - lr) / 0.45,
            (_odds(p["beta2"]) - _odds(0.95)) / 0.7,
            (math.log10(p["weight_decay"]) + 1.5 + 0.5 * (math.log10(p["lr"]) - lr)) / 0.8,
            (p["warmup"] - 0.1) / 0.2,
        )
        return floor_of(p["width"], p["steps"]) + 3.0 * (1 - off**0.8)

    parameters = {
        "width": _range("pow2", widths[0], widths[-1], 128),
        "lr": _log(1e-5, 0.1, 1e-3),
        "beta2": _range("logit", 0.5, 0.999, 0.99),
        "weight_decay": _log(1e-4, 1.0, 0.01),
        "warmup": _range("linear", 0.0, 0.5, 0.05),
        **_STEPS,
    }

    def reach(cost: float) -> dict[str, Any]:
        found = []
        for width in widths:
            rate = 2e4 / (0.2 + (width / 256) ** 1.5)
            if cost * rate >= LOW * (1 - 1e-9):
                steps = _at(cost, rate)
                found.append((floor_of(width, steps), width, steps))
        _, width, steps = min(found)
        lr = 10 ** (-2.3 - 0.6 * math.log10(width / 64))
        return {
            "width": width,
            "lr": lr,
            "beta2": 0.95,
            "weight_decay": 10**-1.5,
            "warmup": 0.1,
            "steps": steps,
        }

    return Task(
        "loss", parameters, score, seconds, reach, 2.0, 2e4, floor=5.0, best=floor_of(widths[-1], HIGH),
        goal="minimize", fidelity=None, noise=_gauss(0.02), held_out=True,
    )  # fmt: skip


def _late() -> Task:
    """Nothing at all until much is learned, then nearly everything within a decade, as games are learned; the
    luck of a run is largest on the way."""
    bend, middle = 14.0, 0.55
    ends = [1 / (1 + math.exp(-bend * (at - middle))) for at in (0.0, 1.0)]

    def score(p: Params) -> float:
        size = math.log2(p["minibatch"] / 1024)
        quality = _bell(
            (math.log10(p["lr"]) + 2.6 - 0.2 * size) / 0.6,
            (_odds(p["gamma"]) - _odds(0.99)) / 0.6,
            (math.log10(p["ent_coef"]) + 2.2) / 1.1,
            math.log10(p["clip"] / 0.15) / 0.6,
            size / 3,
        )
        learned = 1 / (1 + math.exp(-bend * (quality**0.7 * _progress(p) - middle)))
        return (learned - ends[0]) / (ends[1] - ends[0])

    def noise(score: float, generator: np.random.Generator) -> float:
        luck = (0.3 * score * (1 - score) + 0.002) * generator.standard_normal()
        return float(np.clip(score + luck, 0.0, 1.0))

    parameters = {
        "lr": _log(1e-5, 0.1, 3e-4),
        "gamma": _range("logit", 0.8, 0.9999, 0.95),
        "ent_coef": _log(1e-5, 0.2, 0.05),
        "clip": _log(0.02, 1.0, 0.3),
        "minibatch": _range("pow2", 128, 16384, 4096),
        **_STEPS,
    }
    best = {"lr": 10**-2.6, "gamma": 0.99, "ent_coef": 10**-2.2, "clip": 0.15, "minibatch": 1024}
    return Task(
        "late", parameters, score, _seconds, lambda c: {**best, "steps": _at(c)}, **_COSTS, noise=noise,
        held_out=True,
    )  # fmt: skip


def _mixed() -> Task:
    """Categories, conditionals, failures and noise at once."""

    def fails(p: Params) -> tuple[str, float] | None:
        if p["memory"] == "lstm" and p.get("size", 0) >= 256:
            return "out of memory", 2.0
        if p["optimizer"] == "sgd" and math.log10(p["lr"]) > -2.0 and p["nesterov"] > 0.9:
            return "diverged", 5.0
        return ("diverged", 5.0) if math.log10(p["lr"]) > -1.6 else None

    centres = {"muon": -2.2, "adam": -3.4, "sgd": -2.6}
    extras = {"adam": ("beta2", 0.98, 0.6), "sgd": ("nesterov", 0.85, 0.5)}
    sizes = [size for size in _SIZES if size < 256]
    return _cored("mixed", 0.12, centres, extras, sizes, fails=fails, noise=_gauss(0.04), held_out=True)


def _categories() -> Task:
    centres = {"adam": -3.1, "muon": -2.1, "sgd": -1.7}
    extras = {"adam": ("beta2", 0.97, 0.6), "sgd": ("momentum", 0.9, 0.5)}
    return _cored("categories", 0.15, centres, extras, noise=_gauss(0.01))


# -- real trainings ------------------------------------------------------------------------------------

CARTPOLE: dict[str, dict[str, Any]] = {
    "train.total_timesteps": _log(4096, 6e5, 5e4, "int"),
    "train.learning_rate": _log(1e-4, 1.0, 0.003),
    "train.gamma": _range("logit", 0.8, 0.999, 0.98),
    "train.gae_lambda": _range("logit", 0.5, 0.99, 0.95),
    "train.ent_coef": _log(1e-5, 0.1, 0.001),
    "train.clip_coef": _log(0.03, 1.0, 0.2),
    "train.minibatch_size": _range("pow2", 128, 2048, 512),
    "train.updates": _range("pow2", 1, 32, 16),
    "train.num_envs": _range("pow2", 16, 256, 64),
    "policy.hidden": _range("pow2", 16, 128, 64),
}
CARTPOLE_CONSTRAINTS = ("train.minibatch_size <= train.num_envs * train.horizon",)
CARTPOLE_FIXED: dict[str, Any] = {
    "train.horizon": 32,
    "train.normalize_rewards": False,  # the trainer did not when the table was made
    "train.curve_points": 5,
    "train.curve_spacing": "log",
    "train.eval_episodes": 50,
}
CARTPOLE_FILE = Path(__file__).parent / "ppo_cartpole.csv.gz"
CARTPOLE_FLOOR = 22.0  # steps that the pole stays up by chance


@dataclass(frozen=True)
class Table(Task):
    """A table of real trainings served as a task: only its members can be had, each as often as it was run.

    `runs[i]` are the curves of member i of the pool, one a seed; a trial's seed chooses which is seen. The
    truth is their mean, a member of which any seed failed fails. The ideal front is the pool's own.
    """

    runs: tuple[tuple[tuple[tuple[float, float, float], ...], ...], ...] = ()

    @cached_property
    def index(self) -> dict[tuple[Any, ...], int]:
        return {tuple(params.values()): i for i, params in enumerate(self.pool or ())}

    def seeds_of(self, params: Params) -> tuple[tuple[tuple[float, float, float], ...], ...]:
        return self.runs[self.index[tuple(params[name] for name in self.parameters)]]

    def evaluate(self, params: Params, seed: int | Sequence[int] = 0) -> tuple[float, float]:
        _, cost, score = self.curve(params, seed)[-1]
        return score, cost

    def curve(
        self, params: Params, seed: int | Sequence[int] | None = None
    ) -> list[tuple[float, float, float]]:
        """The recorded curve of one of the seeds; their mean end without a seed."""
        seeds = self.seeds_of(params)
        if seed is None:
            score, cost = self.truth(params)
            return [(float(params[self.fidelity]) if self.fidelity else 1.0, cost, score)]
        return list(seeds[int(np.random.default_rng(seed).integers(len(seeds)))])

    @cached_property
    def _front(self) -> tuple[np.ndarray, list[dict[str, Any]]]:
        done = [params for params in self.pool or () if self.failure(params) is None]
        truths = [self.truth(params) for params in done]
        members = front([cost for _, cost in truths], [score for score, _ in truths], self.goal)
        return np.array([truths[i][1] for i in members]), [done[i] for i in members]

    def on_front(self, cost: float) -> dict[str, Any]:
        """The best member that costs no more; the cheapest of the front where none does."""
        costs, members = self._front
        return members[max(0, int(np.searchsorted(costs, cost * (1 + 1e-9), side="right")) - 1)]

    def ideal(self, costs: Any) -> np.ndarray:
        """The pool's own staircase, at the floor left of its cheapest."""
        reached = [self.truth(self.on_front(float(cost))) for cost in costs]
        return np.array([
            score if found <= cost * (1 + 1e-9) else self.floor
            for (score, found), cost in zip(reached, costs, strict=True)
        ])  # fmt: skip

    def heights(self, costs: Any) -> np.ndarray:
        return np.maximum(self.ideal(costs) - self.floor, 0.0)

    @cached_property
    def ideal_area(self) -> float:
        costs, members = self._front
        scores = [self.truth(params)[0] for params in members]
        return staircase_area(costs, scores, self.cost_min, self.cost_max, self.floor, self.goal)

    @cached_property
    def random_cost(self) -> float:
        costs = [(self.failure(p) or ("", self.cost_of(p)))[1] for p in self.pool or ()]
        return float(np.mean(costs))


def read_table(path: Path = CARTPOLE_FILE) -> Table:
    """Our PPO on cart-pole: 10 settings, 2,000 draws, two seeds; `ppo_table.py` made the file."""
    members: dict[int, dict[str, Any]] = {}
    runs: dict[int, list[tuple[tuple[float, float, float], ...]]] = {}
    failed: dict[int, str] = {}
    seconds: dict[int, list[float]] = {}
    whole = {name for name, p in CARTPOLE.items() if p["distribution"] == "pow2" or p.get("type") == "int"}
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            number = int(row["config"])
            members[number] = {n: int(row[n]) if n in whole else float(row[n]) for n in CARTPOLE}
            if row["failure"]:
                failed[number] = row["failure"]
            points = [tuple(float(v) for v in point.split(":")) for point in row["curve"].split()]
            runs.setdefault(number, []).append(tuple((p[0], p[1], p[2]) for p in points))
            seconds.setdefault(number, []).append(float(row["seconds"]))
    pool = tuple(members[number] for number in sorted(members))
    index = {tuple(params.values()): number for number, params in members.items()}

    def which(p: Params) -> int:
        return index[tuple(p[name] for name in CARTPOLE)]

    def score(p: Params) -> float:
        return float(np.mean([run[-1][2] for run in runs[which(p)]]))

    def cost(p: Params) -> float:
        return float(np.mean(seconds[which(p)]))

    def fails(p: Params) -> tuple[str, float] | None:
        found = failed.get(which(p))
        return None if found is None else (found, cost(p))

    made = Table(
        "ppo-cartpole", CARTPOLE, score, cost, lambda c: made.on_front(c), 0.001, 0.5, floor=CARTPOLE_FLOOR,
        best=500.0, fidelity="train.total_timesteps", constraints=CARTPOLE_CONSTRAINTS,
        fixed={"train.horizon": CARTPOLE_FIXED["train.horizon"]}, fails=fails, pool=pool,
        runs=tuple(tuple(runs[n]) for n in sorted(runs)),
    )  # fmt: skip
    return made


def _all() -> dict[str, Task]:
    made = [_author(task) for task in synthetic.TASKS.values()]
    made += [_ppo_task("ppo", _PPO_PLAIN), _plateau(), _cliff(), _drift(), _sparse20(), _noisy()]
    made += [_accidents(), _failures(), _categories(), _minimise(), _constant()]
    made.append(_ppo_task("ppo-rotated", _PPO_ROTATED, noise=_gauss(0.01), held_out=True))
    made += [_near_one(), _misleading(), _loss(), _mixed(), _late()]
    if CARTPOLE_FILE.exists():
        made.append(read_table())
    return {task.name: task for task in made}


TASKS = _all()


def task(name: str) -> Task:
    """The task called `name`. Raises KeyError that lists them for a name that is none."""
    if name not in TASKS:
        raise KeyError(f"no such task as {name!r}: {', '.join(TASKS)}")
    return TASKS[name]
