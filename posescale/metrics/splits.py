"""The average over a dataset's published splits, which is what papers report for JHMDB, from one record per split."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from posescale.errors import ConfigError
from posescale.metrics.jhmdb import SPLITS
from posescale.records import Record, Value

PUBLISHED = {"jhmdb": SPLITS}
_SAME = (
    "variant", "digest", "study", "dataset", "protocol", "frames", "resolution", "dtype", "device", "seed", "selection",
)  # fmt: skip


def average_of_splits(records: Sequence[Record]) -> Record:
    """One record of kind `accuracy` from those of all published splits; every split counts alike.

    Returns:
        a record with the mean of every value in percent (none has an interval: splits share clips), the overall PCK of
        each split as `pck_by_split` (`group` is the split's number), and in `options["parts"]`, by split, the record,
        the data and the weights behind it. When a part failed, it has that part's status and no values: a mean of
        fewer splits would mislead.

    Raises:
        ConfigError: the records are not one of each split of one dataset, or differ in more than split and weights.
    """
    parts = _by_split(records)
    first = next(iter(parts.values()))
    options = {key: value for key, value in first.options.items() if key not in ("epoch", "trained_on", "ties")}
    options["settings"] = _settings(first)
    options["parts"] = {
        str(number): {
            "record": part.id, "status": part.status, "pck": _pck(part), "data_digest": part.data_digest,
            "weights_digest": part.weights_digest,
        }
        for number, part in parts.items()
    }  # fmt: skip
    failed = [(number, part) for number, part in parts.items() if part.status != "ok"]
    ending: dict[str, Any] = {"values": [] if failed else _means(parts)}
    if failed:
        number, part = failed[0]
        ending |= {"status": part.status, "reason": f"split {number}: {part.reason}"}
    shared = {field: getattr(first, field) for field in ("component", *_SAME, "batch", "mode", "threads", "backends")}
    return Record(kind="accuracy", options=options, fingerprint=first.fingerprint, **shared, **ending)


def parts_of(record: Record) -> dict[str, dict[str, Any]]:
    """By split, the record, data and weights that `average_of_splits` made a record from; empty for any other one."""
    parts = record.options.get("parts")
    return parts if isinstance(parts, dict) else {}


def _by_split(records: Sequence[Record]) -> dict[int, Record]:
    """The records by the number of their split, after checking that they belong together."""
    if not records or any(r.kind != "accuracy" or r.dataset not in PUBLISHED for r in records):
        found = ", ".join(f"{r.kind} on {r.dataset}" for r in records) or "none"
        raise ConfigError(f"expected accuracy records of {', '.join(PUBLISHED)}, one per split; found {found}")
    numbers = [r.options.get("settings", {}).get("split") for r in records]
    if None in numbers:
        raise ConfigError("a record does not say which split its data are; evaluate that split again")
    wanted = PUBLISHED[str(records[0].dataset)]
    if sorted(numbers) != sorted(wanted):
        raise ConfigError(f"expected one record of each split {list(wanted)}, found splits {sorted(numbers)}")
    conditions = [_conditions(r) for r in records]
    if wrong := [key for key in conditions[0] if any(c[key] != conditions[0][key] for c in conditions)]:
        found = "; ".join(f"{key}: {', '.join(str(c[key]) for c in conditions)}" for key in wrong)
        raise ConfigError(f"the records differ in more than the split, so their mean means nothing: {found}")
    return dict(sorted(zip(numbers, records, strict=True)))


def _conditions(record: Record) -> dict[str, Any]:
    options = {key: record.options.get(key) for key in ("split", "condition", "overrides")}
    return {field: getattr(record, field) for field in _SAME} | options | {"settings": _settings(record)}


def _settings(record: Record) -> dict[str, Any]:
    return {key: value for key, value in record.options["settings"].items() if key != "split"}


def _pck(record: Record) -> float | None:
    return next((v.value for v in record.values if (v.name, v.group) == ("pck", "")), None)


def _means(parts: dict[int, Record]) -> list[Value]:
    tables = [{(v.name, v.group): v for v in part.values if v.unit == "%"} for part in parts.values()]
    if any(table.keys() != tables[0].keys() for table in tables):
        raise ConfigError(
            "the records of the splits hold different values; evaluate them with one version of posescale"
        )
    means = [
        like.model_copy(update={"value": float(np.mean([table[key].value for table in tables])), "interval": None})
        for key, like in tables[0].items()
    ]
    return means + [
        Value(name="pck_by_split", value=table["pck", ""].value, unit="%", better="higher", group=str(number))
        for number, table in zip(parts, tables, strict=True)
    ]
