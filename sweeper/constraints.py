"""Constraints between parameters: `train.minibatch_size <= train.num_envs * train.horizon`.

The text is parsed into Python's syntax tree, every node is checked against a whitelist, and the tree is
walked over float64 arrays. Nothing is ever handed to `eval`, and floats cannot grow without bound.
"""

from __future__ import annotations

import ast
import keyword
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sweeper.errors import ConfigError

MAX_LENGTH = 500  # characters
MAX_DEPTH = 20
MAX_EXPONENT = 64.0

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: lambda left, right: np.asarray(left == right),
    ast.NotEq: lambda left, right: np.asarray(left != right),
}
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "min": (np.minimum, 2),
    "max": (np.maximum, 2),
    "abs": (np.abs, 1),
    "log2": (np.log2, 1),
    "log": (np.log, 1),
    "exp": (np.exp, 1),
    "sqrt": (np.sqrt, 1),
    "floor": (np.floor, 1),
    "ceil": (np.ceil, 1),
    "round": (np.round, 1),
}
_WORDS = ("and", "or", "not", "in", "True", "False", "None")  # of Python's keywords, those that are allowed
_LITERALS = {"true": 1.0, "false": 0.0, "none": None, "null": None}


def as_operand(value: Any) -> Any:
    """A value as the evaluator wants it: numbers and booleans as float64, everything else as it is."""
    return np.float64(value) if isinstance(value, (bool, int, float, np.number)) else value


