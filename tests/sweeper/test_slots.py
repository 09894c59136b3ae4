"""Slots: no more at once than there are, equal shares for all who wait, gone with their process."""

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from sweeper import config, executors, loop, slots
from sweeper.slots import Slots


def test_no_more_are_taken_than_there_are(tmp_path: Path) -> None:
    one, two = Slots(3, folder=tmp_path), Slots(3, folder=tmp_path)
    assert [one.take(0), one.take(1), two.take(0), two.take(1), one.take(2)] == [True] * 3 + [False] * 2
    one.close()
    assert two.take(1)


def test_who_waits_gets_an_equal_share(tmp_path: Path) -> None:
    one, two = Slots(4, folder=tmp_path), Slots(4, folder=tmp_path)
    assert all(one.take(worker) for worker in range(4))
    assert not two.take(0)
    for worker in range(4):  # one asks first whenever a trial of its own ends
        one.release(worker)
        one.take(worker)
        two.take(len(two._held))
    assert (len(one._held), len(two._held)) == (2, 2)
    two.close()  # it is done: what it leaves is for the other
    assert one.take(2)
    assert one.take(3)


def test_who_does_not_wait_starts_anyway_and_is_seen(tmp_path: Path) -> None:
    eager, patient = Slots(2, wait=False, folder=tmp_path), Slots(2, folder=tmp_path)
    assert all(eager.take(worker) for worker in range(3))
    assert not patient.take(0)
    eager.release(0)
    assert patient.take(0)


def test_a_gpu_is_shared_as_far_as_it_goes(tmp_path: Path) -> None:
    one, two = Slots(16, folder=tmp_path), Slots(16, folder=tmp_path)
    assert one.take(0, "0", 0.5)
    assert two.take(0, "0", 0.25)
    assert not two.take(1, "0", 0.5)
    assert two.take(1, "1", 0.5)
    assert not one.take(1, "0,1", 1.0)
    two.close()
    assert one.take(2, "0", 0.5)
    assert not one.take(1, "0", 0.25)


@pytest.mark.parametrize("count", range(1, 21))
def test_as_many_as_a_share_allows_run_at_once(tmp_path: Path, count: int) -> None:
    mine = Slots(64, folder=tmp_path)
    assert [mine.take(worker, "0", 1 / count) for worker in range(count)] == [True] * count


def test_slots_and_places_in_the_queue_die_with_their_process(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from typing import Any
from sweeper.slots import Slots
held, waiting = Slots(2, folder=Path(sys.argv[1])), Slots(2, folder=Path(sys.argv[1]))
assert held.take(0) and held.take(1) and not waiting.take(0)
print("held", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        mine = Slots(2, folder=tmp_path)
        assert not mine.take(0)
        holder.kill()
        holder.wait()
    assert mine.take(0)
    assert mine.take(1)
    assert list(tmp_path.glob("waiting-*")) == []


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(slots.tempfile, "gettempdir", lambda: str(tmp_path))
    assert slots.machine_folder().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(slots.os, "getuid", lambda: os.geteuid() + 1)
    (tmp_path / f"pareto-sweeper-{os.geteuid() + 1}").mkdir()
    with pytest.raises(slots.SlotsError, match="share: false"):
        slots.machine_folder()


def test_a_runtime_folder_that_goes_at_logout_ends_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one, two = Slots(1), Slots(1)
    assert one.take(0)
    assert not two.take(0)
    shutil.rmtree(tmp_path / "run")
    assert two.take(0)
    one.release(0)
    assert one.take(0)
    one.close()
    two.close()
    assert slots.machine_folder().parent == tmp_path  # who starts now


def test_a_sweep_that_shares_nothing_needs_no_folder_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    (tmp_path / "mine.py").write_text("def fit(x): return x, 1\n")
    text = "name: t\nobjective: {function: 'mine.py:fit'}\ncost: {name: cost}\nbudget: {trials: 1}\n"
    text += "workers: {count: 1}\nparameters: {x: {min: 0, max: 9}}\n"
    with pytest.raises(OSError):
        loop.run(config.parse(text, folder=tmp_path), tmp_path / "run")
    alone = config.parse(text, folder=tmp_path, overrides=["workers.share=false"])
    assert loop.run(alone, tmp_path / "run").counts["done"] == 1


def test_two_sweeps_take_turns_on_one_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(executors, "cores", lambda: 2)
    monkeypatch.setattr(loop, "core_numbers", lambda: [0, 1])
    (tmp_path / "mine.py").write_text(
        "import time\n"
        "def fit(x):\n"
        "    began = time.time()\n"
        "    time.sleep(0.15)\n"
        "    open('times', 'a').write(f'{began} {time.time()}\\n')\n"
        "    return x, 1\n"
    )
    (tmp_path / "t.yaml").write_text(
        "objective: {function: 'mine:fit'}\ncost: {name: cost}\nbudget: {trials: 5}\n"
        "parameters: {x: {min: 0, max: 9}}\n"
    )
    ended: list[str] = []

    def sweep(name: str) -> None:
        loop.run(config.load(tmp_path / "t.yaml", [f"name={name}"]), tmp_path / name)
        ended.append(name)

    threads = [threading.Thread(target=sweep, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ended) == ["one", "two"]
    spans = [tuple(map(float, line.split())) for line in (tmp_path / "times").read_text().splitlines()]
    assert len(spans) == 10
    at_once = [sum(began <= other < ended for began, ended in spans) for other, _ in spans]
    assert max(at_once) == 2


def test_one_who_begins_to_wait_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (Slots(1, folder=tmp_path) for _ in range(2))
    assert one.take(0)
    lock, removed = fcntl.flock, []

    def late(handle: Any, how: int) -> None:  # the other looks between creating the file and locking it
        if how == fcntl.LOCK_EX and not removed:
            removed.extend(tmp_path.glob("waiting-*"))
            removed[0].unlink()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert not two.take(0)
    assert len(removed) == 1
    assert list(one._others()) == [0]


def test_jobs_that_have_cores_of_their_own_do_not_wait_for_each_other(tmp_path: Path) -> None:
    one, two, three = (Slots(cores, folder=tmp_path) for cores in ([0, 1], [2, 3], [3]))
    assert [one.take(0), one.take(1), two.take(0), two.take(1)] == [True] * 4
    assert not three.take(0), "the one that it shares is taken"
