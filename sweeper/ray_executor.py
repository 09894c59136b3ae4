"""Where trials run beyond one machine: on a Ray cluster, a worker an actor, one trial at a time each.

An actor is a `LocalExecutor` with one worker on whatever node Ray chose: limits, process trees and warm
workers are the same there as here. Only the driver writes: it gets a trial's messages as they come, and its
files (if they are not too large) at its end. A node that dies costs the trials that ran on it, which run
again elsewhere; when the driver dies, its actors die with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import selectors
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from sweeper.executors import MAX_STARTS, Executor, ExecutorError, LocalExecutor, Message, WorkerState
from sweeper.objectives import Job, Objective, Result, from_spec

MAX_FILES = 16 << 20  # bytes of a trial's folder that come back from its node
_CONNECT = 10.0  # seconds until an address that does not answer is reported
_LISTEN = 0.1  # seconds until the listening thread sees that there is more to listen to


class Host:
    """The actor: one local worker, owned by a thread of its own, for as long as the actor lives."""

    def __init__(
        self, spec: dict[str, Any], memory: int | None, restart_after: int | None, mark: str
    ) -> None:
        self._spec, self._options = spec, (memory, restart_after, f"{mark}-{uuid.uuid4().hex}")
        self._jobs: queue.Queue[Job] = queue.Queue()
        self._said: queue.Queue[Message | BaseException] = queue.Queue()
        self._enough: int | None = None
        reader, self._wake = os.pipe()
        os.set_blocking(reader, False)
        threading.Thread(target=self._serve, args=(reader,), daemon=True).start()

    def ready(self) -> str:
        """The node's name, once the worker is warm. Raises ExecutorError where it cannot be."""
        said = self._said.get()
        if isinstance(said, BaseException):
            raise said
        return os.uname().nodename

    def run(self, job: Job) -> Iterator[tuple[Message, dict[str, bytes]]]:
        """One trial: its messages as they come, with the last one its files."""
        self._enough = None
        here = Path(tempfile.mkdtemp(prefix="sweep-trial-"))
        try:
            self._jobs.put(dataclasses.replace(job, folder=str(here / "trial")))
            os.write(self._wake, b".")
            while True:
                message = self._said.get()
                if isinstance(message, BaseException):
                    raise message
                ended = message.kind == "end"
                if message.kind != "ready":
                    yield message, _files(here / "trial") if ended else {}
                if ended:
                    return
        finally:
            shutil.rmtree(here, ignore_errors=True)

    def stop(self, trial: int) -> None:
        """The driver has seen enough of this trial."""
        self._enough = trial
        os.write(self._wake, b".")

    def _serve(self, reader: int) -> None:
        """In the thread that the worker belongs to."""
        try:
            folder = Path(self._spec["folder"])
            if (
                not folder.is_dir()
            ):  # a cluster without shared folders: Ray's working directory is what there is
                self._spec["folder"] = os.getcwd()
            memory, restart_after, mark = self._options
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", "") if ray.get_gpu_ids() else ""
            place = Path(tempfile.mkdtemp(prefix="sweep-worker-"))
            executor = LocalExecutor(
                from_spec(self._spec), place, 1, [visible], memory, restart_after, mark=mark
            )
            executor.watch(reader)
            executor.start()
            (state,) = executor.states
            while True:
                for message in executor.poll(1.0):
                    self._said.put(message)
                with contextlib.suppress(BlockingIOError):
                    os.read(reader, 4096)
                if self._enough is not None and state.trial == self._enough:
                    executor.stop(self._enough)
                    self._enough = None
                if state.status == "idle" and not self._jobs.empty():
                    executor.submit(0, self._jobs.get())
        except BaseException as error:
            self._said.put(error)


