"""Checks of what enters the tables: one row per value, with the unit its name promises."""

from collections.abc import Iterable
from typing import get_args

import pandas as pd
import pandera.pandas as pa

from posescale.records import Kind
from posescale.report.evidence import Entry, table

UNITS = {
    "mpjpe": "mm", "p_mpjpe": "mm", "n_mpjpe": "mm", "mpjve": "mm/frame", "latency": "ms", "latency_per_frame": "ms",
    "pck": "%", "ap": "%", "pck_by_state": "%",
    "peak_rss_delta": "MiB", "peak_allocated": "MiB", "peak_reserved": "MiB",
}  # fmt: skip

_promised = pa.Check(
    lambda frame: frame["unit"] == frame["name"].map(UNITS).fillna(frame["unit"]),
    error="unit differs from the one this name promises",
)
_not_negative = pa.Check.ge(0, error="negative")
_ordered = pa.Check(lambda frame: ~(frame["low"] > frame["high"]), error="interval upside down")

VALUES = pa.DataFrameSchema(
    {
        "key": pa.Column(str),
        "row": pa.Column(str),
        "machine": pa.Column(str),
        "kind": pa.Column(str, pa.Check.isin(get_args(Kind))),
        "name": pa.Column(str),
        "value": pa.Column(float, _not_negative, nullable=True),
        "unit": pa.Column(str),
        "convention": pa.Column(str),
        "group": pa.Column(str),
        "low": pa.Column(float, nullable=True),
        "high": pa.Column(float, nullable=True),
    },
    checks=[_promised, _ordered],
)


def admit(entries: Iterable[Entry]) -> tuple[pd.DataFrame, dict[str, str]]:
    """The values that may enter tables, and why the others may not, by record key.

    One wrong value leaves its whole record out, so that no table shows half a record; the page lists it.
    """
    frame = table(entries).astype({"value": float, "low": float, "high": float})
    if frame.empty:
        return frame, {}
    try:
        return VALUES.validate(frame, lazy=True), {}
    except pa.errors.SchemaErrors as error:
        refused = _refusals(frame, error.failure_cases)
    return VALUES.validate(frame[~frame["key"].isin(refused)]), refused


def _refusals(frame: pd.DataFrame, cases: pd.DataFrame) -> dict[str, str]:
    refused: dict[str, str] = {}
    for index, check in zip(cases["index"], cases["check"], strict=True):
        row = frame.loc[index]
        promised = f", expected {UNITS[row['name']]}" if str(check).startswith("unit") else ""
        refused.setdefault(row["key"], f"{row['name']} = {row['value']:g} {row['unit']}: {check}{promised}")
    return refused
