"""The front and the staircase, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper import pareto

POINTS = st.lists(st.tuples(st.integers(1, 12), st.integers(-5, 5)), min_size=1, max_size=30)


@settings(deadline=None)
@given(POINTS, st.sampled_from(["maximize", "minimize"]))
def test_front_is_what_nobody_beats(points: list[tuple[int, int]], goal: str) -> None:
    costs, scores = np.array(points, float).T
    sign = 1 if goal == "maximize" else -1
    unbeaten = {
        point
        for point in points
        if not any(c <= point[0] and sign * s >= sign * point[1] and (c, s) != point for c, s in points)
    }
    members = pareto.front(costs, scores, goal)
    assert {points[i] for i in members} == unbeaten
    assert len(members) == len(unbeaten)
    assert np.all(np.diff(costs[members]) > 0)


@settings(deadline=None)
@given(POINTS)
def test_area_is_the_sum_over_small_steps(points: list[tuple[int, int]]) -> None:
    costs, scores = 10 ** (np.array(points, float).T[0] / 4), np.array(points, float).T[1]
    edges = np.linspace(np.log10(2.0), np.log10(500.0), 4001)
    middles = 10 ** ((edges[1:] + edges[:-1]) / 2)
    heights = [max([s for c, s in zip(costs, scores, strict=True) if c <= m], default=-2.0) for m in middles]
    expected = np.sum((np.maximum(heights, -2.0) + 2.0) * np.diff(edges))
    assert pareto.staircase_area(costs, scores, 2.0, 500.0, floor=-2.0) == pytest.approx(expected, abs=0.05)


def test_area_of_minimising_is_that_of_the_negative() -> None:
    costs, scores = [1, 3, 9], [5.0, 4.0, 1.0]
    area = pareto.staircase_area(costs, scores, 1, 10, floor=6.0, goal="minimize")
    assert area == pytest.approx(pareto.staircase_area(costs, [-5.0, -4.0, -1.0], 1, 10, floor=-6.0))


def test_nothing_within_reach_has_no_area() -> None:
    assert pareto.staircase_area([], [], 1, 10) == 0
    assert pareto.staircase_area([20], [1], 1, 10) == 0


def test_pruning_leaves_out_what_buys_almost_nothing() -> None:
    costs, scores = np.array([1.0, 2, 3, 4, 5]), np.array([0.0, 0.5, 0.505, 1.0, 1.001])
    assert pareto.prune(costs, scores, 0.02).tolist() == [0, 1, 3]


def test_unknown_goal_is_refused() -> None:
    with pytest.raises(ValueError, match="goal"):
        pareto.front([1], [1], "best")
