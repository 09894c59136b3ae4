"""Early stop: the hopeless are ended, the good and the unknown are not; nothing is told that was not seen."""

import os
from pathlib import Path

import numpy as np
import pytest

from sweeper import config, control, loop, proposer
from sweeper.proposer import Point, Sweeper, Trial
from sweeper.repair import repair
from sweeper.store import Store

SPACE = {
    "x": {"min": 0.0, "max": 1.0, "start": 0.1},
    "steps": {"distribution": "log", "type": "int", "min": 10, "max": 1000},
}


def curve(x: float, steps: int, count: int = 8) -> list[Point]:
    """Scores rise with the log of the steps where x is small, and not at all where it is large."""
    places = [round(step) for step in np.linspace(0, steps, count + 1)[1:]]
    return [Point(step, step / 10, max(0.0, 1 - 2 * x) * np.log(1 + step)) for step in places]


@pytest.fixture(scope="module")
def experienced() -> Sweeper:
    """Of seven settings, the best of which is not among them."""
    tuner = Sweeper(SPACE, seed=3, fidelity="steps")
    for x in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        for steps in (80, 500):
            tuner.observe({"x": x, "steps": steps}, points=curve(x, steps))
    tuner.ask()
    return tuner


def pending(tuner: Sweeper, x: float, steps: int) -> Trial:
    trial: Trial = tuner.ask(among=[{"x": x, "steps": steps}])
    return trial


def test_the_hopeless_have_no_chance_and_the_good_have(experienced: Sweeper) -> None:
    for x, steps, hopeless in ((0.8, 450, True), (0.31, 450, True), (0.1, 450, False), (0.31, 1000, False)):
        trial = pending(experienced, x, steps)
        chance = experienced.chance(trial, curve(x, steps)[:3])
        assert chance < loop.HOPELESS if hopeless else chance > 0.5, (x, steps, chance)
        experienced.withdraw(trial)


def test_repeats_run_to_their_end_however_badly_they_go(experienced: Sweeper) -> None:
    asked = pending(experienced, 0.8, 450).record()
    repeat = experienced.restore({**asked, "number": asked["number"] + 1, "origin": "repeat"})
    assert experienced.chance(repeat, curve(0.8, 450)[:3]) == 1
    assert experienced.chance(asked["number"], curve(0.8, 450)[:3]) < loop.HOPELESS
    experienced.withdraw(repeat)
    experienced.withdraw(asked["number"])


def test_nobody_is_judged_before_enough_is_known() -> None:
    tuner = Sweeper(SPACE, seed=3, fidelity="steps")
    for _ in range(proposer.JUDGED_FROM - 1):
        trial = tuner.ask()
        tuner.tell(trial, points=curve(**trial.params))
    assert tuner.chance(pending(tuner, 0.9, 900), curve(0.9, 900)[:3]) == 1


def test_judging_changes_nothing() -> None:
    twins = [Sweeper(SPACE, seed=3, fidelity="steps") for _ in range(2)]
    for _ in range(16):
        for twin, judges in zip(twins, (True, False), strict=True):
            trial = twin.ask()
            if judges:
                twin.chance(trial, curve(**trial.params)[:3])
            twin.tell(trial, points=curve(**trial.params))
    assert twins[0].ask() == twins[1].ask()


@pytest.mark.parametrize(
    ("fidelity", "steps", "shown"),
    [("steps", 100, 100), ("steps", 30, None), ("steps", 100.4, 100), (None, 100, None)],
    ids=["there", "breaks a constraint", "rounded", "no fidelity"],
)
def test_what_a_stopped_trial_has_shown_is_a_shorter_one(
    fidelity: str | None, steps: float, shown: int | None
) -> None:
    tuner = Sweeper(SPACE, constraints=["steps >= 40"], fidelity=fidelity)
    trial = pending(tuner, 0.5, 500)
    tuner.stop(trial, [Point(steps / 2, 5.0, 1.0), Point(steps, 10.0, 2.0)])
    members = tuner.front()
    assert [(m.params, m.score, m.cost, m.trial, m.shorter) for m in members] == (
        []
        if shown is None
        else [
            ({"x": 0.5, "steps": 50}, 1.0, 5.0, 1, True),
            ({"x": 0.5, "steps": shown}, 2.0, 10.0, 1, True),
        ]
    )


