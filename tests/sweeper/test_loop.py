"""The loop: what it records, what it tells the proposer, why it ends, how it is stopped."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sweeper import config, loop, store
from sweeper.errors import ConfigError
from sweeper.executors import ExecutorError
from sweeper.loop import Outcome, State
from sweeper.store import RunLocked, Store, StoreError, TrialRow
from sweeper.summary import status_summary
from sweeper.units import format_number

TEXT = """
name: t
objective: {objective}
cost: {{name: cost}}
budget: {{trials: 8}}
workers: {{count: 2}}
parameters:
  lr: {{distribution: log, min: 1e-4, max: 0.1}}
  steps: {{distribution: log, type: int, min: 10, max: 1000}}
"""
GOOD = "def fit(lr, steps, **more): return steps * (1 - abs(lr - 0.01)), steps"


class Watcher:
    """Keeps every state it is shown."""

    def __init__(self, then: Callable[[State], Any] = lambda state: None) -> None:
        self.states: list[State] = []
        self.then = then

    def update(self, state: State) -> None:
        self.states.append(state)
        self.then(state)


def load(folder: Path, code: str = GOOD, overrides: tuple[str, ...] = ()) -> config.SweepConfig:
    (folder / "mine.py").write_text(textwrap.dedent(code))
    (folder / "t.yaml").write_text(TEXT.format(objective='{function: "mine.py:fit"}'))
    return config.load(folder / "t.yaml", list(overrides))


def sweep(folder: Path, code: str = GOOD, *overrides: str, watcher: Watcher | None = None) -> Outcome:
    return loop.run(load(folder, code, overrides), folder / "run", watcher)


def rows(folder: Path) -> list[TrialRow]:
    with Store.open(folder / "run", readonly=True) as store:
        return store.trials()


def assert_repeatable(folder: Path) -> None:
    with Store.open(folder / "run", readonly=True) as store:
        assert loop.verify_history(store) == []


def test_a_sweep_from_its_first_trial_to_its_last(tmp_path: Path) -> None:
    watcher = Watcher()
    outcome = sweep(tmp_path, watcher=watcher)
    assert (outcome.reason, outcome.ran, outcome.counts["done"]) == ("trials", 8, 8)
    assert outcome.ms_per_proposal is not None
    trials = rows(tmp_path)
    assert [row.number for row in trials] == list(range(1, 9))
    for row in trials:
        assert row.score == pytest.approx(row.params["steps"] * (1 - abs(row.params["lr"] - 0.01)))
        assert row.cost == row.params["steps"]
        assert (row.attempts, len(row.points)) == (1, 1)
    assert outcome.spent_cost == sum(row.params["steps"] for row in trials)
    assert_repeatable(tmp_path)

    last = watcher.states[-1]
    assert (last.name, last.counts["done"], last.eta_seconds) == ("t", 8, 0.0)
    assert [cost for cost, _, _ in last.front] == sorted(cost for cost, _, _ in last.front)
    assert last.best is not None
    assert last.best.score == max(row.score for row in trials if row.score is not None)
    ended = {state.last.number for state in watcher.states if state.last is not None}
    assert ended == set(range(1, 9))

    with Store.open(tmp_path / "run", readonly=True) as store:
        sweeper = loop.rebuild(store)
        front = [(m.cost, m.score, m.trial) for m in sweeper.front(observed=True)]
        assert front == last.front
        assert store.meta()["ended"] == "trials"


def test_run_file_is_the_python_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sweeper

    load(tmp_path)
    monkeypatch.chdir(tmp_path)
    outcome = sweeper.run("t.yaml", overrides=["budget.trials=1"])
    assert outcome.folder == Path("runs/t")
    assert (tmp_path / "runs" / "t" / "trials" / "000001" / "params.json").exists()


def test_a_finished_run_goes_on_only_with_a_larger_budget(tmp_path: Path) -> None:
    sweep(tmp_path, GOOD, "budget.trials=3")
    before = rows(tmp_path)
    assert sweep(tmp_path, GOOD, "budget.trials=3").ran == 0
    watcher = Watcher()
    outcome = sweep(tmp_path, GOOD, "budget.trials=9", "workers.count=1", watcher=watcher)
    assert outcome.ran == 6
    assert rows(tmp_path)[:3] == before
    said = watcher.states[0].messages[0]
    assert "budget.trials 3 -> 9" in said
    assert "workers.count 2 -> 1" in said
    assert_repeatable(tmp_path)


def test_wider_ranges_are_taken_up_and_other_changes_refused(tmp_path: Path) -> None:
    sweep(tmp_path)
    before = rows(tmp_path)
    outcome = sweep(tmp_path, GOOD, "budget.trials=11", "parameters.steps.max=5000", "parameters.lr.min=1e-5")
    assert outcome.ran == 3
    assert rows(tmp_path)[:8] == before
    assert_repeatable(tmp_path)
    for change in ("parameters.steps.max=4000", "seed=3", "fixed.more=1", "metric.goal=minimize"):
        with pytest.raises(ConfigError, match="another name"):
            sweep(tmp_path, GOOD, "parameters.steps.max=5000", "parameters.lr.min=1e-5", change)


def test_a_copied_run_goes_on_under_its_new_name(tmp_path: Path) -> None:
    sweep(tmp_path)
    before = rows(tmp_path)
    shutil.copytree(tmp_path / "run", tmp_path / "run2")
    settings = load(tmp_path, GOOD, ("name=other", "budget.trials=10"))
    watcher = Watcher()
    outcome = loop.run(settings, tmp_path / "run2", watcher)
    assert outcome.ran == 2
    assert 'name "t" -> "other"' in watcher.states[0].messages[0]
    with Store.open(tmp_path / "run2") as store:
        assert store.meta()["name"] == "other"
        assert [row.score for row in store.trials()][:8] == [row.score for row in before]
        assert loop.verify_history(store) == []


def test_a_condition_on_what_is_called_max_is_no_wider_range(tmp_path: Path) -> None:
    text = (
        "name: t\nobjective: {synthetic: log}\nbudget: {trials: 2}\nparameters:\n"
        "  clip.max: {type: int, min: 1, max: 3}\n  lr: {distribution: log, min: 1e-5, max: 0.1}\n"
        "  steps: {distribution: log, type: int, min: 1e4, max: 1e6}\n"
        "  more: {min: 0, max: 1, when: {clip.max: 2}}\n"
    )
    loop.run(config.parse(text, folder=tmp_path), tmp_path / "run")
    with pytest.raises(ConfigError, match="another name"):
        loop.run(
            config.parse(text.replace("clip.max: 2}", "clip.max: 3}"), folder=tmp_path), tmp_path / "run"
        )


def test_parameters_in_another_order_are_the_same_sweep(tmp_path: Path) -> None:
    sweep(tmp_path, GOOD, "budget.trials=2", "workers.count=1")
    with Store.open(tmp_path / "run") as store:  # as if its budget had been these eight from the start
        store.change_config(load(tmp_path, GOOD, ("workers.count=1",)))
    lines = TEXT.replace("count: 2", "count: 1").splitlines(keepends=True)
    text = "".join([*lines[:-2], lines[-1], lines[-2]]).format(objective='{function: "mine.py:fit"}')
    loop.run(config.parse(text, folder=tmp_path), tmp_path / "run")
    assert len(rows(tmp_path)) == 8
    assert_repeatable(tmp_path)


def test_the_config_of_another_folder_goes_on_and_says_so(tmp_path: Path) -> None:
    """A project that was moved; or another one's run, under a name that both have by default."""
    sweep(tmp_path, GOOD, "budget.trials=1")
    (tmp_path / "moved").mkdir()
    watcher = Watcher()
    loop.run(load(tmp_path / "moved", GOOD, ("budget.trials=1",)), tmp_path / "run", watcher)
    assert f"its folder {tmp_path} -> {tmp_path / 'moved'}" in watcher.states[0].messages[0]


