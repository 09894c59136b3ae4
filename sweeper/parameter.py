"""One parameter: how its values map to [-1, 1] and back, and how its declaration is read."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper.errors import ConfigError

DISTRIBUTIONS = ("linear", "log", "pow2", "logit", "categorical")
KEYS = ("distribution", "type", "min", "max", "start", "values", "when")
_DIGITS = 5  # of a float's resolution within its range: 0.0031623, not 0.0031622776601683794


@dataclass(frozen=True)
class Parameter:
    """One thing to choose. `start` is None where none was declared, or where it is `declared` to be the
    category null; `when` maps a name to the values of that parameter (or fixed value) under which this one
    is active."""

    name: str
    distribution: str  # one of DISTRIBUTIONS
    kind: str  # float | int | categorical
    min: float = math.nan
    max: float = math.nan
    values: tuple[Any, ...] = ()
    start: Any = None
    when: Mapping[str, tuple[Any, ...]] | None = None
    declared: bool = False

    def _warp(self, value: Any) -> Any:
        """User's units to the scale on which equal distances matter equally."""
        if self.distribution == "log":
            return np.log(value)
        if self.distribution == "pow2":
            return np.log2(value)
        if self.distribution == "logit":
            return np.log(value) - np.log1p(-np.asarray(value))
        return value

    def to_unit(self, value: Any) -> Any:
        """Numbers (array or scalar), or one category, to [-1, 1]."""
        if self.kind == "categorical":
            return -1 + (2 * self.index(value) + 1) / len(self.values)
        value = np.asarray(value, float)  # numpy has no logarithm of whole numbers beyond 64 bits
        low, high = self._warp(self.min), self._warp(self.max)
        return np.clip(2 * ((self._warp(value) - low) / (high - low)) - 1, -1, 1)

    def from_unit(self, unit: np.ndarray) -> np.ndarray:
        """[n] in [-1, 1] to the values [n] that would run: float64, rounded; or indices of categories."""
        if self.kind == "categorical":
            return np.clip(np.floor((unit + 1) / 2 * len(self.values)), 0, len(self.values) - 1)
        low, high = self._warp(self.min), self._warp(self.max)
        warped = low + (unit + 1) / 2 * (high - low)
        if self.distribution == "pow2":
            return np.exp2(np.round(warped))
        if self.distribution == "log":
            warped = np.exp(warped)
        elif self.distribution == "logit":
            warped = 1 / (1 + np.exp(-warped))
        warped = np.round(warped) if self.kind == "int" else self._rounded(warped)
        return np.clip(warped, self.min, self.max)

    def cell(self, unit: np.ndarray) -> np.ndarray:
        """Of whole numbers and powers of two: how much of [-1, 1] rounds to what is at `unit` [n], [n]."""
        value = self.from_unit(unit)
        if self.distribution == "pow2":
            return self.to_unit(value * math.sqrt(2)) - self.to_unit(value / math.sqrt(2))
        return self.to_unit(value + 0.5) - self.to_unit(np.maximum(value - 0.5, self.min))

    def _rounded(self, values: np.ndarray) -> np.ndarray:
        """Floats [n] without the digits that nobody asked for; near 1, log odds need those of 1 - value."""
        width = float(self._warp(self.max) - self._warp(self.min))
        size: Any = width
        if self.distribution != "linear":
            size = min(width, 1.0) * 10 ** np.floor(
                np.log10(values if self.distribution == "log" else np.minimum(values, 1 - values))
            )
        decimals = _DIGITS - np.floor(np.log10(size) + 1e-9)
        up, down = 10.0 ** np.clip(decimals, 0, 300), 10.0 ** np.maximum(-decimals, 0)
        return np.where(decimals <= 290, np.rint(values * up / down) * down / up, values)

    def scalar(self, value: float) -> Any:
        """One of `from_unit`'s values as a Python scalar."""
        if self.kind == "categorical":
            return self.values[int(value)]
        return int(value) if self.kind == "int" else float(value)

    def index(self, value: Any) -> int:
        """Which category `value` is; True is not 1. Raises ValueError for none."""
        for index, known in enumerate(self.values):
            if known == value and _is_bool(known) == _is_bool(value):
                return index
        raise ValueError(
            f"{self.name}: {value!r} is none of {list(self.values)}{nearest(value, self.values)}"
        )

    def check(self, value: Any) -> None:
        """Raises ValueError that names the parameter and the value where it cannot be had."""
        if self.kind == "categorical":
            self.index(value)
            return
        number = _number(value)
        if number is None:
            raise ValueError(f"{self.name}: {value!r} is not a number")
        if not self.min <= number <= self.max:
            raise ValueError(f"{self.name}: {value!r} lies outside {self.min:g} to {self.max:g}")
        if self.distribution == "pow2" and not _power_of_two(number):
            raise ValueError(f"{self.name}: {value!r} is not a power of two")
        if self.kind == "int" and number != int(number):
            raise ValueError(f"{self.name}: {value!r} is not a whole number")


