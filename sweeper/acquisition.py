"""Where the next trial goes: the rating, the candidates it is given to, and how far out it may look.

The rating of params x is a quotient:

    the expected improvement of x's score over its left neighbour
    times the distance of x's log cost to its nearest neighbour on the front
    times the probability that x neither fails nor collapses

    over the price of x: its predicted cost and that of the front's end (or of the dearest trial that runs).

The front is the posterior one: denoised means, so that lucky runs do not stand on it. The left neighbour of
x is the best member of the front that costs no more, or the worst trial where none does. One so improves on
what is known and fills what is empty: between two members of equal score the best place is the middle. Where
curves are honest each of their points is a shorter trial, and stands on the front like any other. The price
counts both what is spent and that it takes a trial: a cheap trial is not free, for it takes its place among
the hundred that a user waits for. Such a place is worth what the front's end costs, so that growth never
becomes dear.

Params that may cost more than a cap (by their predicted log cost and one sd of it) are not looked at: twice
the end of the front, where members that buy almost nothing are left out, or the next cost that there is where
costs come in wider steps. So money follows score, not the other way round. Pending trials may stand on the
front, but on them alone nothing climbs beyond eight times the dearest that is finished. There are two
exceptions:

    every fifth trial is a probe, if with it probes are no more than a twentieth of all spending, the trials'
    places counted: it lies beyond the end of the front, up to twice the dearest trial (from a finite pool,
    where one cannot walk up in small steps, each probe is held against that twentieth alone);
    while hardly any of what scores differ by is predictable, the models know nothing to go by. Then the end
    of the front is the dearest trial, and all lie within a quarter of its cost and twice of it: where nothing
    is learned yet, it takes more, not the same again. Every second continues the space-filling design.

Where there are categories, every fifth trial from the 26th on, after the hundredth every twentieth, has
another one than the front at its cost: the category that was lucky first is soon tuned best, and no model
doubts it enough. Such a trial lies where scores begin to tell settings apart, from a third of the front's
rise on, up to four times as dear, and where nine of ten succeed.

Where runs differ by luck, every eighth trial, once the front has had time to form, repeats its end until that
rests on three runs, while repeats are less than a tenth of all spending: one lucky run must not decide what
is handed out as the best. A member of the front that is better by far than all others say (see `models`) runs
again at once: it is a discovery, or the luck of one run, and what did not come again is no discovery.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import log_ndtr, logsumexp

from sweeper import pareto
from sweeper.models import Models
from sweeper.space import Space

LEAP = math.log(2.0)  # beyond the front's end, in log cost
CLIMB = 3  # leaps beyond the dearest finished trial: so far may pending ones climb on each other
PRUNE = 0.02  # of the front's range: its end and the centres of search are members that lift it by so much
# Scores are luck while less of their variance is predictable, judged from so many trials on. Then trials lie
# so far below the dearest at most, in log cost.
EXPLAINED, JUDGED, DARK = 0.3, 10, 2 * LEAP
PROBE_EVERY, PROBE_SHARE = 5, 0.05
# Other categories: one trial in so many, from which trial on, until which (then a quarter as often); where on
# the front's rise, and how far on from there in log cost; how likely to succeed at least.
SWAP_EVERY, SWAP_AFTER, SWAP_OFTEN = 5, 24, 100
SWAP_RISEN, SWAP_WITHIN, SWAP_SAFE = 1 / 3, 2 * LEAP, 0.9
# What is at equal cost: closer than this share of the span of log costs, or than a timer's luck, in log cost.
NEAR, TIMING = 0.005, 0.02
# Noise sd as a share of the front's rise; trials; runs; share of all spending.
NOISY, SETTLE_EVERY, SETTLED, REPEAT_SHARE = 0.03, 8, 3, 0.1
SETTLE_FROM = 24  # trials: before, the noise is mostly its prior, and money better spent on what is new
APART = 0.002  # in some parameter, of the box's width of 2: nearer to a trial that runs nothing is proposed
_AROUND, _REFINED, _STEPS, _ROUNDS = 800, 6, 16, 4
_DEAREST = 700.0  # log cost, so that none overflows
_CERTAIN, _TAIL = 5.0, 10.0  # sds from which an improvement is certain; over which its chance fades
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_NODES, _LOG_WEIGHTS = (_NODES + 1) / 2, np.log(_WEIGHTS / 2)  # on [0, 1]


@dataclass
class Acquisition:
    """The rating and its bounds over one state of knowledge; pending trials count as the models believe.

    `done`, `pending`, `stopped` [n, dim]: final params of trials; `shorter` [n, dim]: of what their curves
    show besides; `taken`: the keys of what is not to be proposed again. Scores: modelled, higher is better.
    Pending trials may move the front's end, and a place among many workers is worth what the dearest that
    runs costs: all wait for it. Stopped ones keep others away.
    """

    space: Space
    models: Models
    done: np.ndarray
    pending: np.ndarray
    stopped: np.ndarray
    shorter: np.ndarray
    taken: set[bytes]
    cost_limit: float | None = None

    def __post_init__(self) -> None:
        units = np.concatenate([self.shorter, self.done, self.pending, self.stopped])
        features = self.space.features(units)
        means = self.models.score.mean(features)
        costs = np.minimum(self.models.log_cost.mean(features), _DEAREST)
        front = pareto.front(costs, means)
        self.front_scores, self.front_costs = means[front], costs[front]  # cheapest first
        self.front_categories = self._categories(units[front])
        ends, known = len(self.shorter), len(self.shorter) + len(self.done)
        self.costs, self.running = costs[ends:known], costs[known:][: len(self.pending)]
        self.known, self.means = units[:known], means[:known]
        self.members = pareto.prune(costs[:known], self.models.score.unwarp(self.means), PRUNE)
        self.least = float(means[ends:known].min())
        self.span = max(float(np.ptp(costs)), 1.0)  # of log cost; below it all costs are much the same
        self.near = max(NEAR * self.span, TIMING)  # an improvement at equal cost counts too
        self.limit = math.inf if self.cost_limit is None else math.log(self.cost_limit)
        self.repeatable = self.members[costs[self.members] <= self.limit]  # results of old may cost more
        # Log costs: of the front's dearest member, and what a place among the trials is worth.
        self.end = float(costs[pareto.prune(costs, self.models.score.unwarp(means), PRUNE)[-1]])
        dearest_running = float(self.running.max(initial=-math.inf))
        if self.low_signal:  # no member of the front is one yet
            self.end = min(max(float(self.costs.max()), dearest_running), self.limit)
        self.worth = max(self.end, dearest_running)
        self.cap = min(self.end + LEAP, float(self.costs.max()) + CLIMB * LEAP, self.limit)
        self.bottom = self.end - DARK if self.low_signal else -math.inf
        self.swaps: tuple[float, float] | None = None  # log costs between which only other categories will do
        self._pending_tree = cKDTree(self.pending) if len(self.pending) else None

    @property
    def rise(self) -> float:
        """Of the front; where it is a single trial (costs are alike, the cheapest is the best), over all."""
        return float(np.ptp(self.means[self.members] if len(self.members) > 1 else self.means))

    @property
    def noisy(self) -> bool:
        """Whether one run may mislead about the front's end."""
        return len(self.done) >= SETTLE_FROM and self.models.score.noise_sd > NOISY * self.rise

    @property
    def low_signal(self) -> bool:
        """Whether nothing about scores is predictable yet."""
        return len(self.done) >= JUDGED and self.models.explained < EXPLAINED

    def probe(self, spent: float, probed: float, trials: int) -> bool:
        """Beyond the front's end, up to a leap from the dearest trial, if so much may be spent on it.

        Cheap trials cost their places too: a hundred of them, and no money for a look further, is a trap.
        """
        affordable = PROBE_SHARE * (spent + trials * math.exp(self.end)) - probed
        if affordable <= math.exp(self.end):
            return False
        self.bottom = self.end
        self.cap = min(float(self.costs.max()) + LEAP, math.log(affordable), self.limit)
        return True

    def swap(self, number: int) -> bool:
        """Only other categories than the front's at their cost, if this is the turn and there are any."""
        every = SWAP_EVERY if number <= SWAP_OFTEN else 4 * SWAP_EVERY
        if number < SWAP_AFTER or number % every != 1 or not self.front_categories.size:
            return False
        heights = self.models.score.unwarp(self.front_scores)
        risen = np.argmax(heights >= heights[0] + SWAP_RISEN * np.ptp(heights))
        self.swaps = self.front_costs[risen], self.front_costs[risen] + SWAP_WITHIN
        return True

    def _step_up(self, log_cost: np.ndarray, cost_sd: np.ndarray) -> None:
        """Where costs come in steps (model sizes, data sets) wider than a leap, the cap is at the next one.

        `log_cost`, `cost_sd` [n]: of what there is to choose from.
        """
        if self.bottom == self.end:  # a probe has bounds of its own
            return
        beyond = log_cost > self.end + self.near
        step = min(float((log_cost + cost_sd)[beyond].min(initial=math.inf)), self.limit)
        if self.cap < step < math.inf:
            self.cap = step
            if self.swaps is not None:
                self.swaps = self.swaps[0], step

    def _categories(self, units: np.ndarray) -> np.ndarray:
        """[n, dim] to their categories, [n, how many]; exact, for units are rounded to what can run."""
        return units[:, [p.kind == "categorical" for p in self.space.parameters.values()]]

    def rating(self, units: np.ndarray, costs: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
        """Log of the rating of [n, dim]; -inf for what is taken, beside a trial that runs, out of bounds or
        breaks a constraint. `costs`: their predicted log costs and sds, where these are known."""
        log_cost, cost_sd = costs or self._predicted_costs(units)
        inside = (log_cost >= self.bottom) & (log_cost + cost_sd <= self.cap)
        inside &= self.space.feasible(units) & ~among(units, self.taken)
        if self._pending_tree is not None:
            nearest = self._pending_tree.query(units, p=math.inf, distance_upper_bound=APART)[0]
            inside &= ~np.isfinite(nearest)  # infinite: none so near
        left = np.searchsorted(self.front_costs, log_cost + self.near, side="right") - 1
        if self.swaps is not None:
            inside &= (log_cost >= self.swaps[0]) & (log_cost <= self.swaps[1])
            inside &= (self._categories(units) != self.front_categories[left]).any(axis=1)
        rating = np.full(len(units), -np.inf)
        if not inside.any():
            return rating
        features, log_cost, left = self.space.features(units[inside]), log_cost[inside], left[inside]
        mean, sd = self.models.score.predict(features)
        neighbour = np.where(left < 0, self.least, self.front_scores[np.maximum(left, 0)])
        success = self.models.success_probability(features)
        # The central equation, in logs.
        rating[inside] = (
            log_expected_improvement(mean, sd, neighbour)
            + np.log(self.distance(log_cost))
            + np.log(success)
            - self.price(log_cost)
        )
        if self.swaps is not None:  # what fails tells nothing of how good a category is
            rating[np.flatnonzero(inside)[success < SWAP_SAFE]] = -np.inf
        return rating

    def _predicted_costs(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.models.log_cost.predict(self.space.features(units))

    def distance(self, log_cost: np.ndarray) -> np.ndarray:
        """Along log cost to the nearest member of the front, as a share of its span."""
        away = np.abs(log_cost[:, None] - self.front_costs[None, :]).min(axis=1)
        return np.maximum(away, self.near) / self.span

    def price(self, log_cost: np.ndarray) -> np.ndarray:
        """Log of the cost and of what a place among the trials is worth."""
        return np.logaddexp(log_cost, self.worth)

    def best(self, generator: np.random.Generator) -> np.ndarray | None:
        """The unit [dim] of the highest rating that is found, or None where nothing is left to propose.

        Candidates lie around the front's members, near and far; the best are refined by steps that shrink.
        """
        around = self.known[self.members[generator.integers(len(self.members), size=_AROUND)]]
        sds = np.exp(generator.uniform(math.log(0.02), math.log(0.8), _AROUND))
        units = perturb(self.space, around, sds, generator)
        costs = self._predicted_costs(units)
        self._step_up(*costs)
        ratings = self.rating(units, costs)
        for sd in 0.2 * 0.4 ** np.arange(_ROUNDS):
            best = np.argsort(-ratings, kind="stable")[:_REFINED]
            best = best[np.isfinite(ratings[best])]
            if not len(best):
                return None
            centres = np.repeat(units[best], _STEPS, axis=0)
            refined = perturb(self.space, centres, np.full(len(centres), sd), generator)
            units = np.concatenate([units[best], refined])
            ratings = np.concatenate([ratings[best], self.rating(refined)])
        return units[np.argmax(ratings)]

    def best_of(self, units: np.ndarray) -> np.ndarray:
        """The best of a finite pool [n, dim]; the cheapest where all are out of bounds; taken ones last."""
        costs = self._predicted_costs(units)
        self._step_up(*costs)
        ratings = self.rating(units, costs)
        if not np.isfinite(ratings).any():  # nothing up there: look lower
            self.bottom = -math.inf
            ratings = self.rating(units, costs)
        if not np.isfinite(ratings).any():
            free = ~among(units, self.taken)
            units = units[free] if free.any() else units
            ratings = -self._predicted_costs(units)[0]
        return units[np.argmax(ratings)]


def log_expected_improvement(mean: np.ndarray, sd: np.ndarray, incumbent: np.ndarray) -> np.ndarray:
    """log E[max(s(f) - s(incumbent), 0)], [n], where f ~ N(mean, sd^2) and s is the logistic function.

    A score is s(f) of all that its warp lets scores reach. By parts, the expectation is the integral from the
    incumbent on of s'(t) Phi((mean - t) / sd): closed where Phi is as good as 1, else by Gauss and Legendre's
    rule, in logs, so that it is finite however hopeless. An sd above 3 counts as 3: a doubt of more than e^3
    is no hope.
    """
    sd = np.minimum(sd, 3.0)
    start = np.maximum(incumbent, mean - _CERTAIN * sd)
    z = (start - mean) / sd
    width = np.maximum(-z, 0) + _TAIL / (1 + np.maximum(z, 0))  # in sds; beyond it Phi is next to nothing
    steps = width[:, None] * _NODES
    t = start[:, None] + sd[:, None] * steps
    log_slopes = -np.logaddexp(0, t) - np.logaddexp(0, -t)
    doubtful = logsumexp(log_ndtr(-z[:, None] - steps) + log_slopes + _LOG_WEIGHTS, axis=1)
    with np.errstate(divide="ignore"):  # -inf where nothing is certain
        certain = np.log(-np.expm1(incumbent - start)) - np.logaddexp(0, -start) - np.logaddexp(0, incumbent)
    return np.logaddexp(doubtful + np.log(width * sd), certain)


def perturb(space: Space, centres: np.ndarray, sds: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """[n, dim] around `centres` [n, dim] by normal steps of `sds` [n], reflected at the walls and rounded.

    The larger the step, the more often is a category drawn anew, and a whole number does not stay for ever
    what it is because steps are small beside its neighbours' distance: it is rounded to either, by chance.
    """
    count, dim = centres.shape
    units = centres + sds[:, None] * generator.standard_normal((count, dim))
    for column, parameter in enumerate(space.parameters.values()):
        if parameter.kind == "int" or parameter.distribution == "pow2":
            units[:, column] += generator.uniform(-0.5, 0.5, count) * parameter.cell(centres[:, column])
    units = 1 - np.abs((units + 1) % 4 - 2)  # a triangle wave: itself inside [-1, 1], mirrored beyond
    for column, parameter in enumerate(space.parameters.values()):
        if parameter.kind == "categorical":
            anew = generator.random(count) < sds
            units[:, column] = np.where(anew, generator.uniform(-1, 1, count), centres[:, column])
    return space.snap(units)


def keys(units: np.ndarray) -> set[bytes]:
    """[k, dim] as what `among` looks up."""
    return {row.tobytes() for row in np.round(units, 8) + 0.0}  # + 0.0: no negative zero


def among(units: np.ndarray, others: set[bytes]) -> np.ndarray:
    """[n] bool: which of [n, dim] are one of the `keys` of others."""
    return np.array([row.tobytes() in others for row in np.round(units, 8) + 0.0], dtype=bool)
