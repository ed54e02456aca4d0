"""Records: one measurement, one record, one JSON line. Nothing else writes results.

A record carries what was measured, by which convention, on which machine, with which code and data, and how it
ended. A failure is a record with a status and a reason, never a gap.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from posescale.errors import DataError
from posescale.files import write_whole

SCHEMA_VERSION = 1
# operator: timing of one operator; check: whether something computes what it should, on this machine
Kind = Literal["accuracy", "cost", "latency", "memory", "training", "operator", "check"]
Status = Literal["ok", "unstable", "oom", "timeout", "unsupported", "crashed", "contaminated", "uncounted", "blocked"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


class Value(_Strict):
    """One number of a record.

    `group` is what the number is restricted to (an action, a sequence, an operator); the whole when empty.
    `convention` names how it was counted, for FLOPs and parameters.
    """

    name: str
    value: float
    unit: str
    better: Literal["lower", "higher", "none"] = "none"
    interval: tuple[float, float] | None = None  # 95 %
    convention: str = ""
    group: str = ""


class Record(_Strict):
    """One measurement. Fields that do not apply are None or empty."""

    schema_version: Literal[1] = SCHEMA_VERSION
    id: str = ""  # filled from the content when empty
    kind: Kind
    component: str
    variant: str
    digest: str  # of the component's source files
    study: str = ""
    label: str = ""  # what the study calls the model, where that is not the variant
    dataset: str | None = None
    protocol: str | None = None
    data_digest: str | None = None
    weights_digest: str | None = None
    frames: int | None = None
    resolution: tuple[int, int] | None = None  # height, width
    batch: int | None = None
    dtype: str | None = None
    mode: str | None = None  # eager, compile, graph
    device: str | None = None
    threads: int | None = None
    backends: dict[str, str] = Field(default_factory=dict)  # operator -> back end that ran
    options: dict[str, Any] = Field(default_factory=dict)  # recipe, overrides, scope: whatever else was chosen
    seed: int | None = None
    selection: str | None = None  # last, val-best, test-best
    values: list[Value] = Field(default_factory=list)
    samples: dict[str, list[float]] = Field(default_factory=dict)  # raw timings in order, per-sequence errors
    labels: dict[str, list[str]] = Field(default_factory=dict)  # names of the entries of `samples`
    status: Status = "ok"
    reason: str = ""
    fingerprint: dict[str, Any] = Field(default_factory=dict)
    started: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def model_post_init(self, _context: Any) -> None:
        """Fill the id: a digest of everything but the machine, the clock and the id itself."""
        if self.status != "ok" and not self.reason:
            raise ValueError(f"a record with status {self.status!r} needs a reason")
        if not self.id:
            content = self.model_dump(mode="json", exclude={"id", "fingerprint", "started"})
            text = json.dumps(content, sort_keys=True, allow_nan=True)
            self.id = hashlib.sha256(text.encode()).hexdigest()[:12]

    def line(self) -> str:
        """The record as one JSON line, newline included."""
        return self.model_dump_json(exclude_defaults=False) + "\n"


def write(path: Path, records: Iterable[Record]) -> None:
    """Write a whole record file atomically: it is complete or absent, whatever kills the process or fills the disk."""
    write_whole(Path(path), "".join(record.line() for record in records))


def append(path: Path, *records: Record) -> None:
    """Add records to a growing file by a single write; a line torn by an earlier crash is closed first."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+", buffering=0) as stream:  # one system call: whole lines or none
        torn = stream.tell() > 0 and _last_byte(stream) != b"\n"
        stream.write((b"\n" if torn else b"") + "".join(record.line() for record in records).encode())
        os.fsync(stream.fileno())


def read(paths: Path | str | Iterable[Path | str]) -> Iterator[Record]:
    """Yield every readable record of files and folders (`**/*.jsonl`).

    A torn or foreign line is reported by a warning with file and line number; nothing else is lost.

    Raises:
        DataError: a path does not exist.
    """
    for path in _files(paths):
        for number, text in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
            if not text.strip():
                continue
            try:
                yield Record.model_validate_json(text)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                warnings.warn(f"{path}:{number}: not a record, left out: {where} {first['msg']}", stacklevel=2)


def load(paths: Path | str | Iterable[Path | str]) -> pd.DataFrame:
    """The records below `paths` as one flat table: a row per value (or one row for a record without values).

    Columns are the record's fields, then the value's (`name`, `value`, `unit`, `better`, `low`, `high`,
    `convention`, `group`). `fingerprint`, `backends`, `options`, `samples` and `labels` stay dictionaries.
    """
    rows = [row for record in read(paths) for row in _rows(record)]
    columns = [f for f in Record.model_fields if f != "values"] + [*_value_columns(None)]
    return pd.DataFrame(rows, columns=columns)


def _rows(record: Record) -> Iterator[dict[str, Any]]:
    common = {field: getattr(record, field) for field in Record.model_fields if field != "values"}
    for value in record.values or [None]:
        yield common | _value_columns(value)


def _value_columns(value: Value | None) -> dict[str, Any]:
    columns = ("name", "value", "unit", "better", "convention", "group")
    if value is None:
        return dict.fromkeys((*columns, "low", "high"))
    low, high = value.interval or (None, None)
    return {c: getattr(value, c) for c in columns} | {"low": low, "high": high}


def _files(paths: Path | str | Iterable[Path | str]) -> list[Path]:
    listed = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: set[Path] = set()
    for path in map(Path, listed):
        if path.is_dir():
            found.update(p for p in path.rglob("*.jsonl") if not p.name.startswith("."))
        elif path.exists():
            found.add(path)
        else:
            raise DataError(f"{path}: no such record file or folder; run the pipeline first (`make reproduce`)")
    return sorted(found)


def _last_byte(stream: Any) -> bytes:
    stream.seek(-1, os.SEEK_END)
    byte = stream.read(1)
    stream.seek(0, os.SEEK_END)
    return byte
