"""A warm worker: `python -P -m sweeper.worker`, started by `sweeper.executors`, one trial at a time.

Speaks lines of JSON. On standard input: first the objective's spec, then jobs, and `enough` with the trial
that is given up; `{"kind": "stop"}` or the end of the input ends it and all below it. On standard output:
`ready`, or `unusable` with a message; then `points` and `progress` of the running trial and its `end`. Both
are moved away from the objective, whose own output goes to the trial's log.txt.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from sweeper import objectives, processes, supervisor

SEND_EVERY = 0.1  # seconds between messages about a running trial
_CHECK_LOG_EVERY = 0.5  # seconds


class Driver:
    """The other end of the pipes."""

    def __init__(self) -> None:
        self._in: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._out = os.dup(1)
        self._lock = threading.Lock()
        self.jobs: queue.Queue[dict[str, Any]] = queue.Queue()
        self.enough: int | None = None  # the trial that the driver has given up
        self.leaving = False  # and what it does to the trial that runs is no result
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)

    def send(self, kind: str, **values: Any) -> None:
        """One message; a driver that is gone is noticed by `listen`."""
        data = json.dumps({"kind": kind, **values}).encode() + b"\n"
        with self._lock, contextlib.suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._out, data) :]

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the driver is gone."""
        line = self._in.readline()
        return json.loads(line) if line.endswith(b"\n") else None

    def listen(self) -> None:
        """In a thread: queue jobs; leave with everything below when the driver says so or is gone."""
        while (message := self.receive()) is not None and message["kind"] in ("job", "enough"):
            if message["kind"] == "job":
                self.jobs.put(message["job"])
            else:
                self.enough = message["trial"]
        self.leaving = True
        leave(graceful=message is not None)


def _terminated(number: int, frame: FrameType | None) -> None:
    """The driver is gone, or somebody wants this worker to be: all below goes too."""
    _kill_below()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def leave(graceful: bool) -> None:
    """End this process and all below it; with grace, commands get TERM and a moment first."""
    below = processes.descendants(os.getpid())
    if graceful and (below or supervisor.groups):
        for group in supervisor.groups:
            processes.kill_group(group, signal.SIGTERM)
        for process in below:
            processes.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + supervisor.GRACE
        while time.monotonic() < deadline and any(map(_alive, below)):
            time.sleep(0.01)
    _kill_below()
    os._exit(0)


def _kill_below() -> None:
    """SIGKILL to all descendants, orphans among them; more than once, for what was born meanwhile."""
    for group in supervisor.groups:
        processes.kill_group(group)
    for _ in range(50):
        below = [process for process in processes.descendants(os.getpid()) if _alive(process)]
        if not below:
            return
        for process in below:
            processes.kill(process)
        time.sleep(0.002)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


class Trial:
    """One attempt: tells the driver about it, and its folder, which is a second witness."""

    def __init__(self, driver: Driver, job: objectives.Job) -> None:
        self.driver, self.job = driver, job
        driver.enough = None  # what was said of an earlier attempt is not said of this one
        self._waiting: list[tuple[float | None, float, float]] = []
        self._points = 0
        self._sent = self._progressed = 0.0
        folder = Path(job.folder)
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted attempt left, its pipe among it
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "params.json").write_text(json.dumps(job.params, indent=1) + "\n")
        self._witness = (folder / "reports.jsonl").open("w")
        self._write({"trial": job.trial, "attempt": job.attempt, "ask": job.ask})

    def _write(self, values: dict[str, Any]) -> None:
        self._witness.write(json.dumps(values) + "\n")
        self._witness.flush()

    def emit(self, step: float | None, cost: float, score: float) -> None:
        """A point: to the folder at once, to the driver in batches; of a flood, the latest now and then."""
        self._points += 1
        if self._points <= objectives.MAX_POINTS:
            self._write({"step": step, "cost": cost, "score": score})
            self._waiting.append((step, cost, score))
        else:
            self._waiting = [(step, cost, score)]
        now = time.monotonic()
        if now - self._sent >= SEND_EVERY:
            self.driver.send("points", trial=self.job.trial, points=self._waiting)
            self._waiting, self._sent = [], now

    def progress(self, values: dict[str, Any]) -> None:
        """What a trial says between points, passed on a few times a second at most."""
        now = time.monotonic()
        if now - self._progressed >= SEND_EVERY:
            self._progressed = now
            plain = {k: v for k, v in values.items() if isinstance(v, (int, float, str))}
            self.driver.send("progress", trial=self.job.trial, values=plain)

    def enough(self) -> bool:
        """Whether the driver has given this trial up."""
        return self.driver.enough == self.job.trial

    def end(self, result: objectives.Result) -> None:
        """The result: to the folder first, so that a driver killed now finds it when it comes back."""
        if self.driver.leaving:  # ended by our own signals, perhaps with grace and exit code 0: it runs again
            return
        values = dataclasses.asdict(result)
        self._write({"end": values})
        self._witness.close()
        spoiled = result.status == "failed" and gpu_is_spoiled()
        self.driver.send("end", trial=self.job.trial, result=values, spoiled=spoiled)


