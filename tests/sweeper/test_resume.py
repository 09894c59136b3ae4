"""A driver killed in the middle: nothing that was finished is lost, nothing finished runs twice."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from sweeper import config, control, errors, loop, objectives
from sweeper.cli import main
from sweeper.repair import catch_up, repair
from sweeper.store import Store, StoreDamaged, StoreError, TrialRow

CONFIG = """
name: t
objective: {function: "mine.py:fit"}
cost: {name: cost}
budget: {trials: 24}
workers: {count: 2}
parameters:
  lr: {distribution: log, min: 1e-4, max: 0.1}
  steps: {distribution: log, type: int, min: 10, max: 1000}
"""
# Every call is written down when it starts and when it ends; trial 20 reports a point and waits for a file.
OBJECTIVE = """
import os, time, sweeper
def fit(lr, steps):
    trial = int(os.path.basename(os.environ["SWEEP_TRIAL_DIR"]))
    note(f"start {trial} {lr!r} {steps}")
    if trial == 20:
        sweeper.report(score=-99, cost=0.5)
        while not os.path.exists("go"):
            time.sleep(0.01)
    note(f"end {trial}")
    return steps * (1 - abs(lr - 0.01)), steps
def note(text):
    with open("calls.txt", "a") as file:
        file.write(text + "\\n")
"""
AS_COMMAND = """
import sys
score, cost = fit(float(sys.argv[1]), int(sys.argv[2]))
sweeper.report(score=score, cost=cost)
"""
DRIVER = """
import sys
from sweeper import config, loop
loop.run(config.load(sys.argv[1] + "/t.yaml"), sys.argv[1] + "/run")
"""


def calls(folder: Path) -> list[str]:
    path = folder / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


def running(folder: Path) -> bool:
    """Whether a process of the sweep in this folder is alive: they all have it as their working folder."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if link.resolve().is_relative_to(folder):
                return True
        except OSError:  # it ended meanwhile
            continue
    return False


