"""Arithmetic written as text: how an author counted by hand, in the arguments of the model."""

import ast
import operator
from collections.abc import Mapping
from typing import Any

from posescale.errors import ConfigError

_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: operator.pow,
}


def check(text: str) -> str:
    """The text itself, when it is arithmetic over names and numbers.

    Raises:
        ValueError: it is not.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ValueError(f"formula {text!r} cannot be read: {error.msg}") from error
    allowed = (ast.Expression, ast.BinOp, ast.Constant, ast.Name, ast.Load, *_OPERATORS)
    for node in ast.walk(tree):
        number = not isinstance(node, ast.Constant) or type(node.value) in (int, float)
        if not isinstance(node, allowed) or not number:
            raise ValueError(f"formula {text!r}: only names, numbers and + - * / // ** are understood")
    return text


def evaluate(text: str, names: Mapping[str, Any]) -> float:
    """The value of a formula.

    Args:
        text: arithmetic that passed `check`.
        names: numbers by name.

    Raises:
        ConfigError: a name is unknown or no number.
    """

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.BinOp):
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.Constant):
            return node.value
        found = names.get(node.id)
        if not isinstance(found, (int, float)):
            known = ", ".join(sorted(k for k, v in names.items() if isinstance(v, (int, float))))
            raise ConfigError(f"formula {text!r}: {node.id!r} is no number here; known are {known}")
        return found

    return value(ast.parse(check(text), mode="eval").body)
