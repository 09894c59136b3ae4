"""Where trials run: warm worker processes on this machine, one trial at a time each.

A worker that dies costs its trial and a fresh start of its own, nothing else. Workers belong to the thread
that makes the executor: they end when it ends (Linux), or when their pipe closes, or at the latest when
the next run of the same name finds their mark in the environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from sweeper import processes
from sweeper.logs import last_lines
from sweeper.objectives import Job, Objective, Result
from sweeper.slots import GPU_PARTS, Slots
from sweeper.supervisor import GRACE
from sweeper.units import format_bytes

MAX_STARTS = 3  # of a worker in a row that never get ready
MAX_MESSAGE = 64 << 20  # bytes
WEIGH_EVERY = 0.25  # seconds between looks at the memory that trials take, where it is limited
# Of a GPU, for one training: a guess. By arithmetic the largest in benchmarks/gpu.py has buffers of 0.7 GB;
# CUDA and torch want some of their own, and settings are swept.
TRAINING_MEMORY = 4 << 30
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class ExecutorError(RuntimeError):
    """Workers cannot work at all; the message says why."""


@dataclass(frozen=True)
class Message:
    """What a worker says: ready, points (list), progress (values), end (a Result), each about its trial."""

    worker: int
    kind: str
    trial: int | None = None
    data: Any = None


@dataclass
class WorkerState:
    """A worker as seen from outside. `status`: starting, idle, running; unusable where it can do nothing."""

    index: int
    status: str = "starting"
    trial: int | None = None
    since: float = field(default_factory=time.monotonic)
    progress: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it has been in this status."""
        return time.monotonic() - self.since


class _Worker:
    """One process and its pipes."""

    def __init__(self, index: int) -> None:
        self.state = WorkerState(index)
        self.process: subprocess.Popen[bytes] | None = None
        self.buffer = b""
        self.mark = ""
        self.deadline: float | None = None
        self.job: Job | None = None
        self.trials = 0  # of this process
        self.failed_starts = 0

    @property
    def stdin(self) -> IO[bytes]:
        assert self.process is not None
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout

    def turn(self, status: str, trial: int | None = None) -> None:
        self.state.status, self.state.trial, self.state.since = status, trial, time.monotonic()
        self.state.progress = {}


def core_numbers() -> list[int]:
    """The cores that this process may use, by their numbers on this machine: jobs of a cluster's scheduler
    have some each."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cores() -> int:
    """How many cores this process may use."""
    return len(core_numbers())


def gpus() -> list[str]:
    """Names of the visible NVIDIA GPUs as CUDA_VISIBLE_DEVICES takes them. Imports no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    if listed.returncode:
        return []
    return [
        str(i) for i, _ in enumerate(line for line in listed.stdout.splitlines() if line.startswith("GPU "))
    ]


