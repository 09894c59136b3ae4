"""What a trial runs: the bundled trainer, a command, a Python function, a synthetic task.

An objective is made from a config (`make`), checked without running anything (`check`), and sent to the
workers as plain data (`spec`). There `load` does the imports once and `run` does one trial. Torch-free at
import; the trainer is imported here and nowhere else in `sweeper`, and only when a trial needs it.
"""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import math
import os
import re
import shlex
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper import reporting
from sweeper.errors import ConfigError
from sweeper.logs import printable
from sweeper.placeholders import ARGS, OWN, command_words, fill_command, placeholders, quoted_placeholder

if TYPE_CHECKING:
    from sweeper.space import Space

__all__ = [
    "Curve",
    "Failure",
    "Job",
    "Objective",
    "Result",
    "fill_command",
    "from_spec",
    "make",
    "train_once",
]

MAX_NUMBER = 1e100  # beyond, scores and costs (below its inverse, costs) cannot be reckoned with
MAX_POINTS = 10_000  # of one trial that are kept; beyond, every second goes, and of new ones too
UNENDED = "that had not ended after train.eval_max_steps"  # episodes that are in no score
_WALL_CLOCK = ("seconds", "cost", "time")  # names of a cost that the clock can fill in


class ObjectiveError(RuntimeError):
    """A trial cannot be run at all; the message says why."""


def trial_seed(seed: int, number: int) -> int:
    """What trial `number` of a sweep with this seed is run with."""
    return (seed * 1_000_003 + number) % 2**31


@dataclass
class Job:
    """One attempt at one trial. `params` holds fixed and swept values; `folder` is the trial's own."""

    trial: int
    params: dict[str, Any]
    seed: int
    folder: str
    attempt: int = 1
    timeout: float | None = None
    ask: dict[str, Any] = field(default_factory=dict)  # its proposal, for the folder, the second witness


@dataclass
class Result:
    """What came of an attempt. `status`: done, failed, stopped (early, by the driver), or killed (from
    outside; `signal` says by what)."""

    status: str
    score: float | None = None
    cost: float | None = None
    failure: str | None = None
    message: str = ""
    points: list[tuple[float | None, float, float]] = field(default_factory=list)  # (step, cost, score)
    seconds: float = 0.0
    signal: int | None = None


def with_cost(
    result: Result, cost_name: str, points: Sequence[tuple[Any, float, float]], seeds: int = 1
) -> Result:
    """The result with its points and its cost, also where its worker did not live to say them: the cost is
    then what the clock says, divided among the trial's `seeds`, or what its last point says: the larger."""
    cost, curve = result.cost, result.points or [tuple(point) for point in points]
    if cost is None and cost_name in _WALL_CLOCK and result.seconds > 0:
        cost = result.seconds / seeds
    if result.cost is None and curve:  # what was said to have been spent is spent, in whatever unit
        cost = max(cost or 0.0, curve[-1][1])
    return replace(result, cost=cost, points=curve)


def on_scale(result: Result, scale: str) -> Result:
    """The result, or the failure that it is where the metric's scale knows no such score."""
    shown = result.points[-1][2] if result.status == "stopped" and result.points else result.score
    if scale != "percentile" or shown is None or 0 <= shown <= 1:
        return result
    said = f"reported a score of {shown:g}; 'scale: percentile' is for shares between 0 and 1"
    return replace(result, status="failed", score=None, failure="bad_score", message=said)


class Stopped(BaseException):
    """Ends a function's trial that the driver gave up; no `except Exception` on the way holds it."""


class Failure(Exception):
    """Ends a trial with a named failure."""

    def __init__(self, name: str, message: str) -> None:
        self.name, self.message = name, message
        super().__init__(name, message)


