"""Ask and tell: the sweep as a pure function of space, settings, seed and the history of asks and tells."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from sweeper import pareto
from sweeper.acquisition import LEAP, Beliefs, best_candidate
from sweeper.errors import ConfigError
from sweeper.models import GaussianProcess, one_thread
from sweeper.space import Space

DESIGN = 6  # trials before the models choose
LADDER = 0.6  # of the fidelity's range, from its cheap end: where the design lies
PRUNE = 0.02  # of the front's range: a member must lift it by so much
LOW_SIGNAL = 5.0  # noise sds: a front that spans less has not risen out of the noise
REPEAT_EVERY, PROBE_EVERY, PROBE_SHARE = 5, 3, 0.25
CURVE_POINTS = 5  # of a trial that teach the models
_STEPS_WORDS = ("steps", "timesteps", "epochs", "iterations", "updates", "frames", "episodes")


@dataclass(frozen=True)
class Point:
    """One (step, cost, score) on a trial's learning curve; `step` in units of the fidelity parameter."""

    step: float
    cost: float
    score: float


@dataclass(frozen=True)
class Trial:
    """What `ask` gives: the params to run, and why. Predictions are None before the models have a say."""

    number: int
    params: dict[str, Any]
    unit: np.ndarray = field(repr=False, compare=False)
    origin: str = "design"  # start | design | model | probe | repeat | pool
    predicted_score: float | None = None
    predicted_cost: float | None = None
    models: dict[str, Any] = field(default_factory=dict, repr=False)

    def record(self) -> dict[str, Any]:
        """All that `Sweeper.restore` needs, ready for JSON."""
        names = ("number", "params", "origin", "predicted_score", "predicted_cost", "models")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Member:
    """One point of the front. `trial` is its number, None for what was told by `observe`."""

    params: dict[str, Any]
    score: float
    cost: float
    trial: int | None
    score_sd: float = 0.0


@dataclass
class _Entry:
    """A trial of the history with what became of it: pending, done, failed or withdrawn."""

    trial: Trial
    status: str
    points: tuple[Point, ...] = ()
    score: float = math.nan
    cost: float = math.nan
    asked: bool = True