@pytest.mark.parametrize("kind", ["function", "command"])
def test_kill_minus_nine_in_the_middle_of_trial_20(tmp_path: Path, kind: str) -> None:
    command = 'command: "{python} mine.py {lr} {steps}"'
    text = CONFIG.replace('function: "mine.py:fit"', command) if kind == "command" else CONFIG
    (tmp_path / "t.yaml").write_text(text)
    (tmp_path / "mine.py").write_text(OBJECTIVE + (AS_COMMAND if kind == "command" else ""))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not any(line.startswith("start 20 ") for line in calls(tmp_path)):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert running(tmp_path)
    driver.kill()
    driver.wait()
    with Store.open(tmp_path / "run", readonly=True) as store:
        before = {row.number: row for row in store.trials()}
        asked = store.history(("ask",))
    assert before[20].status == "running"

    # What ran dies with the driver, though on a busy machine not before its next line.
    while running(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    early = Counter(line.split()[1] for line in calls(tmp_path) if line.startswith("end "))
    assert early["20"] == 0

    (tmp_path / "go").touch()
    outcome = loop.run(config.load(tmp_path / "t.yaml"), tmp_path / "run")
    assert outcome.counts["done"] == 24

    with Store.open(tmp_path / "run", readonly=True) as store:
        after = {row.number: row for row in store.trials()}
        assert sorted(after) == list(range(1, 25))
        for number, row in before.items():
            assert after[number].params == row.params
            if row.status == "done":
                assert after[number] == row
        assert after[20].attempts == 2
        assert after[20].points[0].score == -99
        assert len(after[20].points) == 2  # those of the attempt that was killed are gone
        assert store.history(("ask",))[: len(asked)] == asked
        assert loop.verify_history(store) == []

    ends = Counter(line.split()[1] for line in calls(tmp_path) if line.startswith("end "))
    # Once each; twice only where the end came in the moment between the trial's last line and its commit.
    cut = {str(number): early[str(number)] for number, row in before.items() if row.status == "running"}
    assert ends == {str(number): 1 + cut.get(str(number), 0) for number in range(1, 25)}
    starts = [line.split()[2:] for line in calls(tmp_path) if line.startswith("start 20 ")]
    assert len(starts) == 2
    assert starts[0] == starts[1]


def test_a_broken_and_an_unbroken_sweep_propose_the_same(tmp_path: Path) -> None:
    params = []
    for name, budgets in (("whole", [9]), ("parts", [1, 5, 9])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "t.yaml").write_text(CONFIG)
        (folder / "mine.py").write_text(OBJECTIVE)
        for trials in budgets:
            settings = config.load(folder / "t.yaml", [f"budget.trials={trials}", "workers.count=1"])
            loop.run(settings, folder / "run")
        with Store.open(folder / "run", readonly=True) as store:
            params.append([row.params for row in store.trials()])
    assert params[0] == params[1]


def test_a_result_that_the_driver_could_not_record_any_more_is_taken_from_the_trials_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    settings = config.load(tmp_path / "t.yaml", ["budget.trials=2", "workers.count=1"])
    with Store.create(tmp_path / "run", settings) as store:
        sweeper = loop.rebuild(store)
        trial = sweeper.ask()
        store.add_trial(trial.number, trial.params, trial.origin, trial.record())
        store.start_trial(trial.number, 0)
        folder = store.trial_folder(trial.number)
    folder.mkdir(parents=True)
    result = objectives.Result("done", 5.0, 2.0, points=[(None, 2.0, 5.0)], seconds=1.0)
    ask = {"told": [], "record": {}, "earlier": {}}
    lines = [
        {"trial": 1, "attempt": 1, "ask": ask},
        {"step": None, "cost": 2.0, "score": 5.0},
        {"end": vars(result)},
    ]
    (folder / "reports.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    assert loop.run(settings, tmp_path / "run").counts["done"] == 2
    with Store.open(tmp_path / "run", readonly=True) as store:
        assert (store.trial(1).score, store.trial(1).attempts) == (5.0, 1)
        assert loop.verify_history(store) == []
    assert not any(line.startswith("start 1 ") for line in calls(tmp_path))


def test_a_score_off_its_scale_that_was_not_recorded_any_more_fails_its_trial_and_not_the_run(
    tmp_path: Path,
) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    settings = config.load(tmp_path / "t.yaml", ["metric.scale=percentile"])
    with Store.create(tmp_path / "run", settings) as store:
        trial = loop.rebuild(store).ask()
        store.add_trial(1, trial.params, trial.origin, trial.record())
        store.start_trial(1, 0)
        folder = store.trial_folder(1)
        folder.mkdir(parents=True)
        first = {"trial": 1, "attempt": 1, "ask": {"told": [], "record": {}, "earlier": {}}}
        last = {"end": vars(objectives.Result("done", 55.0, 2.0, points=[(None, 2.0, 55.0)], seconds=1.0))}
        (folder / "reports.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(last)}\n")
        assert catch_up(store)
        row = store.trial(1)
        assert (row.status, row.failure, row.score, row.cost) == ("failed", "bad_score", None, 2.0)


def test_a_torn_database_is_written_anew_from_the_trials_folders(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    run = tmp_path / "run"
    loop.run(config.load(tmp_path / "t.yaml", ["budget.trials=8"]), run)
    with Store.open(run, readonly=True) as store:
        before = store.trials()
    path = run / "run.db"
    torn = bytearray(path.read_bytes())
    torn[6000:] = b"\x55" * len(torn[6000:])
    path.write_bytes(torn)

    outcome = loop.run(config.load(tmp_path / "t.yaml", ["budget.trials=10"]), run)
    assert outcome.ran == 2
    assert (run / "run.db.torn").read_bytes() == torn
    with Store.open(run, readonly=True) as store:
        after = store.trials()
        assert loop.verify_history(store) == []
    for old, new in zip(before, after[:8], strict=True):
        assert (new.params, new.score, new.cost, new.points) == (old.params, old.score, old.cost, old.points)
    starts = [line.split()[1] for line in calls(tmp_path) if line.startswith("start ")]
    assert sorted(map(int, starts)) == list(range(1, 11))


def test_trials_after_one_withdrawn_before_it_started_outlive_a_torn_database(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    settings, run = config.load(tmp_path / "t.yaml", ["budget.trials=4"]), tmp_path / "run"
    with Store.create(run, settings) as store:
        for number in (1, 2):  # as a session leaves what it had proposed ahead
            trial = loop.rebuild(store).ask()
            store.add_trial(number, trial.params, trial.origin, trial.record())
    loop.run(config.load(tmp_path / "t.yaml", ["budget.time=0.001"]), run)  # both are withdrawn
    assert loop.run(settings, run).counts["done"] == 4
    with Store.open(run, readonly=True) as store:
        before = store.trials()
    os.truncate(run / "run.db", (run / "run.db").stat().st_size - 4096)
    assert loop.run(settings, run).ran == 0
    with Store.open(run, readonly=True) as store:
        assert [row.score for row in store.trials()] == [row.score for row in before]
        assert [row.status for row in store.trials()] == ["stopped"] * 2 + ["done"] * 4
        assert loop.verify_history(store) == []


def test_a_torn_database_is_not_written_anew_as_another_sweep(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    run = tmp_path / "run"
    loop.run(config.load(tmp_path / "t.yaml", ["budget.trials=4"]), run)
    for change, said in (("lr.max=0.01", "lr.max: was 0.1"), ("metric.goal=minimize", "metric.goal: was")):
        os.truncate(run / "run.db", (run / "run.db").stat().st_size - 4096)
        with pytest.raises(errors.ConfigError, match=said):
            loop.run(config.load(tmp_path / "t.yaml", [change, "budget.trials=6"]), run)
        with Store.open(run, readonly=True) as store:
            assert (store.settings()["metric"]["goal"], store.counts()["done"]) == ("maximize", 4)
    os.truncate(run / "run.db", (run / "run.db").stat().st_size - 4096)
    (run / "config.yaml").write_text("")  # torn, too: then the given one has to do
    assert loop.run(config.load(tmp_path / "t.yaml", ["budget.trials=6"]), run).counts["done"] == 6


def test_a_result_that_came_as_the_driver_ended_is_no_lost_commit(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    with Store.create(tmp_path / "run", config.load(tmp_path / "t.yaml")) as store:
        store.add_trial(1, {"lr": 0.1, "steps": 10})
        store.start_trial(1, 0)
        store.trial_folder(1).mkdir(parents=True)
        first = {"trial": 1, "attempt": 1, "ask": {"told": [], "record": {}, "earlier": {}}}
        last = {"end": vars(objectives.Result("done", 5.0, 2.0, points=[(None, 2.0, 5.0)], seconds=1.0))}
        (store.trial_folder(1) / "reports.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(last)}\n")
        said = catch_up(store)
    assert said == "1 results that the last session did not record are taken from the trials' folders"


def test_what_was_excluded_and_a_pause_outlive_a_torn_database(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    settings = config.load(tmp_path / "t.yaml", ["budget.trials=4", "workers.count=1"])
    run = tmp_path / "run"
    loop.run(settings, run)
    control.ask(run, "exclude", {"trial": 2})
    control.ask(run, "pause")
    os.truncate(run / "run.db", (run / "run.db").stat().st_size - 4096)
    store, said = repair(run, settings)
    with store:
        assert "4 finished trials, 1 of them excluded, 0 to run again" in said
        assert [row.number for row in store.trials() if row.excluded] == [2]
        assert store.meta()["paused"]
        assert loop.verify_history(store) == []


def test_what_was_proposed_without_an_excluded_result_is_still_so_after_a_repair(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    run = tmp_path / "run"
    for trials, word, number in ((8, "exclude", 7), (9, "exclude", 5), (10, "include", 5), (11, "", 0)):
        settings = config.load(tmp_path / "t.yaml", [f"budget.trials={trials}", "workers.count=1"])
        loop.run(settings, run)
        if word:
            control.ask(run, word, {"trial": number})
    (run / "run.db").unlink()  # what is known is known from the trials' folders
    store, said = repair(run, settings)
    with store:
        assert "11 finished trials, 1 of them excluded, 0 to run again" in said
        assert [row.number for row in store.trials() if row.excluded] == [7]
        assert loop.verify_history(store) == []


def test_what_was_enqueued_outlives_a_torn_database(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    settings = config.load(tmp_path / "t.yaml", ["budget.trials=3", "workers.count=1"])
    run = tmp_path / "run"
    loop.run(config.load(tmp_path / "t.yaml", ["budget.trials=2", "workers.count=1"]), run)
    wishes = [{"lr": 0.03, "steps": 20}, {"lr": 0.03, "steps": 20}, {"lr": 0.05, "steps": 30}]
    for params in wishes[:2]:
        control.ask(run, "enqueue", {"params": params})
    before = (run / "run.db").read_bytes()
    loop.run(settings, run)  # the first is tried
    control.ask(run, "enqueue", {"params": wishes[2]})
    # With all of its commits, and without those since the two that are alike were wished for.
    for known, waiting in ((None, wishes[1:]), (before, wishes[1:2])):
        if known is not None:
            (run / "run.db").write_bytes(known)
        with contextlib.closing(sqlite3.connect(run / "run.db")) as db:
            (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'points'").fetchone()
        torn = bytearray((run / "run.db").read_bytes())
        torn[4096 * (page - 1) : 4096 * page] = b"\x55" * 4096
        (run / "run.db").write_bytes(torn)
        with pytest.raises(StoreDamaged):
            Store.open(run)
        store, _ = repair(run, settings)
        with store:
            assert [params for _, params in control.enqueued(store)] == waiting
            assert loop.verify_history(store) == []


def test_a_torn_witness_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    settings = config.load(tmp_path / "t.yaml")
    with Store.create(tmp_path / "run", settings) as store:
        store.add_trial(1, {"lr": 0.1, "steps": 10})
        store.start_trial(1, 0)
        folder = store.trial_folder(1)
        folder.mkdir(parents=True)
        first = '{"trial": 1, "attempt": 1, "ask": {"told": [], "record": {}, "earlier": {}}}\n'
        for text in ("", first + '{"end": {"sta', first, first[:30]):
            (folder / "reports.jsonl").write_text(text)
            assert catch_up(store) == ""
            assert store.trial(1).status == "running"


def test_what_was_enqueued_is_not_tried_again_where_the_database_has_forgotten_that_it_was(
    tmp_path: Path,
) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    with Store.create(tmp_path / "run", config.load(tmp_path / "t.yaml")) as store:
        wanted = {"lr": 0.01, "steps": 77}
        for _ in range(2):
            store.add_event("enqueue", None, {"params": wanted})
        trial = loop.rebuild(store).ask(among=[wanted])
        folder = store.trial_folder(1)
        folder.mkdir(parents=True)
        ask = {"told": [], "record": trial.record(), "earlier": {}}
        (folder / "reports.jsonl").write_text(json.dumps({"trial": 1, "attempt": 1, "ask": ask}))
        assert catch_up(store)
        assert [params for _, params in control.enqueued(store)] == [wanted]


def test_a_run_whose_database_was_removed_goes_on_from_its_trials(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE + "def gain(rate, steps): return rate, steps\n")
    loop.run(config.load(tmp_path / "t.yaml", ["budget.trials=2"]), tmp_path / "run")
    (tmp_path / "run" / "run.db").unlink()
    (tmp_path / "t.yaml").write_text(CONFIG.replace("lr:", "rate:").replace("fit", "gain"))
    with pytest.raises(errors.ConfigError, match="when this run began"):  # another config is no way on
        loop.run(config.load(tmp_path / "t.yaml", ["budget.trials=3"]), tmp_path / "run")
    (tmp_path / "run" / "run.db").unlink()
    (tmp_path / "t.yaml").write_text(CONFIG)
    outcome = loop.run(config.load(tmp_path / "t.yaml", ["budget.trials=3"]), tmp_path / "run")
    assert outcome.counts["done"] == 3
    assert outcome.ran == 1
    assert not (tmp_path / "run" / "run.db.torn").exists()


def test_trials_of_another_config_are_no_past_of_this_one(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE + "def gain(rate, steps): return rate, steps\n")
    loop.run(config.load(tmp_path / "t.yaml", ["budget.trials=2"]), tmp_path / "run")
    for name in ("run.db", "config.yaml"):
        (tmp_path / "run" / name).unlink()
    (tmp_path / "t.yaml").write_text(CONFIG.replace("lr:", "rate:").replace("fit", "gain"))
    settings = config.load(tmp_path / "t.yaml", ["budget.trials=2"])
    with pytest.raises(StoreError, match=r"trials of another config \(trial 1: lr: no such parameter\)"):
        loop.run(settings, tmp_path / "run")
    (tmp_path / "run" / "trials").rename(tmp_path / "old")
    assert loop.run(settings, tmp_path / "run").counts["done"] == 2


def test_a_copy_of_a_trials_folder_is_no_trial(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    with Store.create(tmp_path / "run", config.load(tmp_path / "t.yaml")) as store:
        for name in ("000001.bak", "2 copy"):
            (tmp_path / "run" / "trials" / name).mkdir()
            (tmp_path / "run" / "trials" / name / "reports.jsonl").write_text("{}\n")
        assert catch_up(store) == ""


def test_a_power_cut_costs_nothing_that_a_trials_folder_knows(tmp_path: Path) -> None:
    """The database cut at many offsets, its log too: it opens, or is written anew, and is whole."""
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    settings = config.load(tmp_path / "t.yaml", ["budget.trials=12"])
    run = tmp_path / "run"
    killed = """
import os, sys
from sweeper import config, loop
from sweeper.store import Store
class Show:
    def update(self, state):
        if state.counts["done"] == 12:
            os.kill(os.getpid(), 9)  # the last commits are in the log only
loop.run(config.load(sys.argv[1] + "/t.yaml", ["budget.trials=12"]), sys.argv[1] + "/run", Show())
"""
    subprocess.run([sys.executable, "-c", killed, str(tmp_path)], check=False)
    with Store.open(run, readonly=True) as store:
        before = store.trials()
    assert [row.status for row in before] == ["done"] * 12
    sizes = {name: (run / name).stat().st_size for name in ("run.db", "run.db-wal")}
    assert sizes["run.db-wal"] > 100_000
    cuts = [("run.db-wal", i / 8) for i in range(8)] + [("run.db", i / 3) for i in range(3)]
    for name, share in cuts:
        cut = tmp_path / "cut"
        shutil.copytree(run, cut)
        os.truncate(cut / name, int(sizes[name] * share) + 7 * (share > 0))
        said = recovered(cut, settings)
        with Store.open(cut, readonly=True) as store:
            after = store.trials()
            assert loop.verify_history(store) == [], (name, share)
        assert [what_counts(row) for row in after] == [what_counts(row) for row in before], (
            name,
            share,
            said,
        )
        shutil.rmtree(cut)


def recovered(folder: Path, settings: config.SweepConfig) -> str:
    try:
        with Store.open(folder) as store:
            return catch_up(store)
    except StoreDamaged:
        store, said = repair(folder, settings)
        store.close()
        return said


def what_counts(row: TrialRow) -> tuple[object, ...]:
    return (row.number, row.status, row.params, row.score, row.cost, row.points, row.attempts)


def test_a_repair_that_is_killed_leaves_the_torn_database_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    settings, run = config.load(tmp_path / "t.yaml", ["budget.trials=3"]), tmp_path / "run"
    loop.run(settings, run)
    torn = bytearray((run / "run.db").read_bytes())
    torn[5000:] = b"\x55" * len(torn[5000:])
    (run / "run.db").write_bytes(torn)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sweeper.repair._add", killed)
    with pytest.raises(KeyboardInterrupt):
        loop.run(settings, run)
    assert (run / "run.db").read_bytes() == torn
    assert list(run.glob(".repair-*")) == []
    monkeypatch.undo()
    outcome = loop.run(settings, run)
    assert (outcome.ran, outcome.counts["done"]) == (0, 3)


def test_sweep_repair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.yaml").write_text(CONFIG)
    (tmp_path / "mine.py").write_text(OBJECTIVE)
    loop.run(config.load("t.yaml", ["budget.trials=3"]), "runs/t")
    path = tmp_path / "runs" / "t" / "run.db"

    def said() -> str:
        with pytest.raises(SystemExit) as end:
            main(["repair", "t"])
        assert end.value.code == 0
        return capsys.readouterr().out

    assert "run.db is whole: 3 done" in said()
    with Store.open("runs/t", readonly=True) as store:
        before = store.meta()
    torn = path.read_bytes()[:-5000]
    path.write_bytes(torn)
    assert "3 finished trials, 0 to run again" in said()
    assert path.with_name("run.db.torn").read_bytes() == torn
    with Store.open("runs/t", readonly=True) as store:  # relative paths are meant from there, time is spent
        assert [store.meta().get(key) for key in ("folder", "elapsed")] == [str(tmp_path), before["elapsed"]]
    assert "run.db is whole: 3 done" in said()
    assert loop.run(config.load("t.yaml", ["budget.trials=4"]), "runs/t").ran == 1


@pytest.mark.parametrize("code", [0, 1])
def test_a_script_that_leaves_with_grace_on_a_stop_has_no_result(tmp_path: Path, code: int) -> None:
    (tmp_path / "script.py").write_text(
        "import json, signal, sys, time\n"
        "told = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: told.append(1))\n"
        "for step in range(1, 1000):\n"
        "    print(json.dumps({'score': step, 'cost': step}), flush=True)\n"
        "    time.sleep(0.05)\n"
        f"    if told: sys.exit({code})\n"
    )
    text = (
        "name: t\nobjective: {command: '{python} script.py {args}'}\ncost: {name: cost}\n"
        "budget: {trials: 1}\nworkers: {count: 1}\nparameters: {x: {min: 0, max: 1}}\n"
    )
    settings, folder = config.parse(text, folder=tmp_path), tmp_path / "run"

    sweep = threading.Thread(target=lambda: loop.run(settings, folder))
    sweep.start()
    witness = folder / "trials" / "000001" / "reports.jsonl"
    while not (witness.exists() and "score" in witness.read_text()):
        time.sleep(0.05)
    control.ask(folder, "stop")
    sweep.join(30)
    with Store.open(folder) as store:
        assert catch_up(store) == ""
        assert store.trial(1).status == "queued", "it was ended by us: its last point is no result"