def gpu_is_spoiled() -> bool:
    """Whether a kernel left an error with which CUDA refuses this process all that comes after it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


class _CappedLog:
    """The objective's standard output and error in a file that stops growing at a limit.

    No pipe and no reader: code that never lets go of Python's lock could not fill one and wait for itself.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._stop = path, threading.Event()
        self._thread = threading.Thread(target=self._guard, daemon=True)

    def __enter__(self) -> None:
        self._saved = os.dup(1), os.dup(2)
        self._point(self._path, os.O_TRUNC)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the objective may have put anything in its place
                stream.flush()
        self._stop.set()
        self._thread.join()
        for saved, handle in zip(self._saved, (1, 2), strict=True):
            os.dup2(saved, handle)
            os.close(saved)

    @staticmethod
    def _point(path: Path | str, flags: int) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | flags, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.close(handle)

    def _guard(self) -> None:
        while not self._stop.wait(_CHECK_LOG_EVERY):
            if not self._path.exists():  # the trial removed its folder: what it prints is kept nowhere
                self._point(os.devnull, 0)
                return
            if self._path.stat().st_size > supervisor.LOG_HEAD:
                os.write(2, b"\n[... the rest is left out ...]\n")
                self._point(os.devnull, 0)
                os.truncate(self._path, min(self._path.stat().st_size, 2 * supervisor.LOG_HEAD))
                return


def main() -> None:
    """Serve until told to stop."""
    processes.adopt_orphans()
    driver = Driver()
    for stream in (sys.stdout, sys.stderr):  # what a crash leaves in a buffer is lost
        assert isinstance(stream, io.TextIOWrapper)
        stream.reconfigure(line_buffering=True, errors="backslashreplace")
    first = driver.receive()
    if first is None:
        return
    objective = objectives.from_spec(first["spec"])
    if isinstance(objective, objectives.Command):
        # Nothing but our own code runs here, so there is time to end what the command started.
        signal.signal(signal.SIGTERM, _terminated)
        processes.die_with_parent(signal.SIGTERM)
    else:
        # A function may be deep in C and deaf to all but this.
        processes.die_with_parent()
    threading.Thread(target=driver.listen, daemon=True).start()
    try:
        objective.load()
    except BaseException as error:
        traceback.print_exc()
        driver.send("unusable", message=f"{type(error).__name__}: {error}")
        return
    driver.send("ready")
    while True:
        job = objectives.Job(**driver.jobs.get())
        trial = Trial(driver, job)
        if isinstance(objective, objectives.Command):
            result = objective.run(job, trial.emit, trial.progress, trial.enough)
        else:
            with _CappedLog(Path(job.folder) / "log.txt"):
                result = objective.run(job, trial.emit, trial.progress, trial.enough)
        trial.end(result)


if __name__ == "__main__":
    main()