def _files(folder: Path) -> dict[str, bytes]:
    """What a trial left in its folder, by relative path; its log alone where all is too much."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    if sum(path.stat().st_size for path in paths) > MAX_FILES:
        paths = [path for path in paths if path == folder / "log.txt" and path.stat().st_size <= MAX_FILES]
    ours = ("params.json", "reports.jsonl")  # the driver writes these
    files = {}
    for path in paths:
        name = str(path.relative_to(folder))
        if name not in ours:
            with contextlib.suppress(OSError):  # not for us to read (a container's), or gone meanwhile
                files[name] = path.read_bytes()
    return files


def connect() -> None:
    """Join the cluster that RAY_ADDRESS names, or the one on this machine. Raises ExecutorError."""
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS", "auto")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdigit():  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=_CONNECT).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError, RayError) as error:
        said = str(error).strip().splitlines()
        raise ExecutorError(
            f"executor: no Ray cluster at {address} ({said[0] if said else type(error).__name__}); "
            "start one with `ray start --head`, or set RAY_ADDRESS"
        ) from None


class RayExecutor(Executor):
    """Workers on a cluster. `count` of them (auto: as many as there is room for), `gpus` for each."""

    def __init__(
        self,
        objective: Objective,
        count: int | str,
        gpus: float | None = None,
        memory: int | None = None,
        restart_after: int | None = None,
        mark: str = "",
    ) -> None:
        connect()
        there = ray.cluster_resources()
        if gpus is None:
            gpus = 1.0 if there.get("GPU", 0) >= 1 else 0.0
        if isinstance(count, str):
            count = int(there.get("GPU", 0) / gpus + 1e-9) if gpus else int(there.get("CPU", 0))
        if count < 1:
            raise ExecutorError(f"executor: the Ray cluster has no room for a trial with {gpus:g} GPUs")
        self._actor = ray.remote(Host).options(
            num_cpus=1, num_gpus=gpus, max_concurrency=3, max_restarts=0, scheduling_strategy="SPREAD"
        )
        self._arguments = (objective.spec, memory, restart_after, mark)
        self._states = [WorkerState(index) for index in range(count)]
        self._hosts: list[Any] = [None] * count
        self._jobs: list[Job | None] = [None] * count
        self._failed_starts = [0] * count  # in a row
        self._unusable: dict[int, str] = {}
        self._selector = selectors.DefaultSelector()
        self._said: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
        self._listening: dict[Any, int] = {}  # what is awaited of whom
        self._closed = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    @property
    def states(self) -> list[WorkerState]:
        """The workers as they are now."""
        return self._states

    def start(self) -> None:
        """Ask Ray for all workers; each is ready when it has a place and its imports are done."""
        for index in range(len(self._states)):
            self._start(index)
        threading.Thread(target=self._listen, daemon=True, name="ray").start()

    def reserve(self, index: int) -> bool:
        """Ray has given each worker what it needs."""
        return True

    def rest(self) -> None:
        """Nothing is held back from others."""

    def submit(self, index: int, job: Job) -> None:
        """Give an idle worker a trial."""
        self._turn(index, "running", job.trial)
        self._jobs[index] = job
        folder = Path(job.folder)
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted attempt left
        folder.mkdir(parents=True)
        (folder / "params.json").write_text(json.dumps(job.params, indent=1) + "\n")
        self._witness(job, {"trial": job.trial, "attempt": job.attempt, "ask": job.ask})
        remote = dataclasses.replace(job, ask={})
        self._listening[self._hosts[index].run.options(num_returns="streaming").remote(remote)] = index

    def stop(self, trial: int) -> None:
        """Have a running trial end soon, as `stopped`."""
        for state in self._states:
            if state.trial == trial:
                self._hosts[state.index].stop.remote(trial)

    def watch(self, handle: int) -> None:
        """Let `poll` return as soon as `handle` is readable too."""
        self._selector.register(handle, selectors.EVENT_READ)

    def poll(self, timeout: float) -> list[Message]:
        """What the workers said. Raises ExecutorError when none of them can work."""
        if self._said.empty():
            self._selector.select(timeout)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        messages: list[Message] = []
        while not self._said.empty():
            messages += self._understand(*self._said.get())
        return messages

    def close(self, grace: bool = True) -> None:
        """End all workers; Ray ends what they started with them."""
        self._closed.set()
        for host in self._hosts:
            ray.kill(host)
        self._selector.close()
        os.close(self._wake_read)

    # Inside

    def _start(self, index: int) -> None:
        self._turn(index, "starting")
        self._hosts[index] = self._actor.remote(*self._arguments)
        self._listening[self._hosts[index].ready.remote()] = index

    def _turn(self, index: int, status: str, trial: int | None = None) -> None:
        state = self._states[index]
        state.status, state.trial, state.since, state.progress = status, trial, time.monotonic(), {}

    def _listen(self) -> None:
        """In a thread: fetch what is said, and wake `poll`."""
        while not self._closed.is_set():
            awaited = list(self._listening)
            ready, _ = ray.wait(awaited, timeout=_LISTEN) if awaited else ([], [])
            if not awaited:
                self._closed.wait(_LISTEN)
            for one in ready:
                index = self._listening[one]
                stream = isinstance(one, ray.ObjectRefGenerator)
                try:
                    said = ray.get(next(one) if stream else one)
                except StopIteration:
                    del self._listening[one]
                    continue
                except Exception as error:
                    said, stream = error, False
                if not stream:
                    del self._listening[one]
                self._said.put((index, self._hosts[index], said))
                with contextlib.suppress(OSError):  # closed meanwhile
                    os.write(self._wake_write, b".")

    def _understand(self, index: int, host: Any, said: Any) -> list[Message]:
        if host is not self._hosts[index]:
            return []  # the last words of one that was replaced
        state, job = self._states[index], self._jobs[index]
        if isinstance(said, str):
            self._failed_starts[index] = 0
            self._turn(index, "idle")
            return [Message(index, "ready")]
        if isinstance(said, Exception):
            return self._lost(index, said)
        message, files = said
        assert job is not None
        message = dataclasses.replace(message, worker=index)
        if message.kind == "progress":
            state.progress = message.data
        elif message.kind == "points":
            for step, cost, score in message.data:
                self._witness(job, {"step": step, "cost": cost, "score": score})
        elif message.kind == "end":
            for name, content in files.items():
                path = Path(job.folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._witness(job, {"end": dataclasses.asdict(message.data)})
            self._turn(index, "idle")
        return [message]

    def _lost(self, index: int, error: Exception) -> list[Message]:
        """A worker is gone, with its trial; or it can never work where it is."""
        state, job = self._states[index], self._jobs[index]
        seconds, trial = state.seconds, state.trial
        cause = getattr(error, "cause", None)
        self._failed_starts[index] += state.status == "starting"
        if self._failed_starts[index] >= MAX_STARTS:  # our own package may be missing there
            said = str(error).strip().splitlines()
            cause = ExecutorError(f"workers die before they are ready ({said[-1] if said else error!r})")
        if isinstance(cause, ExecutorError):  # a module, or a compiler, that this node does not have
            self._unusable[index] = str(cause)
            self._turn(index, "unusable")
            if len(self._unusable) == len(self._states):
                raise ExecutorError(f"no node of the Ray cluster can run a trial: {cause}")
        else:
            self._start(index)
        if trial is None or job is None:  # it had none
            return []
        result = Result("killed", message=f"lost with its worker ({type(error).__name__})", seconds=seconds)
        return [Message(index, "end", trial, result)]

    def _witness(self, job: Job, values: dict[str, Any]) -> None:
        with (Path(job.folder) / "reports.jsonl").open("a") as witness:
            witness.write(json.dumps(values) + "\n")
