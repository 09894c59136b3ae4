"""What trials and workers printed, made safe to show."""

from __future__ import annotations

import re
from pathlib import Path

LAST_LINES = 12  # of a crashed trial's output that are shown
LAST_BYTES = 8192
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[@-Z\\-_a-z]"
)


def printable(text: str) -> str:
    """Text that a trial printed, without terminal escapes and control characters; lines and tabs stay."""
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def last_lines(log: Path, count: int = LAST_LINES) -> list[str]:
    """The end of a log, printable; empty where there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - LAST_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip()[:500] for line in printable(text).splitlines()]
    return [line for line in lines if line][-count:]
