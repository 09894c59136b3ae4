"""One command under supervision: its output drained, its time limited, its whole tree ended.

Runs in the main thread of a worker that has adopted orphans (`processes.adopt_orphans`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from sweeper import processes

GRACE = 3.0  # seconds between TERM and KILL
LOG_HEAD, LOG_TAIL = 8 << 20, 64 << 10  # bytes of output that are kept from its start and from its end
groups: set[int] = set()  # process groups of commands that run now
_STARVED = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
MAX_LINE = 64 << 10  # bytes; longer lines are logged, not read


@dataclass
class End:
    """How a command ended: `code` as subprocess has it (-9: by SIGKILL)."""

    code: int = 0
    timed_out: bool = False
    stopped: bool = False  # because its caller had enough
    error: str = ""
    starved: bool = False  # of processes, memory or files of the machine: it could not be started
    last_line: str = ""
    unread: int = 0  # lines longer than MAX_LINE


class Log:
    """A file that keeps the start and the end of what is written, whatever comes between."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._room, self._tail, self._dropped = LOG_HEAD, bytearray(), 0

    def write(self, data: bytes) -> None:
        """Append."""
        head, rest = data[: self._room], data[self._room :]
        if head:
            self._file.write(head)
            self._room -= len(head)
        if rest:
            self._tail += rest
            surplus = len(self._tail) - LOG_TAIL
            if surplus > 0:
                self._dropped += surplus
                del self._tail[:surplus]

    def close(self) -> None:
        """Write the end, with a word on what is missing before it."""
        if self._dropped:
            self._file.write(f"\n[... {self._dropped} bytes left out ...]\n".encode())
        self._file.write(self._tail)
        self._file.close()


class _Lines:
    """Cuts a stream into lines and hands them on."""

    def __init__(self, source: str, take: Callable[[bytes, str], None]) -> None:
        self.source, self.take = source, take
        self.last = b""  # the last line with anything in it
        self.unread = 0
        self._rest, self._skipping = b"", False

    def feed(self, data: bytes) -> None:
        # A progress bar returns to the start of its line: what it shows next is another one.
        *lines, rest = (self._rest + data.replace(b"\r", b"\n")).split(b"\n")
        for line in lines:
            self._hand_on(line)
        if len(rest) > MAX_LINE:
            rest, self._skipping = b"", True
        self._rest = rest

    def close(self) -> None:
        if self._rest or self._skipping:
            self._hand_on(self._rest)
            self._rest = b""

    def _hand_on(self, line: bytes) -> None:
        if self._skipping or len(line) > MAX_LINE:
            self._skipping = False
            self.unread += 1
            return
        if line.strip():
            self.last = line
        self.take(line, self.source)


def supervise(
    argv: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    folder: Path,
    take: Callable[[bytes, str], None],
    timeout: float | None = None,
    enough: Callable[[], bool] = lambda: False,
) -> End:
    """Run `argv` to its end, its time limit, or until `enough()`; afterwards nothing it started is left.

    `take(line, source)` gets each line of stdout, stderr and of the reports' pipe (source: stdout, stderr,
    report); what it raises ends the command. Everything printed goes to `folder`/log.txt.
    """
    log = Log(folder / "log.txt")
    fifo = folder / "reports.pipe"
    with contextlib.ExitStack() as stack:
        stack.callback(log.close)
        os.mkfifo(fifo, 0o600)
        stack.callback(fifo.unlink, missing_ok=True)  # the command may have tidied up
        reports = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # both ends: never at its end of file
        stack.callback(os.close, reports)
        wake = stack.enter_context(_child_signals())
        try:
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env={**environment, "SWEEP_REPORTS": str(fifo)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
                preexec_fn=processes.die_with_parent if processes.LINUX else None,
            )
        except OSError as error:
            what = argv[0] if cwd.is_dir() else f"{argv[0]} in {cwd}"  # the folder is what is missing
            message = f"cannot start {what}: {error.strerror or error}"
            log.write(message.encode() + b"\n")
            return End(error=message, starved=error.errno in _STARVED)
        groups.add(process.pid)
        stack.callback(groups.discard, process.pid)
        # Whatever happens below, the tree goes first and the pipes after it.
        stack.callback(processes.kill_children)
        stack.callback(processes.kill_group, process.pid)
        return _watch(process, reports, wake, log, take, timeout, enough)


def _watch(
    process: subprocess.Popen[bytes],
    reports: int,
    wake: int,
    log: Log,
    take: Callable[[bytes, str], None],
    timeout: float | None,
    enough: Callable[[], bool],
) -> End:
    assert process.stdout is not None
    assert process.stderr is not None
    end = End()
    streams = {
        process.stdout.fileno(): _Lines("stdout", take),
        process.stderr.fileno(): _Lines("stderr", take),
        reports: _Lines("report", take),
    }
    deadline = None if timeout is None else time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for handle in (*streams, wake):
            os.set_blocking(handle, False)
            selector.register(handle, selectors.EVENT_READ)

        def drain(wait: float | None) -> bool:
            """Read what there is; whether there was anything."""
            some = False
            for key, _ in selector.select(wait):
                handle = int(key.fileobj)  # type: ignore[arg-type]
                try:
                    data = os.read(handle, 1 << 16)
                except BlockingIOError:
                    continue
                if handle == wake:
                    continue
                if not data:
                    selector.unregister(handle)
                    continue
                some = True
                if handle != reports:
                    log.write(data)
                streams[handle].feed(data)
            return some

        killing = False
        while process.poll() is None:
            now = time.monotonic()
            late = deadline is not None and now >= deadline
            if late and killing:
                processes.kill_tree(process.pid)
            elif not killing and (late or enough()):
                end.timed_out, end.stopped, killing = late, not late, True
                processes.kill_group(process.pid, signal.SIGTERM)
                late = True
            if late:
                deadline = now + GRACE
            # The wake pipe tells of children's ends; the second is for what tells nobody.
            drain(1.0 if deadline is None else max(0.0, min(1.0, deadline - now)))
        end.code = process.returncode
        # Descendants may hold the pipes open: they end before the rest is read.
        processes.kill_group(process.pid)
        processes.kill_children()
        limit = time.monotonic() + 2.0
        while drain(0) and time.monotonic() < limit:
            pass
    for lines in streams.values():
        lines.close()
    process.stdout.close()
    process.stderr.close()
    said = [lines.last for lines in streams.values() if lines.source in ("stderr", "stdout") and lines.last]
    end.unread = sum(lines.unread for lines in streams.values())
    end.last_line = said[-1][:500].decode("utf-8", "replace").strip() if said else ""
    return end


@contextlib.contextmanager
def _child_signals() -> Iterator[int]:
    """A pipe that becomes readable when a child ends."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.signal(signal.SIGCHLD, lambda number, frame: None)
    old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(old)
        signal.signal(signal.SIGCHLD, before)
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """TimeoutError in the main thread when the block takes longer (regular expressions notice signals)."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
