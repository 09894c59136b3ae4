"""The known tasks, the perfect chooser, and the bench at a small size."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from sweeper import bench, synthetic
from sweeper.errors import ConfigError


@pytest.mark.parametrize("name", synthetic.TASKS)
def test_the_ideal_front_is_the_truth_at_the_best_learning_rate(name: str) -> None:
    task = synthetic.task(name)
    steps = np.geomspace(10_000, 1_000_000, 7)
    best = [task.truth({"lr": 1e-3, "steps": s}) for s in steps]
    np.testing.assert_allclose(task.ideal(np.array([cost for _, cost in best])), [score for score, _ in best])
    assert task.truth({"lr": 1e-2, "steps": 5e5})[0] < task.truth({"lr": 1e-3, "steps": 5e5})[0]
    assert best[-1] == pytest.approx((task.best, task.cost_max))
    dense = np.geomspace(task.cost_min, task.cost_max, 3000)
    assert task.share(dense, task.ideal(dense)) == pytest.approx(1, abs=2e-3)


def test_noise_has_the_stated_size_and_its_own_seed() -> None:
    task, params = synthetic.task("linear-noisy"), {"lr": 1e-3, "steps": 500_000}
    draws = np.array([task.evaluate(params, seed=i)[0] for i in range(2000)])
    assert draws.mean() == pytest.approx(0.5, abs=0.002)
    assert draws.std() == pytest.approx(synthetic.NOISE_SD, rel=0.05)
    assert task.evaluate(params, seed=7) == task.evaluate(params, seed=7)
    assert synthetic.task("linear").evaluate(params, seed=7)[0] == pytest.approx(0.5)
    wins = [synthetic.task("percentile-noisy").evaluate(params, seed=i)[0] for i in range(200)]
    assert all(0 <= win <= 1 for win in wins)


def test_unknown_tasks_get_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'linear'"):
        synthetic.task("liner")


def test_the_perfect_chooser_is_what_trying_everything_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_GRID", 9)
    task = synthetic.task("linear")
    costs = np.geomspace(task.cost_min, task.cost_max, 9)
    scores = task.ideal(costs)
    sets = [list(s) for size in (1, 2, 3) for s in itertools.combinations(range(9), size)]
    best = max(task.share(costs[s], scores[s]) for s in sets)
    assert bench.perfect_by_trials(task, 3)[-1] == pytest.approx(best)
    affordable = max(task.share(costs[s], scores[s]) for s in sets if costs[s].sum() <= 40.0)
    assert bench.perfect_by_cost(task, 40.0, units=4000) == pytest.approx(affordable, abs=1e-6)


def test_spent_counts_only_what_had_finished() -> None:
    sweep = bench.Sweep("linear", 0, [1.0, 2.0, 3.0], [0.1, 0.2, 0.3], [], [], [])
    assert bench.spent(sweep, 5.9) == ([1.0, 2.0], [0.1, 0.2])


def test_the_bench_runs_small(tmp_path: Path) -> None:
    said: list[str] = []
    rows = bench.run_bench(["log"], seeds=2, trials=8, workers=1, out=tmp_path, echo=said.append)
    assert [row.checkpoint for row in rows[:3]] == ["2 trials", "4 trials", "8 trials"]
    assert all(0 <= row.ours <= row.perfect + 0.01 <= 1.01 for row in rows)
    assert (tmp_path / "log.png").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "results.json").read_text())) == 6
    assert any("stalled" in line for line in said)