def test_the_cost_budget_ends_a_sweep(tmp_path: Path) -> None:
    outcome = sweep(tmp_path, GOOD, "budget={cost: 40}", "workers.count=1")
    assert outcome.reason == "cost"
    assert outcome.spent_cost >= 40
    trials = [row for row in rows(tmp_path) if row.status == "done"]
    assert sum(row.cost for row in trials[:-1]) < 40
    assert_repeatable(tmp_path)


def test_the_time_budget_ends_a_sweep(tmp_path: Path) -> None:
    outcome = sweep(
        tmp_path, "import time\n" + GOOD.replace("return", "time.sleep(0.1); return"), "budget={time: 2}"
    )
    assert outcome.reason == "time"
    assert outcome.counts["running"] == outcome.counts["queued"] == 0
    assert 2 <= outcome.elapsed < 20
    assert_repeatable(tmp_path)


def test_failures_are_told_with_their_cost(tmp_path: Path) -> None:
    code = """
    import sweeper
    def fit(lr, steps):
        sweeper.report(score=0, cost=steps / 2)
        if lr > 0.005:
            raise ValueError(f"diverged at {lr}")
        return steps, steps
    """
    outcome = sweep(tmp_path, code, "budget.trials=9", "parameters.lr.start=0.001")
    trials = rows(tmp_path)
    failed = [row for row in trials if row.status == "failed"]
    assert outcome.counts["failed"] == len(failed) > 0
    assert outcome.counts["done"] == 9 - len(failed) > 0
    for row in failed:
        assert (row.failure, row.score, row.cost) == ("crash", None, row.params["steps"] / 2)
        assert row.message.startswith("ValueError: diverged at")
        assert len(row.points) == 1
    with Store.open(tmp_path / "run", readonly=True) as store:
        told = {event.trial: event.data for event in store.history(("tell",))}
    assert all(told[row.number] == {"failure": "crash", "cost": row.cost} for row in failed)
    assert_repeatable(tmp_path)


