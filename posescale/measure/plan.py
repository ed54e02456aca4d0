"""What a measuring session is asked to do: its cells, and the settings they share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from posescale import provenance
from posescale.cards import component
from posescale.errors import ConfigError
from posescale.measure.contender import DTYPES, MODES

Progress = Callable[[float, str], None]


@dataclass
class Cell:
    """One thing to measure, and what was heard about it.

    Attributes:
        label: for progress lines.
        spec: what a worker builds it from, as plain JSON; see `posescale.measure.subject.measurable`.
        identity: the record's fields that say what it is.
        work: figures of one call that times are put in relation to, such as `bytes`.
    """

    label: str
    spec: dict[str, Any]
    identity: dict[str, Any]
    work: dict[str, float] = field(default_factory=dict)
    kind: str = "latency"  # of the record
    device_ms: list[list[float]] = field(default_factory=list)  # by round
    host_ms: list[list[float]] = field(default_factory=list)
    first_call: list[float] = field(default_factory=list)  # seconds
    waited: float = 0.0
    foreign: float = 0.0
    discarded: int = 0  # timed calls during which the GPU was slowed down
    gpu: dict[str, list[float]] = field(default_factory=dict)  # readings while it was timed
    facts: dict[str, Any] = field(default_factory=dict)
    failure: dict[str, str] | None = None

    @property
    def batch(self) -> int:
        """Clips of one call."""
        return self.identity["batch"]


@dataclass(frozen=True)
class Entry:
    """A model to be measured: its id, constructor arguments, and what a study calls it with them.

    Written `[LABEL=]MODEL[:KEY=VALUE]...`, such as `naive=glsformer_j_tiny:attention=naive`.
    """

    model: str
    label: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """The clips a model is measured on: T, and H and W of a video model's crops (its own, if None).

    Written `T` or `TxHxW`, such as `5x256x192`.
    """

    frames: int
    height: int | None = None
    width: int | None = None

    @property
    def size(self) -> dict[str, int]:
        """Height and width as constructor arguments."""
        return {k: v for k, v in (("height", self.height), ("width", self.width)) if v is not None}

    def __str__(self) -> str:
        return "x".join(str(n) for n in (self.frames, self.height, self.width) if n is not None)


def model_cells(
    entries: Sequence[Entry | str], shapes: Sequence[Shape | int], batch: int, overrides: Mapping[str, Any],
    preferences: Mapping[str, Any],
) -> list[Cell]:  # fmt: skip
    """Every model on clips of every shape."""
    chosen = [e if isinstance(e, Entry) else Entry(e) for e in entries]
    wanted = [s if isinstance(s, Shape) else Shape(s) for s in shapes]
    return [
        model_cell(e.model, s.frames, batch, {**overrides, **e.overrides, **s.size}, preferences, e.label)
        for s in wanted
        for e in chosen
    ]


def model_cell(
    name: str, frames: int, batch: int, overrides: Mapping[str, Any], preferences: Mapping[str, Any], label: str = ""
) -> Cell:
    """A model at one T and batch."""
    found = component(name)
    chosen = {"overrides": dict(overrides), "preferences": dict(preferences)}
    identity = {
        "component": found.card.id, "variant": name, "label": label, "digest": found.digest, "frames": frames,
        "batch": batch,
        "options": {"scope": "model only"} | {k: v for k, v in chosen.items() if v},
    }  # fmt: skip
    if found.card.task == "video":
        size = found.parameters | dict(overrides)
        identity["resolution"] = (size["height"], size["width"]) if {"height", "width"} <= size.keys() else None
    size = "x".join(map(str, identity.get("resolution") or ()))
    return Cell(
        f"{label or name} T={frames} {size}".strip(),
        {"name": name, "frames": frames, "batch": batch, **chosen},
        identity,
    )


@dataclass(frozen=True)
class Plan:
    """What all cells of a session share."""

    threads: int
    device: str
    dtype: str
    mode: str
    seconds: float
    timeout: float
    memory_limit: float | None
    seed: int
    study: str

    def job(self, task: str, cells: Sequence[Cell], order: Sequence[int], seed: int, **more: Any) -> dict[str, Any]:
        """A worker's job as plain JSON."""
        shared = {k: getattr(self, k) for k in ("threads", "device", "dtype", "mode", "seconds", "memory_limit")}
        return {"task": task, "cells": [c.spec for c in cells], "order": list(order), "least": 1, "seed": seed,
                **shared, **more}  # fmt: skip

    def record(self, cell: Cell, kind: str, fingerprint: dict[str, Any]) -> dict[str, Any]:
        """The fields that a cell's record has whatever comes out."""
        return {
            "kind": kind,
            "study": self.study,
            "dtype": self.dtype,
            "mode": self.mode,
            "device": self.device,
            "threads": self.threads,
            "backends": cell.facts.get("backends", {}),
            "fingerprint": fingerprint or provenance.fingerprint(),
            **cell.identity,
            "options": dict(cell.identity["options"]),
        }


def check(
    names: Sequence[str | Entry], frames: Sequence[int | Shape], device: str, dtype: str, mode: str = "eager",
    **numbers: float,
) -> None:  # fmt: skip
    """Refuse unknown models and settings out of range.

    Raises:
        UnavailableError: no model has one of the names.
        ConfigError: names the settings.
    """
    for name in names:
        component(name.model if isinstance(name, Entry) else name)
    lengths = [s.frames if isinstance(s, Shape) else s for s in frames]
    choices = [("device", device.partition(":")[0], ("cpu", "cuda")), ("dtype", dtype, DTYPES), ("mode", mode, MODES)]
    wrong = [f"{k} {v!r} (of {', '.join(known)})" for k, v, known in choices if v not in known]
    wrong += [f"{k} {v}" for k, v in numbers.items() if not v > 0] + [f"frames {t}" for t in lengths if t < 1]
    if wrong or not names or not frames:
        raise ConfigError(
            f"measuring needs models, clip lengths and positive settings, found {', '.join(wrong) or 'none'}"
        )
