"""The space: what may be chosen, in the user's units (params) and in the models' (unit, [-1, 1]^dim)."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper.constraints import Constraint, as_operand
from sweeper.errors import ConfigError

DISTRIBUTIONS = ("linear", "log", "pow2", "logit", "categorical")
KEYS = ("distribution", "type", "min", "max", "start", "values", "when")
DRAWS = 8192  # draws among which one must satisfy all constraints
_DIGITS = 5  # of a float's resolution within its range: 0.0031623, not 0.0031622776601683794


@dataclass(frozen=True)
class Parameter:
    """One thing to choose. `start` is None where none was declared; `when` maps a name to the values of
    that parameter (or fixed value) under which this one is active."""

    name: str
    distribution: str  # one of DISTRIBUTIONS
    kind: str  # float | int | categorical
    min: float = math.nan
    max: float = math.nan
    values: tuple[Any, ...] = ()
    start: Any = None
    when: Mapping[str, tuple[Any, ...]] | None = None

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
        low, high = self._warp(self.min), self._warp(self.max)
        return np.clip(2 * ((self._warp(value) - low) / (high - low)) - 1, -1, 1)

    def from_unit(self, unit: np.ndarray) -> np.ndarray:
        """[n] in [-1, 1] to values [n]: float64 (whole where the kind is int), or indices of categories."""
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
        if self.kind == "int":
            warped = np.round(warped)
        return np.clip(warped, self.min, self.max)

    def scalar(self, value: float) -> Any:
        """One of `from_unit`'s values as the Python scalar that runs; floats lose digits nobody asked for."""
        if self.kind == "categorical":
            return self.values[int(value)]
        if self.kind == "int":
            return int(value)
        if self.distribution == "pow2":
            return float(value)
        width = float(self._warp(self.max) - self._warp(self.min))
        decimals = _DIGITS - math.floor(math.log10(width if self.distribution == "linear" else min(width, 1)))
        if self.distribution != "linear":  # digits count from the first that is not zero (of 1 - value, too)
            decimals -= math.floor(math.log10(value if self.distribution == "log" else min(value, 1 - value)))
        return min(max(round(float(value), min(decimals, 320)), self.min), self.max)

    def index(self, value: Any) -> int:
        """Which category `value` is; True is not 1. Raises ValueError for none."""
        for index, known in enumerate(self.values):
            if known == value and isinstance(known, bool) == isinstance(value, bool):
                return index
        raise ValueError(
            f"{self.name}: {value!r} is none of {list(self.values)}{_nearest(value, self.values)}"
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


class Space:
    """All parameters with their ranges, constraints among them, and values that are fixed.

    `parameters` is the mapping of the YAML file: `{"lr": {"distribution": "log", "min": 1e-5, "max": 0.1}}`.
    Raises ConfigError whose key is the dotted path of what is wrong.
    """

    def __init__(
        self,
        parameters: Mapping[str, Mapping[str, Any]],
        constraints: Sequence[str] = (),
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(parameters, Mapping) or not parameters:
            raise ConfigError("parameters", "nothing to sweep", "declare at least one parameter")
        self.fixed = dict(fixed or {})
        self.parameters = {name: parse(name, settings) for name, settings in parameters.items()}
        self.names = list(self.parameters)
        self.dim = len(self.names)
        self.column = {name: column for column, name in enumerate(self.names)}
        for name in self.names:
            if name in self.fixed:
                raise ConfigError(f"fixed.{name}", "is fixed and swept", "take it out of one of the two")
        self._order = self._dependencies()
        if isinstance(constraints, str):
            raise ConfigError("constraints", "is one text", "write a list of expressions")
        self.constraints = [Constraint(text, f"constraints[{i}]") for i, text in enumerate(constraints or ())]
        for constraint in self.constraints:
            for name in sorted(constraint.names):
                known = [*self.names, *self.fixed]
                if name not in known:
                    message = f"'{name}' is neither swept nor fixed{_nearest(name, known)}"
                    raise ConfigError(constraint.key, message, "declare it under parameters or fixed")
        # A category takes as many columns as it has values; `groups` says which parameter a column is of.
        self.groups = np.concatenate(
            [[column] * max(1, len(p.values)) for column, p in enumerate(self.parameters.values())]
        ).astype(int)
        self._start_unit = self._find_start()

    # -- between params and unit ------------------------------------------------------------------

    def to_unit(self, params: Mapping[str, Any]) -> np.ndarray:
        """Params to [dim] in [-1, 1]; inactive parameters are 0."""
        unit = np.zeros(self.dim)
        for column, parameter in enumerate(self.parameters.values()):
            if parameter.name in params:
                unit[column] = parameter.to_unit(params[parameter.name])
        return np.where(self.active(unit[None])[0], unit, 0.0)

    def to_params(self, unit: np.ndarray) -> dict[str, Any]:
        """[dim] to what runs: Python scalars, rounded, inactive parameters absent."""
        active = self.active(unit[None])[0]
        return {
            p.name: p.scalar(float(p.from_unit(unit[column : column + 1])[0]))
            for column, p in enumerate(self.parameters.values())
            if active[column]
        }

    def snap(self, units: np.ndarray) -> np.ndarray:
        """[n, dim] to the nearest units that can run (floats keep their last digits)."""
        snapped = np.clip(units, -1, 1)
        for column, p in enumerate(self.parameters.values()):
            if p.kind == "categorical":
                snapped[:, column] = -1 + (2 * p.from_unit(units[:, column]) + 1) / len(p.values)
            elif p.kind == "int" or p.distribution == "pow2":
                snapped[:, column] = p.to_unit(p.from_unit(units[:, column]))
        return np.where(self.active(snapped), snapped, 0.0) if self._order else snapped

    def features(self, units: np.ndarray) -> np.ndarray:
        """[n, dim] to what the kernels see, [n, len(groups)]: categories one-hot, inactive ones all zero."""
        if not any(p.values for p in self.parameters.values()):
            return units
        active, columns = self.active(units), []
        for column, p in enumerate(self.parameters.values()):
            if p.kind == "categorical":
                chosen = p.from_unit(units[:, column])[:, None] == np.arange(len(p.values))
                columns.append(np.where(active[:, column : column + 1], chosen, 0.0))
            else:
                columns.append(units[:, column : column + 1])
        return np.concatenate(columns, axis=1)

    def active(self, units: np.ndarray) -> np.ndarray:
        """[n, dim] bool: which parameters take part, by the values of those they depend on."""
        active = np.ones(units.shape, dtype=bool)
        for name in self._order:
            column = self.column[name]
            for parent, wanted in (self.parameters[name].when or {}).items():
                if parent in self.fixed:
                    active[:, column] &= any(_same(self.fixed[parent], value) for value in wanted)
                    continue
                p, parent_column = self.parameters[parent], self.column[parent]
                values = p.from_unit(units[:, parent_column])
                numbers = [p.index(value) if p.values else value for value in wanted]
                active[:, column] &= np.isin(values, numbers) & active[:, parent_column]
        return active

    # -- what may be chosen -------------------------------------------------------------------------

    def feasible(self, units: np.ndarray) -> np.ndarray:
        """[n, dim] to bool [n]: whether all constraints hold; one with an inactive parameter does."""
        holds = np.ones(len(units), dtype=bool)
        if not self.constraints:
            return holds
        active = self.active(units)
        values: dict[str, Any] = {name: as_operand(value) for name, value in self.fixed.items()}
        for column, p in enumerate(self.parameters.values()):
            values[p.name] = p.from_unit(units[:, column])
            if p.values:
                numbers = all(isinstance(value, (bool, int, float)) for value in p.values)
                table = np.array(p.values, dtype=np.float64 if numbers else object)
                values[p.name] = table[values[p.name].astype(int)]
        for constraint in self.constraints:
            columns = [self.column[name] for name in constraint.names if name in self.column]
            holds &= constraint.holds(values) | ~active[:, columns].all(axis=1)
        return holds

    def satisfied(self, params: Mapping[str, Any]) -> bool:
        """Whether all constraints hold for these params."""
        return bool(self.feasible(self.to_unit(params)[None])[0])

    def check(self, params: Mapping[str, Any]) -> None:
        """Raises ValueError that names key and value where `params` cannot be had in this space."""
        for name, value in params.items():
            if name in self.fixed and _same(self.fixed[name], value):
                continue
            if name not in self.parameters:
                raise ValueError(f"{name}: no such parameter{_nearest(name, self.names)}")
            self.parameters[name].check(value)
        active = self.active(self.to_unit(params)[None])[0]
        for name, needed in zip(self.names, active, strict=True):
            if needed and name not in params:
                raise ValueError(f"{name}: missing")
            if name in params and not needed:
                raise ValueError(f"{name}: {params[name]!r} given, but it is inactive in these params")
        if not self.satisfied(params):
            unit = self.to_unit(params)[None]
            broken = next(c for c in self.constraints if not Space._alone(self, c, unit))
            shown = ", ".join(f"{name}={params[name]!r}" for name in sorted(broken.names) if name in params)
            raise ValueError(f"{shown}: breaks the constraint {broken.text}")

    def _alone(self, constraint: Constraint, units: np.ndarray) -> bool:
        kept, self.constraints = self.constraints, [constraint]
        try:
            return bool(self.feasible(units)[0])
        finally:
            self.constraints = kept

    def sample(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Up to `count` feasible units, uniform; fewer (down to none) where constraints leave little."""
        found: list[np.ndarray] = []
        for _ in range(16):
            units = self.snap(generator.uniform(-1, 1, (max(count, 64), self.dim)))
            found.append(units[self.feasible(units)])
            if sum(map(len, found)) >= count:
                break
        return np.concatenate(found)[:count]

    def start(self) -> dict[str, Any]:
        """The declared start values; middle of the range (first of the categories) where none is declared."""
        return self.to_params(self._start_unit)

    # -- construction ------------------------------------------------------------------------------

    def _dependencies(self) -> list[str]:
        """Names with a `when`, parents before children."""
        for p in self.parameters.values():
            for parent, wanted in (p.when or {}).items():
                key = f"parameters.{p.name}.when.{parent}"
                if parent not in self.parameters and parent not in self.fixed:
                    known = [*self.names, *self.fixed]
                    raise ConfigError(key, f"'{parent}' is neither swept nor fixed{_nearest(parent, known)}")
                for value in wanted if parent in self.parameters else ():
                    try:
                        self.parameters[parent].check(value)
                    except ValueError as error:
                        raise ConfigError(key, str(error), "name values it can take") from error
        order: list[str] = []
        waiting = [p.name for p in self.parameters.values() if p.when]
        while waiting:
            ready = [n for n in waiting if not set(self.parameters[n].when or {}) & set(waiting)]
            if not ready:
                raise ConfigError(f"parameters.{waiting[0]}.when", "depends on itself", "break the circle")
            order += ready
            waiting = [name for name in waiting if name not in ready]
        return order

    def _find_start(self) -> np.ndarray:
        """The start values, moved where none was declared until all constraints hold."""
        unit, declared = np.zeros(self.dim), np.zeros(self.dim, dtype=bool)
        for column, p in enumerate(self.parameters.values()):
            declared[column] = p.start is not None
            if p.start is not None or p.values:
                unit[column] = p.to_unit(p.values[0] if p.start is None else p.start)
        unit = self.snap(unit[None])[0]
        if self.feasible(unit[None])[0]:
            return unit
        draws = self.snap(np.random.default_rng(0).uniform(-1, 1, (DRAWS, self.dim)))
        if not self.feasible(draws).any():
            single = [c for c in self.constraints if not any(self._alone(c, d[None]) for d in draws[:512])]
            key = single[0].key if single else self.constraints[0].key
            texts = " and ".join(c.text for c in single[:1] or self.constraints)
            raise ConfigError(
                key, f"no params among {DRAWS} draws satisfy {texts}", "widen a range or the constraint"
            )
        near = self.snap(np.where(declared, unit, np.concatenate([unit + 0.5 * (draws - unit), draws])))
        near = near[self.feasible(near)]
        if not len(near):
            broken = next(
                (c for c in self.constraints if not self._alone(c, unit[None])), self.constraints[0]
            )
            raise ConfigError(broken.key, f"the start values break {broken.text}", "choose others")
        return near[np.argmin(((near - unit) ** 2).sum(axis=1))]


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
            raise ConfigError(f"{at}.{key}", f"no such key{_nearest(key, KEYS)}", f"known: {', '.join(KEYS)}")
    when = _parse_when(at, settings.get("when"))
    distribution = settings.get("distribution", "categorical" if "values" in settings else "linear")
    if distribution not in DISTRIBUTIONS:
        message = f"no such distribution as {distribution!r}{_nearest(distribution, DISTRIBUTIONS)}"
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
    if low == high:
        raise ConfigError(f"{at}.min", f"equals max {high:g}: nothing to choose", "put it under fixed")
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
    parameter = Parameter(name, distribution, kind, low, high, (), settings.get("start"), when)
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
        if any(_same(value, other) for other in values[:place]):
            raise ConfigError(f"{at}.values", f"{value!r} stands twice", "take one out")
    if len(values) == 1:
        raise ConfigError(f"{at}.values", "one value: nothing to choose", "put it under fixed")
    parameter = Parameter(
        name, "categorical", "categorical", values=tuple(values), start=settings.get("start"), when=when
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
    return {parent: tuple(v) if isinstance(v, (list, tuple)) else (v,) for parent, v in when.items()}


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


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def _nearest(name: Any, known: Sequence[Any]) -> str:
    """`; did you mean 'x'?` as the tail of a message, or nothing."""
    match = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    return f" (did you mean '{match[0]}'?)" if match else ""
