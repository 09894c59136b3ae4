"""What an environment's header declares, read from its text: nothing is compiled.

The declaration is a handful of `#define` lines and the struct `Log` (see squared/squared.h). C reads
the same lines, so that there is one source for shapes, settings and their defaults.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

WIDEST = 1e6  # range of an action
FOLDER = Path(__file__).resolve().parent
OBS_TYPES = {"int8_t": np.int8, "uint8_t": np.uint8, "int32_t": np.int32, "float": np.float32}
COMMENTS = re.compile(r'("(?:\\.|[^"\\\n])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
DEFINE = re.compile(r"^[ \t]*#[ \t]*define[ \t]+(\w+)(\([^)\n]*\))?[ \t]*([^\n]*)$", re.MULTILINE)
LOG = re.compile(r"typedef\s+struct\s*\w*\s*\{([^{}]*)\}\s*Log\s*;")
SETTING = re.compile(
    r'X\(\s*(?P<kind>\w+)\s*,\s*(?P<name>\w+)\s*,(?P<default>[^,"]+),(?P<low>[^,"]+),(?P<high>[^,"]+),'
    r'\s*(?P<help>(?:"(?:\\.|[^"\\])*"\s*)+)\)'
)
SPREAD = "_spread"  # what follows a setting's name where environments are to differ in it


@dataclass(frozen=True)
class Setting:
    """One number that an environment lets its user choose, the ends of its range allowed."""

    name: str
    kind: str
    """"int" or "float"."""
    default: float
    low: float
    high: float
    help: str

    def check(self, value: object) -> float:
        """`value` as this setting's number; ValueError where it is none or lies outside the range."""
        if isinstance(value, bool | str) or not isinstance(value, int | float | np.number):
            raise ValueError(f"setting {self.name} must be a number, not {value!r}")
        number = float(value)
        if self.kind == "int":
            if not number.is_integer():
                raise ValueError(f"setting {self.name} must be a whole number, not {value!r}")
            number = int(number)
        if not self.low <= number <= self.high:
            raise ValueError(f"setting {self.name} must lie in [{self.low}, {self.high}], not {value!r}")
        return number


