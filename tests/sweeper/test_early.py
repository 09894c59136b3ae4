"""Early stop: the hopeless are ended, the good and the unknown are not; nothing is told that was not seen."""

import os
from pathlib import Path

import numpy as np
import pytest

from sweeper import config, control, early, loop
from sweeper.proposer import Point, Sweeper
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
    tuner = Sweeper(SPACE, seed=3, fidelity="steps")
    for _ in range(16):
        trial = tuner.ask()
        tuner.tell(trial, points=curve(**trial.params))
    for x in (0.9, 0.7, 0.6):
        tuner.observe({"x": x, "steps": 80}, points=curve(x, 80))
    tuner.ask()
    return tuner


def test_the_hopeless_have_no_chance_and_the_good_have(experienced: Sweeper) -> None:
    assert early.chance(experienced, {"x": 0.8, "steps": 900}, curve(0.8, 900)[:3]) < loop.HOPELESS
    assert early.chance(experienced, {"x": 0.0, "steps": 1000}, curve(-0.3, 1000)[:3]) > 0.5


def test_nobody_is_judged_before_enough_is_known() -> None:
    tuner = Sweeper(SPACE, seed=3, fidelity="steps")
    for _ in range(early.JUDGED_FROM - 1):
        trial = tuner.ask()
        tuner.tell(trial, points=curve(**trial.params))
    assert early.chance(tuner, {"x": 0.9, "steps": 900}, curve(0.9, 900)[:3]) == 1


def test_judging_changes_nothing(experienced: Sweeper) -> None:
    twin = Sweeper(SPACE, seed=3, fidelity="steps")
    for _ in range(16):
        trial = twin.ask()
        twin.tell(trial, points=curve(**trial.params))
        early.chance(twin, {"x": 0.8, "steps": 900}, curve(0.8, 900)[:3])
    for x in (0.9, 0.7, 0.6):
        twin.observe({"x": x, "steps": 80}, points=curve(x, 80))
    twin.ask()
    assert [e.trial.params for e in twin._entries] == [e.trial.params for e in experienced._entries]


@pytest.mark.parametrize(
    ("fidelity", "step", "steps"),
    [("steps", 100, 100), ("steps", 30, None), ("steps", 100.4, 100), (None, 100, None)],
    ids=["there", "breaks a constraint", "rounded", "no fidelity"],
)
def test_what_a_stopped_trial_has_shown_is_a_shorter_one(
    fidelity: str | None, step: float, steps: int | None
) -> None:
    space = Sweeper(SPACE, constraints=["steps >= 40"]).space
    shorter = early.shortened(space, fidelity, {"x": 0.5, "steps": 500}, step)
    assert shorter == (None if steps is None else {"x": 0.5, "steps": steps})


def test_between_and_below_the_values_of_the_fidelity_there_is_no_shorter_trial() -> None:
    assert early.shortened(Sweeper(SPACE).space, "steps", {"x": 0.5, "steps": 500}, 5) is None
    space = Sweeper({"batch": {"distribution": "pow2", "min": 8, "max": 64}}).space
    assert early.shortened(space, "batch", {"batch": 64}, 24) is None
    assert early.shortened(space, "batch", {"batch": 64}, 32) == {"batch": 32}


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
    outcome = loop.run(config.load("t.yaml", ["budget.trials=22"]), run)
    assert (outcome.counts["done"], outcome.counts["stopped"]) == (21, 1)
    with Store.open(run, readonly=True) as store:
        assert loop.verify_history(store) == []
        row = store.trial(21)
        assert (row.status, row.score, row.failure) == ("stopped", None, None)
        assert 1 <= len(row.points) < 8
        assert row.cost == row.points[-1].cost < 90
        assert "its chance to rise above the front was" in row.message
        ((observed),) = store.history(("observe",))
        assert observed.data["params"] == {"x": 0.85, "steps": round(row.points[-1].step or 0)}
        assert [list(point) for point in row.points] == observed.data["points"]
        assert ("withdraw", 21) in [(event.kind, event.trial) for event in store.history()]
        sweeper, before = loop.rebuild(store), store.trials()
        assert 21 not in [member.trial for member in sweeper.front()]
        history = [(event.kind, event.trial, event.data) for event in store.history()]
    assert outcome.spent_cost == pytest.approx(sum(row.cost or 0 for row in before))

    os.truncate(run / "run.db", 9000)  # what it has shown survives the database
    store, _ = repair(run, config.load("t.yaml", ["budget.trials=22"]))
    with store:
        again = [(event.kind, event.trial, event.data) for event in store.history()]
        assert again == history[: len(again)]
        assert ("observe", 21) in [(kind, trial) for kind, trial, _ in again]
        assert loop.verify_history(store) == []


def test_early_stop_needs_a_fidelity() -> None:
    text = "name: t\nobjective: {synthetic: log}\nearly_stop: true\nparameters: {lr: {min: 0, max: 1}}\n"
    with pytest.raises(config.ConfigError, match=r"early_stop: needs to know.*\n.*fidelity"):
        config.parse(text)
