"""The sweep's config: a YAML file in, one validated `SweepConfig` out, or one message that says what to mend.

Torch-free: `sweep check` and `sweep status` start in a blink.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from sweeper.errors import ConfigError
from sweeper.units import parse_bytes, parse_duration
from sweeper.yaml12 import MAX_BYTES, Mark, join_key, read_yaml, short, write_yaml

if TYPE_CHECKING:
    from sweeper.space import Space

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # a run's name is a folder's name, never a path
DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")  # the name of a parameter or a fixed value
PARAMETER_KEYS = ("distribution", "type", "min", "max", "start", "values", "when")


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = (
        difflib.get_close_matches(name, known, 1, 0.6)
        or [k for k in known if k.rpartition(".")[2] == name][:1]
    )
    return f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(known)}"


# ---------------------------------------------------------------- values


def _bad(message: str, mend: str = "") -> NoReturn:
    # Braces are pydantic's placeholders: pass the texts as context, never as the template.
    raise PydanticCustomError("config", "{message}", {"message": message, "mend": mend})


def _duration(value: Any) -> float:
    try:
        return parse_duration(value)
    except ValueError as error:
        _bad(*str(error).split("; ", 1))


def _bytes(value: Any) -> int:
    try:
        return parse_bytes(value)
    except ValueError as error:
        _bad(*str(error).split("; ", 1))


def _memory(value: Any) -> int:
    size = _bytes(value)
    if size < 1_000_000:
        _bad(f"{value} is less than any program takes", "write 4GB, 500MB or 1.5GiB (a plain number: bytes)")
    return size


def _factor(value: Any) -> float:
    if _number(value) <= 1:
        _bad(f"{value} is not above 1", "write e.g. 3: a trial may take three times what was predicted")
    return float(value)


def _gpus_a_trial(value: Any) -> Any:
    if value == "auto":
        return value
    mend = "write auto, a share from 0.05 to 1, or a whole number"
    if isinstance(value, str):
        _bad(f"'{short(value)}' is neither 'auto' nor a number", mend)
    number = _number(value)
    if not (0.05 <= number <= 1 or (number > 1 and number == int(number))):
        _bad(f"{value} GPUs cannot be given to a trial", mend)
    return number


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        mend = "write 1e5 or 100000, without quotes, underscores or units" if isinstance(value, str) else ""
        _bad(f"'{short(value)}' is not a number", mend)
    return float(value)


def _whole(least: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or value != value // 1
            or abs(value) > 1e15
        ):
            _bad(f"'{short(value)}' is not a whole number", f"write a number from {least} up")
        if value < least:
            _bad(f"{value} is too small", f"write a number from {least} up")
        return int(value)

    return check


def _auto_or_whole(least: int) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if isinstance(value, str):
            if value != "auto":
                _bad(
                    f"'{short(value)}' is neither 'auto' nor a whole number",
                    f"write auto or a number from {least} up",
                )
            return value
        return _whole(least)(value)

    return check


def _one_of(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            _bad(f"'{short(value)}' is not one of {', '.join(choices)}", _nearest(str(value), choices))
        return str(value)

    return check


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        _bad(f"'{short(value)}' is not a text", 'write a text; "in quotes" where it looks like a number')
    return value


def _yes_no(value: Any) -> bool:
    if not isinstance(value, bool):
        _bad(
            f"'{short(value)}' is neither true nor false",
            "write true or false (YAML 1.2: yes, no, on and off are texts)",
        )
    return value


def _plain_name(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        _bad(f"{value} is a number, not a name", f"write it in quotes: name: '{value}'")
    if not isinstance(value, str) or not NAME.fullmatch(value):
        _bad(
            f"'{short(value)}' is not a plain name",
            "use at most 64 letters, digits, '-', '_' and '.', starting with a letter or digit; never a path",
        )
    return value


def _amount(value: Any) -> float:
    """A cost: a number above 0, or a duration (`_check` refuses those where the cost is not in seconds)."""
    if isinstance(value, str):
        return _duration(value)
    if _number(value) <= 0:
        _bad(f"{value} is not above 0", "write a number above 0")
    return float(value)


def _fixed(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        _bad("must be a mapping of names to values", "write one `name: value` a line")
    return dict(value)


def _constraints(value: Any) -> list[Any]:
    if not isinstance(value, list):
        _bad("must be a list", "write one `- a <= b` a line")
    return value


Text = Annotated[str, BeforeValidator(_text)]
Number = Annotated[float, BeforeValidator(_number)]
Seconds = Annotated[float, BeforeValidator(_duration)]
Amount = Annotated[float, BeforeValidator(_amount)]
Bytes = Annotated[int, BeforeValidator(_bytes)]
Flag = Annotated[bool, BeforeValidator(_yes_no)]


# ---------------------------------------------------------------- the models


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=False)


class Objective(_Model):
    """What a trial runs: exactly one of `train`, `command`, `function`, `synthetic`."""

    train: Text | None = None
    """A bundled environment (`cartpole`), or the path of an environment's header or folder."""
    command: Text | None = None
    """A program; `{name}`, `{args}`, `{args:hydra}`, `{args:dashes}` are filled with the trial's params."""
    function: Text | None = None
    """`module:callable`, called with the params as keyword arguments."""
    synthetic: Text | None = None
    """A synthetic task with a known front (`sweep bench synthetic` lists them)."""
    fidelity: Text | None = None
    """The swept parameter that a curve point's `step` stands for: a shorter trial gives the same points."""
    seeds: Annotated[int, BeforeValidator(_whole(1))] = 1
    """Trainings of one trial, each with a seed of its own: its score and its cost are their means."""
    shell: Flag = False
    """Whether the command is run by a shell (values are quoted)."""
    pattern: Text | None = None
    """For commands that nobody can edit: a regular expression with groups named `score`, `cost`, `step`
    (or a single group, the score), searched in every line of the output."""

    @property
    def kind(self) -> str:
        return next(
            kind for kind in ("train", "command", "function", "synthetic") if getattr(self, kind) is not None
        )

    @property
    def target(self) -> str:
        """What follows the kind: the environment, the command, `module:callable` or the task."""
        return str(getattr(self, self.kind))

    @model_validator(mode="after")
    def _check(self) -> Objective:
        given = [
            kind for kind in ("train", "command", "function", "synthetic") if getattr(self, kind) is not None
        ]
        if len(given) != 1:
            said = f"several are given ({', '.join(given)})" if given else "none is given"
            _bad(
                f"exactly one of train, command, function, synthetic is needed, {said}",
                "keep one, e.g. `objective: {train: cartpole}`",
            )
        return self