def trainings_a_gpu(found: Sequence[str]) -> int:
    """How many trainings of the bundled trainer share each of these GPUs where nobody says it.

    As many as the smallest has TRAINING_MEMORY for, and a core for each, since each keeps one busy; never
    more than slots.GPU_PARTS. What it does not know is how fast they are together: benchmarks/gpu.py
    measures that. Raises ExecutorError where nvidia-smi does not say how much memory there is.
    """
    command = ["nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits"]
    said = ""
    if shutil.which(command[0]) is not None:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    rows = [line.split(", ") for line in said.splitlines()]
    sizes = []
    for gpu in found:
        known = [
            int(row[2]) << 20
            for row in rows
            if len(row) == 3 and row[2].isdecimal() and (row[0] == gpu or row[1].startswith(gpu))
        ]
        if len(known) != 1:
            raise ExecutorError(
                f"workers.gpus_per_trial: auto: nvidia-smi does not say how much memory GPU {gpu} has"
            )
        sizes += known
    return max(1, min(cores() // len(found), min(sizes) // TRAINING_MEMORY, GPU_PARTS))


def resources(workers: Any) -> tuple[int, list[str] | None]:
    """(workers, the GPUs of each as CUDA_VISIBLE_DEVICES takes them) from the config's `workers:`.

    An automatic count is what the GPUs allow, or without any a worker a core (at most 8). GPUs are None where
    the workers' view of them is to be left alone, because there are none that we know of. Raises
    ExecutorError for more than there are.
    """
    count, wanted, share = workers.count, workers.gpus, workers.gpus_per_trial
    alone = count if isinstance(count, int) else min(cores(), 8)
    found = gpus() if wanted != 0 else []
    if isinstance(wanted, int):
        if wanted > len(found):
            raise ExecutorError(f"workers.gpus: {wanted} were asked for, {len(found)} are visible")
        found = found[:wanted]
    if not found:
        if share not in (None, "auto"):
            raise ExecutorError(f"workers.gpus_per_trial: {share:g} were asked for, no GPU is visible")
        return alone, ([""] * alone if wanted == 0 else None)
    if share == "auto":
        share = 1 / trainings_a_gpu(found)
    if share is None:  # dealt out in turn, shared where there are more workers than GPUs
        seats = [found[i % len(found)] for i in range(count if isinstance(count, int) else len(found))]
    elif share <= 1:
        seats = found * int(1 / share + 1e-9)
    else:
        size = int(share)
        seats = [",".join(found[i : i + size]) for i in range(0, len(found) - size + 1, size)]
    if isinstance(count, int):
        if count > len(seats):
            raise ExecutorError(
                f"workers.gpus_per_trial: {count} trials at once with {share:g} GPUs each were asked for, "
                f"{len(found)} GPUs are visible"
            )
        seats = seats[:count]
    elif not seats:
        raise ExecutorError(f"workers.gpus_per_trial: {share:g} were asked for, {len(found)} are visible")
    return len(seats), seats


class Executor(Protocol):
    """Where trials run, as the loop sees it. `poll` alone waits; `close` ends all that was started."""

    @property
    def states(self) -> list[WorkerState]: ...
    def start(self) -> None: ...
    def reserve(self, index: int) -> bool: ...
    def rest(self) -> None: ...
    def submit(self, index: int, job: Job) -> None: ...
    def stop(self, trial: int) -> None: ...
    def watch(self, handle: int) -> None: ...
    def poll(self, timeout: float) -> list[Message]: ...
    def close(self, grace: bool = True) -> None: ...


class LocalExecutor(Executor):
    """Worker processes for one objective.

    `folder` is the run's; `gpus` are those of each worker ("": none may be seen, None: as they are); `memory`
    bytes a trial; `restart_after` so many trials a worker is replaced; `slots` is what this machine's sweeps
    share, and `gpu_share` what a trial takes of its GPUs; `mark` tells this run's processes from all others.
    """

    def __init__(
        self,
        objective: Objective,
        folder: Path,
        count: int,
        gpus: Sequence[str] | None = None,
        memory: int | None = None,
        restart_after: int | None = None,
        slots: Slots | None = None,
        gpu_share: float | None = None,
        mark: str = "",
    ) -> None:
        self.objective, self.folder = objective, folder.resolve()
        self._gpus, self._memory, self._restart_after = gpus, memory, restart_after
        if memory is not None and not processes.LINUX:
            raise ExecutorError("workers.memory: the memory of a trial can be limited on Linux only")
        self._slots, self._gpu_share = slots, gpu_share or (min(1.0, len(set(gpus)) / count) if gpus else 1.0)
        self._weighed = time.monotonic()
        self._mark = mark or uuid.uuid4().hex
        self._selector = selectors.DefaultSelector()
        self._workers = [_Worker(index) for index in range(count)]
        # Threads are limited, not pinned: two sweeps on one machine would pin theirs to the same cores.
        self._share = max(1, cores() // count)
        (self.folder / "workers").mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start all workers; each says `ready` when its imports are done."""
        processes.kill_marked(f"SWEEP_RUN={self._mark}")  # what escaped an earlier, killed driver
        for worker in self._workers:
            self._start(worker)

    @property
    def states(self) -> list[WorkerState]:
        """The workers as they are now."""
        return [worker.state for worker in self._workers]

    def reserve(self, index: int) -> bool:
        """Whether an idle worker may be given a trial now; if so, the next `submit` is to be for it."""
        if self._slots is None:
            return True
        return self._slots.take(index, self._gpus[index] if self._gpus else "", self._gpu_share)

    def rest(self) -> None:
        """No worker is to be given anything for now."""
        if self._slots is not None:
            self._slots.stop_waiting()

    def submit(self, index: int, job: Job) -> None:
        """Give an idle worker a trial. A worker that is already dead loses it in the next `poll`."""
        worker = self._workers[index]
        assert worker.state.status == "idle"
        worker.turn("running", job.trial)
        worker.job = job
        worker.trials += 1
        if job.timeout is not None:
            # Commands are ended by their worker; this is for a worker that does not.
            own = self.objective.kind == "command"
            worker.deadline = time.monotonic() + job.timeout + (GRACE + 10.0 if own else 0.0)
        self._send(worker, {"kind": "job", "job": dataclasses.asdict(job)})

    def stop(self, trial: int) -> None:
        """Have a running trial end soon, as `stopped`; one that ends by itself meanwhile ends as it does."""
        for worker in self._workers:
            if worker.state.trial == trial:
                self._send(worker, {"kind": "enough", "trial": trial})

    def watch(self, handle: int) -> None:
        """Let `poll` return as soon as `handle` is readable too; reading it is the caller's."""
        self._selector.register(handle, selectors.EVENT_READ, None)

    def poll(self, timeout: float) -> list[Message]:
        """What the workers said; waits at most `timeout` seconds for the first of it.

        Raises ExecutorError when workers cannot start (a missing import, say).
        """
        messages: list[Message] = []
        for key, _ in self._selector.select(self._wait(timeout)):
            if key.data is not None:
                messages += self._read(key.data)
        now = time.monotonic()
        for worker in self._workers:
            if worker.deadline is not None and now > worker.deadline:
                messages += self._read(worker)  # it may have made it just in time
                if worker.deadline is not None:
                    messages.append(self._over_time(worker))
            elif worker.process is not None and worker.process.poll() is not None:
                messages += self._read(worker)
                messages += self._bury(worker)
        if self._memory is not None and now - self._weighed >= WEIGH_EVERY:
            self._weighed = now
            messages += self._weigh(self._memory)
        return messages

    def close(self, grace: bool = True) -> None:
        """End all workers and all they started; with grace, commands get TERM and a moment before KILL."""
        alive = [worker for worker in self._workers if worker.process is not None]
        for worker in alive:
            if grace:
                self._send(worker, {"kind": "stop"})
        deadline = time.monotonic() + (GRACE + 2.0 if grace else 0.0)
        for worker in alive:
            assert worker.process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            self._kill(worker)
        if self._slots is not None:
            self._slots.close()
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
        self._selector.close()

    # Inside

    def _start(self, worker: _Worker) -> None:
        worker.mark = f"SWEEP_WORKER={uuid.uuid4().hex}"
        name, _, value = worker.mark.partition("=")
        environment = {**os.environ, "SWEEP_RUN": self._mark, name: value}
        for variable in _THREADS:
            environment.setdefault(variable, str(self._share))
        if self._gpus is not None:
            gpu = self._gpus[worker.state.index]
            environment["CUDA_VISIBLE_DEVICES"] = gpu
            if gpu:
                environment["SWEEP_GPU"] = gpu
        # Safe path: a user's trainer.py in the current folder must not shadow ours. Python 3.10 has no -P,
        # there the current folder of the worker is one of ours.
        safe = ["-P"] if sys.version_info >= (3, 11) else []
        with (self.folder / "workers" / f"{worker.state.index}.log").open("ab") as log:
            worker.process = subprocess.Popen(
                [sys.executable, *safe, "-m", "sweeper.worker"],
                cwd=self.folder / "workers",
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )
        os.set_blocking(worker.stdout.fileno(), False)
        worker.buffer, worker.trials, worker.deadline = b"", 0, None
        worker.turn("starting")
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        self._send(worker, {"kind": "spec", "spec": self.objective.spec})

    def _send(self, worker: _Worker, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # its death is found by `poll`
            data = json.dumps(message).encode() + b"\n"
            while data:
                data = data[worker.stdin.write(data) :]

    def _wait(self, timeout: float) -> float:
        deadlines = [w.deadline - time.monotonic() for w in self._workers if w.deadline is not None]
        return max(0.0, min([timeout, 0.25, *deadlines]))  # 0.25: deaths that no pipe tells of

    def _read(self, worker: _Worker) -> list[Message]:
        messages = []
        while worker.process is not None:
            try:
                data = os.read(worker.stdout.fileno(), 1 << 20)
            except BlockingIOError:
                break
            if not data:
                self._forget(worker)
                break
            *lines, worker.buffer = (worker.buffer + data).split(b"\n")
            if len(worker.buffer) > MAX_MESSAGE:
                raise ExecutorError(f"worker {worker.state.index} sent more than {MAX_MESSAGE} bytes at once")
            for line in lines:
                messages += self._understand(worker, json.loads(line))
        return messages

    def _forget(self, worker: _Worker) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.stdout)

    def _understand(self, worker: _Worker, said: dict[str, Any]) -> list[Message]:
        index, kind, trial = worker.state.index, said["kind"], said.get("trial")
        if kind == "unusable":
            self._kill(worker)
            raise ExecutorError(
                f"the objective cannot be loaded: {said['message']}\n{self._log_tail(worker)}"
            )
        if kind == "ready":
            worker.failed_starts = 0
            worker.turn("idle")
            return [Message(index, "ready")]
        if trial != worker.state.trial:
            return []
        if kind == "progress":
            worker.state.progress = said["values"]
            return [Message(index, kind, trial, said["values"])]
        if kind == "points":
            return [Message(index, kind, trial, said["points"])]
        worker.deadline = None
        worker.turn("idle")
        self._release(worker)
        if said["spoiled"] or worker.trials == self._restart_after or self._fat(worker):
            self._replace(worker)
        return [Message(index, "end", trial, result_from(said["result"]))]

    def _over_time(self, worker: _Worker) -> Message:
        assert worker.job is not None
        trial, seconds, limit = worker.state.trial, worker.state.seconds, worker.job.timeout
        self._replace(worker)
        result = Result("failed", None, None, "timeout", f"ran longer than {limit:g} s", seconds=seconds)
        return self._instead(worker, trial, result)

    def _weigh(self, limit: int) -> list[Message]:
        """End trials that take more memory than they may."""
        running = {w.process.pid: w for w in self._workers if w.process and w.state.status == "running"}
        messages = []
        for pid, (used, count) in processes.memory(running, above=limit).items():
            if used <= limit:
                continue
            worker, trial, seconds = running[pid], running[pid].state.trial, running[pid].state.seconds
            messages += self._read(worker)  # it may have made it just in time
            if worker.state.trial == trial:
                self._replace(worker)
                message = f"took {format_bytes(used)} of memory, {format_bytes(limit)} are allowed"
                message += f" ({count - 1} processes below its worker)" if count > 1 else ""
                result = Result("failed", None, None, "oom", message, seconds=seconds)
                messages.append(self._instead(worker, trial, result))
        return messages

    def _fat(self, worker: _Worker) -> bool:
        """Whether what its trials left in a worker takes half of the memory that the next one may have."""
        if self._memory is None or worker.process is None:
            return False
        ((used, _),) = processes.memory([worker.process.pid], above=self._memory / 2).values()
        return used > self._memory / 2

    def _replace(self, worker: _Worker) -> None:
        self._kill(worker)
        self._start(worker)

    def _release(self, worker: _Worker) -> None:
        if self._slots is not None:
            self._slots.release(worker.state.index)

    def _instead(self, worker: _Worker, trial: int | None, result: Result) -> Message:
        """A trial's end that its worker did not live to report, for the driver and for the trial's folder."""
        assert worker.job is not None
        folder = Path(worker.job.folder)
        folder.mkdir(parents=True, exist_ok=True)  # a trial may have removed it
        with (folder / "reports.jsonl").open("a") as witness:
            witness.write("\n" + json.dumps({"end": dataclasses.asdict(result)}) + "\n")
        return Message(worker.state.index, "end", trial, result)

    def _bury(self, worker: _Worker) -> list[Message]:
        """A worker has died by itself: its trial has an end, and it gets a successor."""
        assert worker.process is not None
        code, trial, seconds = worker.process.returncode, worker.state.trial, worker.state.seconds
        starting = worker.state.status == "starting"
        self._kill(worker)
        if starting:
            worker.failed_starts += 1
            if worker.failed_starts >= MAX_STARTS:
                raise ExecutorError(
                    f"workers die before they are ready (exit code {code})\n{self._log_tail(worker)}"
                )
        self._start(worker)
        if trial is None:
            return []
        number = -code if code < 0 else 0
        if number in (signal.SIGKILL, signal.SIGTERM):
            result = Result("killed", message=f"killed by signal {number}", seconds=seconds, signal=number)
        else:
            what = f"died of {signal.Signals(number).name}" if number else f"left with exit code {code}"
            result = Result("failed", failure="crash", message=f"its process {what}", seconds=seconds)
        return [self._instead(worker, trial, result)]

    def _kill(self, worker: _Worker) -> None:
        if worker.process is None:
            return
        processes.kill_tree(worker.process.pid)
        worker.process.wait()
        processes.kill_marked(worker.mark)
        self._release(worker)
        self._forget(worker)
        worker.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            worker.stdin.close()
        worker.process, worker.deadline = None, None

    def _log_tail(self, worker: _Worker) -> str:
        return "\n".join(last_lines(self.folder / "workers" / f"{worker.state.index}.log"))


def result_from(values: Mapping[str, Any]) -> Result:
    """A Result as JSON gave it back."""
    points = [(step, cost, score) for step, cost, score in values["points"]]
    return Result(**{**values, "points": points})


def evaluate(
    config: Any,
    jobs: Iterable[tuple[Mapping[str, Any], int]],
    folder: Path,
) -> Iterator[tuple[int, Result]]:
    """Run (params, seed) pairs outside any sweep, in parallel: yields (position, Result) as they end.

    Fixed values are added to the params; `folder` receives workers/ and trials/. Trials that are killed from
    outside are not repeated. Raises ExecutorError when workers cannot start.
    """
    from sweeper.objectives import make

    waiting = list(enumerate(jobs))
    workers = config.workers
    count, found = resources(workers)
    count = max(1, min(count, len(waiting)))
    executor = LocalExecutor(
        make(config), folder, count, found, memory=workers.memory, restart_after=workers.restart_after
    )
    unfinished = len(waiting)
    executor.start()
    try:
        while unfinished:
            for state in executor.states:
                if state.status == "idle" and waiting:
                    number, (params, seed) = waiting.pop(0)
                    trial_folder = str(folder.resolve() / "trials" / f"{number:06d}")
                    values = {**config.fixed, **params}
                    job = Job(number, values, seed, trial_folder, timeout=workers.timeout)
                    executor.submit(state.index, job)
            for message in executor.poll(1.0):
                if message.kind == "end":
                    unfinished -= 1
                    assert message.trial is not None
                    yield message.trial, message.data
    finally:
        executor.close()