@pytest.mark.parametrize(("step", "there"), [(4, False), (24, False), (32, True)])
def test_between_and_below_the_values_of_the_fidelity_there_is_no_shorter_trial(
    step: float, there: bool
) -> None:
    tuner = Sweeper({"batch": {"distribution": "pow2", "min": 8, "max": 64}}, fidelity="batch")
    tuner.stop(tuner.ask(among=[{"batch": 64}]), [Point(step, 1.0, 1.0)])
    assert bool(tuner.front()) is there


@pytest.mark.parametrize("step", [0.0, -1.0])
@pytest.mark.filterwarnings("error")
def test_what_is_reported_before_the_first_step_is_no_shorter_trial(step: float) -> None:
    tuner = Sweeper(SPACE, seed=3, fidelity="steps")
    trial = tuner.ask()
    assert tuner.chance(trial, [Point(step, 1.0, 0.0)]) == 1
    tuner.stop(trial, [Point(step, 1.0, 0.0)])
    assert tuner.front() == []


def test_where_a_stopped_trial_was_going_nothing_more_is_proposed(experienced: Sweeper) -> None:
    """Once this led to fifty trials in a row that were each stopped as hopeless and each proposed again."""
    trial = experienced.ask()
    experienced.stop(trial, curve(**trial.params)[:6])
    asked = [experienced.ask() for _ in range(3)]
    for other in asked:
        ratio = max(other.params["steps"], trial.params["steps"]) / min(
            other.params["steps"], trial.params["steps"]
        )
        assert ratio > 1.05 or abs(other.params["x"] - trial.params["x"]) > 0.02
        experienced.withdraw(other)


def test_a_stop_that_cannot_be_is_an_error_and_changes_nothing() -> None:
    tuner = Sweeper(SPACE, fidelity="steps")
    trial = tuner.ask()
    free, lost = [Point(5, 0.0, 1.0)], [Point(5, 1.0, float("nan"))]
    for points, word in (([], "none"), (free, "cost"), (lost, "nan")):
        with pytest.raises(ValueError, match=word):
            tuner.stop(trial, points)
    tuner.stop(trial, [Point(10, 1.0, 1.0)])
    with pytest.raises(ValueError, match="stopped already"):
        tuner.tell(trial, score=1.0, cost=1.0)
    with pytest.raises(ValueError, match="stopped already"):
        tuner.chance(trial, [Point(10, 1.0, 1.0)])