class Constraint:
    """One expression that is true or false for every params.

    `names` holds the dotted names it speaks of. Raises ConfigError(`key`, ...) for text that is not a
    comparison of the allowed kind.
    """

    def __init__(self, text: str, key: str = "constraints") -> None:
        self.text, self.key = text, key
        self.names: set[str] = set()
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(key, f"{text!r} is not an expression", "write it like: a.b <= 2 * c")
        if len(text) > MAX_LENGTH:
            raise ConfigError(key, f"longer than {MAX_LENGTH} characters", "split it into several")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            mend = "compare with ==, <=, <, >=, > or !=; join with 'and', 'or', 'not'"
            words = [w for w in re.findall(r"\w+", text) if keyword.iskeyword(w) and w not in _WORDS]
            if words:  # lambda, as of advantages
                mend = f"no constraint can speak of '{words[0]}', a word of Python's: name it otherwise"
            raise ConfigError(key, f"cannot read '{text}'", mend) from error
        if not self._truth(self._tree):
            raise ConfigError(key, f"'{text}' is a value, not a condition", "compare it with something")
        self._check(self._tree, 0)

    def holds(self, values: Mapping[str, Any]) -> np.ndarray:
        """Whether it holds. `values`: name -> scalar or array [n]; gives bool, scalar or [n].

        Undefined arithmetic (0 / 0) makes it false. Raises ConfigError where text meets arithmetic.
        """
        try:
            with np.errstate(all="ignore"):
                return np.asarray(self._value(self._tree, values), dtype=bool)
        except TypeError as error:
            mend = "numbers compare with numbers, text with == and !="
            raise ConfigError(self.key, f"'{self.text}' mixes text and numbers", mend) from error

    @staticmethod
    def _truth(node: ast.AST) -> bool:
        negation = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
        return isinstance(node, (ast.Compare, ast.BoolOp)) or negation

    def _refuse(self, what: str) -> ConfigError:
        mend = f"allowed: names, numbers, text, + - * / // % **, comparisons, {', '.join(_FUNCTIONS)}"
        return ConfigError(self.key, f"'{self.text}' holds {what}", mend)

    def _check(self, node: ast.AST, depth: int) -> None:
        """Refuses every node that is not on the whitelist, and collects the names."""
        if depth > MAX_DEPTH:
            raise ConfigError(self.key, f"nested deeper than {MAX_DEPTH}", "split it into several")
        parts: list[ast.expr] = []
        if isinstance(node, ast.BoolOp):
            parts = node.values
            if not all(self._truth(part) for part in parts):
                raise self._refuse("'and' or 'or' between things that are not comparisons")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd, ast.Not)):
            parts = [node.operand]
            if isinstance(node.op, ast.Not) and not self._truth(node.operand):
                raise self._refuse("'not' before something that is not a comparison")
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            parts = [node.left, node.right]
            if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant):
                exponent = node.right.value
                if isinstance(exponent, (int, float)) and abs(exponent) > MAX_EXPONENT:
                    raise self._refuse(f"an exponent above {MAX_EXPONENT:g}")
        elif isinstance(node, ast.Compare):
            parts = [node.left]
            for operator, right in zip(node.ops, node.comparators, strict=True):
                if isinstance(operator, (ast.In, ast.NotIn)) and isinstance(right, (ast.List, ast.Tuple)):
                    parts += right.elts
                elif type(operator) in _COMPARISONS:
                    parts.append(right)
                else:
                    raise self._refuse("a comparison that is not allowed ('in' needs a list)")
        elif isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
            if not known or node.keywords:
                raise self._refuse(f"the call '{ast.unparse(node)[:40]}'")
            if len(node.args) != _FUNCTIONS[node.func.id][1]:  # type: ignore[attr-defined]
                raise self._refuse(f"the wrong number of arguments in '{ast.unparse(node)[:40]}'")
            parts = node.args
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, (int, float)) and abs(node.value) > 1e300:
                raise self._refuse("a number that is too large")
            if not isinstance(node.value, (bool, int, float, str, type(None))):
                raise self._refuse(f"{node.value!r}")
        elif (name := _dotted(node)) is not None:
            if name not in _LITERALS:
                self.names.add(name)
        else:
            raise self._refuse(f"'{ast.unparse(node)[:40]}'")
        for part in parts:
            self._check(part, depth + 1)

    def _value(self, node: ast.AST, values: Mapping[str, Any]) -> Any:
        if isinstance(node, ast.Constant):
            return as_operand(node.value)
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return join.reduce(np.broadcast_arrays(*[self._value(part, values) for part in node.values]))
        if isinstance(node, ast.UnaryOp):
            operand = self._value(node.operand, values)
            if isinstance(node.op, ast.Not):
                return np.logical_not(operand)
            return np.multiply(_numeric(operand), -1.0 if isinstance(node.op, ast.USub) else 1.0)
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left, values), self._value(node.right, values)
            return _ARITHMETIC[type(node.op)](_numeric(left), _numeric(right))
        if isinstance(node, ast.Call):
            arguments = [_numeric(self._value(part, values)) for part in node.args]
            return _FUNCTIONS[node.func.id][0](*arguments)  # type: ignore[attr-defined]
        if isinstance(node, ast.Compare):
            result, left = np.asarray(True), self._value(node.left, values)
            for operator, comparator in zip(node.ops, node.comparators, strict=True):
                if isinstance(operator, (ast.In, ast.NotIn)):
                    options = [self._value(part, values) for part in comparator.elts]  # type: ignore[attr-defined]
                    inside = np.asarray(False)
                    for option in options:
                        inside = np.logical_or(inside, np.asarray(left == option))
                    result = np.logical_and(result, inside == isinstance(operator, ast.In))
                    continue
                right = self._value(comparator, values)
                if not isinstance(operator, (ast.Eq, ast.NotEq)):
                    left, right = _numeric(left), _numeric(right)
                result = np.logical_and(result, _COMPARISONS[type(operator)](left, right))
                left = right
            return result
        name = _dotted(node)
        assert name is not None
        return _LITERALS[name] if name in _LITERALS else values[name]


def _dotted(node: ast.AST) -> str | None:
    """`train.num_envs` from its tree, or None where the tree is not a dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := _dotted(node.value)) is not None:
        return f"{head}.{node.attr}"
    return None


def _numeric(value: Any) -> Any:
    """Text takes no part in arithmetic; Python integers of unbounded size neither."""
    if np.asarray(value).dtype.kind not in "fb":
        raise TypeError("text in arithmetic")
    return value
