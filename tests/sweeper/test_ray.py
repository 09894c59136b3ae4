"""A real Ray cluster of several nodes on this machine: trials spread, and outlive nodes and drivers."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'pareto-sweeper[ray]'")

from ray.cluster_utils import Cluster  # noqa: E402
from ray.exceptions import RayError  # noqa: E402

from sweeper import config, loop, ray_executor  # noqa: E402
from sweeper.executors import MAX_STARTS, ExecutorError  # noqa: E402
from sweeper.objectives import Job, Synthetic  # noqa: E402
from sweeper.ray_executor import RayExecutor  # noqa: E402
from sweeper.store import Store  # noqa: E402

TEXT = """
name: t
objective: {function: "mine.py:fit"}
cost: {name: cost}
budget: {trials: 12}
executor: ray
parameters:
  lr: {distribution: log, min: 1e-4, max: 0.1}
  steps: {distribution: log, type: int, min: 10, max: 1000}
"""
CODE = """
import os, time, sweeper
def fit(lr, steps):
    print("from", os.environ["RAY_RAYLET_PID"])
    open(os.environ["SWEEP_TRIAL_DIR"] + "/model.bin", "wb").write(b"weights")
    sweeper.report(score=0, cost=steps / 2, step=1)
    time.sleep(SECONDS)
    return steps * (1 - abs(lr - 0.01)), steps
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Three nodes of one core each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def write(folder: Path, seconds: float) -> config.SweepConfig:
    (folder / "t.yaml").write_text(TEXT)
    (folder / "mine.py").write_text(CODE.replace("SECONDS", str(seconds)))
    return config.load(folder / "t.yaml")


def node_of(store: Store, number: int) -> str:
    return (store.trial_folder(number) / "log.txt").read_text().split()[1]


class Killer:
    """Kills a node as soon as a few trials are done, and some run."""

    def __init__(self, cluster: Any) -> None:
        self.cluster, self.done = cluster, threading.Event()

    def update(self, state: loop.State) -> None:
        if state.counts["done"] >= 3 and state.counts["running"] == 3 and not self.done.is_set():
            self.done.set()
            self.cluster.remove_node(self.cluster.list_all_nodes()[-1], allow_graceful=False)


def test_a_node_that_dies_costs_only_the_trials_it_ran(
    tmp_path: Path, cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "TICK", 0.1)
    settings = write(tmp_path, 1.0)
    killer = Killer(cluster)
    outcome = loop.run(settings, tmp_path / "run", killer)
    assert killer.done.is_set()
    assert outcome.counts["done"] == 12
    with Store.open(tmp_path / "run", readonly=True) as store:
        assert loop.verify_history(store) == []
        rows = store.trials()
        nodes = Counter(node_of(store, row.number) for row in rows)
        assert (store.trial_folder(1) / "model.bin").read_bytes() == b"weights"
    assert len(nodes) == 3
    assert sorted(row.attempts for row in rows) == [1] * 11 + [2]
    assert all(len(row.points) == 2 for row in rows)


def test_a_killed_driver_leaves_the_cluster_free_and_goes_on(tmp_path: Path, cluster: Any) -> None:
    settings = write(tmp_path, 0.5)
    code = "import sys\nfrom sweeper import config, loop\n"
    code += "loop.run(config.load(sys.argv[1] + '/t.yaml'), sys.argv[1] + '/run')"
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    deadline = time.monotonic() + 60
    while done(tmp_path) < 4:
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    before = done(tmp_path)
    outcome = loop.run(settings, tmp_path / "run")
    assert outcome.counts["done"] == 12
    assert outcome.ran <= 12 - before
    with Store.open(tmp_path / "run", readonly=True) as store:
        assert loop.verify_history(store) == []


COMMAND = """
import json, os, sys, time
steps = int(sys.argv[1].partition("=")[2])
if steps > 200:
    if os.fork():
        time.sleep(600)
    open("pid", "w").write(str(os.getpid()))
    time.sleep(600)
print(json.dumps({"score": steps, "cost": steps}))
"""


def test_limits_hold_on_a_cluster_too(tmp_path: Path, cluster: Any) -> None:
    text = TEXT.replace('function: "mine.py:fit"', 'command: "{python} mine.py --steps={steps} {lr}"')
    (tmp_path / "t.yaml").write_text(text + "workers: {count: 2, timeout: 1, memory: 1GB, gpus: 0}\n")
    (tmp_path / "mine.py").write_text(COMMAND)
    outcome = loop.run(config.load(tmp_path / "t.yaml", ["parameters.steps.start=50"]), tmp_path / "run")
    with Store.open(tmp_path / "run", readonly=True) as store:
        for row in store.trials():
            late = row.params["steps"] > 200
            assert (row.status, row.failure) == (("failed", "timeout") if late else ("done", None))
    assert outcome.counts["failed"] >= 1
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def done(folder: Path) -> int:
    if not Store.exists(folder / "run"):
        return 0
    with Store.open(folder / "run", readonly=True) as store:
        return store.counts()["done"]


def test_what_no_node_can_load_is_said_once(tmp_path: Path, cluster: Any) -> None:
    settings = write(tmp_path, 0.1)
    (tmp_path / "mine.py").write_text("import no_such_module\ndef fit(lr, steps): return 1, 1\n")
    with pytest.raises(ExecutorError, match=r"no node of the Ray cluster(.|\n)*no_such_module"):
        loop.run(settings, tmp_path / "run")


def test_workers_that_never_get_ready_are_not_started_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_executor, "connect", lambda: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 1.0})
    monkeypatch.setattr(RayExecutor, "_start", lambda self, index: self._turn(index, "starting"))
    executor = RayExecutor(Synthetic({"target": "log", "folder": "."}), 1)
    for _ in range(MAX_STARTS):
        executor._said.put((0, None, RayError("No module named 'sweeper'")))
    with pytest.raises(ExecutorError, match="No module named 'sweeper'"):
        executor.poll(0)


def test_what_ran_where_nothing_can_be_loaded_any_more_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_executor, "connect", lambda: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    executor = RayExecutor(Synthetic({"target": "log", "folder": "."}), 2)
    executor._turn(0, "running", 7)
    executor._jobs[0] = Job(7, {}, 0, "7")

    class Unloadable(RayError):  # as an error of its constructor comes
        cause = ExecutorError("the objective cannot be loaded")

    executor._said.put((0, None, Unloadable("mine.py is half written")))
    (message,) = executor.poll(0)
    assert (message.kind, message.trial, message.data.status) == ("end", 7, "killed")
    assert executor.states[0].status == "unusable"


def test_a_file_that_cannot_be_read_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("log.txt", "root's"):
        (tmp_path / name).write_bytes(b"x")
    read = Path.read_bytes

    def refuse(path: Path) -> bytes:  # what a container has written as root
        if path.name == "root's":
            raise PermissionError
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert ray_executor._files(tmp_path) == {"log.txt": b"x"}


def test_an_address_where_no_cluster_answers(tmp_path: Path) -> None:
    write(tmp_path, 0.1)
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    code = "from sweeper.cli import main; main(['run', 't.yaml'])"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 1
    assert "error: executor: no Ray cluster at 127.0.0.1:1" in ran.stderr
    assert "Traceback" not in ran.stderr
