"""Cores and GPUs of one machine, shared by all sweeps of a user: who holds a slot holds a lock on its file.

The kernel lets go of a lock when its process ends, however it ends: no slot is ever lost. A sweep that finds
no free slot leaves a file of its own, locked too, that says how many it holds. Nobody takes one more while
somebody who holds fewer is waiting, so that sweeps end up with equal shares.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

GPU_PARTS = 20  # slots of a GPU: it can be shared down to a twentieth


class SlotsError(RuntimeError):
    """The folder of the slots cannot be used; the message says why."""


def machine_folder() -> Path:
    """Where this user's slots on this machine are; made if need be, nobody else's business."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and not os.access(runtime, os.W_OK | os.X_OK):  # `su` keeps another's; ours went at logout
        runtime = None
    name = "pareto-sweeper" if runtime else f"pareto-sweeper-{os.getuid()}"
    folder = Path(runtime or tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise SlotsError(
            f"{folder} belongs to somebody else; remove it, or write `workers: {{share: false}}`"
        )
    return folder


class Slots:
    """The slots as one sweep sees them. `cores`: how many there are on this machine, or which of them this
    sweep may use.

    `wait`: nothing is taken that is not free. Otherwise what is free is taken, so that others see it, and
    what is not is used all the same.
    """

    def __init__(self, cores: int | Sequence[int], wait: bool = True, folder: Path | None = None) -> None:
        self.cores = range(cores) if isinstance(cores, int) else cores
        self.wait = wait
        self._folder = machine_folder() if folder is None else folder
        self._held: dict[int, list[int]] = {}  # by worker: the files it has locked
        self._waiting: int | None = None  # our file among those who wait
        self._path = self._folder / f"waiting-{os.getpid()}-{uuid.uuid4().hex[:8]}"

    def take(self, worker: int, gpus: str = "", share: float = 1.0) -> bool:
        """A core, and this share of these GPUs (as CUDA_VISIBLE_DEVICES names them), for one trial of a
        worker; whether it may start."""
        if not self._folder.is_dir():  # a runtime folder goes at logout, a sweep under nohup does not
            self._held[worker] = []
            return True
        if self.wait and any(held < len(self._held) for held in self._others()):
            self._queue_up()
            return False
        locked: list[int] = []
        missing = not self._lock("core", self.cores, 1, locked)
        for gpu in filter(None, gpus.split(",")):
            parts = max(1, int(min(share, 1.0) * GPU_PARTS + 1e-9))  # rounded up, three thirds would not fit
            missing |= not self._lock(f"gpu-{gpu.replace('/', '_')}", range(GPU_PARTS), parts, locked)
        if missing and self.wait:
            for handle in locked:
                os.close(handle)
            self._queue_up()
            return False
        self._held[worker] = locked
        self.stop_waiting()
        return True

    def release(self, worker: int) -> None:
        """The trial of this worker has ended."""
        for handle in self._held.pop(worker, ()):
            os.close(handle)
        if self._waiting is not None:
            self._queue_up()

    def stop_waiting(self) -> None:
        """Nothing is wanted any more."""
        if self._waiting is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._waiting)
            self._waiting = None

    def close(self) -> None:
        """Let go of everything."""
        for worker in list(self._held):
            self.release(worker)
        self.stop_waiting()

    def _lock(self, name: str, among: Iterable[int], count: int, locked: list[int]) -> bool:
        """Lock `count` of the slots called so; those that were had are added to `locked` either way."""
        for number in among:
            if count == 0:
                break
            handle = os.open(self._folder / f"{name}-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            locked.append(handle)
            count -= 1
        return count == 0

    def _queue_up(self) -> None:
        """Say that we wait, and with how many slots."""
        while self._waiting is None:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                self._waiting = handle
            else:  # before it was locked another sweep took it for a dead one's, and removed it
                os.close(handle)
        os.pwrite(self._waiting, f"{len(self._held):9d}".encode(), 0)

    def _others(self) -> Iterator[int]:
        """How many slots each of the others who wait holds."""
        for path in self._folder.glob("waiting-*"):
            if path == self._path:
                continue
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:  # alive
                    yield int(file.read() or 0)
                else:
                    path.unlink(missing_ok=True)  # it died