def parse(name: str, settings: Mapping[str, Any]) -> Parameter:
    """One entry of the `parameters` mapping. Raises ConfigError("parameters.NAME.KEY", ...)."""
    at = f"parameters.{name}"
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.\-]*", name):
        raise ConfigError(at, "is not a name", "use letters, digits, '_', '-' and '.'")
    if not isinstance(settings, Mapping):
        raise ConfigError(
            at, f"{settings!r} is not a mapping", "write {distribution: log, min: 1e-5, max: 0.1}"
        )
    for key in settings:
        if key not in KEYS:
            raise ConfigError(f"{at}.{key}", f"no such key{nearest(key, KEYS)}", f"known: {', '.join(KEYS)}")
    when = _parse_when(at, settings.get("when"))
    distribution = settings.get("distribution", "categorical" if "values" in settings else "linear")
    if distribution not in DISTRIBUTIONS:
        message = f"no such distribution as {distribution!r}{nearest(distribution, DISTRIBUTIONS)}"
        mend = "whole numbers are 'type: int'" if "int" in str(distribution) else ""
        raise ConfigError(f"{at}.distribution", message, mend or f"one of {', '.join(DISTRIBUTIONS)}")
    if distribution == "categorical":
        return _parse_categorical(name, at, settings, when)
    if "values" in settings:
        raise ConfigError(
            f"{at}.values", f"has no meaning for {distribution}", "use categorical, or min and max"
        )

    low, high = (_bound(at, key, settings) for key in ("min", "max"))
    kind = settings.get("type", "int" if distribution == "pow2" and low >= 1 else "float")
    if kind not in ("int", "float"):
        raise ConfigError(f"{at}.type", f"no such type as {kind!r}", "int or float")
    if distribution in ("log", "pow2") and low <= 0:
        raise ConfigError(f"{at}.min", f"{low:g} has no logarithm", "a log range starts above zero")
    if distribution == "logit" and not (low > 0 and high < 1):
        key, value = ("min", low) if low <= 0 else ("max", high)
        raise ConfigError(f"{at}.{key}", f"{value:g} has no log odds", "a logit range lies inside 0 and 1")
    if low > high:
        raise ConfigError(f"{at}.min", f"{low:g} is above max {high:g}", "swap the two")
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # finer than params are rounded to
        raise ConfigError(f"{at}.min", f"is as good as max {high:g}: nothing to choose", "put it under fixed")
    if not math.isfinite(high - low):
        raise ConfigError(f"{at}.max", f"{low:g} to {high:g} is too wide", "narrow the range")
    for key, value in (("min", low), ("max", high)):
        if distribution == "pow2" and not _power_of_two(value):
            below = 2.0 ** math.floor(math.log2(value))
            mend = f"use {below:g} or {2 * below:g}"
            raise ConfigError(f"{at}.{key}", f"{value:g} is not a power of two", mend)
        if kind == "int" and value != int(value):
            mend = "round it, or use type: float"
            raise ConfigError(f"{at}.{key}", f"{value:g} is not a whole number", mend)
        if kind == "int" and abs(value) > 2**53:
            raise ConfigError(f"{at}.{key}", f"{value:g} is too large to count to", "use type: float")
    start = settings.get("start")
    parameter = Parameter(name, distribution, kind, low, high, (), start, when, start is not None)
    if parameter.start is not None:
        try:
            parameter.check(parameter.start)
        except ValueError as error:
            raise ConfigError(f"{at}.start", str(error).partition(": ")[2], "choose one inside") from error
    return parameter


