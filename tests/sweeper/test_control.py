"""Words to a run: each does what it says, to a run that lives and to one at rest, once, and on the record."""

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeper import config, control, loop
from sweeper.cli import main
from sweeper.loop import Outcome, State
from sweeper.store import Store, TrialRow

TEXT = """
name: demo
objective: {function: "mine.py:fit"}
cost: {name: cost}
budget: {trials: 9}
workers: {count: 1}
parameters:
  lr: {distribution: log, min: 1e-4, max: 0.1, start: 0.001}
  steps: {distribution: log, type: int, min: 10, max: 1000}
"""
# Trials from the file's number on wait until it says a higher one. Trial 3 is far too good.
CODE = """
import os, time
def fit(lr, steps):
    trial = int(os.path.basename(os.environ["SWEEP_TRIAL_DIR"]))
    while trial >= int(open("gate").read() or 0):
        time.sleep(0.01)
    return steps * (1 - abs(lr - 0.01)) + 1e6 * (trial == 3), steps
"""


class Live:
    """A run in a thread of this process."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.states: list[State] = []
        self.outcome: Outcome | None = None
        settings = config.load(folder / "demo.yaml", list(overrides))
        self.thread = threading.Thread(target=lambda: self._run(settings, folder / "runs" / "demo"))
        self.thread.start()

    def _run(self, settings: config.SweepConfig, folder: Path) -> None:
        self.outcome = loop.run(settings, folder, self)

    def update(self, state: State) -> None:
        self.states.append(state)

    def until(self, condition: Callable[[dict[str, int]], bool]) -> None:
        deadline = time.monotonic() + 30
        while not (self.states and condition(self.states[-1].counts)):
            assert time.monotonic() < deadline
            assert self.thread.is_alive()
            time.sleep(0.01)

    def end(self) -> Outcome:
        self.thread.join(30)
        assert self.outcome is not None
        return self.outcome


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.yaml").write_text(TEXT)
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "gate").write_text("1000")
    return tmp_path


@contextlib.contextmanager
def live(folder: Path, *overrides: str) -> Iterator[Live]:
    run = Live(folder, *overrides)
    try:
        yield run
    finally:
        (folder / "gate").write_text("1000")
        if run.thread.is_alive():
            control.ask(folder / "runs" / "demo", "resume")
            control.ask(folder / "runs" / "demo", "finish")
        run.thread.join(30)


def sweep(*words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == code


def rows(folder: Path) -> list[TrialRow]:
    with Store.open(folder / "runs" / "demo", readonly=True) as store:
        assert loop.verify_history(store) == []
        return store.trials()


def front(folder: Path) -> list[int | None]:
    with Store.open(folder / "runs" / "demo", readonly=True) as store:
        return [member.trial for member in loop.rebuild(store).front()]


def test_stop_ends_the_trials_that_run_and_they_run_again(here: Path) -> None:
    (here / "gate").write_text("3")
    with live(here) as run:
        run.until(lambda counts: counts["done"] == 2 and counts["running"] == 1)
        sweep("stop")
        assert run.end().reason == "interrupted"
    assert [row.status for row in rows(here)[:3]] == ["done", "done", "queued"]
    with live(here) as run:
        assert run.end().counts["done"] == 9
    assert rows(here)[2].attempts == 2


def test_stop_finish_lets_them_end_first(here: Path) -> None:
    (here / "gate").write_text("3")
    with live(here) as run:
        run.until(lambda counts: counts["done"] == 2 and counts["running"] == 1)
        sweep("stop", "--finish")
        time.sleep(0.3)
        assert run.thread.is_alive()
        (here / "gate").write_text("1000")
        assert run.end().reason == "interrupted"
    assert [row.status for row in rows(here)[:3]] == ["done"] * 3
    assert [row.attempts for row in rows(here)[2:]] == [1] + [0] * (len(rows(here)) - 3)


def test_a_pause_starts_nothing_and_its_time_does_not_count(here: Path) -> None:
    (here / "gate").write_text("3")
    with live(here, "budget.time=1h") as run:
        run.until(lambda counts: counts["done"] == 2 and counts["running"] == 1)
        sweep("pause")
        (here / "gate").write_text("1000")
        run.until(lambda counts: counts["done"] == 3)
        before = run.states[-1].elapsed
        time.sleep(1.5)
        assert run.states[-1].counts["running"] == 0
        assert run.states[-1].counts["done"] == 3
        sweep("status")
        sweep("resume")
        assert run.end().reason == "trials"
        resumed = next(state for state in run.states if state.counts["done"] == 4)
        assert resumed.elapsed - before < 1.5
    assert len(rows(here)) == 9


def test_a_pause_outlives_the_process(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with live(here, "budget.trials=2") as run:
        run.end()
    sweep("pause")
    assert "`sweep run` will wait" in capsys.readouterr().out
    with live(here) as run:
        run.until(lambda counts: counts["done"] == 2)
        time.sleep(0.7)
        assert run.states[-1].counts["running"] == 0
        assert any("sweep resume" in message for message in run.states[-1].messages)
        sweep("status")
        assert "running, paused" in capsys.readouterr().out
        sweep("resume")
        assert run.end().counts["done"] == 9


def test_enqueued_params_are_tried_next_and_as_they_were_given(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with live(here, "budget.trials=7") as run:
        run.end()
    sweep("enqueue", "--set", "lr=0.0123456", "--set", "steps=77")
    assert "lr=0.0123456 steps=77 (its budget of 7 trials is spent" in capsys.readouterr().out
    sweep("enqueue", "--like", "2", "--set", "lr=0.05")
    (here / "gate").write_text("9")
    with live(here, "budget.trials=12") as run:
        run.until(lambda counts: counts["done"] == 8)
        sweep("enqueue", "--set", "steps=123")
        (here / "gate").write_text("1000")
        assert run.end().counts["done"] == 12
        with Store.open(here / "runs" / "demo", readonly=True) as store:
            assert control.enqueued(store) == []
    trials = rows(here)
    tried = [row.params for row in trials if row.origin == "pool"]
    assert tried[0] == {"lr": 0.0123456, "steps": 77}
    assert tried[1] == {"lr": 0.05, "steps": trials[1].params["steps"]}
    assert tried[2] == {"lr": 0.001, "steps": 123}  # the rest at its start
    assert [row.number for row in trials if row.origin == "pool"][:2] == [8, 9]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["lr=7"], "lr: 7 lies outside"),
        (["lr=fast"], "lr: 'fast' is not a number"),
        (["rate=0.1"], "rate: no such parameter"),
        (["lr"], "not key=value"),
    ],
)
def test_params_that_cannot_be_had_are_refused(
    here: Path, capsys: pytest.CaptureFixture[str], values: list[str], said: str
) -> None:
    Store.create(here / "runs" / "demo", config.load("demo.yaml")).close()
    sweep("enqueue", *[word for value in values for word in ("--set", value)], code=2)
    assert said in capsys.readouterr().err
    sweep("enqueue", "--like", "4", code=2)
    with pytest.raises(control.Refused, match="lies outside"):  # the driver does not trust who asks
        control.ask(here / "runs" / "demo", "enqueue", {"params": {"lr": 7, "steps": 10}})
    with Store.open(here / "runs" / "demo", readonly=True) as store:
        assert store.history(("enqueue",)) == []


def test_an_excluded_result_is_in_no_model_and_on_no_front(here: Path) -> None:
    with live(here, "budget.trials=7") as run:
        run.end()
    assert 3 in front(here)
    sweep("exclude", "3")
    assert 3 not in front(here)
    with Store.open(here / "runs" / "demo", readonly=True) as store:
        sweeper = loop.rebuild(store)
        assert max(member.score for member in sweeper.front(observed=True)) < 1e6
        assert store.trial(3).score is not None  # it is still there
    with live(here) as run:
        assert run.end().counts["done"] == 9
        assert all(score < 1e6 for state in run.states for _, score, _ in state.front)
    later = [row for row in rows(here) if row.number > 7]
    assert all(row.params != rows(here)[2].params for row in later)
    sweep("exclude", "3", "--undo")
    assert 3 in front(here)
    assert not rows(here)[2].excluded


def test_best_knows_what_ended_and_was_excluded_while_the_driver_asks_for_nothing(here: Path) -> None:
    (here / "gate").write_text("3")
    with live(here) as run:
        run.until(lambda counts: counts["done"] == 2 and counts["running"] == 1)
        sweep("pause")
        (here / "gate").write_text("4")
        run.until(lambda counts: counts["done"] == 3)
        assert 3 in front(here)
        sweep("exclude", "3")
        assert 3 not in front(here)
        sweep("exclude", "3", "--undo")
        assert 3 in front(here)


def test_where_no_result_counts_nobody_says_that_none_has_finished(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with live(here, "budget.trials=2") as run:
        run.end()
    for number in "12":
        sweep("exclude", number)
    sweep("best", code=1)
    assert "no trial has a result that counts" in capsys.readouterr().err


def test_a_live_run_forgets_what_is_excluded_before_its_next_proposal(here: Path) -> None:
    (here / "gate").write_text("7")
    with live(here) as run:
        run.until(lambda counts: counts["done"] == 6 and counts["running"] == 1)
        sweep("exclude", "3")
        sweep("exclude", "7", code=2)  # it runs
        sweep("exclude", "99", code=2)
        (here / "gate").write_text("1000")
        assert run.end().counts["done"] == 9
    assert rows(here)[2].excluded
    with Store.open(here / "runs" / "demo", readonly=True) as store:
        kinds = [(event.kind, event.trial) for event in store.history()]
    assert kinds.index(("exclude", 3)) < kinds.index(("ask", 8))
    sweep("exclude", "3", "--undo")
    sweep("exclude", "3")
    rows(here)  # the history still gives its own proposals


def test_a_word_whose_answer_was_lost_counts_once(here: Path) -> None:
    with Store.create(here / "run", config.load("demo.yaml")) as store:
        word = control.Word("00000000000000000001-a", "enqueue", {"params": {"lr": 0.01, "steps": 10}})
        (store.folder / "requests").mkdir()
        for _ in range(2):  # the driver died after its commit, the next one finds the word still there
            control.take(store, word)
        assert len(control.enqueued(store)) == 1


def test_what_is_no_word_is_refused_and_harms_nobody(here: Path) -> None:
    requests = here / "runs" / "demo" / "requests"
    requests.mkdir(parents=True)
    for name, text in {"a": "not JSON", "b": "[1, 2]", "c": '{"kind": "dance", "data": {}}'}.items():
        (requests / f"{name}.json").write_text(text)
    (requests / f"{int((time.time() - 99) * 1e9):020d}-x.json").write_text('{"kind": "stop", "data": {}}')
    with live(here, "budget.trials=2") as run:
        assert run.end().reason == "trials"  # nor does a stop that was meant for an earlier session stop it
    answers = [json.loads(path.read_text()) for path in requests.glob("[abc].answer")]
    assert [answer["done"] for answer in answers] == [False] * 3
    assert list(requests.glob("*.json")) == []


@pytest.mark.parametrize("kind", ["enqueue", "exclude"])
@pytest.mark.parametrize("data", [{}, {"trial": "x", "params": 3}])
def test_a_word_that_lacks_what_it_is_about_is_refused(
    here: Path, kind: str, data: dict[str, object]
) -> None:
    folder = here / "runs" / "demo"
    with Store.create(folder, config.load(here / "demo.yaml")) as store:
        (folder / "requests").mkdir()
        (folder / "requests" / "a.json").write_text(json.dumps({"kind": kind, "data": data}))
        (word,) = control.words(folder)
        assert control.take(store, word) is None
        assert control.words(folder) == []


def test_a_driver_that_does_not_answer_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.2)
    with Store.create(here / "runs" / "demo", config.load("demo.yaml")):
        sweep("pause", code=1)
    assert len(control.words(here / "runs" / "demo")) == 1  # for the next session


@pytest.mark.parametrize("number", [10, 1 << 63, 10**20])
def test_a_trial_that_no_database_could_hold_is_refused_and_the_run_goes_on(here: Path, number: int) -> None:
    with live(here, "budget.trials=1") as run:
        run.end()
    sweep("exclude", str(number), code=2)
    sweep("enqueue", "--like", str(number), code=2)
    with live(here, "budget.trials=2") as run:
        assert run.end().reason == "trials"


def test_what_is_enqueued_too_late_is_said_to_be(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "gate").write_text("1")
    with live(here, "budget.trials=1") as run:
        run.until(lambda counts: counts["running"] == 1)
        sweep("enqueue", "--set", "lr=0.02")
        assert "its budget of 1 trials will be spent before: give it more" in capsys.readouterr().out
        (here / "gate").write_text("1000")
        run.end()


def test_what_was_enqueued_outlives_a_budget_that_was_spent_before_it_started(here: Path) -> None:
    Store.create(here / "runs" / "demo", config.load(here / "demo.yaml")).close()
    sweep("enqueue", "--set", "lr=0.02", "--set", "steps=77")
    (here / "gate").write_text("1")
    with live(here) as run:
        run.until(lambda counts: counts["running"] == 1)
        sweep("stop")
        run.end()
    for budget in ("budget.time=0.001", "budget.trials=1"):
        with live(here, budget) as run:
            run.end()
    wanted = [row.status for row in rows(here) if row.params == {"lr": 0.02, "steps": 77}]
    assert wanted == ["stopped", "done"]


def test_a_pause_does_not_make_the_rest_take_longer(here: Path) -> None:
    (here / "gate").write_text("3")
    with live(here) as run:
        run.until(lambda counts: counts["done"] == 2 and counts["running"] == 1)
        sweep("pause")
        (here / "gate").write_text("1000")
        run.until(lambda counts: counts["done"] == 3)
        rate = run.states[-1].rate
        time.sleep(2 * run.states[-1].elapsed)
        assert rate is not None
        assert run.states[-1].rate == pytest.approx(rate, rel=0.6)
        sweep("resume")
        run.end()


def test_trials_that_were_never_started_are_not_counted_as_ended(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "gate").write_text("2")
    with live(here, "budget.trials=3") as run:
        run.until(lambda counts: counts["done"] == 1 and counts["running"] == 1)
        sweep("stop")
        run.end()
    (here / "gate").write_text("1000")
    with live(here, "budget.trials=1") as run:  # trial 2 is withdrawn
        run.end()
    with live(here, "budget.trials=3") as run:
        outcome = run.end()
    assert outcome.counts["done"] == 3
    assert outcome.counts["stopped"] == 1
    assert sum(run.states[-1].counts[status] for status in ("done", "failed", "stopped")) == 3
    capsys.readouterr()
    sweep("status")
    assert "  trials   3 of 3: " in capsys.readouterr().out


def test_what_is_excluded_before_the_proposer_has_heard_of_it_is_in_no_model(here: Path) -> None:
    with live(here, "budget.trials=7") as run:
        run.end()
    with sqlite3.connect(here / "runs" / "demo" / "run.db") as db:  # as kill -9 leaves it after a trial's end
        db.execute("DELETE FROM events WHERE kind = 'tell' AND trial = 7")
    sweep("exclude", "7")
    with live(here, "budget.trials=9") as run:
        run.end()
    assert len(rows(here)) == 9  # and its history holds


def test_a_word_that_cannot_be_answered_is_not_taken(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = here / "runs" / "demo"
    (folder / "requests").mkdir(parents=True)
    (folder / "requests" / "1-x.json").write_text('{"kind": "pause", "data": {}}')
    assert [word.kind for word in control.words(folder)] == ["pause"]
    monkeypatch.setattr("os.access", lambda path, mode: path != folder / "requests")  # another user's
    assert control.words(folder) == []