class Sweeper:
    """Finds the front of score over cost by ask and tell.

    `parameters`, `constraints` and `fixed` are those of the YAML file (see `Space`). `goal`: maximize | minimize.
    `scale`: linear; percentile (scores in 0..1 count by their log odds); exponential (every halving of the
    distance to `scale_max` counts the same). `cost_limit`: nothing predicted to cost more is proposed.
    `fidelity`: the parameter such that a shorter trial would have given the same learning curve.
    Raises ConfigError on settings that make no sense.
    """

    def __init__(
        self,
        parameters: Mapping[str, Mapping[str, Any]],
        *,
        goal: str = "maximize",
        seed: int = 0,
        cost_limit: float | None = None,
        constraints: Sequence[str] = (),
        fixed: Mapping[str, Any] | None = None,
        scale: str = "linear",
        fidelity: str | None = None,
        scale_max: float | None = None,
    ) -> None:
        self.space = Space(parameters, constraints, fixed)
        if goal not in ("maximize", "minimize"):
            raise ConfigError("metric.goal", f"no such goal as {goal!r}", "maximize or minimize")
        if scale not in ("linear", "percentile", "exponential"):
            raise ConfigError(
                "metric.scale", f"no such scale as {scale!r}", "linear, percentile or exponential"
            )
        if (scale == "exponential") != (scale_max is not None):
            raise ConfigError("metric.max", "belongs to 'scale: exponential'", "give both or neither")
        if scale_max is not None and not math.isfinite(scale_max):
            raise ConfigError("metric.max", f"{scale_max!r} is not finite", "name the best score there is")
        if cost_limit is not None and not 0 < cost_limit < math.inf:
            raise ConfigError("cost.limit", f"{cost_limit!r} is not above zero", "leave it out for no limit")
        if fidelity is not None and (
            fidelity not in self.space.parameters or self.space.parameters[fidelity].kind == "categorical"
        ):
            raise ConfigError("objective.fidelity", f"'{fidelity}' is not a swept number", "name one")
        self.goal, self.seed, self.cost_limit = goal, int(seed), cost_limit
        self.scale, self.scale_max, self.fidelity = scale, scale_max, fidelity
        self._sign = 1.0 if goal == "maximize" else -1.0
        self._ladder = fidelity or next(
            (n for n in self.space.names if n.lower().split(".")[-1].split("_")[-1] in _STEPS_WORDS
             and self.space.parameters[n].kind != "categorical"), None)  # fmt: skip
        self._entries: list[_Entry] = []
        self._by_number: dict[int, _Entry] = {}
        self._asks = 0
        self._told = 0  # results so far; hyperparameters fitted to as many are not fitted again
        self._models: dict[str, Any] = {}

    # -- the history -----------------------------------------------------------------------------

    def ask(self, n: int | None = None, among: Sequence[Mapping[str, Any]] | None = None) -> Any:
        """The next Trial, or with `n` a list of so many; `among`: chosen from this pool of params.

        Raises ValueError for an empty pool or one with params outside the space.
        """
        pool = None
        if among is not None:
            for params in among:
                self.space.check(params)
            if not len(among):
                raise ValueError("among: the pool is empty")
            pool = [{k: v for k, v in params.items() if k in self.space.parameters} for params in among]
        if n is None:
            return self._ask(pool)
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n: {n!r} is not a number of trials")
        return [self._ask(pool) for _ in range(n)]

    def tell(
        self,
        trial: Trial | int,
        *,
        score: float | None = None,
        cost: float | None = None,
        points: Iterable[Point] | None = None,
        failure: str | None = None,
    ) -> None:
        """The result of an asked trial: score and cost, or its points, or a failure with what it cost.

        Raises ValueError, with nothing changed, for a trial that is not pending and for numbers that are none.
        """
        entry = self._pending(trial)
        status, result, score, cost = self._checked(score, cost, points, failure)
        entry.status, entry.points, entry.score, entry.cost = status, result, score, cost
        self._told += 1

    def observe(
        self,
        params: Mapping[str, Any],
        *,
        score: float | None = None,
        cost: float | None = None,
        points: Iterable[Point] | None = None,
        failure: str | None = None,
    ) -> None:
        """A result of params that were never asked for: an earlier run, a warm start. As `tell`."""
        self.space.check(params)
        status, result, score, cost = self._checked(score, cost, points, failure)
        params = {k: v for k, v in params.items() if k in self.space.parameters}
        trial = Trial(-1, params, self.space.to_unit(params), "observed")
        self._entries.append(_Entry(trial, status, result, score, cost, asked=False))
        self._told += 1

    def withdraw(self, trial: Trial | int) -> None:
        """A pending trial will never be told. Raises ValueError where it is not pending."""
        self._pending(trial).status = "withdrawn"

    def restore(self, record: Mapping[str, Any]) -> Trial:
        """A past ask from its `Trial.record()`, computing nothing: resuming is restoring, telling and so on
        in the order of old. Raises ValueError for params outside the space or a number out of order."""
        if record["number"] != self._asks + 1:
            raise ValueError(f"trial {record['number']} cannot follow trial {self._asks}")
        self.space.check(record["params"])
        trial = Trial(**{**record, "unit": self.space.to_unit(record["params"])})
        self._models = dict(trial.models)
        return self._register(trial)

    def front(self, observed: bool = False) -> list[Member]:
        """The front, cheapest first: by the models' denoised means, or (`observed`) by raw results."""
        done = [entry for entry in self._entries if entry.status == "done"]
        if not done:
            return []
        raw = np.array([self._sign * e.score for e in done]), np.array([e.cost for e in done])
        if observed or len(done) < 3:
            members = pareto.front(raw[1], raw[0])
            return [
                Member(done[i].trial.params, done[i].score, done[i].cost, self._number(done[i]))
                for i in members
            ]
        with one_thread():
            score, log_cost, _ = self._fit(self._hyper_for(np.random.default_rng(self.seed)))
            features = self.space.features(np.stack([e.trial.unit for e in done]))
            mean, sd = score.predict(features)
            costs = np.exp(log_cost.predict(features)[0])
        return [
            Member(
                done[i].trial.params,
                self._to_score(mean[i]),
                float(costs[i]),
                self._number(done[i]),
                abs(self._to_score(mean[i] + sd[i]) - self._to_score(mean[i] - sd[i])) / 2,
            )
            for i in pareto.prune(costs, mean, PRUNE)
        ]

    @staticmethod
    def _number(entry: _Entry) -> int | None:
        return entry.trial.number if entry.asked else None

    def _register(self, trial: Trial) -> Trial:
        entry = _Entry(trial, "pending")
        self._entries.append(entry)
        self._by_number[trial.number] = entry
        self._asks = trial.number
        return trial

    def _pending(self, trial: Trial | int) -> _Entry:
        number = trial.number if isinstance(trial, Trial) else trial
        if isinstance(number, bool) or number not in self._by_number:
            raise ValueError(f"trial {number!r} was never asked")
        entry = self._by_number[number]
        if entry.status != "pending":
            raise ValueError(f"trial {number} is {entry.status} already")
        return entry

    @staticmethod
    def _checked(
        score: Any, cost: Any, points: Iterable[Point] | None, failure: str | None
    ) -> tuple[str, tuple[Point, ...], float, float]:
        """(status, points, score, cost) of a result, or ValueError."""
        curve = tuple(points or ())
        for point in curve:
            for name in ("step", "cost", "score"):
                if not _finite(getattr(point, name)):
                    raise ValueError(f"points: {name} {getattr(point, name)!r} is not a finite number")
        for earlier, later in pairwise(curve):
            if later.step < earlier.step or later.cost < earlier.cost:
                raise ValueError(f"points: step {later.step!r} at cost {later.cost!r} runs backwards")
        if curve:
            score = curve[-1].score if score is None else score
            cost = curve[-1].cost if cost is None else cost
        if failure is not None:
            if not isinstance(failure, str) or not failure:
                raise ValueError(f"failure: {failure!r} is not a name")
            if cost is not None and (not _finite(cost) or cost < 0):
                raise ValueError(f"cost: {cost!r} is not a positive number")
            return "failed", curve, math.nan, math.nan if not cost else float(cost)
        if not _finite(score):
            raise ValueError(f"score: {score!r} is not a finite number")
        if not _finite(cost) or cost <= 0:
            raise ValueError(f"cost: {cost!r} is not a positive number")
        return "done", curve, float(score), float(cost)

    # -- the next trial ----------------------------------------------------------------------------

    def _ask(self, pool: list[dict[str, Any]] | None) -> Trial:
        number = self._asks + 1
        generator = np.random.default_rng([self.seed, number])
        with one_thread():
            done = sum(entry.status == "done" for entry in self._entries)
            beyond = len([e for e in self._entries if e.status != "withdrawn"]) >= DESIGN and done >= 2
            trial = (self._by_models if beyond else self._by_design)(number, generator, pool)
        if "told" in trial.models:
            self._models = trial.models
        else:
            trial = replace(trial, models=self._models)
        return self._register(trial)

    def _taken(self, statuses: tuple[str, ...]) -> np.ndarray:
        units = [e.trial.unit for e in self._entries if e.status in statuses]
        return np.array(units).reshape(len(units), self.space.dim)

    def _by_design(
        self, number: int, generator: np.random.Generator, pool: list[dict[str, Any]] | None
    ) -> Trial:
        """Sobol points, the fidelity on a ladder over the cheap part of its range; first the start values."""
        space, index = self.space, len(self._entries)
        steps = None if self._ladder is None else space.column[self._ladder]
        rung = index / (DESIGN - 1) if index < DESIGN else (0.618034 * index) % 1.0
        height = -1 + 2 * LADDER * rung
        sobol = torch.quasirandom.SobolEngine(space.dim, scramble=True, seed=self.seed)
        units = 2 * sobol.draw(1024, dtype=torch.float64).numpy()[index % 512 :] - 1
        if index == 0:
            units = np.concatenate([space.to_unit(space.start())[None], units])
            if steps is not None and space.parameters[self._ladder or ""].start is not None:
                height = min(units[0, steps], -1 + 2 * LADDER)
        if steps is not None:
            units[:, steps] = height
        units = space.snap(units) if pool is None else np.stack([space.to_unit(params) for params in pool])
        fresh = space.feasible(units) & ~_among(units, self._taken(("pending", "done", "failed")))
        if not fresh.any() and pool is None:
            units = space.sample(512, generator)
            fresh = ~_among(units, self._taken(("pending",)))
        usable = units[fresh] if fresh.any() else units
        chosen = 0
        if self._told and len(usable) > 1:
            chosen = self._least_risky(usable[:64])
        params = space.to_params(usable[chosen])
        return Trial(
            number, params, space.to_unit(params), "start" if index == 0 and pool is None else "design"
        )

    def _least_risky(self, units: np.ndarray) -> int:
        """The first of `units` [n, dim] that promises not to fail and to stay under the cost limit."""
        return 0

    def _by_models(
        self, number: int, generator: np.random.Generator, pool: list[dict[str, Any]] | None
    ) -> Trial:
        space = self.space
        hyper = self._hyper_for(generator)
        score, log_cost, success = self._fit(hyper)
        fitted: dict[str, Any] = {
            "told": self._told, "score": score.hyper.tolist(), "cost": log_cost.hyper.tolist()}  # fmt: skip
        if success is not None:
            fitted["success"] = success.hyper.tolist()
        pending = self._taken(("pending",))
        score, log_cost = (gp.believe(space.features(pending)) for gp in (score, log_cost))
        units = self._taken(("done", "pending"))
        means, costs = (gp.predict(space.features(units))[0] for gp in (score, log_cost))
        members = pareto.prune(costs, means, PRUNE)
        span = max(float(costs.max() - costs.min()), 0.1)
        beliefs = Beliefs(
            space, score, log_cost, success, units[members], means[members], costs[members],
            float(means.min()), span, costs[members[-1]] + math.log(LEAP),
        )  # fmt: skip
        origin = "model"
        dearest = float(costs.max()) + math.log(LEAP)
        low_signal = means[members].max() - means[members].min() < LOW_SIGNAL * score.noise_sd
        spent = [
            (e.cost, e.trial.origin) for e in self._entries if e.status in ("done", "failed") and e.cost > 0
        ]
        probes = sum(cost for cost, name in spent if name == "probe")
        if low_signal:
            beliefs.cap = dearest
        elif (
            number % PROBE_EVERY == 0
            and probes < PROBE_SHARE * sum(cost for cost, _ in spent)
            and dearest > beliefs.cap
        ):
            beliefs.cap, origin = dearest, "probe"
        if self.cost_limit is not None:
            beliefs.cap = min(beliefs.cap, math.log(self.cost_limit))
        unit = None
        if pool is None and low_signal and number % REPEAT_EVERY == 0:
            unit, origin = beliefs.units[generator.integers(len(beliefs.units))], "repeat"
        elif pool is not None:
            options = np.stack([space.to_unit(params) for params in pool])
            taken = _among(options, self._taken(("pending", "done")))
            ratings = np.where(taken, -np.inf, beliefs.rating(options))
            unit, origin = options[int(np.argmax(ratings))], "pool"
        else:
            found = best_candidate(beliefs, self._taken(("pending", "done", "failed")), generator)
            if found is None:
                found = best_candidate(beliefs, pending, generator)
                origin = "repeat"
            unit = beliefs.units[-1] if found is None else found[0]
        params = space.to_params(unit)
        unit = space.to_unit(params)
        features = space.features(unit[None])
        return Trial(
            number, params, unit, origin, self._to_score(float(score.predict(features)[0][0])),
            float(math.exp(log_cost.predict(features)[0][0])), fitted,
        )  # fmt: skip

    # -- the models --------------------------------------------------------------------------------

    def _hyper_for(self, generator: np.random.Generator) -> np.random.Generator:
        return generator

    def _fit(
        self, generator: np.random.Generator
    ) -> tuple[GaussianProcess, GaussianProcess, GaussianProcess | None]:
        """Processes of transformed score, log cost and success, fitted to all that was told."""
        space = self.space
        done = [e for e in self._entries if e.status == "done"]
        failed = [e for e in self._entries if e.status == "failed"]
        units, values, costs, trials = [], [], [], []
        for index, entry in enumerate(done):
            for unit, value, cost in self._observations(entry):
                units.append(unit)
                values.append(value)
                costs.append(cost)
                trials.append(index)
        x, y, log_costs = space.features(np.stack(units)), self._to_value(np.array(values)), np.log(costs)
        top, quartile = y.max(), np.quantile(y, 0.25)
        y = np.maximum(y, quartile - 5 * (top - quartile))  # one disaster must not flatten all the others
        failed_x = space.features(self._taken(("failed",)))
        owner = np.array(trials + [len(done) + i for i in range(len(failed))])
        score = GaussianProcess(
            np.concatenate([x, failed_x]), np.append(y, np.full(len(failed), quartile)), space.groups,
            trials=owner if len(x) > len(done) else None,
        )  # fmt: skip
        log_cost = GaussianProcess(x, log_costs, space.groups, linear=True, noise_variance=1e-3,
                                   trials=np.array(trials) if len(x) > len(done) else None)  # fmt: skip
        success = None
        if failed:
            labels = np.repeat([1.0, 0.0], [len(done), len(failed)])
            final = space.features(np.concatenate([self._taken(("done",)), self._taken(("failed",))]))
            success = GaussianProcess(final, labels, space.groups, noise_variance=0.05)
        fresh = self._models.get("told") != self._told
        for name, process in (("score", score), ("cost", log_cost), ("success", success)):
            if process is None:
                continue
            before = self._models.get(name)
            if before is not None and not fresh:
                process.hyper = np.array(before)
                continue
            starts = [] if before is None else [np.array(before)]
            if len(done) < 30 or before is None:
                mean, sd = process.priors.mean, process.priors.sd
                starts += [mean, mean + 0.7 * sd * generator.standard_normal(len(mean))]
            process.fit(starts, 40 if len(x) < 60 else 15)
        return score, log_cost, success

    def _observations(self, entry: _Entry) -> list[tuple[np.ndarray, float, float]]:
        """(unit, score, cost) of what a trial teaches: its result and, with a fidelity, its curve's points."""
        seen = [(entry.trial.unit, entry.score, entry.cost)]
        if self.fidelity is None or self.fidelity not in entry.trial.params:
            return seen
        parameter, column = self.space.parameters[self.fidelity], self.space.column[self.fidelity]
        final = float(entry.trial.params[self.fidelity])
        inside = [p for p in entry.points if parameter.min <= p.step < final and p.cost > 0]
        wanted = np.linspace(0, len(inside) - 1, min(len(inside), CURVE_POINTS - 1)).round().astype(int)
        for point in (inside[i] for i in wanted):
            unit = entry.trial.unit.copy()
            unit[column] = parameter.to_unit(point.step)
            seen.append((unit, point.score, point.cost))
        return seen

    def _to_value(self, scores: np.ndarray) -> np.ndarray:
        """Scores to what is modelled: higher is better, on the declared scale."""
        if self.scale == "percentile":
            clipped = np.clip(scores, 1e-4, 1 - 1e-4)
            return self._sign * (np.log(clipped) - np.log1p(-clipped))
        if self.scale == "exponential":
            assert self.scale_max is not None
            distance = self._sign * (self.scale_max - scores)
            return -np.log2(np.maximum(distance, 1e-3 * max(float(distance.max()), 1e-300)))
        return self._sign * scores

    def _to_score(self, value: float) -> float:
        """The inverse of `_to_value`."""
        if self.scale == "percentile":
            return float(1 / (1 + math.exp(-self._sign * value)))
        if self.scale == "exponential":
            assert self.scale_max is not None
            return float(self.scale_max - self._sign * 2.0 ** (-value))
        return float(self._sign * value)


def _finite(value: Any) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _among(units: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """[n] bool: which of [n, dim] are (nearly) one of [k, dim]."""
    if not len(taken):
        return np.zeros(len(units), dtype=bool)
    return (np.abs(units[:, None, :] - taken[None, :, :]) < 1e-9).all(axis=2).any(axis=1)
