"""What a measuring session is asked to do: its cells (model x T), and the settings they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from posescale import provenance
from posescale.cards import component
from posescale.errors import ConfigError
from posescale.measure.contender import DTYPES, MODES

Progress = Callable[[float, str], None]


@dataclass
class Cell:
    """One model at one T, and what was heard about it."""

    name: str
    frames: int
    device_ms: list[list[float]] = field(default_factory=list)  # by round
    host_ms: list[list[float]] = field(default_factory=list)
    first_call: list[float] = field(default_factory=list)  # seconds
    waited: float = 0.0
    foreign: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    failure: dict[str, str] | None = None

    @property
    def label(self) -> str:
        """For progress lines."""
        return f"{self.name} T={self.frames}"


@dataclass(frozen=True)
class Plan:
    """What all cells of a session share."""

    batch: int
    threads: int
    device: str
    dtype: str
    mode: str
    seconds: float
    timeout: float
    memory_limit: float | None
    seed: int
    study: str
    overrides: dict[str, Any]
    preferences: dict[str, Any]

    def job(self, task: str, cells: Sequence[Cell], order: Sequence[int], seed: int) -> dict[str, Any]:
        """A worker's job as plain JSON."""
        shared = {"overrides": self.overrides, "preferences": self.preferences, "batch": self.batch}
        return {
            "task": task,
            "cells": [{"name": c.name, "frames": c.frames, **shared} for c in cells],
            "order": list(order),
            "least": 1,
            "seed": seed,
            **{k: getattr(self, k) for k in ("threads", "device", "dtype", "mode", "seconds", "memory_limit")},
        }

    def record(self, cell: Cell, kind: str, fingerprint: dict[str, Any]) -> dict[str, Any]:
        """The fields that a cell's record has whatever comes out."""
        found = component(cell.name)
        chosen = {"overrides": self.overrides, "preferences": self.preferences}
        return {
            "kind": kind,
            "component": found.card.id,
            "variant": cell.name,
            "digest": found.digest,
            "study": self.study,
            "frames": cell.frames,
            "batch": self.batch,
            "dtype": self.dtype,
            "mode": self.mode,
            "device": self.device,
            "threads": self.threads,
            "backends": cell.facts.get("backends", {}),
            "options": {"scope": "model only"} | {k: v for k, v in chosen.items() if v},
            "fingerprint": fingerprint or provenance.fingerprint(),
        }


def check(
    names: Sequence[str], frames: Sequence[int], device: str, dtype: str, mode: str = "eager", **numbers: float
) -> None:
    """Refuse unknown models and settings out of range.

    Raises:
        UnavailableError: no model has one of the names.
        ConfigError: names the settings.
    """
    for name in names:
        component(name)
    choices = [("device", device.partition(":")[0], ("cpu", "cuda")), ("dtype", dtype, DTYPES), ("mode", mode, MODES)]
    wrong = [f"{k} {v!r} (of {', '.join(known)})" for k, v, known in choices if v not in known]
    wrong += [f"{k} {v}" for k, v in numbers.items() if not v > 0] + [f"frames {t}" for t in frames if t < 1]
    if wrong or not names or not frames:
        raise ConfigError(
            f"measuring needs models, clip lengths and positive settings, found {', '.join(wrong) or 'none'}"
        )
