from pathlib import Path

import pytest

from posescale.cards import Card, Component, CostFormula
from posescale.errors import ConfigError
from posescale.measure.closed_form import closed_form, leading_terms, quadratic_overtakes


def made(**formula):
    variant = {"parameters": {"dim": 20, "depth": 3, "kind": "any"}}
    cost = CostFormula(**formula) if formula else None
    card = Card(id="x", title="x", task="lifting", summary="x", network="X", variants={"x": variant}, cost=cost)
    return Component(card=card, variant="x", folder=Path("toys"))


def test_symbols_are_evaluated_in_order_and_exactly():
    found = made(
        symbols={"n": "T * J", "R": "ceiling(dim / 16)", "hidden": "floor(2.5 * dim)", "N": "R + 1"},
        contractions="n * hidden * R ** depth", scan="n * (9 * N + 1)", parameters="dim // 3 + Max(depth, 2)",
    )  # fmt: skip
    assert closed_form(found, 243) == {"contractions": 243 * 17 * 50 * 8, "scan": 243 * 17 * 28, "parameters": 9}


def test_batch_multiplies_work_but_not_parameters():
    found = made(contractions="T * dim", parameters="dim")
    assert closed_form(found, 9, batch=4) == {"contractions": 4 * 9 * 20, "scan": 0, "parameters": 20}


def test_overrides_and_joints():
    found = made(contractions="T * J * dim")
    assert closed_form(found, 2, overrides={"dim": 3, "joints": 5})["contractions"] == 30


def test_large_numbers_stay_exact():
    found = made(contractions="(10 ** 20 + 1) * T")
    assert closed_form(found, 3)["contractions"] == 3 * (10**20 + 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("T * width", "width"),
        ("T / 2 ", "whole number"),
        ("T * (", "cannot evaluate"),
        ("T * kind", "kind"),
        ("floor", "no number"),
        ("__import__('os').getpid()", "cannot evaluate"),
        ("T > 3", "no number"),
        ("1 / (T - T)", "whole number"),
    ],
)
def test_malformed_formulas_are_refused_by_place(text, message):
    with pytest.raises(ConfigError, match="card.yaml: cost.contractions") as caught:
        closed_form(made(contractions=text), 9)
    assert message in str(caught.value)


def test_a_card_without_formulas_is_refused():
    with pytest.raises(ConfigError, match="no `cost`"):
        closed_form(made(), 9)


def test_leading_terms():
    found = made(contractions="depth * (2 * T ** 2 + dim * T) + 5", scan="T * J")
    assert leading_terms(found) == {"contractions": {0: 5, 1: 60, 2: 6}, "scan": {1: 17}}
    with pytest.raises(ConfigError, match="no polynomial"):
        leading_terms(made(contractions="floor(T / 3)"))


def test_quadratic_overtakes():
    assert quadratic_overtakes(made(contractions="3 * T ** 2 + 600 * T")) == pytest.approx(200)
    assert quadratic_overtakes(made(contractions="T ** 3 + T ** 2 + 6 * T")) == pytest.approx(2)
    assert quadratic_overtakes(made(contractions="600 * T + 4")) is None
    assert quadratic_overtakes(made(contractions="7")) is None
    assert quadratic_overtakes(made(contractions="2 * T ** 2")) == 0