class Curve:
    """The reports of one trial as points, and the result they amount to.

    `emit(step, cost, score)` is called for each point as it comes; `enough()` tells whether the driver has
    given the trial up. The clock starts with the object.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        emit: Callable[[float | None, float, float], None],
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        self.enough = enough
        self.metric, self.cost_name, self.last = spec["metric"], spec["cost"], spec["last"]
        self.seeds = spec.get("seeds", 1)  # trainings, whose mean is the trial's cost
        self.honest = bool(spec.get("fidelity"))  # each point is what a shorter trial would have come to
        # A script that was not written for us says "epoch" where the swept parameter is `train.epochs`, or
        # `num_train_epochs`.
        counted = (spec.get("fidelity") or "step").rpartition(".")[2]
        # Beside it that name itself is the total, printed with all arguments.
        words = (counted.rpartition("_")[2], counted, "step")
        self.step_names = [name for word in words for name in (word.removesuffix("s"), word)] + ["steps"]
        self.emit = emit
        self.started = time.monotonic()
        self.points: list[tuple[float | None, float, float]] = []
        self.problem: Failure | None = None  # with the last report
        self._known_cost: float | None = None
        self._scores: list[float] = []  # the last so many
        self._seen, self._every = 0, 1  # points so far; of them every so many-th is kept, and the last

    @property
    def seconds(self) -> float:
        """Wall clock since the start."""
        return time.monotonic() - self.started

    def take(self, values: Mapping[str, Any]) -> bool:
        """A report, if `values` holds the metric: one more point, or a problem. Otherwise False."""
        # Our own words will do, unless the config means something else by them: a metric called cost.
        said = values.get(self.metric, None if self.cost_name == "score" else values.get("score"))
        said_cost = values.get(self.cost_name, None if self.metric == "cost" else values.get("cost"))
        return self._take(said, said_cost, next((values[n] for n in self.step_names if n in values), None))

    def report(self, values: Mapping[str, Any]) -> bool:
        """As `take`, of values in our own words, score, cost and step, whatever the config calls them."""
        return self._take(values.get("score"), values.get("cost"), values.get("step"))

    def _take(self, said: Any, said_cost: Any, said_step: Any) -> bool:
        if said is None:
            return False
        score, cost, step = _number(said), _number(said_cost), _number(said_step)
        if cost is None and self.cost_name in ("step", "steps"):
            cost = step
        if cost is not None:
            if 1 / MAX_NUMBER <= cost <= MAX_NUMBER:
                self._known_cost = cost
        elif self._known_cost is not None:
            cost = self._known_cost
        elif self.cost_name in _WALL_CLOCK:
            cost = self.seconds
        self.problem = None
        if score is None:
            self.problem = Failure("no_score", f"reported a {self.metric} of {_short(said)}, not a number")
        elif not abs(score) <= MAX_NUMBER:
            self.problem = Failure("non_finite", f"reported a {self.metric} of {score}")
        elif said_cost is not None and _number(said_cost) is None:
            self.problem = Failure("bad_cost", f"reported a cost of {_short(said_cost)}, not a number")
        elif cost is None:
            self.problem = Failure(
                "no_cost", f'reported its {self.metric} without "{self.cost_name}", the cost'
            )
        elif not 1 / MAX_NUMBER <= cost <= MAX_NUMBER:
            self.problem = Failure("bad_cost", f"reported a cost of {cost}; costs are numbers above 0")
        if self.problem is None and score is not None and cost is not None:
            step = step if step is not None and math.isfinite(step) else None
            if self.points and (self._seen - 1) % self._every:
                self.points.pop()  # it was there as the last
            self._scores = [*self._scores, score][-self.last :]
            if self.honest:
                score = self._score()
            self.points.append((step, cost, score))
            self._seen += 1
            if len(self.points) > MAX_POINTS:
                self.points = [*self.points[:-1:2], self.points[-1]]
                self._every *= 2
            self.emit(step, cost, score)
        return True

    def result(self, expected: str) -> Result:
        """The trial ran to its end; `expected` says how a score would have been reported."""
        if self.problem is not None:
            return self.failed(self.problem.name, self.problem.message)
        if not self.points:
            return self.failed("no_score", f"ended without reporting a score; expected {expected}")
        return Result("done", self._score(), self.points[-1][1], points=self.points, seconds=self.seconds)

    def _score(self) -> float:
        """Of a trial that ends here."""
        return sum(self._scores) / len(self._scores)

    def stopped(self) -> Result:
        """The driver had seen enough."""
        return replace(self.failed("", ""), status="stopped", failure=None)

    def failed(self, name: str, message: str, cost: float | None = None) -> Result:
        """A failure with what it cost, as far as that is known."""
        cost = cost or self._known_cost
        if cost is None and self.cost_name in _WALL_CLOCK:
            cost = self.seconds / self.seeds
        return Result("failed", None, cost, name, message[:1000], self.points, self.seconds)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf


def _short(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 100 else f"{repr(value)[:97]}..."


# ---------------------------------------------------------------- the four kinds


class Objective:
    """One kind of objective, from its `spec`: plain data that a worker understands."""

    kind = ""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.target: str = spec["target"]
        self.folder = Path(spec["folder"])

    def check(self) -> None:
        """Finds what is wrong with the config without running any of it. Raises ConfigError."""

    def default(self, name: str) -> Any:
        """The value of a setting that is neither swept nor fixed; None where the objective has none."""
        return None

    def schedules(self) -> list[str]:
        """Settings, neither swept nor fixed, by which a trial's curve depends on how long it is to be."""
        return []

    def load(self) -> None:
        """In a worker, once: imports, so that no trial pays for them."""

    def run(
        self,
        job: Job,
        emit: Callable[[float | None, float, float], None],
        progress: Callable[[dict[str, Any]], None],
        enough: Callable[[], bool] = lambda: False,
    ) -> Result:
        """One trial. Raises nothing: what goes wrong is in the result."""
        curve = Curve(self.spec, emit, enough)
        try:
            return self.evaluate(job, curve, progress)
        except Stopped:
            return curve.stopped()
        except Failure as failure:
            return curve.failed(failure.name, failure.message)
        except SystemExit as leaving:
            if leaving.code in (None, 0):
                return curve.result(self.expected())
            return curve.failed("crash", f"SystemExit: {leaving.code}")
        except BaseException as error:
            traceback.print_exc()
            full = "OutOfMemory" in type(error).__name__ or "DefaultCPUAllocator" in str(error)  # torch's
            said = str(error).strip().splitlines()
            name = "oom" if full or isinstance(error, MemoryError) else "crash"
            return curve.failed(name, f"{type(error).__name__}: {said[0] if said else ''}".rstrip(": "))

    def evaluate(self, job: Job, curve: Curve, progress: Callable[[dict[str, Any]], None]) -> Result:
        """One trial; may raise anything."""
        raise NotImplementedError

    def expected(self) -> str:
        """How this kind reports its score, for the message when none came."""
        return f"a number for '{self.spec['metric']}'"

    def _names(self) -> list[str]:
        return [*self.spec["parameters"], *self.spec["fixed"]]


