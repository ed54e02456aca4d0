"""How many millimetres are protocol alone: one set of predictions, scored under several protocols."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from posescale.report.evidence import Entry, Evidence
from posescale.report.page import Block, Grid, Heading, slug
from posescale.report.tables import Cell, Column, Table, number, text

_COLUMNS = (
    Column("model", "model", numeric=False),
    Column("protocol", "protocol", numeric=False),
    Column("seeds", "n"),
    Column("mpjpe", "MPJPE", "mm"),
    Column("change", "change", "mm"),
    Column("p_mpjpe", "P-MPJPE", "mm"),
)


class _Place(NamedTuple):
    """What the rows of one table share."""

    dataset: str
    data_digest: str
    frames: int
    split: str
    made_under: str


def protocol_tables(evidence: Evidence, values: pd.DataFrame) -> list[Block]:
    """A table for each dataset, T and protocol that predictions were made under; nothing without rescored records."""
    places: dict[_Place, list[Entry]] = {}
    for entry in evidence.rescored():
        r = entry.record
        split, made = str(r.options.get("split") or ""), str(r.options["rescored_from"])
        place = _Place(r.dataset or "", r.data_digest or "", r.frames or 0, split, made)
        places.setdefault(place, []).append(entry)
    chosen = values[(values["kind"] == "accuracy") & (values["group"] == "")]
    numbers = {(v.key, v.name): float(v.value) for v in chosen.itertuples()}
    tables = [_table(place, entries, numbers) for place, entries in sorted(places.items())]
    found: list[Block] = [Grid(table) for table in tables if table.rows]
    return [Heading("The same predictions under other protocols"), *found] if found else []


def _table(place: _Place, entries: list[Entry], numbers: dict[tuple[str, str], float]) -> Table:
    by_model: dict[tuple[str, str], dict[str, list[Entry]]] = {}
    for entry in entries:
        model = (entry.row, entry.record.selection or "")
        by_model.setdefault(model, {}).setdefault(entry.record.protocol or "", []).append(entry)
    rows = [row for model, found in sorted(by_model.items()) for row in _rows(model, found, place, numbers)]
    title = f"{place.dataset}, T = {place.frames}: what the protocol alone changes"
    caption = (
        f"One set of predictions per model and seed, made under {place.made_under} and scored again without asking the "
        "model. Change: against that protocol, mean over seeds."
    )
    conditions = " · ".join(filter(None, [place.dataset, f"data {place.data_digest}", f"{place.split} split"]))
    return Table(
        slug("protocols", place.dataset, f"T{place.frames}", place.made_under), title, _COLUMNS, tuple(rows), caption,
        conditions=conditions,
    )  # fmt: skip


def _rows(
    model: tuple[str, str], found: dict[str, list[Entry]], place: _Place, numbers: dict[tuple[str, str], float]
) -> Iterable[dict[str, Cell]]:
    """The protocol of the predictions first, then the others by how much they change."""

    def mean(entries: list[Entry], metric: str) -> float | None:
        known = [numbers[e.key, metric] for e in entries if (e.key, metric) in numbers]
        return float(np.mean(known)) if known else None

    base = {e.record.seed: e for e in found.get(place.made_under, [])}
    changes: dict[str, list[float]] = {}
    for protocol, entries in found.items():
        pairs = [(e.key, base[e.record.seed].key) for e in entries if e.record.seed in base]
        changes[protocol] = [numbers[a, "mpjpe"] - numbers[b, "mpjpe"] for a, b in pairs if (a, "mpjpe") in numbers]
    order = sorted(found, key=lambda p: (p != place.made_under, -abs(np.mean(changes[p] or 0)), p))
    name = model[0] + (f" ({model[1]} weights)" if model[1] else "")
    for protocol in order:
        entries = found[protocol]
        keys = [e.key for e in entries]
        yield {
            "model": text(name, keys),
            "protocol": text(protocol, keys),
            "seeds": number(len(entries), 0, keys),
            "mpjpe": number(mean(entries, "mpjpe"), 1, keys),
            "change": number(float(np.mean(changes[protocol])) if changes[protocol] else None, 2, keys),
            "p_mpjpe": number(mean(entries, "p_mpjpe"), 1, keys),
        }
