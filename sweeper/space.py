"""The space: what may be chosen, in the user's units (params) and in the models' (unit, [-1, 1]^dim)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sweeper.constraints import Constraint, as_operand
from sweeper.errors import ConfigError
from sweeper.parameter import nearest, parse, same

DRAWS = 8192  # draws among which one must satisfy all constraints


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
        if fixed and not isinstance(fixed, Mapping):
            raise ConfigError("fixed", f"{fixed!r} is not a mapping", "write {seed: 1}")
        self.fixed = dict(fixed or {})
        self.parameters = {name: parse(name, settings) for name, settings in parameters.items()}
        self.names = list(self.parameters)
        self.dim = len(self.names)
        self.column = {name: column for column, name in enumerate(self.names)}
        for name in self.names:
            if name in self.fixed:
                raise ConfigError(f"fixed.{name}", "is fixed and swept", "take it out of one of the two")
        self._order = self._dependencies()
        if isinstance(constraints, str) or not isinstance(constraints or (), Iterable):
            raise ConfigError("constraints", f"{constraints!r} is no list", "write a list of expressions")
        self.constraints = [Constraint(text, f"constraints[{i}]") for i, text in enumerate(constraints or ())]
        for constraint in self.constraints:
            for name in sorted(constraint.names):
                known = [*self.names, *self.fixed]
                if name not in known:
                    message = f"'{name}' is neither swept nor fixed{nearest(name, known)}"
                    mend = "declare it under parameters or fixed"
                    dashed = [other for other in known if "-" in other and name in other.split("-")]
                    if dashed:  # parsed as a difference
                        mend = f"no constraint can speak of '{dashed[0]}': name it with _ in place of -"
                    raise ConfigError(constraint.key, message, mend)
                if name in self.fixed and np.ndim(self.fixed[name]):  # numpy would compare each with each
                    message = f"{self.fixed[name]!r} is not a plain value, but {constraint.text} speaks of it"
                    raise ConfigError(f"fixed.{name}", message, "write a number, a text, true, false or null")
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
        """[n, dim] to the nearest units that can run."""
        snapped = np.clip(units, -1, 1)
        for column, p in enumerate(self.parameters.values()):
            if p.kind == "categorical":
                snapped[:, column] = -1 + (2 * p.from_unit(units[:, column]) + 1) / len(p.values)
            else:
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
                    active[:, column] &= any(same(self.fixed[parent], value) for value in wanted)
                    continue
                p, parent_column = self.parameters[parent], self.column[parent]
                values = p.from_unit(units[:, parent_column])
                numbers = [p.index(value) if p.values else value for value in wanted]
                active[:, column] &= np.isin(values, numbers) & active[:, parent_column]
        return active

    # -- what may be chosen -------------------------------------------------------------------------

    def feasible(self, units: np.ndarray, only: Constraint | None = None) -> np.ndarray:
        """[n, dim] to bool [n]: whether all constraints (or `only` one) hold; on inactive ones they do."""
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
        for constraint in self.constraints if only is None else [only]:
            columns = [self.column[name] for name in constraint.names if name in self.column]
            holds &= constraint.holds(values) | ~active[:, columns].all(axis=1)
        return holds

    def satisfied(self, params: Mapping[str, Any]) -> bool:
        """Whether all constraints hold for these params, to their last digit."""
        return self._broken(params) is None

    def _broken(self, params: Mapping[str, Any]) -> Constraint | None:
        """The first constraint that these params break as they stand: a range that has become wider rounds
        more coarsely than they were."""
        values = {name: as_operand(value) for name, value in {**self.fixed, **params}.items()}
        met = (c for c in self.constraints if c.names <= values.keys())  # on inactive ones they hold
        return next((c for c in met if not c.holds(values)), None)

    def check(self, params: Mapping[str, Any]) -> None:
        """Raises ValueError that names key and value where `params` cannot be had in this space."""
        if not isinstance(params, Mapping):
            raise ValueError(f"params: {params!r} is not a mapping of names to values")
        for name, value in params.items():
            if name in self.fixed:
                if same(self.fixed[name], value):
                    continue
                raise ValueError(f"{name}: {value!r} given, but it is fixed at {self.fixed[name]!r}")
            if name not in self.parameters:
                raise ValueError(f"{name}: no such parameter{nearest(name, self.names)}")
            self.parameters[name].check(value)
        active = self.active(self.to_unit(params)[None])[0]
        for name, needed in zip(self.names, active, strict=True):
            if needed and name not in params:
                raise ValueError(f"{name}: missing")
            if name in params and not needed:
                raise ValueError(f"{name}: {params[name]!r} given, but it is inactive in these params")
        broken = self._broken(params)
        if broken is not None:
            shown = ", ".join(f"{name}={params[name]!r}" for name in sorted(broken.names) if name in params)
            raise ValueError(f"{shown}: breaks the constraint {broken.text}")

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
                    raise ConfigError(
                        key,
                        f"'{parent}' is neither swept nor fixed{nearest(parent, known)}",
                        "add it under `parameters:` or `fixed:`",
                    )
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
            declared[column] = p.declared
            if p.declared or p.values:
                unit[column] = p.to_unit(p.start if p.declared else p.values[0])
        unit = self.snap(unit[None])[0]
        if self.feasible(unit[None])[0]:
            return unit
        draws = self.snap(np.random.default_rng(0).uniform(-1, 1, (DRAWS, self.dim)))
        if not self.feasible(draws).any():
            alone = [c for c in self.constraints if not self.feasible(draws, c).any()]
            texts = " and ".join(c.text for c in alone[:1] or self.constraints)
            message = f"no params among {DRAWS} draws satisfy {texts}"
            raise ConfigError((alone or self.constraints)[0].key, message, "widen a range or the constraint")
        near = self.snap(np.where(declared, unit, np.concatenate([unit + 0.5 * (draws - unit), draws])))
        near = near[self.feasible(near)]
        if not len(near):
            broken = next(c for c in self.constraints if not self.feasible(unit[None], c)[0])
            raise ConfigError(broken.key, f"the start values break {broken.text}", "choose others")
        return near[np.argmin(((near - unit) ** 2).sum(axis=1))]
