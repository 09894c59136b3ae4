"""The front: which points nobody beats at their cost, and the area under the staircase they make."""

from __future__ import annotations

from typing import Any

import numpy as np


def front(costs: Any, scores: Any, goal: str = "maximize") -> np.ndarray:
    """Indices of the points that no other point beats: cheaper-or-equal and better. Cheapest first.

    `costs`, `scores`: [n], finite. Of points equal in both, the first counts. `goal`: maximize | minimize.
    """
    if goal not in ("maximize", "minimize"):
        raise ValueError(f"goal: {goal!r} is neither maximize nor minimize")
    costs, scores = np.asarray(costs, float), np.asarray(scores, float)
    if goal == "minimize":
        scores = -scores
    order = np.lexsort((np.arange(len(costs)), -scores, costs))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], scores[order]]))
    return order[scores[order] > best[:-1]]


def prune(costs: np.ndarray, scores: np.ndarray, share: float = 0.02) -> np.ndarray:
    """The front without points that buy almost nothing: each kept one lifts it by `share` of its range.

    Takes [n] costs and scores (higher is better), gives indices, cheapest first. The cheapest stays.
    """
    members = front(costs, scores)
    least = share * (scores[members].max() - scores[members].min())
    kept = [members[0]]
    for index in members[1:]:
        if scores[index] >= scores[kept[-1]] + least:
            kept.append(index)
    return np.array(kept)


def staircase_area(
    costs: Any, scores: Any, cost_min: float, cost_max: float, floor: float = 0.0, goal: str = "maximize"
) -> float:
    """Area between `floor` and the best score at no more than each cost, over log10 cost.

    The staircase runs over [cost_min, cost_max]; it is at `floor` left of the cheapest point, and points
    dearer than `cost_max` do not count. In units of score times decades of cost.
    """
    costs, scores = np.asarray(costs, float), np.asarray(scores, float)
    if goal == "minimize":
        scores, floor = -scores, -floor
    use = (costs <= cost_max) & (scores > floor)
    costs, scores = np.maximum(costs[use], cost_min), scores[use]
    if not len(costs):
        return 0.0
    members = front(costs, scores)
    edges = np.log10(np.append(costs[members], cost_max))
    return float(np.sum((scores[members] - floor) * np.diff(edges)))
