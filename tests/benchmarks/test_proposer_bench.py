"""The bench of proposers: its tasks keep what they promise, a run goes on, table and pictures come out."""

import contextlib
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = str(Path(__file__).parents[2])
sys.path.insert(0, ROOT)  # benchmarks are not installed; the path is left as it was
try:
    from benchmarks.proposer import __main__ as command
    from benchmarks.proposer import ablations, checks, ppo_table, proposers, report, run, tasks
finally:
    sys.path.remove(ROOT)

TASKS = tasks.TASKS


def draws(task: Any, count: int) -> list[dict[str, Any]]:
    if task.pool is not None:
        return list(task.pool[:count])
    return [task.space.to_params(unit) for unit in task.space.sample(count, np.random.default_rng(3))]


def test_there_are_enough_tasks_and_some_are_held_out() -> None:
    assert len(TASKS) >= 16
    assert sum(task.held_out for task in TASKS.values()) >= 4


@pytest.mark.parametrize("name", TASKS)
def test_nothing_beats_the_ideal_and_it_is_reached(name: str) -> None:
    task = TASKS[name]
    sign = 1 if task.goal == "maximize" else -1
    tolerance = 1e-6 * abs(task.best - task.floor)
    costs = np.geomspace(task.cost_min, task.cost_max, 9)
    best = [task.best_params(float(cost)) for cost in costs]
    for cost, params in zip(costs, best, strict=True):
        task.space.check(params)
        assert task.failure(params) is None
        score, price = task.truth(params)
        assert abs(score - task.ideal([cost])[0]) <= tolerance or price > cost  # a table's cheapest
        assert price <= cost * (1 + 1e-9) or task.flat or task.pool is not None
    near = [] if task.pool is not None else neighbours(task, best)
    tried = [params for params in [*draws(task, 2000), *near] if task.failure(params) is None]
    truths = np.array([task.truth(params) for params in tried])
    inside = truths[:, 1] >= task.cost_min
    over = sign * (truths[inside, 0] - task.ideal(truths[inside, 1]))
    assert over.max() <= tolerance
    share = task.share(truths[:, 1], truths[:, 0])
    assert 0 < share <= 1 + 1e-6
    dense = [task.best_params(float(c)) for c in np.geomspace(task.cost_min, task.cost_max, 300)]
    scores, prices = np.array([task.truth(params) for params in dense]).T
    assert task.share(prices, scores) > 0.98
    assert task.share([], []) == 0