def test_a_trial_whose_worker_dies_has_cost_no_less_than_it_said(tmp_path: Path) -> None:
    code = """
    import os, sweeper
    def fit(lr, steps):
        sweeper.report(score=0, cost=700)
        if os.environ["SWEEP_TRIAL_DIR"].endswith("2"):
            os._exit(3)
        return 1, 1000
    """
    outcome = sweep(tmp_path, code, "budget.trials=2", "workers.count=1")
    assert [row.cost for row in rows(tmp_path)] == [1000, 700]
    assert outcome.spent_cost == 1700


def test_a_sweep_whose_trials_all_fail_alike_stops_and_shows_why(tmp_path: Path) -> None:
    code = (
        "def fit(lr, steps):\n    print('loading data')\n    raise OSError(f'no such file: data-{steps}.csv')"
    )
    outcome = sweep(tmp_path, code, "budget.trials=100")
    assert outcome.reason == "failed"
    assert loop.ALIKE <= outcome.ran <= loop.ALIKE + 2
    assert "no such file" in outcome.message
    assert "loading data" in outcome.message


def test_a_sweep_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match="no_such_module"):
        sweep(tmp_path, "import no_such_module\ndef fit(lr, steps): return 1, 1")
    with pytest.raises(ConfigError, match="takes no 'lr'"):
        sweep(tmp_path, "def fit(steps): return 1, 1")


def test_a_trial_killed_from_outside_runs_again_under_its_number(tmp_path: Path) -> None:
    code = f"""
    import os, signal
    def fit(lr, steps):
        flag = {str(tmp_path / "killed")!r}
        if not os.path.exists(flag):
            open(flag, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return steps, steps
    """
    watcher = Watcher()
    outcome = sweep(tmp_path, code, "workers.count=1", "budget.trials=3", watcher=watcher)
    assert outcome.counts["done"] == 3
    assert [row.attempts for row in rows(tmp_path)] == [2, 1, 1]
    assert any("it will be run again" in message for message in watcher.states[-1].messages)
    assert_repeatable(tmp_path)