CODE = """
import os, time, sys, json, math
def fit(x, steps):
    slow = os.path.exists("slow")
    for i in range(1, 9):
        step = round(steps * i / 8)
        report(score=max(0, 1 - 2 * x) * math.log(1 + step), cost=step / 10, step=step)
        if slow and x > 0.7:
            time.sleep(1.5)
"""
REPORT = "from sweeper import report\n"
MAIN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def report(**values): print(json.dumps(values), flush=True)
fit(float(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.mark.parametrize("kind", ["function", "command"])
def test_a_hopeless_trial_is_stopped_and_told_as_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "JUDGE_EVERY", 0.1)
    monkeypatch.setattr(loop, "TICK", 0.2)
    (tmp_path / "mine.py").write_text(CODE + (REPORT if kind == "function" else MAIN))
    target = "function: 'mine.py:fit'" if kind == "function" else "command: '{python} mine.py {x} {steps}'"
    (tmp_path / "t.yaml").write_text(
        f"name: t\nobjective: {{{target}, fidelity: steps}}\ncost: {{name: cost}}\nseed: 3\n"
        "early_stop: true\nbudget: {trials: 20}\nworkers: {count: 1}\nparameters:\n"
        "  x: {min: 0, max: 1, start: 0.1}\n"
        "  steps: {distribution: log, type: int, min: 10, max: 1000}\n"
    )
    run = tmp_path / "run"
    loop.run(config.load("t.yaml", ["early_stop=false"]), run)
    (tmp_path / "slow").touch()
    control.ask(run, "enqueue", {"params": {"x": 0.85, "steps": 900}})
    outcome = loop.run(config.load("t.yaml", ["budget.trials=21"]), run)
    assert (outcome.counts["done"], outcome.counts["stopped"]) == (20, 1)
    outcome = loop.run(config.load("t.yaml", ["early_stop=false", "budget.trials=22"]), run)
    assert (outcome.counts["done"], outcome.counts["stopped"]) == (21, 1)
    with Store.open(run, readonly=True) as store:
        assert loop.verify_history(store) == []
        row = store.trial(21)
        assert (row.status, row.score, row.failure) == ("stopped", None, None)
        assert 1 <= len(row.points) < 8
        assert row.cost == row.points[-1].cost < 90
        assert "its chance to rise above the front was" in row.message
        (stop,) = store.history(("stop",))
        assert stop.trial == 21
        assert [list(point) for point in row.points] == stop.data["points"]
        sweeper, before = loop.rebuild(store), store.trials()
        assert 21 not in [member.trial for member in sweeper.front()]
        history = [(event.kind, event.trial, event.data) for event in store.history()]
    assert outcome.spent_cost == pytest.approx(sum(row.cost or 0 for row in before))

    os.truncate(run / "run.db", 9000)  # what it has shown survives the database
    store, _ = repair(run, config.load("t.yaml", ["budget.trials=22"]))
    with store:
        again = [(event.kind, event.trial, event.data) for event in store.history()]
        assert again == history[: len(again)]
        assert ("stop", 21) in [(kind, trial) for kind, trial, _ in again]
        assert loop.verify_history(store) == []


def test_what_is_no_share_on_its_way_ends_no_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "JUDGE_EVERY", 0.0)
    monkeypatch.setattr(loop, "TICK", 0.05)
    (tmp_path / "mine.py").write_text(
        "import time\nimport sweeper\n\ndef fit(x, steps):\n"
        "    sweeper.report(score=1.5, cost=1, step=1)\n    time.sleep(0.2)\n"
        "    return {'score': x, 'cost': 2}\n"
    )
    outcome = loop.run(
        config.parse(
            "name: t\nobjective: {function: 'mine.py:fit', fidelity: steps}\ncost: {name: cost}\n"
            "metric: {scale: percentile}\nearly_stop: true\nbudget: {trials: 2}\nworkers: {count: 1}\n"
            "parameters: {x: {min: 0, max: 1}, steps: {distribution: log, min: 10, max: 1000}}\n",
            folder=tmp_path,
        ),
        tmp_path / "run",
    )
    assert outcome.counts["done"] == 2


def test_early_stop_needs_a_fidelity() -> None:
    text = "name: t\nobjective: {synthetic: log}\nearly_stop: true\nparameters: {lr: {min: 0, max: 1}}\n"
    with pytest.raises(config.ConfigError, match=r"early_stop: needs to know.*\n.*fidelity"):
        config.parse(text)


def test_a_misspelt_fidelity_is_what_early_stop_lacks() -> None:
    text = "name: t\nobjective: {synthetic: log, fidelity: step}\nearly_stop: true\n"
    text += "parameters: {lr: {min: 0.001, max: 1}, steps: {min: 1, max: 9}}\n"
    with pytest.raises(config.ConfigError, match=r"objective.fidelity: 'step' is not.*\n.*'steps'"):
        config.parse(text)


def test_early_stop_of_the_trainer_needs_points_on_the_way() -> None:
    text = (
        "name: t\nobjective: {train: cartpole, fidelity: train.total_timesteps}\nearly_stop: true\n"
        "parameters: {train.total_timesteps: {distribution: log, type: int, min: 5e3, max: 1e6}}\n"
    )
    with pytest.raises(config.ConfigError, match=r"early_stop: has no curve.*\n.*train.curve_points: 10"):
        config.parse(text)
    for name in ("train.curve_points", "curve_points"):
        assert config.parse(f"{text}fixed: {{{name}: 10}}\n").early_stop
