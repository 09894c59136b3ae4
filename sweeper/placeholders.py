"""Commands with placeholders (`{name}`, `{args}`), filled so that no value escapes its word."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

_PLACEHOLDER = re.compile(r"\{\{|\}\}|(?<!\$)\{([A-Za-z_][\w.-]*(?::[a-z]+)?)\}")
ARGS = ("args", "args:hydra", "args:dashes")
OWN = ("seed", "trial_dir", "python")  # filled by the sweep: {python} is the interpreter that runs it


def placeholders(text: str) -> list[str]:
    """The names in braces, in their order."""
    return [match[1] for match in _PLACEHOLDER.finditer(text) if match[1]]


def _word(value: Any) -> str:
    """A value as an argument: numbers in full precision, true, false and null as YAML writes them."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and value < 0 and "e" in str(value):  # argparse takes -5e-05 for an option
        return format(Decimal(str(value)), "f")
    return str(value)


def _arguments(style: str, params: Mapping[str, Any]) -> list[str]:
    """What `{args}`, `{args:hydra}` and `{args:dashes}` stand for."""
    words: list[str] = []
    for name, value in params.items():
        if style == "args:hydra":
            words.append(f"{name}={_word(value)}")
        elif style == "args:dashes":
            words += [f"--{name.replace('_', '-')}", _word(value)]
        else:
            words.append(f"--{name}={_word(value)}")
    return words


def command_words(
    command: str, params: Mapping[str, Any], shell: bool = False, own: Mapping[str, Any] | None = None
) -> list[str]:
    """The command split into words and then filled: no value can become two words or reach a shell bare.

    A word whose parameter is not active in this trial (see `when:`) is left out. With `shell` the text is
    filled with quoted values and handed to /bin/sh.
    """
    values = {**(own or {}), **params}

    def fill(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        if match[1] in ARGS:
            return " ".join(shlex.quote(word) for word in _arguments(match[1], params))
        text = _word(values[match[1]]) if match[1] in values else ""
        return shlex.quote(text) if shell else text

    if shell:
        return ["/bin/sh", "-c", _PLACEHOLDER.sub(fill, command)]
    words: list[str] = []
    for word in shlex.split(command):
        names = placeholders(word)
        if len(names) == 1 and names[0] in ARGS and word == f"{{{names[0]}}}":
            words += _arguments(names[0], params)
        elif all(name in values or name in ARGS for name in names):
            words.append(_PLACEHOLDER.sub(fill, word))
    return words


def fill_command(config: Any, values: Mapping[str, Any], seed: int = 0) -> str:
    """The command of a config with these values, as a line to paste into a shell in the config's folder.

    What it is not given by placeholders comes as in a trial: the seed in SWEEP_SEED, the values in the file
    that SWEEP_PARAMS names.
    """
    # Outside a trial there is no folder with its params.json: the values come from a pipe.
    target, shell = config.objective.target, config.objective.shell
    command = target.replace("{trial_dir}/params.json", "/dev/stdin")
    own = {"seed": seed, "trial_dir": ".", "python": sys.executable}
    words = command_words(command, values, shell, own)
    line, named = words[2] if shell else shlex.join(words), set(placeholders(command))
    given = [] if "seed" in named else [f"SWEEP_SEED={seed}"]
    piped = command != target or "SWEEP_PARAMS" in command or not named - set(OWN)
    given += ["SWEEP_PARAMS=/dev/stdin"] if piped else []
    if given:
        line = " ".join([*given, f"/bin/sh -c {shlex.quote(line)}" if shell else line])
    if not piped:
        return line
    return f"printf %s {shlex.quote(json.dumps(dict(values)))} | {line}"


def quoted_placeholder(command: str) -> str:
    """The first placeholder inside quotes, where a shell would see its value's own quotes as text."""
    quote = ""
    i = 0
    while i < len(command):
        character = command[i]
        match = _PLACEHOLDER.match(command, i)
        if match:
            if quote and match[1]:
                return str(match[1])
            i = match.end()
            continue
        if character == "\\" and quote != "'":
            i += 1
        elif character in "'\"" and quote in ("", character):
            quote = "" if quote else character
        i += 1
    return ""