@pytest.mark.parametrize(
    ("name", "status", "failure", "attempts"), [("SIGKILL", "failed", "oom", 2), ("SIGTERM", "lost", None, 3)]
)
def test_a_trial_that_is_killed_every_time(
    tmp_path: Path, name: str, status: str, failure: str | None, attempts: int
) -> None:
    code = f"""
    import os, signal
    def fit(lr, steps):
        if os.environ["SWEEP_TRIAL_DIR"].endswith("1"):
            os.kill(os.getpid(), signal.{name})
        return steps, steps
    """
    outcome = sweep(tmp_path, code, "workers.count=1", "budget.trials=3")
    first = rows(tmp_path)[0]
    assert (first.status, first.failure, first.attempts) == (status, failure, attempts)
    assert outcome.counts["done"] == (2 if status == "failed" else 3)
    assert_repeatable(tmp_path)


def test_a_trial_that_is_given_up_after_a_kill_keeps_when_and_where_it_ran(tmp_path: Path) -> None:
    code = """
    import os, signal
    def fit(lr, steps):
        if os.environ["SWEEP_TRIAL_DIR"].endswith("2"):
            os.kill(os.getpid(), signal.SIGKILL)
        return steps, steps
    """
    sweep(tmp_path, code, "workers.count=1", "budget.trials=2")
    before, given_up = rows(tmp_path)
    assert (given_up.failure, given_up.worker) == ("oom", 0)
    assert given_up.started is not None
    assert before.started is not None
    assert given_up.started > before.started


def test_a_sweep_whose_trials_are_all_ended_from_outside_ends(tmp_path: Path) -> None:
    """They count in no budget, so that none would end it."""
    code = f"""
    import os, signal
    def fit(lr, steps):
        gate = {str(tmp_path / "gate")!r}
        if not os.path.exists(gate) and not os.environ["SWEEP_TRIAL_DIR"].endswith("1"):
            os.kill(os.getpid(), signal.SIGTERM)
        return steps, steps
    """
    outcome = sweep(tmp_path, code, "workers.count=1", "budget.trials=3")
    assert (outcome.reason, outcome.counts["done"], outcome.counts["lost"]) == ("failed", 1, loop.ALIKE)
    assert outcome.message.startswith("5 trials in a row were lost 3 times (")
    with Store.open(tmp_path / "run", readonly=True) as run:
        said = status_summary(run, load(tmp_path, code), live=False)
    assert f"spent    {format_number(outcome.spent_cost)}\n" in said  # as the budget counts it
    (tmp_path / "gate").touch()
    outcome = sweep(tmp_path, code, "workers.count=1", "budget.trials=3")
    assert (outcome.reason, outcome.counts["done"]) == ("trials", 3)
    assert_repeatable(tmp_path)