class Synthetic(Objective):
    """A task of `sweeper.synthetic`, whose truth is known."""

    kind = "synthetic"

    def check(self) -> None:
        """An unknown task, or a parameter of it that is missing: ConfigError."""
        from sweeper.synthetic import task

        missing = [name for name in task(self.target).parameters if name not in self._names()]
        if missing:
            raise ConfigError(
                "parameters",
                f"the task '{self.target}' needs '{missing[0]}'",
                "sweep it, or set it under fixed:",
            )

    def load(self) -> None:
        """Import it."""
        from sweeper.synthetic import task

        self.task = task(self.target)

    def evaluate(self, job: Job, curve: Curve, progress: Callable[[dict[str, Any]], None]) -> Result:
        """The task's formula."""
        score, cost = self.task.evaluate(job.params, job.seed)
        curve.report({"score": score, "cost": cost})
        return curve.result(self.expected())


def is_gymnasium(environment: str) -> bool:
    """Is it one of Gymnasium's, gymnasium:NAME?"""
    from trainer import environments

    return environments.is_gymnasium(environment)


def is_path(environment: str) -> bool:
    """Is it the path of a header or of its folder, and neither a bundled name nor gymnasium:NAME?"""
    if is_gymnasium(environment):
        return False
    return "/" in environment or environment.startswith((".", "~")) or environment.endswith(".h")


