"""Ask and tell: the sweep as a pure function of space, settings, seed and the history of asks and tells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import ndtr

from sweeper import pareto
from sweeper.acquisition import (
    PROBE_EVERY,
    PRUNE,
    REPEAT_SHARE,
    SETTLE_EVERY,
    SETTLED,
    Acquisition,
    among,
    keys,
)  # fmt: skip
from sweeper.errors import ConfigError
from sweeper.models import JUDGED_FROM, NINE_OF_TEN, Models, Observations, fit_models, one_thread
from sweeper.space import Space

DESIGN = 6  # trials before the models choose
# Its points lie so far on the way from Sobol's to the start values, for corners seldom pay; from trial
# 2 * DESIGN on, when nothing has come of that, at Sobol's.
HOMEWARD = 0.5
LADDER = 0.45  # of the fidelity's range, from its cheap end: where the design lies
MAX_NUMBER = 1e305  # beyond it sums overflow: as good as infinite
CURVE_POINTS = 5  # of a trial that teach the models, fewer where they would be more than ROWS in all
ROWS = 500  # finished trials that the models see; of more, half that lie by the front and half of all ages
NEAREST = 0.01  # of the distance to `scale_max` that a tenth of the trials reach: what is nearer counts alike
STOPPED = 100  # stopped trials, the latest, that keep others away from where they were going
PREDICTABLE = 0.5  # share of the variance of scores: with less, or of few trials, no trial is hopeless
ALIKE = 1e-3  # in log cost: no model is more exact; of members so near only the better is one
_AHEAD = 16  # steps from a place on a trial's way to its end
_BEYOND = ("score_sd", "success", "low", "high")  # what `_expected` tells of a Member besides
_TRIED = ("pending", "done", "failed", "stopped")
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
    params: dict[str, Any] = field(hash=False)  # a trial may be a key all the same
    unit: np.ndarray = field(repr=False, compare=False)
    origin: str = "design"  # start | design | model | probe | swap | repeat | pool
    predicted_score: float | None = None
    predicted_cost: float | None = None
    models: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def record(self) -> dict[str, Any]:
        """All that `Sweeper.restore` needs, ready for JSON."""
        names = ("number", "params", "origin", "predicted_score", "predicted_cost", "models")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Member:
    """One point of the front. `trial` is its number, None for what was told by `observe`; `shorter`: it lies
    on that trial's curve, and `params` are of the trial that would have ended there; `score_sd`: the doubt
    about `score`, luck aside; `success`: how probable it is that a trial of these params neither fails nor
    collapses; `low` and `high`: the models' 90 % interval of what a single such trial scores, luck and doubt
    together (nan where no models were asked)."""

    params: dict[str, Any]
    score: float
    cost: float
    trial: int | None
    score_sd: float = 0.0
    success: float = 1.0
    low: float = math.nan
    high: float = math.nan
    shorter: bool = False


@dataclass
class _Entry:
    """A trial of the history with what became of it: pending, done, failed, stopped or withdrawn.

    `shorter`: what its curve shows besides, each point with the trial that would have ended there.
    """

    trial: Trial
    status: str
    points: tuple[Point, ...] = ()
    score: float = math.nan
    cost: float = math.nan
    asked: bool = True
    shorter: tuple[tuple[Trial, Point], ...] = ()
    key: bytes = b""  # of its unit, see `keys`

    def __post_init__(self) -> None:
        (self.key,) = keys(self.trial.unit[None])


class Sweeper:
    """Finds the front of score over cost by ask and tell.

    `parameters`, `constraints`, `fixed` are those of the YAML file (see `Space`). `goal`: maximize, minimize.
    `scale`: linear; percentile (scores in 0..1 count by their log odds); exponential (every halving of the
    distance to `scale_max` counts the same). `cost_limit`: nothing predicted to cost more is proposed.
    `fidelity`: the parameter such that a shorter trial would have given the same learning curve; each of its
    points then is the result of one.
    Raises ConfigError on settings that make no sense. Threads that share one hold a lock of their own around
    `ask` and `tell`.
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
        if scale_max is not None and not _finite(scale_max):
            raise ConfigError(
                "metric.max", f"{scale_max!r} is not a finite number", "name the best score there is"
            )
        if cost_limit is not None and not (_finite(cost_limit) and cost_limit > 0):
            raise ConfigError(
                "cost.limit", f"{cost_limit!r} is not a number above zero", "leave it out for no limit"
            )
        numbers = [name for name, p in self.space.parameters.items() if p.kind != "categorical"]
        if fidelity is not None and fidelity not in numbers:
            raise ConfigError("objective.fidelity", f"'{fidelity}' is not a swept number", "name one")
        if not _whole(seed) or seed < 0:
            raise ConfigError("seed", f"{seed!r} is not a whole number", "0 or above")
        self.goal, self.seed, self.cost_limit = goal, int(seed), cost_limit
        self.scale, self.scale_max, self.fidelity = scale, scale_max, fidelity
        self._sign = 1.0 if goal == "maximize" else -1.0
        self._ladder = fidelity or next(
            (name for name in numbers if re.split(r"[._]", name.lower())[-1] in _STEPS_WORDS), None
        )
        self._entries: list[_Entry] = []
        self._by_number: dict[int, _Entry] = {}
        self._asks = 0
        self._pool: dict[str, np.ndarray] = {}  # units of params that were in a pool
        self._models: dict[str, Any] = {}  # the last ask's hyperparameters
        # The last models, after how many results, and the units of the trials they know.
        self._fit: tuple[int, Models, np.ndarray] | None = None
        self._front: tuple[int, dict[str, Any], list[Member]] | None = (
            None  # for what it was computed, and it
        )

    # -- the history -----------------------------------------------------------------------------

    def ask(self, n: int | None = None, among: Sequence[Mapping[str, Any]] | None = None) -> Any:
        """The next Trial, or with `n` a list of so many; `among`: chosen from this pool of params.

        Raises ValueError for an empty pool or one with params outside the space.
        """
        pool = None
        if among is not None:
            among = list(among)  # an iterator could be read but once
            if not among:
                raise ValueError("among: the pool is empty")
            pool = np.stack([self._pooled(params) for params in among])
        if n is None:
            return self._ask(pool, among)
        if not _whole(n) or n < 1:
            raise ValueError(f"n: {n!r} is not a number of trials")
        return [self._ask(pool, among) for _ in range(n)]

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

        Raises ValueError, with nothing changed, for a trial that is not pending and for bad numbers.
        """
        entry = self._pending(trial)
        status, result, score, cost = self._checked(score, cost, points, failure)
        entry.status, entry.points, entry.score, entry.cost = status, result, score, cost
        entry.shorter = self._shown(entry)

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
        params = self._plain(params)
        trial = Trial(-1, params, self.space.to_unit(params), "observed")
        self._append(trial, status, result, score, cost)

    def withdraw(self, trial: Trial | int) -> None:
        """A pending trial will never be told. Raises ValueError where it is not pending."""
        self._pending(trial).status = "withdrawn"

    def stop(self, trial: Trial | int, points: Iterable[Point]) -> None:
        """A pending trial was ended on its way: what it has shown is the result of a shorter one.

        What it was going to is taken for what the models say of it, so that it is not asked for again.
        Raises ValueError, with nothing changed, where it is not pending, for bad points and for none.
        """
        entry, points = self._pending(trial), tuple(points) if isinstance(points, Iterable) else ()
        if not points:
            raise ValueError("points: there are none; withdraw a trial that has shown nothing")
        status, curve, score, cost = self._checked(None, None, points, None)
        entry.status = "stopped"
        shorter = self._shorter(entry.trial, curve[-1].step)
        if shorter is not None:
            self._append(shorter, status, curve, score, cost)

    def chance(self, trial: Trial | int, points: Sequence[Point]) -> float:
        """The probability that a pending trial with these points so far lifts the front, where on the rest of
        its way it has most hope, by as much as a member of the front must lift it to count.

        1 where nobody can tell: without a fidelity, early in the sweep, for scores that the models cannot
        predict; and for repeats, of which those that go badly count as much. Changes nothing and does not
        refit: the models are the last ask's, given all that was told since. Raises ValueError where the
        trial is not pending and for bad points.
        """
        entry, before = self._pending(trial), self._models
        if not (isinstance(points, Sequence) and points):
            raise ValueError("points: there are none to judge by")
        points = self._checked(None, None, points, None)[1]
        shorter = self._shorter(entry.trial, points[-1].step)
        done = sum(e.status == "done" for e in self._entries)
        if shorter is None or entry.trial.origin == "repeat" or "score" not in before or done < JUDGED_FROM:
            return 1.0
        results = self._results()
        ahead = self.space.features(self._way(shorter.unit, entry.trial.unit)[1:])
        so_far = _Entry(shorter, "done", points, points[-1].score, points[-1].cost)
        self._entries.append(so_far)
        try:
            seen = self._observations()
        finally:
            self._entries.pop()
        as_before = {**before, "seen": math.inf}
        with one_thread():
            models = fit_models(seen, self.space.groups, as_before, np.random.default_rng(0))
            if models.explained < PREDICTABLE:
                return 1.0

            def means(units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
                features = self.space.features(units)
                return models.score.mean(features), models.log_cost.mean(features)

            known, costs = means(np.stack([result.unit for _, result, _ in results]))
            # What leads could have been ended anywhere on its way, not only where it was looked at.
            leading = {id(results[i][0]): results[i][0] for i in pareto.front(costs, known)}.values()
            ways = [self._way(e.shorter[0][0].unit, e.trial.unit) for e in leading if e.shorter]
            if ways:
                between = means(np.concatenate(ways))
                known, costs = np.append(known, between[0]), np.append(costs, between[1])
            mean, sd = models.score.predict(ahead)
            log_costs = models.log_cost.mean(ahead)
        front = pareto.front(costs, known)
        left = np.searchsorted(costs[front], log_costs, side="right") - 1
        if (left < 0).any():  # cheaper than all that is known
            return 1.0
        scores = models.score.unwarp(known[front])
        least = models.score.warp(scores[left] + PRUNE * float(np.ptp(scores)))
        return float(ndtr((mean - least) / sd).max())

    @staticmethod
    def _way(here: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Units [places, dim] from one to the other, both [dim]: of trials that differ in their length."""
        return here + np.linspace(0, 1, _AHEAD + 1)[:, None] * (end - here)

    def _shorter(self, trial: Trial, step: float) -> Trial | None:
        """The trial that would have ended at this step; None where the space has none: without a fidelity,
        below its range or between its values, where a constraint would break."""
        if self.fidelity is None or self.fidelity not in trial.params:
            return None
        parameter = self.space.parameters[self.fidelity]
        inside = min(max(step, parameter.min), parameter.max)  # 0, before the first step, has no logarithm
        params = self.space.to_params(self.space.to_unit({**trial.params, self.fidelity: inside}))
        if not self.space.satisfied(params) or not math.isclose(params[self.fidelity], step, rel_tol=0.01):
            return None
        return Trial(trial.number, params, self.space.to_unit(params), trial.origin)

    def _append(
        self, trial: Trial, status: str, points: tuple[Point, ...], score: float, cost: float
    ) -> None:
        """A result of what was never asked for."""
        entry = _Entry(trial, status, points, score, cost, asked=False)
        entry.shorter = self._shown(entry)
        self._entries.append(entry)

    def _shown(self, entry: _Entry) -> tuple[tuple[Trial, Point], ...]:
        """What a finished trial's curve shows before its end, in as many points as the models see of it."""
        if entry.status != "done" or self.fidelity not in entry.trial.params:
            return ()
        shorter = (
            (self._shorter(entry.trial, point.step), point) for point in self._thinned(entry, CURVE_POINTS)
        )
        return tuple((trial, point) for trial, point in shorter if trial is not None)

    def _results(self) -> list[tuple[_Entry, Trial, Point]]:
        """What the finished trials show: each its end, those that the models see their shorter ones too."""
        seen = {id(entry) for entry in self._kept("done")}
        return [
            (entry, trial, point)
            for entry in self._entries
            if entry.status == "done"
            for trial, point in (
                *(entry.shorter if id(entry) in seen else ()),
                (entry.trial, Point(math.nan, entry.cost, entry.score)),
            )
        ]

    def restore(self, record: Mapping[str, Any]) -> Trial:
        """A past ask from its `Trial.record()`, computing nothing: resuming is restoring, telling and so on
        in the order of old. Raises ValueError for params outside the space or a number out of order."""
        if not (isinstance(record, Mapping) and {"number", "params"} <= set(record)):
            raise ValueError(f"record: {record!r} is not what Trial.record() gave")
        if record["number"] != self._asks + 1:
            raise ValueError(f"trial {record['number']} cannot follow trial {self._asks}")
        self.space.check(record["params"])
        trial = Trial(**{**record, "unit": self.space.to_unit(record["params"])})
        self._models = dict(trial.models)
        return self._register(trial)

    def front(self, observed: bool = False) -> list[Member]:
        """The front, cheapest first: by the models' denoised means, or (`observed`) by raw results. With a
        fidelity also of what curves show on their way, in five points a trial."""
        done = [entry for entry in self._entries if entry.status == "done"]
        if not done:
            return []
        results = self._results()
        if observed or len(done) < 3:
            costs, scores = zip(*((point.cost, point.score) for _, _, point in results), strict=True)
            members = []
            for entry, trial, point in (results[i] for i in pareto.front(costs, scores, self.goal)):
                number, shorter = self._source(entry, trial)
                members.append(Member(dict(trial.params), point.score, point.cost, number, shorter=shorter))
            return members
        known = (sum(e.status in ("done", "failed") for e in self._entries), self._models)
        if self._front is not None and self._front[0] == known[0] and self._front[1] is known[1]:
            return [replace(member, params=dict(member.params)) for member in self._front[2]]
        with one_thread():
            models = self._fitted(np.random.default_rng([self.seed, 0]))[1]
            seen = np.array([point.score for _, _, point in results])
            shown, best = self._to_value(seen).max(), float(self._sign * (self._sign * seen).max())
            expected = self._expected(models, np.stack([trial.unit for _, trial, _ in results]), shown, best)
            mean, log_costs, success = expected[0], expected[1], expected[3]
            # No settings to hand out: what mostly fails, and what did far worse than all others promise.
            worse = {id(entry) for entry in self._contradicted(models)}
            kept = np.array([id(entry) not in worse for entry, _, _ in results])
            safe = np.flatnonzero(kept & (success >= 0.5))
        safe = safe if len(safe) else np.arange(len(results))
        members, pruned = [], safe[pareto.prune(log_costs[safe], mean[safe], PRUNE)]
        for i in pruned[np.append(np.diff(log_costs[pruned]) > ALIKE, True)]:
            entry, trial, _ = results[i]
            score = self._to_score(min(mean[i], shown))  # luck aside, none is better than the best run of all
            beyond = {name: float(column[i]) for name, column in zip(_BEYOND, expected[2:], strict=True)}
            number, shorter = self._source(entry, trial)
            members.append(Member(trial.params, score, _exp(log_costs[i]), number, shorter=shorter, **beyond))
        self._front = (*known, members)
        return [replace(member, params=dict(member.params)) for member in members]

    def predict(self, params: Sequence[Mapping[str, Any]]) -> list[Member]:
        """What the models expect of each of `params`, tried or not: a Member with `trial` None.

        Raises ValueError for params outside the space, and before three trials are done.
        """
        params = list(params)
        for one in params:
            self.space.check(one)
        if sum(e.status == "done" for e in self._entries) < 3:
            raise ValueError("predict: fewer than three trials are done")
        with one_thread():
            models = self._fitted(np.random.default_rng([self.seed, 0]))[1]
            units = np.array([self.space.to_unit(one) for one in params]).reshape(-1, self.space.dim)
            expected = zip(params, *self._expected(models, units), strict=True)
        return [
            Member(
                dict(one),
                self._to_score(value),
                _exp(log_cost),
                None,
                shorter=False,
                **{name: float(figure) for name, figure in zip(_BEYOND, beyond, strict=True)},
            )
            for one, value, log_cost, *beyond in expected
        ]

    def _expected(
        self, models: Models, units: np.ndarray, shown: float = math.inf, best: float = math.nan
    ) -> tuple[np.ndarray, ...]:
        """Of [n, dim]: modelled scores, log costs; in the user's units the sds of scores; success; the lower
        and upper ends of single trials' 90 % intervals, none beyond `shown`, the best there was, whose score
        was `best`; [n] each."""
        features = self.space.features(units)
        warped, sd = models.score.predict(features)
        luck = NINE_OF_TEN * models.score.luck(sd)

        def scores(warped: np.ndarray, at_most: float = math.inf) -> np.ndarray:
            values = np.minimum(models.score.unwarp(warped), at_most)
            return np.array([self._to_score(value) for value in values])

        doubt = models.score.width * sd
        sds = np.abs(scores(warped + doubt) - scores(warped - doubt)) / 2
        # To the best score as it was: a win rate of 1 is modelled as 0.9999, but lies in what reaches it.
        reached = np.where(models.score.unwarp(warped + luck) >= shown, best, scores(warped + luck))
        low, high = np.sort([scores(warped - luck, shown), reached], axis=0)
        log_costs = models.log_cost.predict(features)[0]
        return models.score.unwarp(warped), log_costs, sds, models.success_probability(features), low, high

    def accidents(self) -> list[int]:
        """Numbers of the trials, asked for and done, whose scores are far worse than all others say of their
        params, where most do well: a seed that collapsed. The models discount them; `front` hands none of
        them out."""
        if sum(e.status == "done" for e in self._entries) < JUDGED_FROM:
            return []
        with one_thread():
            models = self._fitted(np.random.default_rng([self.seed, 0]))[1]
            found = [entry for entry in self._contradicted(models) if entry.asked]
            units = np.array([entry.trial.unit for entry in found]).reshape(-1, self.space.dim)
            mostly_well = models.success_probability(self.space.features(units)) >= 0.5
        return sorted(entry.trial.number for entry, well in zip(found, mostly_well, strict=True) if well)

    def _contradicted(self, models: Models) -> list[_Entry]:
        """The finished trials of whose params all others say a far better score."""
        far = models.score.collapsed()[self._ends()] > 0.5
        return [entry for entry, is_far in zip(self._kept("done"), far, strict=True) if is_far]

    @staticmethod
    def _source(entry: _Entry, result: Trial) -> tuple[int | None, bool]:
        """`trial` and `shorter` of a Member that is this result of a finished trial."""
        number = result.number if result.number > 0 else None
        return number, result is not entry.trial or (number is not None and not entry.asked)

    def _register(self, trial: Trial) -> Trial:
        # A copy: what the caller does to the params that it was given changes nothing here.
        entry = _Entry(replace(trial, params=dict(trial.params)), "pending")
        self._entries.append(entry)
        self._by_number[trial.number] = entry
        self._asks = trial.number
        return trial

    def _pending(self, trial: Trial | int) -> _Entry:
        if not isinstance(trial, Trial) and not _whole(trial):
            raise ValueError(f"{trial!r} is no trial that ask() gave; results of params go to observe()")
        number = trial.number if isinstance(trial, Trial) else int(trial)
        if number not in self._by_number:
            raise ValueError(f"trial {number} was never asked")
        entry = self._by_number[number]
        if isinstance(trial, Trial) and not np.array_equal(trial.unit, entry.trial.unit):
            raise ValueError(f"trial {number} is another Sweeper's, or two threads asked for it at once")
        if entry.status != "pending":
            raise ValueError(f"trial {number} is {entry.status} already")
        return entry

    def _checked(
        self, score: Any, cost: Any, points: Iterable[Point] | None, failure: str | None
    ) -> tuple[str, tuple[Point, ...], float, float]:
        """(status, points, score, cost) of a result, or ValueError."""
        curve = () if points is None else tuple(points) if isinstance(points, Iterable) else (None,)
        if not all(isinstance(point, Point) for point in curve):
            raise ValueError("points: not all of them are sweeper.Point(step, cost, score)")
        if failure is not None and score is not None:
            raise ValueError(f"score: {score!r} is given with a failure; give one of the two")
        for point in curve if failure is None else ():
            for name in ("step", "cost", "score"):
                if not _finite(getattr(point, name)):
                    raise ValueError(f"points: {name} {getattr(point, name)!r} is not a finite number")
        if curve and failure is None:
            # As floats: numpy has no logarithm of whole numbers beyond 64 bits, as costs in FLOPs are.
            curve = tuple(Point(float(p.step), float(p.cost), float(p.score)) for p in curve)
            score = curve[-1].score if score is None else score
        if curve:
            cost = curve[-1].cost if cost is None else cost
        if failure is not None:
            if not isinstance(failure, str) or not failure:
                raise ValueError(f"failure: {failure!r} is not a name")
            if cost is not None and (not _finite(cost) or cost < 0):
                raise ValueError(f"cost: {cost!r} is not a positive number")
            return "failed", curve, math.nan, math.nan if not cost else float(cost)
        if not _finite(score):
            raise ValueError(f"score: {score!r} is not a finite number")
        if self.scale == "percentile" and not 0 <= score <= 1:
            raise ValueError(f"score: {score!r} is no share between 0 and 1, as 'scale: percentile' needs")
        if not _finite(cost) or cost <= 0:
            raise ValueError(f"cost: {cost!r} is not a positive number")
        return "done", curve, float(score), float(cost)

    # -- the next trial ----------------------------------------------------------------------------

    def _pooled(self, params: Mapping[str, Any]) -> np.ndarray:
        """The unit [dim] of a pool's params, checked when first seen: pools come again with every ask."""
        key = repr(params)
        if key not in self._pool:
            self.space.check(params)
            self._pool[key] = self.space.to_unit(self._plain(params))
        return self._pool[key]

    def _plain(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """What is swept of checked params, in Python's own numbers: a float32 has a unit of its own, and no
        JSON; `range` takes no 3.0."""
        plain = {}
        for name, value in params.items():
            if name in self.space.parameters:
                value = value.item() if isinstance(value, np.generic) else value
                plain[name] = int(value) if self.space.parameters[name].kind == "int" else value
        return plain

    def _ask(self, options: np.ndarray | None, members: Sequence[Mapping[str, Any]] | None) -> Trial:
        number = self._asks + 1
        generator = np.random.default_rng([self.seed, number])
        lived = [entry for entry in self._entries if entry.status != "withdrawn"]
        predicted: dict[str, Any] = {"models": self._models}
        with one_thread():
            told = [entry.status for entry in lived if entry.status in ("done", "failed")]
            if len(told) < DESIGN or told.count("done") < 2:
                unit, origin = self._by_design(len(lived), options, generator)
            else:
                unit, origin, models = self._by_models(number, options, generator)
                features = self.space.features(unit[None])
                value = models.score.unwarp(models.score.predict(features)[0])
                predicted = {
                    "predicted_score": self._to_score(float(value[0])),
                    "predicted_cost": _exp(float(models.log_cost.predict(features)[0][0])),
                    "models": models.record,
                }
        if options is None or members is None:
            # Again as it ran, to the last digit: what was observed need not be rounded as proposals are, and
            # rounded it might break a constraint, or be other params than those it is to repeat.
            (key,) = keys(unit[None])
            ran = (entry.trial for entry in self._entries if entry.key == key)
            params = next((dict(t.params) for t in ran), None) or self.space.to_params(unit)
        else:  # as it stands in the pool, to the last digit
            params = self._plain(members[int(np.argmax((options == unit).all(axis=1)))])
        self._models = predicted["models"]
        return self._register(Trial(number, params, self.space.to_unit(params), origin, **predicted))

    def _by_design(
        self, index: int, options: np.ndarray | None, generator: np.random.Generator
    ) -> tuple[np.ndarray, str]:
        """First the start values, then what lies half way from them to Sobol points; the fidelity on a ladder
        over the cheap part of its range.

        Of a few such points the one farthest from all failures is taken, of those within the cost limit.
        """
        space, origin = self.space, "design"
        rung = index / (DESIGN - 1) if index < DESIGN else (0.618034 * index) % 1.0
        top = -1 + 2 * LADDER
        if self._ladder is not None:  # many workers climb on: each as far as all that runs goes together
            parameter = space.parameters[self._ladder]
            running = sum(e.trial.params.get(self._ladder, 0) for e in self._entries if e.status == "pending")
            top = max(top, float(parameter.to_unit(np.clip(running, parameter.min, parameter.max))))
        height = -1 + (top + 1) * rung
        units, start = self._sobol(index), space.to_unit(space.start())
        if index < 2 * DESIGN:
            numeric = [p.kind != "categorical" for p in space.parameters.values()]
            units[:, numeric] = HOMEWARD * start[numeric] + (1 - HOMEWARD) * units[:, numeric]
        if index == 0:
            units[0], origin = start, "start"
        column = None if self._ladder is None else space.column[self._ladder]
        if self._ladder is not None:
            if index == 0 and space.parameters[self._ladder].start is not None:
                height = min(float(units[0, column]), -1 + 2 * LADDER)
            units[:, column] = height
        if options is not None:  # of a pool, what lies nearest to where the design would go
            nearness = ((options[:, None, :] - units[None, :1, :]) ** 2).sum(axis=(1, 2))
            units, origin = options[np.argsort(nearness, kind="stable")], "pool"
        else:
            units = space.snap(units)
        fresh = space.feasible(units) & ~among(units, self._taken())
        if not fresh.any() and options is None:  # constraints forbid this rung: what they allow nearest to it
            units = np.concatenate([space.sample(512, generator), space.to_unit(space.start())[None]])
            if column is not None:
                units = units[np.argsort(np.abs(units[:, column] - height), kind="stable")]
            fresh = ~among(units, self._taken())
        units = units[fresh] if fresh.any() else units
        done, failed = [e for e in self._entries if e.status == "done"], self._units("failed")
        if done and self.cost_limit is not None:
            costs = fit_models(self._observations(), space.groups, {}, generator).log_cost
            predicted = costs.predict(space.features(units))[0]
            within = predicted <= math.log(self.cost_limit)
            units = units[within] if within.any() else units[[int(np.argmin(predicted))]]
        if len(failed) and options is None:
            units = units[:16]
            away = np.abs(units[:, None, :] - failed[None, :, :]).mean(axis=2).min(axis=1)
            return units[int(np.argmax(away))], origin
        return units[0], origin

    def _by_models(
        self, number: int, options: np.ndarray | None, generator: np.random.Generator
    ) -> tuple[np.ndarray, str, Models]:
        """The best by the rating, within what this trial may cost; see `acquisition`."""
        space = self.space
        pending, stopped = self._units("pending"), self._units("stopped")[-STOPPED:]
        self._fit = self._fitted(generator)
        _, models, done = self._fit
        shorter = [trial.unit for entry in self._kept("done") for trial, _ in entry.shorter]
        # Where little is known a mean is a poor score: workers that took it for a pending trial's would be
        # sure that nothing is to be had beyond what runs. So the more run beside what is done, the more hope.
        hope = min(1.0, len(pending) / len(done))
        believed = models.believe(space.features(stopped)).believe(space.features(pending), hope)
        acquisition = Acquisition(
            space, believed, done, pending, stopped, np.array(shorter).reshape(-1, space.dim),
            self._taken(), self.cost_limit,
        )  # fmt: skip
        origin, again = "model", acquisition.known[acquisition.repeatable]  # cheapest first
        discovery = self._discovery(models, acquisition) if options is None else None
        if discovery is not None:
            return discovery, "repeat", models
        if acquisition.low_signal:
            if number % 2 == 0 and options is None:
                units = space.snap(self._sobol(number))
                fits = np.isfinite(acquisition.rating(units))
                if fits.any():
                    return units[np.argmax(fits)], "design", models
        elif (
            number % SETTLE_EVERY == 0
            and acquisition.noisy
            and options is None
            and len(again)
            and self._runs(again[-1]) < SETTLED
            and self._spent("repeat") < REPEAT_SHARE * self._spent()
        ):
            return again[-1], "repeat", models
        elif number % PROBE_EVERY == 0 and acquisition.probe(self._spent(), self._spent("probe"), number - 1):
            origin = "probe"
        elif options is None and acquisition.swap(number):
            origin = "swap"
        if options is not None:
            return acquisition.best_of(options), "pool", models
        unit = acquisition.best(generator)
        if unit is None:  # nothing new there: look lower, and at all categories
            acquisition.bottom, acquisition.swaps, origin = -math.inf, None, "model"
            unit = acquisition.best(generator)
        if unit is None:  # nor there: what can be had at all, a repeat if it must be
            acquisition.cap = acquisition.limit
            acquisition.taken = keys(pending)
            unit = acquisition.best_of(np.concatenate([space.sample(512, generator), done]))
            return unit, "repeat" if among(unit[None], keys(done))[0] else "model", models
        return unit, origin, models

    def _discovery(self, models: Models, acquisition: Acquisition) -> np.ndarray | None:
        """The unit [dim] of the highest member of the front that is a discovery and ran but once, if any."""
        if not (models.score.discovery > 0.5).any():
            return None
        known, ends = acquisition.known, len(acquisition.done)  # the last of those known
        found = np.append(np.zeros(len(known) - ends), models.score.discovery[self._ends()])
        once = (i for i in acquisition.repeatable[::-1] if found[i] > 0.5 and self._runs(known[i]) == 1)
        return next((known[i] for i in once), None)

    def _ends(self) -> np.ndarray:
        """Of the rows that the models see, those where trials end."""
        return np.flatnonzero(np.append(np.diff(self._observations().trials) != 0, True))

    def _sobol(self, index: int) -> np.ndarray:
        """Space-filling points [at least 512, dim] in [-1, 1] for the trial of this index."""
        from scipy.stats import qmc  # not above: slow to import, and who only looks at a run draws nothing

        sobol = qmc.Sobol(self.space.dim, rng=self.seed)
        return 2 * sobol.random(1024)[index % 512 :] - 1

    def _spent(self, origin: str | None = None) -> float:
        """The cost of all trials so far, or of those of this origin."""
        return sum(e.cost for e in self._entries if e.cost > 0 and origin in (None, e.trial.origin))

    def _runs(self, unit: np.ndarray) -> int:
        """How many trials of this very unit [dim] there are."""
        (key,) = keys(unit[None])
        return sum(entry.key == key and entry.status in _TRIED for entry in self._entries)

    def _taken(self) -> set[bytes]:
        return {entry.key for entry in self._entries if entry.status in _TRIED}

    def _units(self, *statuses: str) -> np.ndarray:
        units = [e.trial.unit for e in self._entries if e.status in statuses]
        return np.array(units).reshape(len(units), self.space.dim)

    def _fitted(self, generator: np.random.Generator) -> tuple[int, Models, np.ndarray]:
        """(results told, models of them, units [n, dim] of the finished trials these know).

        Those of the last ask while nothing came since.
        """
        told = sum(e.status in ("done", "failed") for e in self._entries)
        if self._fit is not None and self._fit[0] == told and self._fit[1].record is self._models:
            return self._fit
        models = fit_models(self._observations(), self.space.groups, self._models, generator)
        return told, models, np.stack([e.trial.unit for e in self._kept("done")])

    def _kept(self, status: str) -> list[_Entry]:
        """The entries that the models see: all while they are few, later those that tell most."""
        entries = [e for e in self._entries if e.status == status]
        if len(entries) <= ROWS:
            return entries
        behind = np.zeros(len(entries))  # how far below the best that costs no more
        if status == "done":
            values = self._to_value(np.array([e.score for e in entries]))
            costs = np.array([e.cost for e in entries])
            order = np.lexsort((-values, costs))
            behind[order] = np.maximum.accumulate(values[order]) - values[order]
        order = np.argsort(behind, kind="stable")
        rest = np.sort(order[ROWS // 2 :])
        others = rest[np.linspace(0, len(rest) - 1, ROWS - ROWS // 2).round().astype(int)]
        return [entries[i] for i in np.sort(np.concatenate([order[: ROWS // 2], others]))]

    def _observations(self) -> Observations:
        """What was told, as the models see it."""
        done, failed = self._kept("done"), self._kept("failed")
        points = max(1, min(CURVE_POINTS, ROWS // max(len(done), 1)))
        rows = [(*seen, i) for i, e in enumerate(done) for seen in self._curve(e, points)]
        units, scores, costs, trials = zip(*rows, strict=True)
        return Observations(
            self.space.features(np.stack(units)),
            self._to_value(np.array(scores)),
            np.log(costs),
            np.array(trials),
            self.space.features(np.array([e.trial.unit for e in failed]).reshape(-1, self.space.dim)),
            np.log([e.cost for e in failed]) if failed else np.zeros(0),
            sum(e.status in ("done", "failed") for e in self._entries),
        )

    def _curve(self, entry: _Entry, points: int) -> list[tuple[np.ndarray, float, float]]:
        """(unit, score, cost) of what a trial teaches: its result and, if there is a fidelity, its curve, in
        at most so many points."""
        seen = []
        if self.fidelity is not None and self.fidelity in entry.trial.params:
            parameter, column = self.space.parameters[self.fidelity], self.space.column[self.fidelity]
            for point in self._thinned(entry, points):
                unit = entry.trial.unit.copy()
                unit[column] = parameter.to_unit(point.step)
                seen.append((unit, point.score, point.cost))
        return [*seen, (entry.trial.unit, entry.score, entry.cost)]

    def _thinned(self, entry: _Entry, points: int) -> list[Point]:
        """Of a curve, at most so many points less the last, which is the trial's own."""
        assert self.fidelity is not None
        lowest, final = self.space.parameters[self.fidelity].min, float(entry.trial.params[self.fidelity])
        # A share above 1 would be refused of the shorter trial's end.
        least, most = (0.0, 1.0) if self.scale == "percentile" else (-math.inf, math.inf)
        inside = [
            p for p in entry.points if lowest <= p.step < final and p.cost > 0 and least <= p.score <= most
        ]
        wanted = np.linspace(0, len(inside) - 1, min(len(inside), points - 1)).round().astype(int)
        return [inside[i] for i in wanted]

    def _to_value(self, scores: np.ndarray) -> np.ndarray:
        """Scores to what is modelled: higher is better, on the declared scale."""
        if self.scale == "percentile":
            clipped = np.clip(scores, 1e-4, 1 - 1e-4)
            return self._sign * (np.log(clipped) - np.log1p(-clipped))
        if self.scale == "exponential":
            assert self.scale_max is not None
            ends = np.array([entry.score for entry in self._entries if entry.status == "done"])
            distances = self._sign * (self.scale_max - ends)
            short = distances[distances > 0]  # the others are perfect
            # Reckoned from the near, for one disaster far away says nothing of how near is near.
            least = NEAREST * float(np.quantile(short, 0.1)) if len(short) else 1.0
            return -np.log2(np.maximum(self._sign * (self.scale_max - scores), least))
        return self._sign * scores

    def _to_score(self, value: float) -> float:
        """The inverse of `_to_value`."""
        if self.scale == "percentile":
            return 1 / (1 + _exp(-self._sign * value))
        if self.scale == "exponential":
            assert self.scale_max is not None
            return self.scale_max - self._sign * _exp(-value * math.log(2))
        return float(self._sign * value)


def _exp(value: float) -> float:
    """Without overflow, whatever a model dreams of."""
    return math.exp(min(max(float(value), -700.0), 700.0))


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    # As Python's own: a float16 or float32 could not be compared. False for nan.
    return number and abs(value.item() if isinstance(value, np.generic) else value) < MAX_NUMBER
