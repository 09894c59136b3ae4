"""Where the next trial goes: the rating, the candidates it is given to, and how far out it may look.

The rating of params x is a product of three things:

    expected improvement of x's score over its left neighbour,
    the distance of x's log cost to its nearest neighbour on the front,
    the probability that x does not fail.

The front is the posterior one (denoised means, so that lucky runs do not stand on it), without points that buy
almost nothing. The left neighbour of x is the best member of the front that costs no more; left of the cheapest
member it is the worst score seen. One so improves on what is known and fills what is empty: between two members of
equal score the best place is the middle. What would cost more than a cap is not looked at: `LEAP` times the
dearest member, so that money follows score and not the other way round.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import erfcx

from sweeper.models import GaussianProcess
from sweeper.space import Space

LEAP = 2.0  # times the cost of the front's end: how far beyond it a proposal may be
_AROUND, _GLOBAL, _REFINED, _ROUNDS = 800, 80, 6, 4
_NEAR = 0.02  # of the log-cost range: closer is at equal cost, and improving there is worth as much


@dataclass
class Beliefs:
    """What the models say, pending trials included as believed means. Scores: higher is better."""

    space: Space
    score: GaussianProcess
    log_cost: GaussianProcess
    success: GaussianProcess | None  # of labels 0 and 1; None while nothing has failed
    units: np.ndarray  # [m, dim] of the front's members, cheapest first
    scores: np.ndarray  # [m]
    log_costs: np.ndarray  # [m]
    bottom: float  # the worst score seen: what is left of the front
    span: float  # of the log costs seen
    cap: float  # log cost above which nothing is proposed

    def success_probability(self, features: np.ndarray) -> np.ndarray:
        """[n], between 0.01 and 1."""
        if self.success is None:
            return np.ones(len(features))
        return np.clip(self.success.predict(features)[0], 0.01, 1.0)

    def rating(self, units: np.ndarray) -> np.ndarray:
        """Log of the rating of [n, dim]; -inf for what costs too much or breaks a constraint."""
        features = self.space.features(units)
        mean, sd = self.score.predict(features)
        log_cost = self.log_cost.predict(features)[0]
        near = _NEAR * self.span
        left = np.searchsorted(self.log_costs, log_cost + near, side="right") - 1
        incumbent = np.where(left < 0, self.bottom, self.scores[np.maximum(left, 0)])
        distance = np.abs(log_cost[:, None] - self.log_costs[None, :]).min(axis=1)
        # The central equation.
        rating = log_expected_improvement(mean, sd, incumbent)
        rating += np.log(np.maximum(distance, near) / self.span)
        rating += np.log(self.success_probability(features))
        return np.where((log_cost <= self.cap) & self.space.feasible(units), rating, -np.inf)


def log_expected_improvement(mean: np.ndarray, sd: np.ndarray, incumbent: np.ndarray) -> np.ndarray:
    """log E[max(f - incumbent, 0)] for f ~ N(mean, sd^2), finite however hopeless (Ament et al. 2023)."""
    z = (mean - incumbent) / sd
    low = np.minimum(z, 0.0)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        # phi(z) + z Phi(z) = phi(z) (1 - |z| sqrt(pi/2) erfcx(|z|/sqrt 2)) for z < 0; far out it is phi(z) / z^2.
        tail = np.where(low > -1e3, 1 + low * math.sqrt(math.pi / 2) * erfcx(-low / math.sqrt(2)), low**-2.0)
    log_phi = -0.5 * z * z - 0.5 * math.log(2 * math.pi)
    high = np.maximum(z, 0.0)
    body = np.exp(-0.5 * high**2) / math.sqrt(2 * math.pi) + high * (1 - 0.5 * _erfc(high / math.sqrt(2)))
    return np.log(sd) + np.where(z > 0, np.log(body), log_phi + np.log(np.maximum(tail, 1e-300)))


def _erfc(x: np.ndarray) -> np.ndarray:
    return erfcx(x) * np.exp(-x * x)


def perturb(
    space: Space, centres: np.ndarray, scales: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """[n, dim] around [n, dim], by normal steps of [n] sd, reflected at the walls and rounded.

    Half of them move few coordinates: in many dimensions a step in all of them is a step away from all that
    is known. A category that moves is drawn anew.
    """
    count, dim = centres.shape
    share = np.where(generator.random(count) < 0.5, 1.0, np.minimum(1.0, 2.0 / dim))
    moves = generator.random((count, dim)) < share[:, None]
    moves[np.arange(count), generator.integers(dim, size=count)] = True
    units = centres + np.where(moves, scales[:, None] * generator.standard_normal((count, dim)), 0.0)
    units = np.abs((units + 1) % 4 - 2) - 1  # the triangle wave that is its own value inside [-1, 1]
    units = -units
    for column, parameter in enumerate(space.parameters.values()):
        if parameter.kind == "categorical":
            drawn = generator.uniform(-1, 1, count)
            redrawn = moves[:, column] & (generator.random(count) < 0.5)
            units[:, column] = np.where(redrawn, drawn, centres[:, column])
    return space.snap(units)


def best_candidate(
    beliefs: Beliefs, taken: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, float] | None:
    """The unit [dim] with the highest rating and its log, none of `taken` [k, dim]; None where nothing is left.

    Candidates are drawn around the members of the front, a few everywhere; the best are refined by steps that
    shrink.
    """
    space = beliefs.space
    centres = beliefs.units[generator.integers(len(beliefs.units), size=_AROUND)]
    scales = np.exp(generator.uniform(math.log(0.02), math.log(0.8), _AROUND))
    units = np.concatenate([perturb(space, centres, scales, generator), space.sample(_GLOBAL, generator)])
    ratings = _without(beliefs.rating(units), units, taken)
    scale = 0.2
    for _ in range(_ROUNDS):
        best = np.argsort(-ratings, kind="stable")[:_REFINED]
        best = best[np.isfinite(ratings[best])]
        if not len(best):
            return None
        centres = np.repeat(units[best], 16, axis=0)
        near = perturb(space, centres, np.full(len(centres), scale), generator)
        units = np.concatenate([units[best], near])
        ratings = np.concatenate([ratings[best], _without(beliefs.rating(near), near, taken)])
        scale *= 0.4
    best_index = int(np.argmax(ratings))
    return units[best_index], float(ratings[best_index])


def _without(ratings: np.ndarray, units: np.ndarray, taken: np.ndarray) -> np.ndarray:
    if not len(taken):
        return ratings
    same = (np.abs(units[:, None, :] - taken[None, :, :]) < 1e-9).all(axis=2).any(axis=1)
    return np.where(same, -np.inf, ratings)