class Train(Objective):
    """PPO on a bundled environment, on one given by its header or by its folder, or on Gymnasium's."""

    kind = "train"

    def environment(self) -> str:
        """A bundled name, or one of Gymnasium's, as it is; a path from the config's folder."""
        path = self.folder / Path(self.target).expanduser()
        return str(path) if is_path(self.target) else self.target

    def check(self) -> None:
        """Unknown settings and values that do not fit, a missing compiler: ConfigError."""
        import ocean
        from trainer import environments
        from trainer.settings import Settings, SettingsError

        environment, fixed = self.environment(), self.spec["fixed"]
        try:
            environments.names(environment)
        except SettingsError as error:
            raise ConfigError("objective.train", error.message, error.mend) from None
        for name in self._names():
            try:
                Settings.resolve(name, environment)
            except SettingsError as error:
                raise ConfigError(_section(name, fixed), error.message, error.mend) from None
        self._check_ranges(environment)
        try:
            settings = Settings.parse(environment, _resolved({**fixed, **self._start()}, environment))
        except SettingsError as error:
            key = _section(error.key, fixed) if error.key in self._names() else f"fixed.{error.key}"
            raise ConfigError(key, f"{error.message} (at the start values)", error.mend) from None
        self._check_fidelity(settings)
        try:
            ocean.check_compiler()
        except ocean.BuildError as error:
            raise ConfigError("objective.train", str(error)) from None

    def _check_fidelity(self, settings: Any) -> None:
        """Raises ConfigError where a schedule keeps its points from being shorter trainings' results."""
        from trainer.settings import ANNEALED

        if self.spec["fidelity"] is None:
            return
        swept = _resolved(self._space().parameters, settings.env)
        for name in ANNEALED:
            values = swept[f"train.{name}"].values if f"train.{name}" in swept else ()
            if getattr(settings.train, name) or True in values:
                said = f"with train.{name} a shorter training would not have given the same curve"
                mend = f"leave train.{name} out, which is off then, or fidelity"
                raise ConfigError("objective.fidelity", said, mend)

    def _check_ranges(self, environment: str) -> None:
        """Raises ConfigError where a swept setting could not take all values of its range."""
        from trainer.settings import Settings, SettingsError

        for name, parameter in self._space().parameters.items():
            setting = Settings.resolve(name, environment)
            if type(Settings.default(setting, environment)) is int and parameter.kind == "float":
                raise ConfigError(f"parameters.{name}", "takes whole numbers", "add `type: int`")
            ends = {"min": parameter.min, "max": parameter.max}
            tried = [("values", v) for v in parameter.values] or list(ends.items())
            for key, value in tried:
                try:
                    Settings.value(setting, environment, value)
                except SettingsError as error:
                    raise ConfigError(f"parameters.{name}.{key}", error.message, error.mend) from None

    def default(self, name: str) -> Any:
        """The trainer's default for this environment."""
        from trainer.settings import Settings, SettingsError

        environment = self.environment()
        try:
            return Settings.default(Settings.resolve(name, environment), environment)
        except (SettingsError, ValueError, OSError):  # `check` says what is wrong with name or environment
            return None

    def schedules(self) -> list[str]:
        """Those that the environment's tuned defaults hold."""
        from trainer.settings import ANNEALED

        given = {name.removeprefix("train.") for name in self._names()}
        return [f"train.{name}" for name in ANNEALED if name not in given and self.default(f"train.{name}")]

    def _start(self) -> dict[str, Any]:
        return self._space().start()

    def _space(self) -> Space:
        from sweeper.space import Space

        return Space(self.spec["parameters"], self.spec["constraints"], self.spec["fixed"])

    def load(self) -> None:
        """torch, the trainer, and the environment's library."""
        import torch

        import ocean
        import trainer
        from trainer.settings import Settings

        self.device = "cuda" if os.environ.get("SWEEP_GPU") and torch.cuda.is_available() else "cpu"
        self.train, self.settings = trainer.train, Settings
        ocean.check_compiler()

    def evaluate(self, job: Job, curve: Curve, progress: Callable[[dict[str, Any]], None]) -> Result:
        """Train with each seed, evaluated at the curve's points; the last training reports their means."""
        import ocean
        from trainer.gpu_vector import EnvironmentFault
        from trainer.settings import SettingsError

        environment, by_steps, seeds = self.environment(), self.spec["cost"] == "steps", self.spec["seeds"]
        curves: list[list[tuple[float, float]]] = []  # (cost, score) of each training, at the same steps

        def report(step: int, cost: float, score: float) -> None:
            curves[-1].append((step if by_steps else cost, score))
            if len(curves) == seeds:
                at_step = [points[len(curves[-1]) - 1] for points in curves]
                mean_cost, mean_score = (sum(values) / seeds for values in zip(*at_step, strict=True))
                curve.report({"step": step, "cost": mean_cost, "score": mean_score})

        try:
            settings = self.settings.parse(environment, _resolved(job.params, environment))
        except SettingsError as error:
            raise Failure("settings", str(error)) from None
        spent = 0.0
        for number in range(seeds):
            curves.append([])
            seed = job.seed + (number << 31)  # a trial's seed lies below: no two trainings share one
            try:
                result = self.train(
                    settings,
                    seed=seed,
                    report=report,
                    progress=progress,
                    should_stop=curve.enough,
                    device=self.device,
                )
            except SettingsError as error:  # what Gymnasium says when its environment is made
                raise Failure("settings", str(error)) from None
            except (
                ocean.BuildError,
                EnvironmentFault,
            ) as error:  # the header's fault, and its author's to mend
                raise Failure("crash", str(error)) from None
            # A trial's cost is the mean of its trainings': what those before this one took counts as well.
            spent += result.steps if by_steps else result.seconds
            if curve.enough():
                return replace(curve.stopped(), cost=spent / seeds)
            if result.failure:
                said = f"training ended early: {result.failure}"
                return curve.failed(result.failure, said, spent / seeds)
            if result.unfinished:
                said = f"the evaluation leaves out {result.unfinished} episodes {UNENDED}"
                if math.isnan(result.score):
                    raise Failure("no_score", f"{said}, and there are no others")
                print(said)
            if not curves[-1]:
                report(result.steps, result.seconds, result.score)
        return curve.result(self.expected())


