"""What a sweep found, in words a person can use: numbers, three budgets, settings to paste. Torch-free."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sweeper.config import SweepConfig
from sweeper.yaml12 import write_yaml


class FrontMember(Protocol):
    """What is read of a member of the front (`sweeper.proposer.Member` is one)."""

    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def score(self) -> float: ...
    @property
    def cost(self) -> float: ...
    @property
    def trial(self) -> int | None: ...
    @property
    def score_sd(self) -> float | None: ...


M = TypeVar("M", bound=FrontMember)


def three_budgets(front: Sequence[M], goal: str = "maximize") -> list[tuple[str, M]]:
    """`cheap`, `middle` and `best` of a front (cheapest first), fewer where the front is shorter.

    Best: the dearest member. Cheap: the cheapest that goes half of the way from the worst score on the front
    to the best (the cheapest of all is seldom of use). Middle: between the two on the log of the cost.
    """
    if not front:
        return []
    sign = -1.0 if goal == "minimize" else 1.0
    members = sorted(front, key=lambda m: (m.cost, -sign * m.score))
    best = members[-1]
    half = (sign * members[0].score + sign * best.score) / 2
    cheap = next(m for m in members if sign * m.score >= half)
    if cheap is best and len(members) > 1:
        cheap = members[0]
    chosen = [("best", best)]
    if cheap is not best:
        chosen.insert(0, ("cheap", cheap))
        between = members[members.index(cheap) + 1 : -1]
        if between:
            target = (math.log(max(cheap.cost, 1e-300)) + math.log(max(best.cost, 1e-300))) / 2
            middle = min(between, key=lambda m: abs(math.log(max(m.cost, 1e-300)) - target))
            chosen.insert(1, ("middle", middle))
    return chosen


def settings(config: SweepConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """All values of one trial: what the config fixes, and what the sweep chose."""
    return {**config.fixed, **params}


def settings_yaml(config: SweepConfig, params: Mapping[str, Any]) -> str:
    """A `fixed:` block for a config, holding every value of the trial."""
    return write_yaml({"fixed": settings(config, params)}, flow=False)


def scalar(value: Any) -> str:
    """One value as YAML text that reads back as the same value and type: `0.003`, `lstm`, `'1e5'`."""
    return write_yaml([value], flow=True).strip()[1:-1]


def command_line(config: SweepConfig, params: Mapping[str, Any], seed: int = 0) -> str:
    """A line for the shell that runs this trial again, alone; empty where the objective has none."""
    objective = config.objective
    values = settings(config, params)
    if objective.kind == "train":
        words = ["sweep", "train", _environment(config)]
        for name, value in values.items():
            words += ["--set", f"{name}={scalar(value)}"]
        return shlex.join([*words, "--seed", str(seed)])
    if objective.kind == "command":
        from sweeper.objectives import fill_command

        return fill_command(config, values)
    if objective.kind == "function":
        module, _, function = objective.target.partition(":")
        code = f"from {module} import {function}; print({function}(**{values!r}))"
        return shlex.join(["python", "-c", code])
    return ""


def _environment(config: SweepConfig) -> str:
    """The environment as `sweep train` in the current folder finds it: names stay, paths are rewritten."""
    target = config.objective.target
    path = config.folder / Path(target).expanduser()
    return os.path.relpath(path) if ("/" in target or target.startswith(".")) and path.exists() else target