def _pattern_problem(pattern: str) -> str:
    if len(pattern) > 1000:
        return f"is {len(pattern)} characters long, more than 1000"
    from sweeper.objectives import compiled_pattern

    try:
        compiled = compiled_pattern(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"'{short(pattern)}' is not a regular expression: {error}"
    unknown = set(compiled.groupindex) - {"score", "cost", "step"}
    if unknown:
        return f"the group '{sorted(unknown)[0]}' means nothing here"
    if "score" not in compiled.groupindex and compiled.groups != 1:
        return f"'{short(pattern)}' has no group that holds the score"
    return ""


class Metric(_Model):
    """What is called score: its name in the reports, and which way is better."""

    name: Text = "score"
    goal: Annotated[Literal["maximize", "minimize"], BeforeValidator(_one_of("maximize", "minimize"))] = (
        "maximize"
    )
    scale: Annotated[
        Literal["linear", "percentile", "exponential"],
        BeforeValidator(_one_of("linear", "percentile", "exponential")),
    ] = "linear"
    """percentile: win rates between 0 and 1, in log odds; exponential: each halving of the distance to `max`
    counts the same."""
    max: Number | None = None
    """The best score there can be (the least, when minimising); for the exponential scale."""
    last: Annotated[int, BeforeValidator(_whole(1))] = 1
    """The result is the mean of the last so many reports."""


class Cost(_Model):
    """What is called cost: seconds, steps, any reported number. Predictions above `limit` are not tried."""

    name: Text = "seconds"
    limit: Amount | None = None

    @property
    def unit(self) -> str:
        return "s" if self.name == "seconds" else self.name


class Budget(_Model):
    """When the sweep ends: whichever comes first."""

    trials: Annotated[int, BeforeValidator(_whole(1))] | None = None
    cost: Amount | None = None
    """The cost of all trials together, in the cost's unit."""
    time: Seconds | None = None
    """Seconds on the clock."""

    @model_validator(mode="after")
    def _check(self) -> Budget:
        if self.trials is None and self.cost is None and self.time is None:
            _bad(
                "nothing ends the sweep",
                "set at least one of trials, cost and time, e.g. `budget: {trials: 100}`",
            )
        return self


class Workers(_Model):
    """How many trials run at once, on what, and how long one may take."""

    count: Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_whole(1))] = "auto"
    gpus: Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_whole(0))] = "auto"
    """How many GPUs the run may use; auto: all that are visible."""
    gpus_per_trial: Annotated[Literal["auto"] | float, BeforeValidator(_gpus_a_trial)] | None = None
    """GPUs of a trial's own; 0.25: four trials share one. auto: as many trainings share one as its memory and
    the cores have room for (executors.trainings_a_gpu). Not set: they are dealt out in turn."""
    share: Flag | None = None
    """Whether trials wait until other sweeps on this machine leave a core (and GPU) free. Not set: they do
    where `count` is auto, and else only take what is free from those who wait. false: neither."""
    timeout: Seconds | None = None
    """Seconds on the clock that one trial may take."""
    timeout_factor: Annotated[float, BeforeValidator(_factor)] | None = None
    """A trial may take so many times its predicted cost (in seconds), but ten seconds at least."""
    memory: Annotated[int, BeforeValidator(_memory)] | None = None
    """Bytes of main memory that one trial may take, all of its processes together."""
    disk: Bytes = 200_000_000
    """Bytes that stay free where the run lies: with less, nothing more is started."""
    restart_after: Annotated[int, BeforeValidator(_whole(1))] | None = None
    """Trials after which a worker makes way for a fresh one."""

    @property
    def shares(self) -> bool:
        return self.count == "auto" if self.share is None else self.share


