"""Cost as a formula: the expressions on a model's card, evaluated exactly in T, J and the constructor's arguments."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import sympy
from sympy.parsing.sympy_parser import parse_expr

from posescale.cards import Component, CostFormula
from posescale.errors import ConfigError

FRAMES = sympy.Symbol("T", positive=True, integer=True)


def _chosen(argument: Any, value: Any) -> sympy.Integer:
    """1 where a constructor's argument that is no number has this value, else 0."""
    return sympy.Integer(str(argument) == str(value))


def _symbolic(argument: Any) -> sympy.Expr:
    """A number exactly; anything else as a symbol, to be asked for by `chosen`."""
    number = isinstance(argument, Real) and not isinstance(argument, bool)
    return sympy.nsimplify(argument) if number else sympy.Symbol(str(argument))


_FUNCTIONS = {
    "chosen": _chosen,
    "log": sympy.log,
    "ceil": sympy.ceiling,
    "ceiling": sympy.ceiling,
    "floor": sympy.floor,
    "max": sympy.Max,
    "min": sympy.Min,
    "Max": sympy.Max,
    "Min": sympy.Min,
}
# What sympy's parser itself writes into an expression.
_GLOBALS = {"Integer": sympy.Integer, "Float": sympy.Rational, "Rational": sympy.Rational, "Symbol": sympy.Symbol}


def closed_form(component: Component, frames: int, batch: int = 1, overrides: Mapping[str, Any] | None = None) -> dict:
    """Evaluate a card's formulas for one forward pass.

    Args:
        component: with a `cost` on its card.
        frames: T.
        batch: clips; MACs and FLOPs are per clip on the card.
        overrides: constructor arguments beyond the card's, defaults included where the formulas need them.

    Returns:
        `contractions` (MACs), `scan` (FLOPs) and, where the card has it, `parameters`: exact integers.

    Raises:
        ConfigError: the card has no formulas, or one is malformed, uses an unknown name or is not a whole number.
    """
    expressions = _expressions(component, overrides or {}, frames)
    return {
        name: _whole(value, f"{_where(component)}.{name}") * (1 if name == "parameters" else batch)
        for name, value in expressions.items()
    }


def leading_terms(component: Component, overrides: Mapping[str, Any] | None = None) -> dict[str, dict[int, int]]:
    """Each formula as a polynomial in T: `{"contractions": {1: per frame, 2: per frame squared}, ...}`.

    Raises:
        ConfigError: as `closed_form`, or a formula that is no polynomial in T.
    """
    terms = {}
    for name, value in _expressions(component, overrides or {}, FRAMES).items():
        try:
            polynomial = sympy.Poly(value, FRAMES)
        except sympy.PolynomialError as error:
            raise ConfigError(f"{_where(component)}.{name} is no polynomial in T: {value}") from error
        where = f"{_where(component)}.{name}"
        terms[name] = {power: _whole(factor, where) for (power,), factor in reversed(polynomial.terms())}
    return terms


def quadratic_overtakes(component: Component, overrides: Mapping[str, Any] | None = None) -> float | None:
    """The T above which the contractions' higher powers of T outweigh their linear part; None where there are none.

    Constant terms count as linear: they too do not grow faster than T.
    """
    terms = leading_terms(component, overrides)["contractions"]
    if not any(power > 1 for power in terms):
        return None
    balance = sum((factor if power > 1 else -factor) * FRAMES**power for power, factor in terms.items())
    roots = [float(root) for root in sympy.Poly(balance, FRAMES).nroots() if root.is_real and root > 0]
    return max(roots, default=0.0)


def _expressions(component: Component, overrides: Mapping[str, Any], frames: Any) -> dict[str, sympy.Expr]:
    formula = component.card.cost
    if formula is None:
        raise ConfigError(f"{component.folder / 'card.yaml'} has no `cost`: there is no closed form to compare with")
    arguments = component.parameters | dict(overrides)
    known = {key: _symbolic(value) for key, value in arguments.items()}
    known |= {"T": frames if isinstance(frames, sympy.Basic) else sympy.Integer(frames)}
    known["J"] = known.get("joints", sympy.Integer(17))
    for name, text in formula.symbols.items():
        known[name] = _parse(text, known, f"{_where(component)}.symbols.{name}")
    return {name: _parse(text, known, f"{_where(component)}.{name}") for name, text in _texts(formula).items()}


def _texts(formula: CostFormula) -> dict[str, str]:
    texts = {"contractions": formula.contractions, "scan": formula.scan, "parameters": formula.parameters}
    return {name: text for name, text in texts.items() if text is not None}


def _parse(text: str, known: Mapping[str, Any], where: str) -> sympy.Expr:
    try:
        value = parse_expr(str(text), local_dict={**_FUNCTIONS, **known}, global_dict=dict(_GLOBALS))
    except Exception as error:  # the parser evaluates, so a malformed text raises whatever it likes
        raise ConfigError(f"{where}: cannot evaluate {text!r}: {error}") from error
    if not isinstance(value, sympy.Expr):
        raise ConfigError(f"{where}: {text!r} is no number but {value!r}")
    unknown = sorted(str(symbol) for symbol in value.free_symbols - {FRAMES})
    if unknown:
        raise ConfigError(f"{where}: {text!r} uses {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return value


def _whole(value: sympy.Expr, where: str) -> int:
    if not value.is_Integer:
        raise ConfigError(f"{where} must be a whole number, found {value}")
    return int(value)


def _where(component: Component) -> str:
    return f"{component.folder / 'card.yaml'}: cost"
