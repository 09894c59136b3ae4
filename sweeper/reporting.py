"""`sweeper.report`: how a training script says how well it does. Imports nothing heavy."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable
from typing import Any

# A warm worker sets this while a function trial runs: reports then go straight to it.
_sink: Callable[[dict[str, float]], None] | None = None


def report(score: float, cost: float | None = None, step: float | None = None) -> None:
    """Report a point of the learning curve; the last one reported is the trial's result.

    `cost` in the unit of the config's cost (left out: the seconds since the trial's start), `step` in units
    of the fidelity parameter. Outside a sweep the JSON line is printed. Raises ValueError for what is not a
    finite number.
    """
    line = {"score": _finite("score", score)}
    if cost is not None:
        line["cost"] = _finite("cost", cost)
    if step is not None:
        line["step"] = _finite("step", step)
    if _sink is not None:
        _sink(line)
        return
    pipe = os.environ.get("SWEEP_REPORTS")
    if pipe and _send(pipe, json.dumps(line).encode() + b"\n"):
        return
    # A sweep looks there for its metric's name.
    printed = {os.environ.get("SWEEP_METRIC", "score"): line.pop("score"), **line}
    sys.stdout.write(json.dumps(printed) + "\n")
    sys.stdout.flush()


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"report: {name} is {value!r}, not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"report: {name} is {number}, not a finite number (did the training diverge?)")
    return number


def _send(pipe: str, line: bytes) -> bool:
    """One write, shorter than a pipe's atomic size: lines of parallel reporters never mix."""
    try:
        handle = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # another machine or container, or nobody listens any more
        return False
    try:
        os.set_blocking(handle, True)
        os.write(handle, line)
    finally:
        os.close(handle)
    return True
