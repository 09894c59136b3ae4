"""YAML as a person means it: the line of every key is kept, scalars are those of YAML 1.2.

`1e5` is a number and `on` a string; keys given twice, tags, merge keys, and files or aliases beyond all
bounds are refused with a message that says where.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from sweeper.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_VALUES = 10_000  # after aliases are expanded
MAX_DEPTH = 20


class Mark(NamedTuple):
    """Where a value was written: a line of the file (from 1), or an override on the command line."""

    line: int
    override: str = ""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema instead of those of 1.1."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  (PyYAML fills it per class)
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            line = self.peek_event().start_mark.line + 1
            raise ConfigError("", f"line {line} is nested more than {MAX_DEPTH} deep", "flatten it")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back unchanged: the string "1e5" is quoted, the string "on" need not be."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_CORE = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
for _tag, _pattern, _first in _CORE:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}",
            re.compile(f"(?:{_pattern})$"),
            [character if character != "\0" else "" for character in _first],
        )


def _scalar(key: str, node: yaml.ScalarNode) -> Any:
    kind, text = node.tag.rpartition(":")[2], node.value
    try:
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind == "int":
            number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            float(number)  # no more digits than can be reckoned with
            return number
        if kind == "float":
            return float(text.replace(".inf", "inf").replace(".nan", "nan") if text[-1:].isalpha() else text)
    except OverflowError:
        raise ConfigError(key, f"'{short(text)}' is too large", "write a number below 1e308") from None
    except ValueError:  # an explicit tag that lies (!!int five), or more digits than Python converts
        raise ConfigError(key, f"'{short(text)}' is not of the type its tag {node.tag} says") from None
    return text


def check_text(key: str, text: str) -> None:
    """Raises ConfigError for half a character ("\\ud800") or NUL, which no file or no program takes."""
    if any("\ud800" <= sign <= "\udfff" or sign == "\0" for sign in text):
        raise ConfigError(key, f"{short(text)!a} holds what is no text", "write it out, in UTF-8")


def join_key(key: str, part: str | int) -> str:
    """The dotted path of a part below `key`: `a.b`, or `a[0]`."""
    if isinstance(part, int):
        return f"{key}[{part}]"
    return f"{key}.{part}" if key else part


def read_yaml(text: str, marks: dict[str, Mark] | None = None) -> Any:
    """The data of one YAML 1.2 document; `marks` receives the line of every key (dotted, lists as `a[0]`).

    Raises ConfigError whose key has a mark already, or whose message names the line.
    """
    marks = {} if marks is None else marks
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise ConfigError("", f"larger than {MAX_BYTES} bytes", "a config is a page, not a data file")
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        marks[""] = Mark(mark.line + 1 if mark else 1)
        problem = (error.problem or error.context or "not understood").replace("\\t", "tab")
        hint = (
            "indent with spaces, not tabs"
            if "tab" in problem
            else "check indentation, quotes and brackets here"
        )
        raise ConfigError("", f"not valid YAML: {problem}", hint) from None
    except yaml.YAMLError as error:  # a reader error: control characters, broken encoding
        raise ConfigError(
            "", f"not valid YAML: {str(error).splitlines()[0]}", "save it as plain UTF-8"
        ) from None

    seen = 0

    def walk(node: Any, key: str, depth: int) -> Any:
        nonlocal seen
        seen += 1
        if key:
            marks.setdefault(key, Mark(node.start_mark.line + 1))
        if seen > MAX_VALUES or depth > MAX_DEPTH:
            raise ConfigError(
                key, f"more than {MAX_VALUES} values or {MAX_DEPTH} levels once aliases (*name) are expanded"
            )
        kind = node.tag.rpartition(":")[2]
        if not node.tag.startswith("tag:yaml.org,2002:") or kind not in (
            "null",
            "bool",
            "int",
            "float",
            "str",
            "seq",
            "map",
        ):
            raise ConfigError(
                key,
                f"the tag '{node.tag.replace('tag:yaml.org,2002:', '!!')}' is not understood",
                "remove it; values are plain",
            )
        if isinstance(node, yaml.ScalarNode):
            check_text(key, node.value)
            return _scalar(key, node)
        if isinstance(node, yaml.SequenceNode):
            return [walk(child, join_key(key, i), depth + 1) for i, child in enumerate(node.value)]
        data: dict[str, Any] = {}
        for name_node, child in node.value:
            name = name_node.value
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode) or not name:
                marks[key] = Mark(line)
                raise ConfigError(key, "a key must be a plain name")
            check_text(key, name)
            path = join_key(key, name)
            if name == "<<":
                marks[key] = Mark(line)
                raise ConfigError(
                    key, "'<<' (merging mappings) is not part of YAML 1.2", "write the keys out"
                )
            if name in data:
                first = marks[path].line
                marks[path] = Mark(line)
                raise ConfigError(path, f"given twice, first on line {first}", "keep one of the two")
            marks[path] = Mark(line)
            data[name] = walk(child, path, depth + 1)
        return data

    return None if node is None else walk(node, "", 0)


def write_yaml(data: Any, flow: bool | None = None) -> str:
    """YAML that `read_yaml` gives back as the same data; keys keep their order."""
    return yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**9, default_flow_style=flow
    )


def short(value: Any, limit: int = 60) -> str:
    """A value as it stands in YAML, cut to `limit` characters for a message."""
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
    text = "null" if value is None else text
    return text if len(text) <= limit else text[: limit - 3] + "..."