def test_what_sums_a_trial_up_without_a_step_leaves_its_curve_as_it_is(tmp_path: Path) -> None:
    code = """
    from sweeper import report
    def fit(lr, steps):
        for step in (1, steps // 2, steps):
            report(score=step * (1 - lr), cost=step, step=step)
        return steps * (1 - lr)
    """
    sweep(tmp_path, code, "objective.fidelity=steps", "budget.trials=4")
    with Store.open(tmp_path / "run", readonly=True) as run:
        front = loop.rebuild(run).front(observed=True)
        told = {event.trial: event.data for event in run.history(("tell",))}
    for row in rows(tmp_path):
        steps = row.params["steps"]
        assert [step for step, _, _ in told[row.number]["points"]] == [1, steps // 2, steps]
        assert told[row.number]["score"] == row.score
    assert any(member.shorter for member in front)


def test_a_time_limit_is_a_failure_of_the_params(tmp_path: Path) -> None:
    code = "import time\ndef fit(lr, steps):\n    time.sleep(600 * (steps > 100))\n    return steps, steps"
    outcome = sweep(tmp_path, code, "workers.timeout=0.5", "budget.trials=6", "parameters.steps.start=10")
    failed = {row.failure for row in rows(tmp_path) if row.params["steps"] > 100}
    assert failed <= {"timeout"}
    assert outcome.counts["failed"] == sum(row.params["steps"] > 100 for row in rows(tmp_path))


def test_a_time_limit_may_follow_from_the_predicted_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LEAST_LIMIT", 0.5)
    code = """
    import os, time
    def fit(lr, steps):
        hangs = os.environ["SWEEP_TRIAL_DIR"].endswith("12")  # asked for early, but surely by a model
        time.sleep(60 if hangs else steps / 5e4)
        return steps, steps / 5e4
    """
    changes = ("cost.name=seconds", "workers.timeout_factor=3", "workers.count=1", "budget.trials=12")
    outcome = sweep(tmp_path, code, *changes)
    hung = rows(tmp_path)[11]
    assert (hung.status, hung.failure, outcome.counts["done"]) == ("failed", "timeout", 11)
    assert hung.seconds is not None
    assert hung.seconds < 10


def test_no_more_trials_than_the_disk_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [10**9]
    usage = SimpleNamespace
    monkeypatch.setattr(loop.shutil, "disk_usage", lambda folder: usage(free=free[0]))
    monkeypatch.setattr(loop, "TICK", 0.05)

    def fill(state: State) -> None:
        if state.counts["done"] >= 3:
            free[0] = 10**6

    outcome = sweep(tmp_path, GOOD, "workers.count=1", watcher=Watcher(fill))
    assert outcome.reason == "disk"
    assert "200 MB of disk" in outcome.message
    assert 3 <= outcome.counts["done"] < 8
    assert outcome.counts["running"] == 0
    free[0] = 10**9
    assert sweep(tmp_path).counts["done"] == 8
    assert_repeatable(tmp_path)


def test_a_full_disk_stops_the_sweep_with_all_before_it_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = store._connect

    def small(path: Path) -> sqlite3.Connection:
        db = connect(path)
        db.execute("PRAGMA max_page_count = 10")  # SQLite then says what it says on a full disk
        return db

    monkeypatch.setattr(store, "_connect", small)
    with pytest.raises(StoreError, match=r"disk is full.*all that was recorded before is safe"):
        sweep(tmp_path, GOOD, "budget.trials=40")
    monkeypatch.undo()
    before = [row for row in rows(tmp_path) if row.status == "done"]
    assert len(before) > 3
    assert sweep(tmp_path, GOOD, "budget.trials=40").counts["done"] == 40
    assert [row for row in rows(tmp_path) if row in before] == before
    assert_repeatable(tmp_path)


def test_a_clock_that_jumps_changes_nothing_but_the_dates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 1e9 - 86400.0 * next(days))
    outcome = sweep(tmp_path, GOOD, "budget.time=1h", "workers.timeout=1h")
    assert (outcome.reason, outcome.counts["done"]) == ("trials", 8)
    assert 0 < outcome.elapsed < 60
    assert_repeatable(tmp_path)


def test_a_trial_without_its_folder_is_recorded_all_the_same(tmp_path: Path) -> None:
    code = """
    import os, shutil, time, sweeper
    def fit(lr, steps):
        shutil.rmtree(os.environ["SWEEP_TRIAL_DIR"])
        time.sleep(0.7)
        print("to nobody")
        sweeper.report(score=1, cost=1)
        return steps, steps
    """
    outcome = sweep(tmp_path, code, "budget.trials=2", "workers.count=1")
    assert outcome.counts["done"] == 2
    assert_repeatable(tmp_path)


def test_a_second_driver_is_refused(tmp_path: Path) -> None:
    load(tmp_path)
    with (
        Store.create(tmp_path / "run", load(tmp_path)),
        pytest.raises(RunLocked, match=f"process {os.getpid()} "),
    ):
        sweep(tmp_path)


