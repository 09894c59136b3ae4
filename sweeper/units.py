"""Durations and numbers, as people write and read them."""

from __future__ import annotations

import math
import re
from typing import Any

from sweeper.yaml12 import short

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION = re.compile(r"(?:\d+(?:\.\d*)?\s*(?:d|h|ms|m|s)\s*)+")
_BYTES = {"k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2.0**10, "mi": 2.0**20, "gi": 2.0**30, "ti": 2.0**40}
_DURATION_MEND = "write 90, 30s, 10m, 2h or 1h30m (a plain number is seconds)"


def parse_duration(value: Any) -> float:
    """Seconds from `2h`, `30s`, `10m`, `1h30m`, or a plain number of seconds; ValueError otherwise."""
    seconds = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str):
        text = value.strip().lower()
        if _DURATION.fullmatch(text):
            parts = re.findall(r"(\d+(?:\.\d*)?)\s*(ms|[dhms])", text)
            units = [unit for _, unit in parts]
            if sorted(set(units), key=list(_UNITS).index) == units:  # each once, the largest first
                seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
        elif re.fullmatch(r"\d+(\.\d*)?(e[-+]?\d+)?", text):
            seconds = float(text)
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"'{short(value)}' is not a duration above 0; {_DURATION_MEND}")
    return seconds


def parse_bytes(value: Any) -> int:
    """Bytes from `4GB`, `500 MB`, `1.5GiB`, or a plain number of bytes (or 0); ValueError otherwise."""
    size = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        size = float(value)
    elif isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([kmgt]i?)?b?", value.strip().lower())
        if match:
            size = float(match[1]) * _BYTES.get(match[2], 1.0)
    if not (math.isfinite(size) and size >= 0):
        raise ValueError(f"'{short(value)}' is not an amount of bytes; write 4GB, 500MB or 1.5GiB")
    return int(size)


def format_bytes(size: float) -> str:
    """An amount of bytes as people say it: `512 B`, `42.1 MB`, `3.2 GB`."""
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= 0.9995 * unit:
            return f"{size / unit:.3g} {letter}B"
    return f"{size:.0f} B"


def format_seconds(seconds: float) -> str:
    """A duration as people say it: `42 ms`, `0.42 s`, `12.3 s`, `2 m 05 s`, `1 h 30 m`, `3 d 02 h`."""
    if 0 < seconds < 0.09995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} m"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def digits(low: float, high: float, parts: int = 10) -> int:
    """How many significant digits, four to twelve, tell apart `parts` steps from `low` to `high`."""
    span = high - low
    if not 0 < span < math.inf:
        return 4
    return min(12, max(4, math.ceil(math.log10(max(abs(low), abs(high)) / span * parts))))


def format_number(value: float, digits: int = 4) -> str:
    """Four significant digits, large numbers with k, M, G: `0.003142`, `431.5`, `1.25M`."""
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if 0.99995 * unit <= size < 0.99995e13:
            return f"{value / (1e3 if letter == 'k' else unit):.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def parse_number(text: str) -> float:
    """A number as `format_number` writes it, `510.3k`, or as people do; ValueError otherwise."""
    unit = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text.strip()[-1:])
    return float(text) if unit is None else float(text.strip()[:-1]) * unit


def format_cost(cost: float, name: str) -> str:
    """A cost with its unit; one that is called just cost has none."""
    if name == "seconds":
        return format_seconds(cost)
    return format_number(cost) if name == "cost" else f"{format_number(cost)} {name}"
