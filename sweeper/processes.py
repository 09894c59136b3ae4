"""Ending processes for good: trees of them, on Linux also those that left their parents."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
LINUX = sys.platform.startswith("linux")


def _prctl() -> Callable[[int, int], int] | None:
    """The system call's wrapper, looked up before any fork: a child must not load libraries."""
    if not LINUX:
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda option, value: int(libc.prctl(option, value, 0, 0, 0))


_PRCTL = _prctl()


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """This process gets a signal when the thread that started it ends (Linux; elsewhere nothing happens)."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Descendants that lose their parent become children of this process (Linux)."""
    if _PRCTL is not None:
        _PRCTL(_PR_SET_CHILD_SUBREAPER, 1)


def descendants(pid: int) -> list[int]:
    """All processes below `pid` that still know their parents; Linux only, elsewhere none."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _parents() -> list[tuple[int, int]]:
    pairs = []
    for entry in os.listdir("/proc") if LINUX else ():
        if entry.isdigit():
            # The name in parentheses may hold anything: spaces, parentheses and, as it is cut at 15 bytes,
            # half a letter.
            with contextlib.suppress(OSError, ValueError, IndexError):
                stat = Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2]
                pairs.append((int(entry), int(stat.split()[1])))
    return pairs


def memory(pids: Iterable[int], above: float = 0.0) -> dict[int, tuple[int, int]]:
    """Bytes of main memory and number of processes of each tree, by its root; Linux only, elsewhere 0.

    Resident pages, counted in every process that has them; where that comes to more than `above`, the pages
    that several share are divided among them, which takes longer to find out.
    """
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    used = {}
    for pid in pids:
        tree, waiting = [pid], [pid]
        while waiting:
            below = children.get(waiting.pop(), [])
            tree += below
            waiting += below
        resident = sum(map(_resident, tree))
        used[pid] = (sum(map(_proportional, tree)) if resident > above else resident, len(tree))
    return used


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # gone meanwhile
        return 0


def _proportional(pid: int) -> int:
    with contextlib.suppress(OSError):  # gone meanwhile, or not to be looked into
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return _resident(pid)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """A signal to a process; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_group(group: int, number: int = signal.SIGKILL) -> None:
    """A signal to a process group; one that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def kill_tree(pid: int) -> None:
    """SIGKILL to `pid`, its group and everything below it."""
    below = descendants(pid)
    kill_group(pid)
    for process in below:
        kill(process)
    kill(pid)


def kill_marked(mark: str) -> int:
    """SIGKILL to every process of ours whose environment holds `mark` (NAME=value); how many there were.

    The environment is inherited through every fork and exec: this finds what daemonised itself and what
    outlived a killed driver. Linux only, elsewhere 0.
    """
    wanted, found = mark.encode(), 0
    for entry in os.listdir("/proc") if LINUX else ():
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                    kill(int(entry))
                    found += 1
    return found


def kill_children(seconds: float = 5.0) -> None:
    """SIGKILL to everything below this process, orphans it adopted too, until none is left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for process in descendants(os.getpid()):
            kill(process)
        time.sleep(0.002)
