"""Claims, machines and records made up for the tests."""

import pytest

from posescale.claims import Claim, Means, Standing
from posescale.records import Record, Value

RECIPE = {"epochs": 120, "lr": 2e-4}


@pytest.fixture
def means():
    """A machine that could test everything about the model `m`, and nothing about others."""
    standing = Standing("digest", {"frames": 243, "depth": 10}, checkpoint="m.bin", recipes={"h36m": RECIPE})
    other = Standing("digest", {"frames": 243})
    return Means(
        components={"m": standing, "other": other},
        readers=frozenset({"h36m", "jhmdb"}),
        prepared=frozenset({"h36m", "jhmdb"}),
        protocols=frozenset({"h36m_sh", "jhmdb_person"}),
    )


@pytest.fixture
def claim():
    """Make a claim about the model `m`."""

    def make(quantity="macs", printed="3.6G", **fields):
        defaults = {
            "id": "p/t/m", "paper": "p", "title": "P", "venue": None, "year": None, "url": None, "table": "t",
            "model": "M", "component": "m", "source": "test", "evidence": "paper", "frames": 243,
        }  # fmt: skip
        if quantity in ("mpjpe", "ap"):
            defaults |= {"dataset": "h36m", "protocol": "h36m_sh", "selection": "last"}
        return Claim(**(defaults | {"quantity": quantity, "printed": printed} | fields))

    return make


@pytest.fixture
def cost():
    """Make a cost record of the model `m`."""

    def make(variant="m", digest="digest", frames=243, overrides=None, calls=None, status="ok", **figures):
        names = {"unique": "parameters", "parameters": "parameters"}
        values = []
        for key, value in figures.items():
            name, _, convention = key.partition("__")
            convention = convention.replace("_plus_", "+")
            values.append(Value(name=names.get(name, name), value=value, unit="", convention=convention))
        options = {"overrides": overrides or {}, "calls": calls or {}}
        reason = "" if status == "ok" else "made so"
        return Record(
            kind="cost", component="c", variant=variant, digest=digest, frames=frames, batch=1, options=options,
            values=values, status=status, reason=reason,
        )  # fmt: skip

    return make


@pytest.fixture
def scores():
    """Make training and accuracy records of the model `m`, one pair per value."""

    def make(values, selection="last", recipe=RECIPE, name="mpjpe", unit="mm", overrides=None, **fields):
        made = []
        for seed, value in enumerate(values):
            weights = f"w{seed}{selection}"
            shared = {"component": "c", "variant": "m", "digest": "d", "dataset": "h36m", "frames": 243, "seed": seed}
            options = {"recipe": recipe, "overrides": overrides or {}, "weights": {selection: weights}}
            made.append(Record(kind="training", options=options, **shared))
            made.append(
                Record(
                    **(shared | {"kind": "accuracy", "protocol": "h36m_sh", "selection": selection} | fields),
                    weights_digest=weights,
                    options={"split": "test"},
                    values=[
                        Value(name=name, value=value, unit=unit),
                        Value(name=name, value=1, unit=unit, group="Walk"),
                    ],
                )
            )
        return made

    return make
