"""Early stop: how likely is it that a running trial still rises above the front?

Only with a fidelity, where a shorter trial would have given the same points: then the curve so far says as
much about the trial's end as finished trials do, and what a stopped trial has shown stays true as the result
of a shorter one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import numpy as np
from scipy.stats import norm

from sweeper import pareto
from sweeper.acquisition import PRUNE
from sweeper.models import fit_models, one_thread
from sweeper.proposer import Point, Sweeper, Trial, _Entry
from sweeper.space import Space

JUDGED_FROM = 12  # finished trials, before the models know too little to end anything
EXPLAINED = 0.5  # share of the scores' variance that they must predict of trials they have not seen
_GRID = 16  # places between here and the trial's end


def shortened(
    space: Space, fidelity_name: str | None, params: Mapping[str, Any], step: float
) -> dict[str, Any] | None:
    """The params of a shorter trial that would have ended at this step; None where the space has none: a step
    below the fidelity's range or between its values, a constraint that it breaks."""
    if fidelity_name is None or fidelity_name not in params:
        return None
    shorter = space.to_params(space.to_unit({**params, fidelity_name: step}))  # the nearest that can run
    possible = space.satisfied(shorter) and math.isclose(shorter[fidelity_name], step, rel_tol=0.01)
    return shorter if possible else None


def chance(sweeper: Sweeper, params: Mapping[str, Any], points: Sequence[Point]) -> float:
    """The probability that a trial with these points so far lifts the front where it has most hope, by as
    much as a member of the front must lift it to count (`acquisition.PRUNE`).

    1 where nobody can tell. Changes nothing, and does not refit: the models are those of the last ask, given
    what was told since and these points.
    """
    last, before = points[-1], sweeper._models
    shorter = shortened(sweeper.space, sweeper.fidelity, params, last.step)
    done = [entry for entry in sweeper._entries if entry.status == "done"]
    if shorter is None or "score" not in before or len(done) < JUDGED_FROM:
        return 1.0
    assert sweeper.fidelity is not None
    space = sweeper.space
    trial = Trial(-1, shorter, space.to_unit(shorter))
    so_far = copy(sweeper)
    so_far._entries = [*sweeper._entries, _Entry(trial, "done", tuple(points), last.score, last.cost)]
    ahead = np.repeat(trial.unit[None], _GRID, axis=0)
    column = space.column[sweeper.fidelity]
    end = float(space.to_unit(params)[column])
    ahead[:, column] = np.linspace(trial.unit[column], end, _GRID + 1)[1:]
    with one_thread():
        models = fit_models(
            so_far._observations(), space.groups, {**before, "seen": math.inf}, np.random.default_rng(0)
        )
        if models.explained < EXPLAINED:
            return 1.0
        features = space.features(np.stack([entry.trial.unit for entry in done]))
        means, costs = models.score.predict(features)[0], models.log_cost.predict(features)[0]
        front = pareto.front(costs, means)
        mean, sd = models.score.predict(space.features(ahead))
        log_cost = models.log_cost.predict(space.features(ahead))[0]
    left = np.searchsorted(costs[front], log_cost, side="right") - 1
    if (left < 0).any():  # cheaper than all that is known
        return 1.0
    known = models.score.unwarp(means[front])
    least = models.score.warp(known[left] + PRUNE * float(np.ptp(known)))
    return float(norm.sf((least - mean) / sd).max())