@pytest.mark.parametrize("seconds", [0.2, 0.0], ids=["slow", "fast"])
def test_a_slow_proposer_works_ahead_of_busy_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    from sweeper.proposer import Sweeper

    ask = Sweeper.ask

    def slow(self: Sweeper, **options: Any) -> Any:
        time.sleep(seconds)
        return ask(self, **options)

    monkeypatch.setattr(Sweeper, "ask", slow)
    watcher = Watcher()
    code = "import time\n" + GOOD.replace("return", "time.sleep(1); return")
    outcome = sweep(tmp_path, code, "budget.trials=6", watcher=watcher)
    assert outcome.idle_share is not None
    ahead = [state.counts["queued"] for state in watcher.states if state.counts["running"] == 2]
    assert max(ahead) == (loop.AHEAD if seconds else 0)
    assert_repeatable(tmp_path)


# Ctrl-C

DRIVER = """
import sys
from sweeper import config, loop
class Show:
    said = 0
    def update(self, state):
        for message in state.messages[self.said:]:
            print(message, flush=True)
        self.said = len(state.messages)
        print("running", state.counts["running"], "done", state.counts["done"], flush=True)
outcome = loop.run(config.load(sys.argv[1] + "/t.yaml"), sys.argv[1] + "/run", Show())
print("outcome", outcome.reason, flush=True)
"""
STUBBORN = """
import os, time
def fit(lr, steps):
    trial = int(os.path.basename(os.environ["SWEEP_TRIAL_DIR"]))
    while trial > 3 and not os.path.exists("go"):
        time.sleep(0.01)
    return steps, steps
"""


def interrupt(folder: Path, times: int) -> tuple[int, str]:
    """Start a sweep whose trials from 4 on wait for a file; interrupt it there; its exit code and output."""
    load(folder, STUBBORN)
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder)], stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout is not None
        lines = []
        for line in driver.stdout:
            lines.append(line)
            if line == "running 2 done 3\n":
                break
        driver.send_signal(signal.SIGINT)
        for _ in range(times - 1):
            time.sleep(0.05)  # two signals at one moment are one
            driver.send_signal(signal.SIGINT)
        lines += driver.stdout.read().splitlines(keepends=True)
    return driver.returncode, "".join(lines)


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tmp_path: Path) -> None:
    code, said = interrupt(tmp_path, times=1)
    assert code == 0
    assert "outcome interrupted" in said
    assert "the same command goes on" in said
    before = rows(tmp_path)
    assert [row.status for row in before[:3]] == ["done"] * 3
    assert {row.status for row in before[3:]} == {"queued"}
    (tmp_path / "go").touch()
    outcome = sweep(tmp_path, STUBBORN)
    after = rows(tmp_path)
    assert outcome.counts["done"] == 8
    assert after[:3] == before[:3]
    assert [row.params for row in after[: len(before)]] == [row.params for row in before]
    assert_repeatable(tmp_path)


def test_ctrl_c_twice_stops_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    code, said = interrupt(tmp_path, times=2)
    assert time.monotonic() - started < 20
    assert code != 0 or "outcome interrupted" in said  # the first may have been quick enough
    assert [row.status for row in rows(tmp_path)[:3]] == ["done"] * 3
    (tmp_path / "go").touch()
    assert sweep(tmp_path, STUBBORN).counts["done"] == 8


def test_what_nohup_started_outlives_its_terminal(tmp_path: Path) -> None:
    code = """
        import os, signal
        def fit(lr, steps):
            os.kill(os.getppid(), signal.SIGHUP)
            return steps, steps
        """
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert sweep(tmp_path, code).counts["done"] == 8
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_share_beyond_one_fails_its_trial_and_not_the_sweep(tmp_path: Path) -> None:
    code = "def fit(lr, steps, **more): return (1.5 if lr > 0.003 else 0.5 + lr), steps"
    outcome = sweep(tmp_path, code, "metric.scale=percentile")
    assert outcome.reason == "trials"
    beyond = [row for row in rows(tmp_path) if row.params["lr"] > 0.003]
    assert beyond
    assert all((row.status, row.failure) == ("failed", "bad_score") for row in beyond)
    assert "score of 1.5" in beyond[0].message
    assert all(row.status == "done" for row in rows(tmp_path) if row.params["lr"] <= 0.003)
    assert_repeatable(tmp_path)