class Function(Objective):
    """A Python callable, called in a warm worker with the params as keywords."""

    kind = "function"

    def check(self) -> None:
        """No such file or callable, a parameter it does not take: ConfigError. Imports none of it."""
        path, name = self._locate()
        try:
            tree = ast.parse(path.read_bytes(), str(path))
        except SyntaxError as error:
            raise ConfigError(
                "objective.function", f"{path.name}, line {error.lineno}: {error.msg}", "mend the file"
            ) from None
        if "." in name:
            return
        found = [node for node in ast.walk(tree) if name in _defines(node)]
        if not found and not any(
            isinstance(n, ast.ImportFrom) and n.names[0].name == "*" for n in ast.walk(tree)
        ):
            known = [
                n.name for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")
            ]
            mend = f"there is {', '.join(known[:8])}" if known else "define it at the top of the file"
            raise ConfigError("objective.function", f"{path.name} defines no '{name}'", mend)
        if len(found) == 1 and isinstance(found[0], ast.FunctionDef) and not found[0].decorator_list:
            self._check_signature(found[0])

    def _check_signature(self, function: ast.FunctionDef) -> None:
        args = function.args
        taken = [a.arg for a in (*args.args, *args.kwonlyargs)]
        if args.kwarg is None:
            for name in self._names():
                if name not in taken:
                    raise ConfigError(
                        _section(name, self.spec["fixed"]),
                        f"{function.name}() takes no '{name}'",
                        f"it takes {', '.join(taken) or 'nothing'}; add it there, or **others",
                    )
        needed = [a.arg for a in args.args[: len(args.args) - len(args.defaults)]]
        needed += [a.arg for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True) if d is None]
        for name in needed:
            if name not in self._names():
                raise ConfigError(
                    "parameters", f"{function.name}() needs '{name}'", "sweep it, or set it under fixed:"
                )
            # Every other choice would fail, and the sweep would call it bad.
            when = self.spec["parameters"].get(name, {}).get("when") or {}
            for parent in [parent for parent in when if parent in self.spec["parameters"]]:
                said = f"{function.name}() needs it, and some values of {parent} leave it out"
                raise ConfigError(f"parameters.{name}.when", said, f"give it a default there: {name}=None")

    def _locate(self) -> tuple[Path, str]:
        """The file that holds the callable, and the callable's name, without importing anything."""
        module, colon, name = self.target.rpartition(":")
        key = "objective.function"
        if not colon or not module or not name:
            raise ConfigError(
                key, f"'{self.target}' is not module:callable", "write e.g. train:run or train.py:run"
            )
        if module.endswith(".py"):
            path = self.folder / Path(module).expanduser()
            if not path.is_file():
                raise ConfigError(key, f"there is no file {module} in {self.folder}", "check the path")
            return path, name
        search: list[str] | None = [str(self.folder), *sys.path]
        spec: ModuleSpec | None = None
        for i, _ in enumerate(parts := module.split(".")):
            spec = PathFinder.find_spec(".".join(parts[: i + 1]), search)
            if spec is None:
                raise ConfigError(
                    key,
                    f"no module '{'.'.join(parts[: i + 1])}' in {self.folder} or among the installed ones",
                    "check its name; a file is written train.py:run",
                )
            search = list(spec.submodule_search_locations or [])
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            raise ConfigError(
                key, f"'{module}' is no Python file", "name the module that defines the callable"
            )
        return Path(spec.origin), name

    def load(self) -> None:
        """Import the user's module, its folder first on the path."""
        module, _, name = self.target.rpartition(":")
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))
        if module.endswith(".py"):
            path = self.folder / Path(module).expanduser()
            spec = importlib.util.spec_from_file_location(path.stem, path)
            if spec is None or spec.loader is None:
                raise ObjectiveError(f"{path} cannot be imported")
            loaded = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = loaded  # so that its classes pickle
            spec.loader.exec_module(loaded)
        else:
            loaded = importlib.import_module(module)
        function: Any = loaded
        for part in name.split("."):
            function = getattr(function, part)
        if not callable(function):
            raise ObjectiveError(f"{self.target} is not callable")
        self.function = function

    def evaluate(self, job: Job, curve: Curve, progress: Callable[[dict[str, Any]], None]) -> Result:
        """Call it. What it returns is one more report, after those it made on its way."""
        os.environ.update(_trial_environment(job))
        os.chdir(self.folder)  # wherever the last trial went
        owner = os.getpid()

        def sink(values: dict[str, float]) -> None:
            if os.getpid() != owner:
                raise RuntimeError(
                    "report() was called in a forked child; call it in the process of the trial"
                )
            curve.report(values)
            if curve.enough():
                raise Stopped

        reporting._sink = sink
        try:
            value = self.function(**job.params)
        finally:
            reporting._sink = None
            if os.getpid() != owner:  # a child that the function forked: the trial is its parent's
                leaving = sys.exc_info()[1]
                if leaving is None or (isinstance(leaving, SystemExit) and leaving.code in (None, 0)):
                    os._exit(0)
                traceback.print_exc()
                os._exit(1)
        if value is not None:
            self._take(value, curve)
        return curve.result(self.expected())

    def _take(self, value: Any, curve: Curve) -> None:
        if isinstance(value, Mapping):
            taken = curve.take(value)
        elif isinstance(value, tuple) and len(value) == 2:
            taken = curve.report({"score": value[0], "cost": value[1]})
        else:
            taken = curve.report({"score": value})
        if not taken:
            raise Failure("no_score", f"returned {str(value)[:200]!r}; expected {self.expected()}")

    def expected(self) -> str:
        """In the words of a function."""
        metric = self.spec["metric"]
        return f"a score, (score, cost), a mapping with '{metric}', or calls of sweeper.report(score=...)"


