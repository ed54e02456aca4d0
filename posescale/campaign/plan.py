"""A campaign's plan: a YAML list of entries, each expanded into cells, the pieces that are run or left as a whole.

    - part: models              # heading in the table
      name: clips, graph        # short name
      run: latency              # a key of `posescale.campaign.cell.RUNS`
      each: {frames: [27, 81]}  # one cell for every combination
      forecast: 60              # seconds a cell takes; learnt better from what earlier cells took
      first: false              # before all that is not, so that even short minutes see something of every part
      resumable: false          # a cut cell goes on in the next call (training), so any rest of time is used
      models: [posemamba_s]     # whatever else the run wants

An entry with `blocked: reason` in place of `run` is planned work whose code or data is missing; it becomes a record.
"""

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from posescale.errors import ConfigError

FOLDER = Path(__file__).resolve().parent / "plans"
PARTS = ("right", "scan", "models", "accuracy", "video")


class Entry(BaseModel):
    """One entry of the file; fields beyond these are the run's settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    part: str = Field(pattern="|".join(f"^{part}$" for part in PARTS))
    name: str
    run: str = ""
    blocked: str = ""
    each: dict[str, list[Any]] = Field(default_factory=dict)
    forecast: PositiveFloat = 60.0
    first: bool = False
    resumable: bool = False


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Attributes:
        part, label: for people.
        run, settings: what is done; `blocked` says why nothing can be.
        forecast: seconds.
        resumable: whether a cut run goes on where it stopped.
    """

    part: str
    label: str
    run: str
    blocked: str
    settings: dict[str, Any]
    forecast: float
    resumable: bool

    def key(self, device: str) -> str:
        """Twelve hex digits: the same work on the same kind of device has the same key in every call."""
        content = json.dumps([self.part, self.run, self.blocked, self.settings, device], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def default_plan(device: str) -> Path:
    """The committed plan of a device: the real one for a GPU, a small trial of the same code path for a CPU."""
    return FOLDER / ("gpu.yaml" if device.startswith("cuda") else "trial.yaml")


def read_plan(path: Path | str) -> list[Cell]:
    """The cells of a plan: what is `first` before the rest, each in the order of the parts and of the file.

    Raises:
        ConfigError: the file is no plan; names entry, key and what was expected.
    """
    path = Path(path)
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(listed, list):
        raise ConfigError(f"{path}: expected a list of entries, found {type(listed).__name__}")
    entries = [_entry(path, number, values) for number, values in enumerate(listed, 1)]
    entries.sort(key=lambda entry: (not entry.first, PARTS.index(entry.part)))  # stable
    cells = [cell for entry in entries for cell in _cells(entry)]
    keys = [cell.key("") for cell in cells]
    if twice := {cell.label for cell, key in zip(cells, keys) if keys.count(key) > 1}:
        raise ConfigError(f"{path}: the same work is planned twice: {', '.join(sorted(twice))}")
    return cells


def _entry(path: Path, number: int, values: Any) -> Entry:
    try:
        entry = Entry.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(f"{path}: entry {number}: {wrong}") from error
    if bool(entry.run) == bool(entry.blocked):
        raise ConfigError(f"{path}: entry {number} ({entry.name}): give either `run` or `blocked`")
    return entry


def _cells(entry: Entry) -> list[Cell]:
    cells = []
    for chosen in itertools.product(*entry.each.values()):
        choice = dict(zip(entry.each, chosen))
        label = ", ".join([entry.name, *(f"{key} {_short(value)}" for key, value in choice.items())])
        settings = (entry.model_extra or {}) | choice
        cells.append(Cell(entry.part, label, entry.run, entry.blocked, settings, entry.forecast, entry.resumable))
    return cells


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{v}" for v in value.values())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