class SweepConfig(_Model):
    """One sweep, validated. Durations are seconds; costs are in the cost's unit."""

    name: Annotated[str, BeforeValidator(_plain_name)]
    objective: Objective
    metric: Metric = Field(default_factory=Metric)
    cost: Cost = Field(default_factory=Cost)
    budget: Budget = Field(default_factory=lambda: Budget(trials=100))
    workers: Workers = Field(default_factory=Workers)
    executor: Annotated[Literal["local", "ray"], BeforeValidator(_one_of("local", "ray"))] = "local"
    """Where trials run: on this machine, or on the Ray cluster that RAY_ADDRESS names (or that runs here)."""
    seed: Annotated[int, BeforeValidator(_whole(0))] = 0
    early_stop: Flag = False
    """Whether a trial is ended whose curve says that it will not rise above the front; needs a fidelity."""
    warm_start: Annotated[str, BeforeValidator(_text)] | None = None
    """An earlier run (its name under runs/, or its folder) whose results this one starts from."""
    fixed: Annotated[dict[str, Any], BeforeValidator(_fixed)] = Field(default_factory=dict)
    parameters: Annotated[dict[str, Any], AfterValidator(dict)]
    constraints: Annotated[list[Any], BeforeValidator(_constraints)] = Field(default_factory=list)

    _folder: Path = PrivateAttr(default_factory=Path)
    _source: str = PrivateAttr(default="")
    _file: str = PrivateAttr(default="config")
    _marks: dict[str, Mark] = PrivateAttr(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder that relative paths are relative to: the config's."""
        return self._folder

    @property
    def source(self) -> str:
        """YAML text that gives this very config again, overrides included."""
        return self._source

    @property
    def file(self) -> str:
        """The config's path as the user gave it, for messages."""
        return self._file

    @property
    def fidelity(self) -> str | None:
        """The fidelity parameter while it is swept; a fixed one has nothing to teach."""
        return self.objective.fidelity if self.objective.fidelity in self.parameters else None

    def space(self) -> Space:
        """The search space. Raises ConfigError (located in the file) where a range or constraint is wrong."""
        from sweeper.space import Space

        try:
            return Space(self.parameters, self.constraints, self.fixed)
        except ConfigError as error:
            raise self.locate(error) from None

    def locate(self, error: ConfigError) -> ConfigError:
        """The same error, saying where in the user's file it is."""
        return located(error, self._file, self._marks)


class LocatedError(ConfigError):
    """A ConfigError that knows its file and line (0: not in the file, e.g. from the command line)."""

    def __init__(self, error: ConfigError, file: str, line: int) -> None:
        super().__init__(error.key, error.message, error.mend)
        self.file, self.line = file, line

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.line else self.file
        text = f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"
        return f"{text}\n  hint: {self.mend}" if self.mend else text


def located(error: ConfigError, file: str, marks: Mapping[str, Mark]) -> ConfigError:
    """`error` with the place of its key, or of the nearest enclosing key that was written down."""
    if isinstance(error, LocatedError):
        return error
    key = error.key
    while key and key not in marks:
        key = re.sub(r"(\[\d+\]|(^|\.)[^.\[\]]*)$", "", key)
    mark = marks.get(key, Mark(0))
    section = key.rpartition(".")[0]  # a range that an override reversed: blame the override, not the file
    for other, sibling in marks.items():
        if section and not mark.override and sibling.override and other.startswith(section + "."):
            mark = sibling
    if mark.override:
        return LocatedError(error, f"--set {mark.override}", 0)
    return LocatedError(error, file, mark.line)


# ---------------------------------------------------------------- loading


def load(path: str | Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """The config in the YAML file at `path`, with `key=value` overrides applied.

    Raises ConfigError (one clear message: file, line, key, value, mend). Writes and starts nothing.
    """
    text, file = read_text(path), Path(path)
    for folder in (file.resolve().parent, Path.cwd()):
        if any("\ud800" <= sign <= "\udfff" for sign in str(folder)):  # a byte; no database takes it
            raise ConfigError("", f"the folder {str(folder)!a} has a name that is not UTF-8", "rename it")
    return parse(
        text, folder=file.resolve().parent, file=str(path), overrides=overrides, default_name=file.stem
    )


def read_text(path: str | Path) -> str:
    """The text of a YAML file, as much as `read_yaml` takes and a byte. Raises ConfigError for none."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except IsADirectoryError:
        raise ConfigError("", f"{path} is a folder, not a config", "name the YAML file in it") from None
    except OSError as error:
        raise ConfigError(
            "", f"cannot read {path}: {(error.strerror or str(error)).lower()}", "check the path"
        ) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("", f"{path} is not UTF-8 text", "save it as plain UTF-8") from None


def _check_default_name(stem: str) -> None:
    if not NAME.fullmatch(stem):
        plain = re.sub(r"[^A-Za-z0-9]+", "-", stem)[:64].strip("-") or "my-sweep"
        said = f"is missing, and that of the file, '{short(stem)}', is not plain"
        raise ConfigError("name", said, f"add e.g. `name: {plain}`")


def parse(
    text: str,
    *,
    folder: str | Path = ".",
    file: str = "config",
    overrides: Sequence[str] = (),
    default_name: str | None = None,
) -> SweepConfig:
    """The config in a YAML text; `folder` is what its relative paths are relative to."""
    marks: dict[str, Mark] = {}
    try:
        data = read_yaml(text, marks)
        if not isinstance(data, dict):
            raise ConfigError(
                "",
                "is empty" if data is None else "is not a mapping of keys to values",
                "start from `name: my-sweep`",
            )
        for section in [key for key, value in data.items() if value is None]:
            del data[section]  # a section whose lines are all commented out
        named = "name" in data
        if not named and default_name is not None:
            data["name"] = default_name
        for override in overrides:
            _override(data, override, marks)
        if default_name is not None and not named and data["name"] == default_name:
            _check_default_name(default_name)
        config = _validate(data)
        _check(config, data)
    except ConfigError as error:
        raise located(error, file, marks) from None
    config._folder, config._file = Path(folder).resolve(), file
    config._marks = marks
    config._source = text if named and not overrides else write_yaml(data)
    try:
        _pin_defaults(config)
    except ConfigError as error:
        raise config.locate(error) from None
    config.space()
    return config


def restore(settings: Mapping[str, Any], *, folder: str | Path, source: str, file: str) -> SweepConfig:
    """The config of a run from the settings in its database: valid when it began, not judged again."""
    config = SweepConfig.model_validate(settings)
    config._folder, config._file = Path(folder), file
    config._source = source
    return config


def _pin_defaults(config: SweepConfig) -> None:
    """Settings that constraints or `when:` name but nobody set are fixed at the objective's defaults, and
    beside a fidelity its schedules are off: a shorter trial would not have given the same curve."""
    from sweeper.constraints import Constraint
    from sweeper.objectives import make

    named: list[str] = []
    for i, text in enumerate(config.constraints):
        named += sorted(Constraint(text, f"constraints[{i}]").names)
    for parameter in config.parameters.values():
        when = parameter.get("when") if isinstance(parameter, dict) else None
        named += when if isinstance(when, dict) else ()
    objective = make(config)
    for name in named:
        if name not in config.parameters and name not in config.fixed:
            value = objective.default(name)
            if value is not None:
                config.fixed[name] = value
    if config.fidelity is not None:
        config.fixed.update(dict.fromkeys(objective.schedules(), False))


def _override(data: dict[str, Any], override: str, marks: dict[str, Mark]) -> None:
    """Applies one `key=value`. A key that starts with a section is set there; any other is a fixed value."""
    key, equals, text = override.partition("=")
    key = key.strip()
    marks[""] = Mark(0, override)
    if not equals or not key:
        raise ConfigError("", f"'{override}' is not key=value", "write e.g. --set budget.trials=20")
    try:
        value = read_yaml(text)
    except ConfigError as error:
        raise ConfigError(
            "", error.message, "quote the value, once for the shell and once for YAML"
        ) from None
    section, _, rest = key.partition(".")
    sections = SweepConfig.model_fields
    swept = data.get("parameters")
    owner, _, attribute = key.rpartition(".")
    like_ours = difflib.get_close_matches(attribute, PARAMETER_KEYS, 1, 0.75)
    if isinstance(swept, dict) and owner in swept and like_ours:  # lr.max, and lr.mx, to be refused
        section, rest = "parameters", key
    elif section not in sections:
        if _misspelt_section(section, key, data):
            raise ConfigError(key, f"unknown key '{section}'", _nearest(section, sections))
        section, rest = "fixed", key
    path = f"{section}.{rest}" if rest else section
    marks[path] = Mark(0, override)
    marks.pop("")
    if not rest:
        data[section] = value
        _forget(marks, path)
        return
    if data.get(section) is None:
        data[section] = {}
    target = data[section]
    if not isinstance(target, dict):
        raise ConfigError(path, f"'{section}' holds no keys to set")
    if section == "fixed" and isinstance(data.get("parameters"), dict):
        data["parameters"].pop(rest, None)  # a value given by hand is no longer swept
    if section == "parameters":
        name, _, attribute = rest.rpartition(".")
        if name in target and isinstance(target[name], dict) and rest not in target:
            target[name][attribute] = value
            return
        if not isinstance(value, dict):
            if rest in target:
                raise ConfigError(path, f"'{short(text)}' is no range", f"to fix it: --set {rest}={text}")
            raise ConfigError(
                path,
                f"'{short(text)}' is no parameter, and there is none called '{name or rest}'",
                _nearest(name or rest, target),
            )
        if isinstance(data.get("fixed"), dict):
            data["fixed"].pop(rest, None)
    target[rest] = value
    _forget(marks, path)


def _forget(marks: dict[str, Mark], path: str) -> None:
    """Drops the lines of what was below a replaced key."""
    for key in [k for k in marks if k.startswith((path + ".", path + "["))]:
        del marks[key]


def _misspelt_section(section: str, key: str, data: dict[str, Any]) -> bool:
    """Whether `budgt.trials` rather means `budget.trials` than a fixed value of that name."""
    parts = [data[part] for part in ("fixed", "parameters") if isinstance(data.get(part), dict)]
    known = [name.partition(".")[0] for part in parts for name in part]
    if section in known or section in ("train", "policy", "env"):
        return False
    return bool(difflib.get_close_matches(section, SweepConfig.model_fields, 1, 0.75))


def _validate(data: dict[str, Any]) -> SweepConfig:
    """Pydantic's verdict; of several complaints the one that explains most, in our words."""
    try:
        return SweepConfig.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        # A misspelt key explains a missing one.
        problem = min(problems, key=lambda p: p["type"] != "extra_forbidden")
        raise _translate(problem, data) from None


def _translate(problem: Any, data: dict[str, Any]) -> ConfigError:
    parts: tuple[Any, ...] = problem["loc"]
    key = ""
    for part in parts:
        key = join_key(key, part)
    kind = problem["type"]
    if kind == "config":
        return ConfigError(key, problem["ctx"]["message"], problem["ctx"]["mend"])
    if kind == "extra_forbidden":
        return ConfigError(key, f"unknown key '{parts[-1]}'", _nearest(str(parts[-1]), _known(parts[:-1])))
    if kind == "missing":
        example = {
            "objective": "add e.g. `objective: {train: cartpole}`",
            "parameters": "add e.g. `parameters: {lr: {distribution: log, min: 1e-5, max: 0.1}}`",
            "name": "add e.g. `name: my-sweep`",
        }
        return ConfigError(key, "is missing", example.get(key, ""))
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        known = _known(parts)
        mend = (
            f"write `{parts[-1]}: {{{known[0]}: ...}}`"
            if known
            else "write one `name: {min: ..., max: ...}` a line"
        )
        return ConfigError(key, f"'{short(problem['input'])}' is not a mapping", mend)
    return ConfigError(key, f"'{short(problem['input'])}': {problem['msg'].lower()}")


def _known(parts: Sequence[Any]) -> list[str]:
    """The keys that may stand at a path."""
    model: Any = SweepConfig
    for part in parts:
        field = model.model_fields.get(part)
        model = field.annotation if field is not None else None
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(model.model_fields)


def _check(config: SweepConfig, data: dict[str, Any]) -> None:
    """What no single field can see. Raises ConfigError."""
    objective, metric, cost = config.objective, config.metric, config.cost
    for name in ("shell", "pattern"):
        if getattr(objective, name) and objective.command is None:
            raise ConfigError(
                f"objective.{name}",
                f"means nothing for a {objective.kind} objective",
                "remove it; it belongs to `command:`",
            )
    if objective.seeds > 1 and objective.train is None:
        raise ConfigError(
            "objective.seeds",
            f"means nothing for a {objective.kind} objective",
            "remove it; a script that averages over seeds reports the mean itself",
        )
    if config.workers.gpus_per_trial == "auto" and (objective.train is None or config.executor == "ray"):
        where = "on a Ray cluster" if config.executor == "ray" else f"for a {objective.kind} objective"
        raise ConfigError(
            "workers.gpus_per_trial",
            f"'auto' means nothing {where}: it knows what trainings on this machine take",
            "write a number: 0.5 has two trials share a GPU",
        )
    if objective.pattern and (problem := _pattern_problem(objective.pattern)):
        raise ConfigError(
            "objective.pattern",
            problem,
            "write e.g. 'reward: (?P<score>[-+.\\w]+)'; groups are score, cost and step",
        )
    if metric.scale == "exponential" and metric.max is None:
        raise ConfigError(
            "metric.scale",
            "'exponential' needs to know the best score there can be",
            "add `max:` to the metric, e.g. `max: 1.0`",
        )
    if metric.max is not None and metric.scale != "exponential":
        raise ConfigError(
            "metric.max",
            f"{metric.max:g} means nothing on the {metric.scale} scale",
            "remove it, or write `scale: exponential`",
        )
    if metric.name == cost.name:
        raise ConfigError(
            "cost.name", f"'{cost.name}' is the metric's name already", "give the two different names"
        )
    if objective.kind == "train" and cost.name not in ("seconds", "steps"):
        raise ConfigError(
            "cost.name", f"'{cost.name}' is not reported by the trainer", "write seconds or steps"
        )
    for section, key in (("cost", "limit"), ("budget", "cost")):
        amount = (data.get(section) or {}).get(key)
        if isinstance(amount, str) and cost.name != "seconds":
            message = f"'{short(amount)}' is not a number of {cost.name}"
            raise ConfigError(
                f"{section}.{key}", message, "durations are for costs in seconds; write a number"
            )
    set_here = {name.rpartition(".")[2] for name in (*config.fixed, *config.parameters)}
    if config.early_stop and config.objective.kind == "train" and "curve_points" not in set_here:
        raise ConfigError(
            "early_stop",
            "has no curve to go by: the trainer reports one point a trial, at its end",
            "write `fixed: {train.curve_points: 10}`",
        )
    if config.workers.timeout_factor is not None and cost.name != "seconds":
        raise ConfigError(
            "workers.timeout_factor",
            f"cannot be reckoned: the cost is {cost.name}, not seconds",
            "write workers.timeout instead, in seconds",
        )
    if not config.parameters:
        raise ConfigError(
            "parameters",
            "is empty: there is nothing to sweep",
            "add e.g. `lr: {distribution: log, min: 1e-5, max: 0.1}`",
        )
    for section in ("fixed", "parameters"):
        for name in getattr(config, section):
            if not DOTTED.fullmatch(name):
                raise ConfigError(
                    f"{section}.{name}",
                    f"'{short(name)}' is not a name",
                    "use at most 128 letters (a to z), digits, '_', '-' and '.', starting with a letter",
                )
    for name, value in config.fixed.items():
        if name in config.parameters:
            raise ConfigError(
                f"fixed.{name}",
                f"is fixed at {short(value)} and swept as well",
                "remove it here or under `parameters:`",
            )
        # null is a value among others: one that a sweep has chosen can be fixed.
        if not isinstance(value, (str, int, float, bool, type(None))):
            mend = (
                f"write its keys with dots: `{name}.{next(iter(value))}: ...`"
                if isinstance(value, dict) and value
                else "write a number, a text, true, false or null"
            )
            raise ConfigError(f"fixed.{name}", f"'{short(value)}' is not a plain value", mend)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"fixed.{name}", f"{value} is not a finite number", "write a number")
    for i, constraint in enumerate(config.constraints):
        if not isinstance(constraint, str):
            raise ConfigError(
                f"constraints[{i}]",
                f"'{short(constraint)}' is not an expression",
                "write e.g. `- a <= b * c`",
            )
    if objective.fidelity is not None and objective.fidelity not in {**config.parameters, **config.fixed}:
        raise ConfigError(
            "objective.fidelity",
            f"'{objective.fidelity}' is not a parameter of this sweep",
            _nearest(objective.fidelity, config.parameters),
        )
    longer = config.parameters.get(objective.fidelity or "")
    if isinstance(longer, dict) and "values" in longer:
        raise ConfigError(
            "objective.fidelity",
            f"'{objective.fidelity}' is a choice among values, and steps are a number",
            "give it min and max, or leave fidelity out",
        )
    if config.early_stop and config.fidelity is None:
        raise ConfigError(
            "early_stop",
            "needs to know how a trial's curve compares with shorter trials",
            "name the swept parameter that a point's step stands for: `objective: {fidelity: ...}`",
        )