class Command(Objective):
    """Any program: params go in as arguments or as a JSON file, lines of JSON come out."""

    kind = "command"

    def check(self) -> None:
        """No such program, a placeholder without parameter, a parameter without use: ConfigError."""
        key, shell = "objective.command", self.spec["shell"]
        try:
            words = shlex.split(self.target)
        except ValueError as error:
            raise ConfigError(key, f"cannot be split into words: {error}", "check its quotes") from None
        known, seen = self._names(), [name for name in placeholders(self.target) if name not in OWN]
        for name in seen:
            if name not in known and name not in ARGS:
                listed = ", ".join(f"{{{n}}}" for n in (*known[:12], "args"))
                raise ConfigError(
                    key, f"{{{name}}} names no parameter", f"known here: {listed}; literal braces: {{{{ }}}}"
                )
        if seen and not any(name in ARGS for name in seen):
            for name in self.spec["parameters"]:
                if name not in seen:
                    raise ConfigError(
                        f"parameters.{name}",
                        "is never used in the command",
                        f"add {{{name}}} or {{args}} to it",
                    )
        if shell:
            quoted = quoted_placeholder(self.target)
            if quoted:
                raise ConfigError(
                    key, f"{{{quoted}}} stands inside quotes", "remove them; values are quoted for you"
                )
            return
        for option, word in itertools.pairwise(words):
            # Where it is not active its word is left out, and the option would take the next one for a value.
            conditional = [n for n in placeholders(word) if self.spec["parameters"].get(n, {}).get("when")]
            if conditional and re.fullmatch(r"--?[A-Za-z][\w.-]*", option):
                said = f"'{option} {word}' leaves {option} alone where {conditional[0]} is not active"
                raise ConfigError(key, said, f"write {option}={word}, or {{args}}")
        self._check_program(words)

    def _check_program(self, words: Sequence[str]) -> None:
        key = "objective.command"
        if not words:
            raise ConfigError(key, "is empty", 'write e.g. "python train.py {args}"')
        program = words[0]
        if program != "{python}" and placeholders(program):
            return
        if program == "{python}":
            program = sys.executable
        elif re.match(r"[A-Za-z_]\w*=", program):
            mend = "shell: true runs the command by a shell; or start it with env"
            raise ConfigError(key, f"'{program}' is no program, and only a shell sets variables", mend)
        elif "/" in program:
            path = self.folder / Path(program)
            if not path.is_file():
                raise ConfigError(key, f"there is no program {program} in {self.folder}", "check the path")
            if not os.access(path, os.X_OK):
                raise ConfigError(
                    key, f"{program} is not executable", f"chmod +x {program}, or name its interpreter"
                )
        elif shutil.which(program) is None:
            mend = "install it, or write its path"
            if program in ("cd", "source", "export"):
                mend = "shell: true runs the command by a shell"
            elif program.startswith("python"):
                mend = "write {python} for the interpreter that runs sweep"
            raise ConfigError(key, f"the program '{program}' was not found", mend)
        script = words[1] if len(words) > 1 else ""
        is_script = script.endswith(".py") and not placeholders(script)
        if (
            re.fullmatch(r"(.*/)?python[0-9.]*", program)
            and is_script
            and not (self.folder / script).is_file()
        ):
            raise ConfigError(key, f"there is no file {script} in {self.folder}", "check the path")

    def evaluate(self, job: Job, curve: Curve, progress: Callable[[dict[str, Any]], None]) -> Result:
        """Run the program under supervision, reading its lines."""
        from sweeper.supervisor import MAX_LINE, supervise

        params_file = Path(job.folder) / "params.json"
        environment = {**os.environ, **_trial_environment(job), "SWEEP_PARAMS": str(params_file)}
        environment["SWEEP_METRIC"] = self.spec["metric"]  # for reports that find no pipe
        environment.setdefault("PYTHONUNBUFFERED", "1")  # points are to come when they are printed
        pattern = compiled_pattern(self.spec["pattern"]) if self.spec["pattern"] else None
        # Saves most lines from being parsed; of a name that may be written with escapes or without, none.
        plain = re.fullmatch(r"[\w .-]+", self.spec["metric"], re.ASCII)
        needle = self.spec["metric"].encode() if plain else b""
        mend = ""  # of the last line that names the metric and is no report

        def line(text: bytes, source: str) -> None:
            nonlocal mend
            values = None
            if source == "stdout" and needle in text:
                values = _json(text)
                values = _printed(text) if values is None and pattern is None else values
            if source == "report":
                curve.report(_json(text) or {})
            elif values is not None and self.spec["metric"] in values:
                curve.take(values)
            elif pattern is not None:  # also in JSON that holds the metric deeper down
                _search(pattern, text, curve)
            elif needle in text and not curve.points:
                mend = _pattern_for(text, self.spec["metric"]) or mend

        curve.started = time.monotonic()
        argv = command_words(self.target, job.params, self.spec["shell"], _own_values(job))
        folder = Path(job.folder)
        end = supervise(argv, self.folder, environment, folder, line, job.timeout, curve.enough)
        if end.stopped:
            return curve.stopped()
        if end.timed_out:
            return curve.failed("timeout", f"ran longer than {job.timeout:g} s")
        if end.starved:  # the machine's fault, not that of the params
            return replace(curve.failed("", f"not started ({end.error})"), status="killed", failure=None)
        if end.error:
            return curve.failed("crash", end.error)
        # A shell passes on the death of its child as 128 + signal.
        number = -end.code if end.code < 0 else end.code - 128 if end.code in (137, 143) else 0
        if number in (9, 15):
            result = curve.failed("killed", f"killed by signal {number}")
            result.status, result.signal = "killed", number
            return result
        if end.code != 0:
            what = f"died of signal {number}" if number else f"exit code {end.code}"
            return curve.failed("crash", f"{what}: {end.last_line}" if end.last_line else what)
        unread = f"; not read, above {MAX_LINE >> 10} KiB: {end.unread} lines" if end.unread else ""
        result = curve.result((mend or self.expected()) + unread)
        return replace(result, message=unread[2:]) if unread and result.status == "done" else result

    def expected(self) -> str:
        """In the words of a program."""
        metric = self.spec["metric"]
        if self.spec["pattern"]:
            return f"a line of output that matches objective.pattern {self.spec['pattern']!r}"
        return f'a line of JSON on standard output such as {{"{metric}": 0.5}}, or sweeper.report(score=...)'


