"""Sweep files of other tools, converted once: `sweep import`.

So far those of Weights & Biases (https://docs.wandb.ai/models/sweeps/sweep-config-keys). What has no
counterpart is not dropped in silence: it is named in a comment above what came of it.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.config import located, parse
from sweeper.errors import ConfigError
from sweeper.parameter import nearest
from sweeper.summary import scalar
from sweeper.yaml12 import Mark, read_yaml, short, write_yaml

MAX_NUMBER = 1e300  # beyond it sums and ratios overflow
TRIALS = 100  # where the file names no number
FACTOR = 100.0  # a linear range above zero that spans so much is often meant to be a log range
SDS = 3.0  # of a normal distribution to either side, for which a range stands
# The search itself and what only a server needs.
_NEEDLESS = ("method", "project", "entity", "description", "early_terminate", "controller", "version", "job")
_KNOWN = ("program", "command", "name", "metric", "parameters", "run_cap", *_NEEDLESS)
_THEIRS = {"fixed.": "parameters.", "budget.trials": "run_cap", "objective.command": "command"}
_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
_MACROS = {  # of a command's words
    "${env}": "",
    "${interpreter}": "python",
    "${args}": "{args}",
    "${args_no_hyphens}": "{args:hydra}",
}


def from_wandb(text: str, file: str) -> str:
    """The config, as YAML text, that stands for the YAML of a W&B sweep; `file` is its name.

    Raises ConfigError, with the line, for what is no such file and for what cannot be had here.
    """
    marks: dict[str, Mark] = {}
    try:
        converted = _converted(read_yaml(text, marks), Path(file).stem)
        parse(converted)  # what is wrong is said now, not when it is run
    except ConfigError as error:
        key = error.key
        for ours, theirs in _THEIRS.items():  # the line is that of their file
            key = key.replace(ours, theirs, 1) if key.startswith(ours) else key
        raise located(ConfigError(key, error.message, error.mend), file, marks) from None
    return converted


def _converted(data: Any, stem: str) -> str:
    if not isinstance(data, dict) or not isinstance(data.get("parameters"), dict):
        raise ConfigError("parameters", "is missing", "a W&B sweep names its parameters: give its YAML file")
    for key in data:
        if key not in _KNOWN:
            raise ConfigError(key, f"is no key of a W&B sweep{nearest(key, _KNOWN)}", "take it out")
    metric = data.get("metric") or {}
    if not isinstance(metric, dict) or not metric.get("name"):
        raise ConfigError("metric.name", "is missing", "name what your script reports: {name: reward, ...}")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", str(data.get("name") or stem))[:64].strip("-._") or "sweep"
    fixed, swept = _parameters(data["parameters"], "")
    lines = [
        "# Converted from a W&B sweep. Nothing is read from W&B: the script prints lines of JSON, or calls",
        f"# sweeper.report: {json.dumps({str(metric['name']): 0.9, 'seconds': 12.5})}.",
        "# Without seconds, those on the clock are the cost.",
    ]
    left_out = [key for key in data if key in _NEEDLESS] + [
        f"metric.{key}" for key in metric if key not in ("name", "goal")
    ]
    if left_out:
        lines.append(f"# Left out, having no counterpart: {', '.join(left_out)}.")
    lines += [
        f"name: {scalar(name)}",
        f"objective: {{command: {scalar(_command(data))}}}",
        f"metric: {{name: {scalar(metric['name'])}, goal: {scalar(metric.get('goal', 'minimize'))}}}",
        f"budget: {{trials: {scalar(data.get('run_cap', TRIALS))}}}",
    ]
    if fixed:
        lines += ["fixed:", *(f"  {scalar(key)}: {scalar(value)}" for key, value in fixed.items())]
    lines.append("parameters:")
    for key, (entry, remark) in swept.items():
        lines += [f"  # {remark}"] * bool(remark)
        lines.append(f"  {scalar(key)}: {write_yaml(entry, flow=True).strip()}")
    return "\n".join(lines) + "\n"


def _command(data: Mapping[str, Any]) -> str:
    """The command's words with our placeholders for W&B's macros."""
    words = data.get("command", _COMMAND)
    try:
        words = shlex.split(words) if isinstance(words, str) else words
    except ValueError as error:  # a quote that is not closed
        raise ConfigError(
            "command", f"{short(words)}: {str(error).lower()}", "write a list of words"
        ) from None
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, (str, int, float)) for word in words):
        raise ConfigError("command", f"{short(words)} is not a list of words")
    made = []
    for word in map(str, words):
        if word == "${program}":
            if not isinstance(data.get("program"), str):
                raise ConfigError("program", "is missing", "name the script that is to be run: train.py")
            made.append(shlex.quote(data["program"]))
        elif word in _MACROS:
            made += [_MACROS[word]] * bool(_MACROS[word])
        elif "${" in word:
            mend = "have the script take options (${args}), or read the JSON file that SWEEP_PARAMS names"
            raise ConfigError("command", f"'{short(word)}' has no counterpart", mend)
        else:
            made.append(shlex.quote(word.replace("{", "{{").replace("}", "}}")))
    return " ".join(made)


def _parameters(given: Mapping[str, Any], above: str) -> tuple[dict[str, Any], dict[str, tuple[dict, str]]]:
    """What is fixed, and what is swept with a remark on it; nested ones under dotted names."""
    fixed: dict[str, Any] = {}
    swept: dict[str, tuple[dict, str]] = {}
    for name, entry in given.items():
        key, at = f"{above}{name}", f"parameters.{above}{name}"
        if not isinstance(entry, dict):
            raise ConfigError(at, f"{short(entry)} is not a mapping", "write {min: 0.1, max: 1}")
        if isinstance(entry.get("parameters"), dict):
            more_fixed, more_swept = _parameters(entry["parameters"], f"{key}.")
            fixed.update(more_fixed)
            swept.update(more_swept)
        elif "value" in entry:
            fixed[key] = entry["value"]
        elif isinstance(entry.get("values"), list) and len(entry["values"]) == 1:
            fixed[key] = entry["values"][0]
        else:
            swept[key] = _parameter(at, entry)
    return fixed, swept


def _parameter(at: str, entry: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """One swept parameter, and what to remark on it."""
    if "values" in entry:
        return _choice(entry["values"], "probabilities" in entry)

    def number(key: str) -> float:
        value = entry.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < MAX_NUMBER:
            said = "is missing" if key not in entry else f"{short(value)} is not a finite number"
            raise ConfigError(f"{at}.{key}", said, "write a number")
        return value

    whole = all(isinstance(entry.get(key), int) for key in ("min", "max"))
    kind = str(entry.get("distribution", "int_uniform" if whole else "uniform"))
    rounded = kind.startswith("q_")
    plain = kind.removeprefix("q_")
    remarks: list[str] = []
    if plain in ("normal", "log_normal"):
        mean, sd = (number(key) if key in entry else default for key, default in (("mu", 0), ("sigma", 1)))
        if sd <= 0:
            raise ConfigError(f"{at}.sigma", f"{sd:g} is not above 0", "write a number above 0")
        low, high = mean - SDS * sd, mean + SDS * sd
        remarks.append(f"{kind} of mu {mean:g}, sigma {sd:g}: {SDS:g} sigmas to either side")
    elif plain == "beta":
        low, high = 0.0, 1.0
        remarks.append("beta: its weights are not taken over")
    elif plain in ("uniform", "int_uniform", "log_uniform", "log_uniform_values", "inv_log_uniform",
                   "inv_log_uniform_values"):  # fmt: skip
        low, high = number("min"), number("max")
    else:
        raise ConfigError(
            f"{at}.distribution", f"'{short(kind)}' has no counterpart", "give values, or min and max"
        )
    if plain == "inv_log_uniform":  # log(1/x) is uniform between them
        low, high = -high, -low
    if plain in ("log_uniform", "inv_log_uniform", "log_normal"):  # exponents of e
        try:
            low, high = (float(f"{math.exp(value):.6g}") for value in (low, high))
        except OverflowError:
            mend = "log_uniform takes exponents of e; log_uniform_values the values themselves"
            raise ConfigError(f"{at}.max", f"e to the {high:g} is too large", mend) from None
    log = "log" in plain
    made: dict[str, Any] = {"distribution": "log"} if log else {}
    step = number("q") if rounded and "q" in entry else 1
    # Multiples of a whole number are whole: a script that is given 37.2 for a batch size fails. So are the
    # range's ends then, which need not have been: e to the 5.5, three sigmas from a mean.
    least = max(round(low), 1) if log and low > 0 else round(low)
    if rounded and step == int(step) and least < round(high):
        made["type"] = "int"
        low, high = least, round(high)
    elif plain == "int_uniform":
        made["type"] = "int"
        low, high = (int(bound) if bound == int(bound) else bound for bound in (low, high))
    if rounded and (step != 1 or "type" not in made):
        remarks.append(f"not rounded to multiples of {step:g}")
    if not log and low > 0 and high >= FACTOR * low:
        remarks.append(f"spans a factor of {high / low:.3g}: distribution: log, perhaps?")
    return {**made, "min": low, "max": high}, "; ".join(remarks)


def _choice(values: Any, weighed: bool) -> tuple[dict[str, Any], str]:
    """A list of values; powers of two, none left out, are a range, in which their order counts."""
    numbers = values if isinstance(values, list) and all(type(value) is int for value in values) else []
    doubled = [numbers[0] << place for place in range(len(numbers))] if len(numbers) > 2 else None
    remarks = ["all are alike: their probabilities are not taken over"] * weighed
    if numbers == doubled and numbers[0] > 0 and numbers[0].bit_count() == 1:
        return {"distribution": "pow2", "min": numbers[0], "max": numbers[-1]}, "; ".join(remarks)
    if isinstance(values, list) and any(isinstance(value, bool) for value in values):
        remarks.append("the script is given true and false, not True and False")
    return {"values": values}, "; ".join(remarks)