@dataclass(frozen=True)
class Spec:
    """Shapes and scores of an environment."""

    name: str
    path: Path
    """The header."""
    obs_shape: tuple[int, ...]
    """Of one agent."""
    obs_dtype: np.dtype
    obs_range: tuple[float, float]
    reward_range: tuple[float, float]
    action_sizes: tuple[int, ...]
    """Choices of each discrete action; empty where actions are continuous."""
    action_dim: int | None
    """Floats of a continuous action; None where actions are discrete."""
    action_range: tuple[tuple[float, float], ...]
    """The lowest and the highest value of each of these floats, infinite where there is none."""
    masked: bool
    """Are there actions that are forbidden at times (Vector.action_mask)?"""
    rendered: bool
    """Can it be drawn as text (Vector.render)?"""
    agents_per_env: int
    log_fields: tuple[str, ...]
    """What `Vector.log` gives the means of, without the count "n"."""
    settings: Mapping[str, Setting]
    random_score: tuple[float, float]
    """Where the mean score of a random agent lies."""
    solved_score: float
    """The mean score that means solved."""

    def values(self, chosen: Mapping[str, object]) -> dict[str, float]:
        """All settings by name, in the header's order: what is `chosen`, else the defaults. Then the spreads
        (`NAME_spread`) that are chosen.

        ValueError for an unknown name, or a value that the setting does not take.
        """
        found = {name: find_setting(self.settings, name) for name in {**self.settings, **chosen}}
        for name, setting in found.items():
            if setting is None:
                known = [*self.settings, *(key + SPREAD for key in self.settings)]
                raise ValueError(f"{self.name} has no setting {name!r}{nearest(name, known)}")
        return {name: known.check(chosen.get(name, known.default)) for name, known in found.items() if known}

    def ends(self, chosen: Mapping[str, object]) -> list[float]:
        """Of each setting in turn the two numbers between which the environments' own ones lie: within the
        setting's spread times its size, and within its range. Raises ValueError as `values` does."""
        values, ends = self.values(chosen), list[float]()
        for name, setting in self.settings.items():
            reach = abs(values[name]) * values.get(name + SPREAD, 0.0)
            low, high = max(setting.low, values[name] - reach), min(setting.high, values[name] + reach)
            ends += [math.ceil(low), math.floor(high)] if setting.kind == "int" else [low, high]
        return ends

    @property
    def action_dtype(self) -> np.dtype:
        return np.dtype(np.int32 if self.action_dim is None else np.float32)

    @property
    def action_count(self) -> int:
        """Numbers in one agent's action."""
        return len(self.action_sizes) if self.action_dim is None else self.action_dim

    @property
    def bounded_actions(self) -> np.ndarray[Any, Any]:
        """Has a float of a continuous action a range, [action_dim] bool? One without is infinite or so wide
        that it says nothing of what is sensible."""
        low, high = np.array(self.action_range).reshape(-1, 2).T
        return high - low < WIDEST

    def random_actions(self, rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
        """Actions [*shape, action_count] evenly from all there are, forbidden ones among them.

        A float without a range is drawn around 0, with deviation 1.
        """
        full = (*shape, self.action_count)
        if self.action_dim is None:
            return rng.integers(0, self.action_sizes, full, np.int32)
        (low, high), bounded = np.array(self.action_range).T, self.bounded_actions
        even = rng.uniform(np.where(bounded, low, 0), np.where(bounded, high, 1), full)
        return np.where(bounded, even, rng.normal(size=full).clip(low, high)).astype(np.float32)


def names() -> list[str]:
    """The bundled environments: each a folder with a header of the same name."""
    return sorted(folder.name for folder in FOLDER.iterdir() if (folder / f"{folder.name}.h").is_file())


def find(name_or_path: str | Path) -> Path:
    """The header of a bundled environment, or of one given by its path or its folder's (mine/mine.h)."""
    text = os.fspath(name_or_path)
    if text.endswith(".h") or os.sep in text:
        path, inside = Path(text).absolute(), ""
        if path.is_dir():
            path = path / f"{path.name}.h"
            inside = f": that folder holds no {path.name}"
        if not path.is_file():
            raise ValueError(f"no environment header at {text}{inside}")
        return path
    if text not in names():
        yours = f"(a header of yours by its path: ./{text})"
        raise ValueError(f"no environment {text!r}{nearest(text, names())} {yours}")
    return FOLDER / text / f"{text}.h"


def find_setting(settings: Mapping[str, Setting], name: str) -> Setting | None:
    """The setting of this name, or the spread of another; None where there is none."""
    base = name.removesuffix(SPREAD)
    if name in settings or base == name or base not in settings:
        return settings.get(name)
    said = f"each environment has its own {base}, within this share of it"
    return Setting(name, "float", 0.0, 0.0, 1.0, said)


def nearest(name: str, known: list[str]) -> str:
    """The end of a message about an unknown name: what may have been meant, or all there is."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f": did you mean {close[0]!r}?"
    return f": there is {', '.join(known)}" if known else ": there is none"


def settings(name_or_path: str | Path) -> dict[str, Setting]:
    """The settings of an environment by name, in the header's order."""
    return dict(spec(name_or_path).settings)


def spec(name_or_path: str | Path) -> Spec:
    """Read an environment's declaration. ValueError where the header lacks or garbles a line."""
    path = find(name_or_path)
    return parse(path.read_text(encoding="utf-8", errors="replace"), path)


def parse(text: str, path: Path) -> Spec:
    """The declaration in a header's `text`; `path` gives its name and is named in errors."""
    text = text.replace("\r\n", "\n").replace("\\\n", " ")
    text = COMMENTS.sub(lambda match: match.group(1) or " ", text)
    defined: dict[str, str] = {name: value.strip() for name, _, value in DEFINE.findall(text)}

    def numbers(name: str, count: int | None = None) -> list[float]:
        if name not in defined:
            raise ValueError(f"{path}: no line '#define {name} ...': see the environment squared")
        try:
            values = [_number(word, defined) for word in defined[name].split(",")]
        except ValueError:
            raise ValueError(f"{path}: #define {name} {defined[name]}: numbers were expected") from None
        if count is not None and len(values) != count:
            raise ValueError(f"{path}: #define {name} {defined[name]}: {count} numbers were expected")
        return values

    def sizes(name: str) -> tuple[int, ...]:
        values = numbers(name)
        if any(value < 1 or not value.is_integer() for value in values):
            raise ValueError(f"{path}: #define {name} {defined[name]}: whole numbers from 1 were expected")
        return tuple(int(value) for value in values)

    def action_range(dim: int) -> tuple[tuple[float, float], ...]:
        values = numbers("ACTION_RANGE")
        pairs = tuple(zip(values[::2], values[1::2], strict=False)) * (dim if len(values) == 2 else 1)
        if len(values) not in (2, 2 * dim) or any(low >= high for low, high in pairs):
            shown = f"{path}: #define ACTION_RANGE {defined['ACTION_RANGE']}"
            raise ValueError(f"{shown}: lowest, highest was expected, for all ACTION_DIM floats or for each")
        return pairs

    if defined.get("OBS_TYPE") not in OBS_TYPES:
        raise ValueError(f"{path}: #define OBS_TYPE must be one of {', '.join(OBS_TYPES)}")
    obs_shape = sizes("OBS_SHAPE")
    if len(obs_shape) > 4:
        raise ValueError(f"{path}: OBS_SHAPE has more than four dimensions")
    if ("ACTION_SIZES" in defined) == ("ACTION_DIM" in defined):
        raise ValueError(f"{path}: define one of ACTION_SIZES (discrete) and ACTION_DIM (continuous)")
    if "ACTION_MASK" in defined and len(sizes("ACTION_SIZES")) > 8:
        raise ValueError(f"{path}: ACTION_MASK is for at most eight ACTION_SIZES")
    action_dim = sizes("ACTION_DIM")[0] if "ACTION_DIM" in defined else None
    low, high = numbers("OBS_RANGE", 2)
    lowest, highest = numbers("REWARD_RANGE", 2)
    random_low, random_high = numbers("RANDOM_SCORE", 2)
    return Spec(
        name=path.stem,
        path=path,
        obs_shape=obs_shape,
        obs_dtype=np.dtype(OBS_TYPES[defined["OBS_TYPE"]]),
        obs_range=(low, high),
        reward_range=(lowest, highest),
        action_sizes=sizes("ACTION_SIZES") if "ACTION_SIZES" in defined else (),
        action_dim=action_dim,
        action_range=() if action_dim is None else action_range(action_dim),
        masked="ACTION_MASK" in defined,
        rendered="RENDER" in defined,
        agents_per_env=sizes("AGENTS")[0] if "AGENTS" in defined else 1,
        log_fields=_log_fields(text, path),
        settings=_settings(defined, path),
        random_score=(random_low, random_high),
        solved_score=numbers("SOLVED_SCORE", 1)[0],
    )


def _number(word: str, defined: Mapping[str, str]) -> float:
    """A number, or the name of one that the header defines. INFINITY is one."""
    word = word.strip().strip("()")
    for _ in range(10):  # names of names, and no ring
        if word not in defined:
            break
        word = defined[word].strip("()")
    value = float(re.sub(r"(?<=[\d.])[fF]$", "", word))
    if math.isnan(value):
        raise ValueError
    return value


def _log_fields(text: str, path: Path) -> tuple[str, ...]:
    struct = LOG.search(text)
    fields: list[str] = []
    for line in (struct.group(1) if struct else "").split(";"):
        words = line.replace(",", " ").split()
        if words and not (words[0] == "double" and all(map(str.isidentifier, words))):  # an array is many
            raise ValueError(f"{path}: struct Log: {line.strip()!r} is not a double")
        fields += words[1:]
    if "score" not in fields or fields[-1] != "n":
        raise ValueError(f"{path}: struct Log needs doubles, 'score' among them and the count 'n' last")
    return tuple(fields[:-1])


def _settings(defined: Mapping[str, str], path: Path) -> dict[str, Setting]:
    if "SETTINGS" not in defined:
        raise ValueError(f"{path}: no line '#define SETTINGS(X) ...': see the environment squared")
    text = defined["SETTINGS"]
    found: dict[str, Setting] = {}
    for match in SETTING.finditer(text):
        kind, name = match["kind"], match["name"]
        if kind not in ("int", "float"):
            raise ValueError(f"{path}: setting {name}: the kind is int or float, not {kind}")
        try:
            default, low, high = (_number(match[key], defined) for key in ("default", "low", "high"))
        except ValueError:
            raise ValueError(f"{path}: setting {name}: default, lowest and highest are numbers") from None
        if not low <= default <= high:
            raise ValueError(f"{path}: setting {name}: its default lies outside its range")
        if name in found:
            raise ValueError(f"{path}: setting {name} is there twice")
        if kind == "int":
            if not all(number.is_integer() and -(2**31) <= number < 2**31 for number in (default, low, high)):
                raise ValueError(f"{path}: setting {name}: the numbers of an int are whole and fit 32 bits")
            default, low, high = int(default), int(low), int(high)
        help_text = "".join(re.findall(r'"((?:\\.|[^"\\])*)"', match["help"])).replace('\\"', '"')
        found[name] = Setting(name, kind, default, low, high, help_text)
    rest = SETTING.sub("", text).strip()
    if rest:
        raise ValueError(
            f'{path}: SETTINGS: cannot read {rest[:60]!r}: X(kind, name, default, low, high, "help")'
        )
    return found