def neighbours(task: Any, centres: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Small and large steps away from the best."""
    generator, found = np.random.default_rng(4), []
    for params in centres:
        step = generator.standard_normal((40, task.space.dim)) * generator.choice([0.003, 0.03, 0.3], (40, 1))
        units = task.space.snap(task.space.to_unit(params) + step)
        found += [task.space.to_params(unit) for unit in units[task.space.feasible(units)]]
    return found


@pytest.mark.parametrize("name", TASKS)
def test_seeds_reproduce_and_curves_are_honest(name: str) -> None:
    task = TASKS[name]
    for params in draws(task, 20):
        if task.failure(params) is not None:
            continue
        assert task.evaluate(params, [1, 2]) == task.evaluate(params, [1, 2])
        curve = task.curve(params, [1, 2])
        assert curve == task.curve(params, [1, 2])
        assert curve[-1][:0:-1] == task.evaluate(params, [1, 2])
        assert all(0 < before[1] < after[1] for before, after in itertools.pairwise(curve))
        if task.fidelity is not None and task.pool is None:
            for step, cost, score in task.curve(params):
                shorter = {**params, task.fidelity: int(step)}
                assert task.truth(shorter) == (score, cost)


def test_noise_has_its_stated_size() -> None:
    task = TASKS["noisy"]
    params = task.best_params(1000.0)
    seen = np.array([task.evaluate(params, seed)[0] for seed in range(4000)]) - task.truth(params)[0]
    assert abs(np.median(seen)) < 0.01
    assert np.quantile(np.abs(seen), 0.5) == pytest.approx(0.1 / math.sqrt(3) * 0.765, rel=0.1)  # of t with 3


def test_every_sixth_run_is_an_accident() -> None:
    task = TASKS["accidents"]
    params = task.best_params(1000.0)
    seen = np.array([task.evaluate(params, seed)[0] for seed in range(4000)]) / task.truth(params)[0]
    assert np.mean(seen < 0.5) == pytest.approx(1 / 6, abs=0.02)
    assert np.median(seen[seen < 0.5]) == pytest.approx(0.3, abs=0.01)
    assert np.median(seen[seen > 0.5]) == pytest.approx(1.0, abs=0.01)


def test_failures_are_as_many_as_stated() -> None:
    task = TASKS["failures"]
    failed = [task.failure(params) for params in draws(task, 3000)]
    assert sum(f is not None for f in failed) / 3000 == pytest.approx(0.3, abs=0.03)
    assert all(f[1] > 0 for f in failed if f is not None)
    always = {**task.best_params(100.0), "optimizer": "lbfgs"}
    assert task.failure(always) is not None


def test_constant_cost_is_constant() -> None:
    costs = [TASKS["constant"].truth(params)[1] for params in draws(TASKS["constant"], 200)]
    assert max(costs) / min(costs) < 1.02


@pytest.mark.parametrize("name", ["random", "random-curves", "genetic", "protein", "ours", "ours-curves"])
def test_proposers_run_on_categories_failures_and_a_pool(name: str) -> None:
    sweep = run.run_sweep("mixed", name, 0, 9)
    assert len(sweep.scores) == len(sweep.costs) == len(sweep.milliseconds) == 9
    again = run.run_sweep("mixed", name, 0, 9)
    assert np.array_equal(sweep.scores, again.scores, equal_nan=True)
    if "ppo-cartpole" in TASKS:
        sweep = run.run_sweep("ppo-cartpole", name, 0, 3)
        assert len(set(sweep.costs)) == 3  # no member twice


def test_run_goes_on_and_table_and_pictures_come_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def bench(*words: str) -> int:
        return command.main([*words])

    few = ["--tasks", "constant,failures", "--seeds", "0-1", "--trials", "26", "--out", str(tmp_path)]
    assert bench("run", "--proposers", "random,genetic", *few) == 0
    before = (tmp_path / "random.csv").read_text()
    assert len(before.splitlines()) == 1 + 2 * 2 * 26
    assert bench("run", "--proposers", "random", *few) == 0
    assert (tmp_path / "random.csv").read_text() == before  # nothing is run twice
    lines = before.splitlines(keepends=True)
    (tmp_path / "random.csv").write_text("".join(lines[: 1 + 3 * 26]))  # interrupted before the last sweep
    assert bench("run", "--proposers", "random", *few) == 0
    columns = [line.rsplit(",", 1)[0] for line in (tmp_path / "random.csv").read_text().splitlines()]
    assert columns == [line.rsplit(",", 1)[0] for line in before.splitlines()]
    (tmp_path / "ours.csv").write_text(before.replace(",random,", ",ours,"))  # stands in for a slow one
    capsys.readouterr()
    assert bench("table", str(tmp_path)) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "After 25 trials" in text
    assert "| constant |" in text
    row = next(line for line in text.splitlines() if line.startswith("| ours | all | random"))
    assert "1.00 (" in row  # against itself
    assert bench("plot", str(tmp_path)) == 0
    assert all((tmp_path / f"share-{kind}.png").stat().st_size > 5000 for kind in ("cost", "trials"))


def test_curves_count_for_those_whose_names_say_so(tmp_path: Path) -> None:
    ends, curves = (run.run_sweep("log", name, 0, 12) for name in ("random", "random-curves"))
    assert ends.costs == curves.costs
    assert (ends.shares, len(curves.shares)) == ([], 12)
    for sweep in (ends, curves):
        run.append(tmp_path, sweep)
        (kept,) = run.read(tmp_path, sweep.proposer)
        assert kept.shares == pytest.approx(sweep.shares, abs=1e-5)
    one = TASKS["log"]
    for count in (0, 5, 12):
        without, with_them = (report.share_of(sweep, one, count) for sweep in (ends, curves))
        assert with_them > without if count else with_them == without == 0
    # Where there is a table of trainings, what lies on a curve is no member of it.
    if "ppo-cartpole" in TASKS:
        sweep = run.run_sweep("ppo-cartpole", "random-curves", 0, 12)
        kept_shares, sweep.shares = sweep.shares, []
        assert report.share_of(sweep, TASKS["ppo-cartpole"], 12) == pytest.approx(kept_shares[-1])


def test_a_peer_with_curves_stands_beside_ours_with_curves_alone() -> None:
    shares = {
        "ours": 0.5,
        "ours-curves": 0.5,
        "tpe": 0.2,
        "tpe-curves": 0.6,
        "random": 0.1,
        "random-curves": 0.3,
    }
    made = {
        (name, "log", checkpoint): np.full(report.LEAST_SEEDS, share)
        for name, share in shares.items()
        for checkpoint in ("small cost", "25 trials")
    }
    for checkpoint in ("small cost", "25 trials"):  # lucky, but not often enough
        made["hebo", "log", checkpoint] = np.full(report.LEAST_SEEDS - 1, 0.9)
    ratios = {
        (ours, against): report.ratio(made, ours, "log", "25 trials", against)
        for ours in ("ours", "ours-curves")
        for against in ("peer", "random")
    }
    assert ratios == pytest.approx({
        ("ours", "peer"): 0.5 / 0.8, ("ours", "random"): 0.5 / 0.9,
        ("ours-curves", "peer"): 0.5 / 0.4, ("ours-curves", "random"): 0.5 / 0.7,
    })  # fmt: skip
    made["tpe", "log", "25 trials"] = np.array([0.3])  # the only sweep of many to get there counts
    assert report.ratio(made, "ours", "log", "25 trials", "peer") == pytest.approx(0.5 / 0.7)


def test_peers_that_end_early_are_not_judged_by_who_goes_on() -> None:
    def sweep(seed: int, trials: int, share: float) -> Any:
        kept = run.Sweep("log", "protein", seed)
        kept.scores, kept.costs, kept.shares = [0.0] * trials, [1.0] * trials, [share] * trials
        return kept

    worse_goes_on = [sweep(seed, 100 if seed == 0 else 30, 0.2 if seed == 0 else 0.7) for seed in range(5)]
    better_goes_on = [sweep(seed, 100 if seed == 0 else 30, 0.9 if seed == 0 else 0.7) for seed in range(5)]
    for sweeps, share in ((worse_goes_on, 0.7), (better_goes_on, 0.9)):
        made = report.cells({"protein": {"log": sweeps}})
        assert np.median(made["protein", "log", "50 trials"]) == share
        assert len(made["protein", "log", "25 trials"]) == 5


def test_packing_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in (1, 0):
        run.append(tmp_path, run.run_sweep("failures", "random", seed, 12))
    before = {s.seed: (s.costs, s.scores) for s in run.read(tmp_path, "random")}
    monkeypatch.setattr(run, "LARGEST", 10)
    assert run.pack(tmp_path) == [tmp_path / "random.csv.gz"]
    run.append(tmp_path, run.run_sweep("failures", "random", 2, 12))
    after = {s.seed: (s.costs, s.scores) for s in run.read(tmp_path, "random")}
    assert sorted(after) == [0, 1, 2]
    for seed in (0, 1):
        np.testing.assert_array_equal(before[seed], after[seed])


def test_a_missing_peer_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for package in ("optuna", "botorch", "hebo", "hebo.design_space.design_space"):
        monkeypatch.setitem(sys.modules, package, None)
    for name in ("tpe", "gpsampler", "botorch", "hebo"):
        words = ["run", "--proposers", name, "--tasks", "plateau", "--seeds", "0", "--trials", "2"]
        assert command.main([*words, "--out", str(tmp_path)]) == 2
        assert f"extra '{proposers.EXTRA}'" in capsys.readouterr().err


def test_the_perfect_chooser_is_never_behind(tmp_path: Path) -> None:
    task = TASKS["minimise"]
    assert 0.9 < report.perfect("minimise", ("100 trials", 100.0)) <= 1
    best = [task.best_params(float(cost)) for cost in np.geomspace(task.cost_min, task.cost_max, 25)]
    scores, costs = np.array([task.truth(params) for params in best]).T
    assert task.share(costs, scores) <= report.perfect("minimise", ("25 trials", 25.0)) + 0.002


def test_the_table_of_trainings_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "table.csv.gz"
    monkeypatch.setattr(sys, "argv", ["ppo_table", "--configs", "3", "--seeds", "1", "--out", str(out)])
    monkeypatch.setitem(ppo_table.CARTPOLE["train.total_timesteps"], "max", 6e4)
    with contextlib.redirect_stdout(None):
        ppo_table.main()
    made = tasks.read_table(out)
    assert len(made.pool or ()) == 3


def test_the_checks_print_a_line_each(capsys: pytest.CaptureFixture) -> None:
    for names, trials in (("waste,failures,calibration", 21), ("gaps,workers", 12)):
        few = ["--seeds", "0", "--trials", str(trials), "--tasks", "linear-noisy"]
        assert command.main(["checks", "--only", names, *few]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0].split(":")[0] for line in lines] == [
        "plateau", "failures", "mixed", "calibration", *["front"] * 3, *["16 workers"] * 6,
    ]  # fmt: skip
    assert all("aim" in line for line in lines)


def test_a_score_outside_its_interval_is_seen() -> None:
    tuner = proposers.Ours(TASKS["linear"], 0)
    for number in range(12):
        params = tuner.ask()
        if number == 11:
            score = tuner.trial.predicted_score
            assert checks.inside(tuner, TASKS["linear"], params, score)
            assert not checks.inside(tuner, TASKS["linear"], params, score + 5)
        score, cost = TASKS["linear"].evaluate(params, 0)
        tuner.tell(params, score, cost, None, [])


def test_every_ingredient_can_be_taken_out_and_comes_back(capsys: pytest.CaptureFixture) -> None:
    task, told = TASKS["failures"], []
    tuner = proposers.Ours(task, 0)
    for number in range(40):
        params = tuner.ask()
        failure = task.failure(params)
        score, cost = task.evaluate(params, [0, number])
        told.append(
            {"score": score, "cost": cost} if failure is None else {"failure": "x", "cost": failure[1]}
        )
        tuner.sweeper.tell(tuner.trial, **told[-1])
    records = [entry.trial.record() for entry in tuner.sweeper._entries]

    def asked() -> list[dict[str, Any]]:
        sweeper = proposers.Ours(task, 0).sweeper
        for record, result in zip(records, told, strict=True):
            sweeper.tell(sweeper.restore(record), **result)
        return [trial.params for trial in sweeper.ask(3)]

    whole, changed = asked(), []
    for ingredient in ablations.WITHOUT:
        with ablations.without(ingredient):
            changed += [ingredient] if asked() != whole else []
    assert asked() == whole
    assert len(changed) >= 13  # the others speak where a sweep begins, or later
    ablations.table(["plateau"], [0], 25, print, ["the cap"])
    assert "| the cap |" in capsys.readouterr().out