KINDS: dict[str, type[Objective]] = {cls.kind: cls for cls in (Train, Command, Function, Synthetic)}


def make(config: Any) -> Objective:
    """The objective of a SweepConfig."""
    objective = config.objective
    return from_spec(
        {
            "kind": objective.kind,
            "target": objective.target,
            "seeds": objective.seeds,
            "shell": objective.shell,
            "pattern": objective.pattern,
            "folder": str(config.folder),
            "metric": config.metric.name,
            "last": config.metric.last,
            "cost": config.cost.name,
            "fidelity": config.fidelity,
            "parameters": dict(config.parameters),
            "fixed": dict(config.fixed),
            "constraints": list(config.constraints),
        }
    )


def from_spec(spec: dict[str, Any]) -> Objective:
    """The objective of a spec, in a worker."""
    return KINDS[spec["kind"]](spec)


def train_once(
    environment: str,
    values: Mapping[str, Any],
    seed: int = 0,
    progress: Callable[[dict[str, Any]], None] | None = None,
    checkpoint: str | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Any:
    """Train one agent outside any sweep: `trainer.train`'s result. Raises ConfigError for a bad setting."""
    from trainer.settings import Settings, SettingsError

    try:
        settings = Settings.parse(environment, _resolved(values, environment))
    except SettingsError as error:
        raise ConfigError(error.key, error.message, error.mend) from None
    import torch

    import trainer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return trainer.train(
        settings,
        seed=seed,
        progress=progress,
        should_stop=should_stop,
        device=device,
        checkpoint=checkpoint,
    )


def game(environment: str, seed: int, checkpoint: str | None) -> Any:
    """A `trainer.play.Game`. Raises ConfigError for a checkpoint that does not fit, or none."""
    from trainer.play import Game
    from trainer.settings import SettingsError

    try:
        return Game(environment, seed, Path(checkpoint) if checkpoint else None)
    except SettingsError as error:
        raise ConfigError(error.key, error.message, error.mend) from None
    except ValueError as error:  # a declaration that cannot be read
        raise ConfigError("", str(error)) from None


def found() -> list[tuple[str, str]]:
    """What this machine has for training, and what will run where, as (name, text)."""
    from trainer import doctor

    return doctor.report(doctor.look())


def _resolved(values: Mapping[str, Any], environment: str) -> dict[str, Any]:
    """Short names of settings as dotted ones."""
    from trainer.settings import Settings

    return {Settings.resolve(name, environment): value for name, value in values.items()}


def _section(name: str, fixed: Mapping[str, Any]) -> str:
    return f"fixed.{name}" if name in fixed else f"parameters.{name}"


def _defines(node: ast.AST) -> set[str]:
    """Names that a statement binds."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name for alias in node.names}
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return {node.id}
    return set()


def _trial_environment(job: Job) -> dict[str, str]:
    return {"SWEEP_TRIAL_DIR": job.folder, "SWEEP_SEED": str(job.seed)}


def _own_values(job: Job) -> dict[str, Any]:
    return {"seed": job.seed, "trial_dir": job.folder, "python": sys.executable}


# ---------------------------------------------------------------- reading a command's output


def _json(text: bytes) -> dict[str, Any] | None:
    """A line that is one JSON object; None for all else."""
    if b"\x1b" in text or text.startswith(b"\xef\xbb\xbf"):  # coloured, or with a byte order mark
        text = printable(text.decode("utf-8", "replace")).encode()
    text = text.strip()
    if not text.startswith(b"{"):
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _printed(text: bytes) -> dict[str, Any] | None:
    """A line that is one dict as Python prints it, as many trainers do; None for all else. Its numbers may be
    nan, texts, or scalars of an array library: `{'eval_loss': np.float64(0.25), 'epoch': '2'}`."""
    text = text.strip()
    if not text.startswith(b"{'"):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in its texts
            tree = ast.parse(text.decode("utf-8", "replace"), mode="eval").body
        if not isinstance(tree, ast.Dict):
            return None
        items = zip(tree.keys, tree.values, strict=True)
        return {str(k.value): _scalar(v) for k, v in items if isinstance(k, ast.Constant)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _scalar(node: ast.expr) -> Any:
    """The number that was printed, None, or its text."""
    if isinstance(node, ast.Call) and len(node.args) == 1:  # np.float64(0.5), tensor(0.5, device='cuda:0')
        node = node.args[0]
    text = str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)
    try:
        return float(text)
    except ValueError:
        return None if text == "None" else text


def _pattern_for(text: bytes, metric: str) -> str:
    """How to have the score read off this line, for the message where none was reported; or nothing."""
    line = printable(text[:2000].decode("utf-8", "replace")).strip()
    pattern = re.escape(metric) + r"[^-+.\w]+(?P<score>[-+.\w]+)"
    match = re.search(pattern, line)
    try:
        float(match["score"].rstrip(".") if match else "")
    except ValueError:
        return ""
    quoted = pattern.replace("'", "''")  # as YAML wants it
    said = f"or, under objective, pattern: '{quoted}' to read it off {line[:80]!r}"
    return f'{{"{metric}": 0.5}} alone on a line; {said}'


def compiled_pattern(pattern: str) -> re.Pattern[str]:
    """The user's pattern as this Python reads it; that a later one may read `[[` otherwise is not said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return re.compile(pattern)


def _search(pattern: re.Pattern[str], text: bytes, curve: Curve) -> None:
    """The user's pattern in one line, for at most a second: some patterns take years for some lines."""
    from sweeper.supervisor import time_limit

    line = text[:2000].decode("utf-8", "replace")
    try:
        with time_limit(1.0):
            match = pattern.search(line)
    except TimeoutError:
        raise Failure("pattern", f"objective.pattern takes more than a second for {line[:80]!r}") from None
    if match is None:
        return
    groups = match.groupdict() or {"score": match[1]}
    try:
        # "The score is 0.93." has its sentence's end taken in by [-+.\w]+, as we suggest it.
        numbers = {name: float(value.rstrip(".")) for name, value in groups.items() if value is not None}
        curve.report(numbers)
    except ValueError:  # "score is the mean of ...", before the first: as with JSON, the last one counts
        said = f"objective.pattern found {match[0][:80]!r}, which holds no number"
        curve.problem = Failure("pattern", said)
