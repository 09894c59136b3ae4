"""The loop and the store under thousands of workers, and for thousands of trials.

    python -P benchmarks/scale.py --workers 1000 --trials 10000 --soak 10000

Workers live on a virtual clock: a trial takes 60 s of it, give or take, and reports three points; now and
then a node dies with its trials. What is measured is what it takes the driver: trials through loop and store
a second of real time, memory, the size of the database. The proposer is a random one here; what ours takes is
printed by itself, over the number of trials that it knows. The soak is of two real workers with a function
that returns at once: what a trial costs all told, and whether memory or open files grow.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from sweeper import config, history, loop, processes
from sweeper.executors import Executor, Message, WorkerState
from sweeper.objectives import Job, Result
from sweeper.proposer import Sweeper, Trial
from sweeper.store import Store
from sweeper.synthetic import PARAMETERS, task

CONFIG = """
name: scale
objective: {synthetic: log}
workers: {count: WORKERS, share: false}
budget: {trials: TRIALS}
parameters:
  lr: {distribution: log, min: 1e-5, max: 0.1}
  steps: {distribution: log, type: int, min: 10000, max: 1e6}
"""
SECONDS, NODE = 60.0, 16  # of a trial; workers on a node
DEATHS = 0.0005  # the chance that a trial's end is its node's


class Simulated(Executor):
    """Workers on a virtual clock: `poll` goes to the next moment at which something happens."""

    def __init__(self, count: int) -> None:
        self._states = [WorkerState(index) for index in range(count)]
        self._random, self._now = random.Random(0), 0.0
        self._ends: list[tuple[float, int, Job]] = []
        self._task = task("log")
        self.lost = 0

    @property
    def states(self) -> list[WorkerState]:
        return self._states

    def start(self) -> None:
        for state in self._states:
            state.status = "idle"

    def reserve(self, index: int) -> bool:
        return True

    def rest(self) -> None: ...

    def submit(self, index: int, job: Job) -> None:
        state = self._states[index]
        state.status, state.trial = "running", job.trial
        seconds = self._random.lognormvariate(0, 0.5) * SECONDS
        heapq.heappush(self._ends, (self._now + seconds, index, job))

    def stop(self, trial: int) -> None: ...
    def watch(self, handle: int) -> None: ...

    def poll(self, timeout: float) -> list[Message]:
        """The next trial that ends, or all those of a node that dies; a moment of real time if all wait."""
        idle = any(state.status == "idle" for state in self._states)
        if not self._ends or (idle and self._random.random() < 0.5):
            time.sleep(0.0005)  # the proposer's thread has the word
            return []
        self._now, index, job = heapq.heappop(self._ends)
        if self._random.random() < DEATHS:
            node = index // NODE
            dying = [(i, j) for _, i, j in self._ends if i // NODE == node] + [(index, job)]
            self._ends = [end for end in self._ends if end[1] // NODE != node]
            heapq.heapify(self._ends)
            self.lost += len(dying)
            return [
                self._end(i, j, Result("killed", message="lost with its node", seconds=1)) for i, j in dying
            ]
        score, cost = self._task.evaluate(job.params, job.seed)
        points = [(None, cost * i / 3, score * i / 3) for i in (1, 2, 3)]
        return [self._end(index, job, Result("done", score, cost, points=points, seconds=SECONDS))]

    def _end(self, index: int, job: Job, result: Result) -> Message:
        self._states[index].status, self._states[index].trial = "idle", None
        return Message(index, "end", job.trial, result)

    def close(self, grace: bool = True) -> None: ...


class Random(Sweeper):
    """Asks and tells as ours, and chooses blindly."""

    def _ask(self, options: np.ndarray | None, members: Sequence[Mapping[str, Any]] | None) -> Trial:
        generator = np.random.default_rng([self.seed, self._asks + 1])
        unit = self.space.sample(1, generator)[0]
        params = self.space.to_params(unit)
        return self._register(Trial(self._asks + 1, params, self.space.to_unit(params), "random"))


def simulate(workers: int, trials: int, folder: Path) -> None:
    """A sweep, and what it took."""
    text = CONFIG.replace("WORKERS", str(workers)).replace("TRIALS", str(trials))
    (folder / "scale.yaml").write_text(text)
    executor = Simulated(workers)
    began, cpu = time.monotonic(), time.process_time()
    with (
        mock.patch.object(loop._Session, "_executor", return_value=executor),
        mock.patch.object(
            history, "new_sweeper", lambda settings: Random(settings["parameters"], seed=settings["seed"])
        ),
    ):
        outcome = loop.run(config.load(folder / "scale.yaml"), folder / "run")
    seconds, busy = time.monotonic() - began, time.process_time() - cpu
    assert outcome.counts["done"] == trials, outcome.counts
    with Store.open(folder / "run", readonly=True) as store:
        assert store.counts()["done"] == trials
        events = len(store.history(()))
    megabytes = sum(path.stat().st_size for path in (folder / "run").glob("run.db*")) / 1e6
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)
    print(
        f"{trials} trials on {workers} workers, {executor.lost} lost with their nodes and run again: "
        f"{trials / seconds:.0f} a second ({seconds:.0f} s, {busy:.0f} s of CPU); needed to keep up: "
        f"{workers / SECONDS:.0f} a second"
    )
    print(f"{memory:.0f} MB of memory, {megabytes:.0f} MB of database, {events} events")


def soak(trials: int, folder: Path) -> None:
    """Trials that take no time, on two real workers: their rate, and what grows."""
    (folder / "mine.py").write_text("def fit(lr, steps): return lr, steps\n")
    text = CONFIG.replace("WORKERS", "2").replace("TRIALS", str(trials))
    (folder / "soak.yaml").write_text(text.replace("synthetic: log", "function: 'mine.py:fit'"))
    history.new_sweeper = lambda settings: Random(settings["parameters"], seed=settings["seed"])
    watch = Watch(trials)
    outcome = loop.run(config.load(folder / "soak.yaml"), folder / "soak", watch)
    assert outcome.counts["done"] == trials, outcome.counts
    print(f"{trials} trials of no length on two workers: {trials / outcome.elapsed:.0f} a second")
    for name, (early, late) in watch.grown().items():
        print(f"{name}: {early} after a tenth of them, {late} at the end")


class Watch:
    """Looks at memory and open files of driver and workers now and then."""

    def __init__(self, trials: int) -> None:
        self.trials, self.seen = trials, [(0, 0.0, 0, 0.0)]

    def update(self, state: loop.State) -> None:
        done = state.counts["done"]
        if done >= self.seen[-1][0] + self.trials / 20:
            workers = processes.descendants(os.getpid())
            files = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), *workers))
            used = [bytes_used / 1e6 for bytes_used, _ in processes.memory([os.getpid(), *workers]).values()]
            self.seen.append((done, used[0], files, sum(used[1:])))

    def grown(self) -> dict[str, tuple[str, str]]:
        """(after a tenth of the trials, at the end)."""
        early, late = self.seen[min(2, len(self.seen) - 1)], self.seen[-1]
        names = ("MB of the driver and its tree", "open files", "MB of the workers")
        return {name: (f"{early[i]:.0f}", f"{late[i]:.0f}") for i, name in enumerate(names, 1)}


def proposals(sizes: Sequence[int]) -> None:
    """What our proposer takes for an ask, by the number of trials it was told."""
    synthetic = task("log-noisy")
    for size in sizes:
        tuner = Sweeper(PARAMETERS, seed=0)
        units = tuner.space.sample(size, np.random.default_rng(0))
        for i, unit in enumerate(units):
            params = tuner.space.to_params(unit)
            score, cost = synthetic.evaluate(params, i)
            tuner.observe(params, score=score, cost=cost)
        times = []
        for _ in range(3):
            began = time.process_time()
            tuner.ask()
            times.append(time.process_time() - began)
        print(f"a proposal after {size:5d} trials: {1000 * sorted(times)[1]:7.0f} ms of CPU")


def main() -> None:
    """Both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--soak", type=int, default=10_000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[30, 100, 300, 1000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        soak(options.soak, Path(name))
        simulate(options.workers, options.trials, Path(name))
    proposals(options.sizes)


if __name__ == "__main__":
    main()
