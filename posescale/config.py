"""The pipeline's configuration: one YAML file, checked before anything runs.

`workflows/config/schema.json` is generated from these classes and those of `posescale.study` (`posescale
config-schema`), for editors; a test keeps the two equal. No torch here: the workflow is planned by this module alone.
"""

import difflib
import os
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, ValidationError

from posescale.errors import ConfigError
from posescale.study import Cost, Dataset, Latency, ModelChoice, Section, Size, Study, Training


class Machine(Section):
    """What trainings and evaluations run on."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Kind of device."""
    devices: PositiveInt = 1
    """Devices that one training shares its batches among."""
    threads: PositiveInt = 1
    """Threads that torch may use."""
    workers: NonNegativeInt = 0
    """Processes that read clips ahead."""


class Config(Section):
    """A run of the pipeline: `results/<name>/` and one report."""

    name: str = Field(pattern=r"^[a-z0-9_-]+$")
    """Folder below `results/`."""
    title: str
    """Title of the report."""
    report: str = "reports/published"
    """Folder of the report; it is replaced as a whole."""
    claims: bool = True
    """Whether the ledger of published numbers is part of the run."""
    machine: Machine = Machine()
    """What trainings and evaluations run on."""
    published: list[str] = Field(default_factory=list)
    """Folders of committed records shown beside the run's own (below `results/published/`)."""
    studies: dict[str, Study]
    """Studies by short name (a folder name)."""


def parse(values: dict[str, Any], origin: str = "config") -> Config:
    """Check a configuration.

    Raises:
        ConfigError: names each wrong key, what was found there and what is allowed.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{origin}: " + "; ".join(_explain(e) for e in error.errors())) from error


def read(path: Path | str) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: it cannot be read as YAML, or as in `parse`; names the file.
    """
    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    return parse(values, str(path))


def _explain(error: dict[str, Any]) -> str:
    where = ".".join(map(str, error["loc"])) or "top level"
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg']} (found {error['input']!r})"
    allowed = list(_section_at(error["loc"][:-1]).model_fields)
    near = difflib.get_close_matches(str(error["loc"][-1]), allowed, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{where}: unknown key; {hint}allowed here: {', '.join(allowed)}"


def _section_at(loc: tuple[Any, ...]) -> type[BaseModel]:
    sections = {
        "dataset": Dataset, "expected": Size, "training": Training, "cost": Cost, "latency": Latency,
        "machine": Machine,
    }  # fmt: skip
    if not loc:
        return Config
    if len(loc) > 1 and loc[-2] in ("per_model", "studies"):
        return ModelChoice if loc[-2] == "per_model" else Study
    return sections.get(loc[-1], Study)


def data_source(dataset: Dataset) -> str | None:
    """Folder of a dataset's raw files: its own `source`, else POSESCALE_DATA, else None."""
    return dataset.source or os.environ.get("POSESCALE_DATA")