def _parse_categorical(
    name: str, at: str, settings: Mapping[str, Any], when: dict[str, tuple[Any, ...]] | None
) -> Parameter:
    for key in ("min", "max", "type"):
        if key in settings:
            raise ConfigError(f"{at}.{key}", "has no meaning for categories", "list the values, nothing else")
    values = settings.get("values")
    if not isinstance(values, (list, tuple)) or not values:
        raise ConfigError(f"{at}.values", f"{values!r} is not a list", "write values: [a, b, c]")
    for place, value in enumerate(values):
        if not isinstance(value, (str, bool, int, float, type(None))):
            raise ConfigError(
                f"{at}.values", f"{value!r} is not a plain value", "use text, numbers, booleans"
            )
        if isinstance(value, float) and not math.isfinite(value):  # no JSON holds it, and nan is not itself
            raise ConfigError(
                f"{at}.values", f"{value!r} is not a finite number", f"write it as a text: '{value}'"
            )
        if any(same(value, other) for other in values[:place]):
            raise ConfigError(f"{at}.values", f"{value!r} stands twice", "take one out")
    if len(values) == 1:
        raise ConfigError(f"{at}.values", "one value: nothing to choose", "put it under fixed")
    start = settings.get("start")
    declared = start is not None or ("start" in settings and None in values)
    parameter = Parameter(
        name, "categorical", "categorical", values=tuple(values), start=start, when=when, declared=declared
    )
    if parameter.start is not None:
        try:
            parameter.index(parameter.start)
        except ValueError as error:
            raise ConfigError(f"{at}.start", str(error).partition(": ")[2]) from error
    return parameter


def _parse_when(at: str, when: Any) -> dict[str, tuple[Any, ...]] | None:
    if when is None:
        return None
    if not isinstance(when, Mapping) or not when:
        raise ConfigError(
            f"{at}.when", f"{when!r} is not a mapping", "write when: {policy.rnn: [mingru, lstm]}"
        )
    wanted = {parent: tuple(v) if isinstance(v, (list, tuple)) else (v,) for parent, v in when.items()}
    for parent, values in wanted.items():
        if not values:
            raise ConfigError(f"{at}.when.{parent}", "is an empty list, so it never holds", "name a value")
    return wanted


def _bound(at: str, key: str, settings: Mapping[str, Any]) -> float:
    if key not in settings:
        raise ConfigError(f"{at}.{key}", "is missing", "give min and max, or values")
    number = _number(settings[key])
    if number is None or not math.isfinite(number):
        raise ConfigError(f"{at}.{key}", f"{settings[key]!r} is not a finite number", "write a number")
    return number


def _number(value: Any) -> float | None:
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return None
    return None


def _power_of_two(value: float) -> bool:
    return value > 0 and math.frexp(value)[0] == 0.5


def same(left: Any, right: Any) -> bool:
    return bool(left == right) and _is_bool(left) == _is_bool(right)


def _is_bool(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def nearest(name: Any, known: Sequence[Any]) -> str:
    """`; did you mean 'x'?` as the tail of a message, or nothing."""
    match = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" (did you mean '{match[0]}'?)" if match else ""
