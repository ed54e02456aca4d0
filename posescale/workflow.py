"""What the Snakefile needs to know: paths, targets and parameters of one configured run. No torch here."""

import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from posescale.cards import ROOT, component, components, folder_digest
from posescale.config import Config, Study, data_source, parse
from posescale.errors import ConfigError, PosescaleError

ARRAYS = ("index.json", "poses.npy", "exact.npy", "detections.npy")
WEIGHTS = ("weights-last.pt", "weights-val-best.pt", "history.csv", "record.jsonl")


class Run:
    """One configured run of the pipeline.

    Attributes:
        config: the checked configuration.
        root: `results/<name>`.
        report: the page that ends the run.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.root = f"results/{config.name}"
        self.report = f"{config.report}/index.html"

    def study(self, wildcards: Any) -> Study:
        """The study that a rule's wildcards name."""
        return self.config.studies[wildcards.study]

    def data(self) -> list[str]:
        """Indices of all prepared datasets."""
        return [f"{self.root}/data/{name}/index.json" for name in self.config.studies]

    def trained(self) -> list[str]:
        """Records of all trainings."""
        return [f"{self.root}/train/{cell}/record.jsonl" for cell in self._cells()]

    def accuracy(self) -> list[str]:
        """Records of all evaluations, controls included."""
        scored = [
            f"{self.root}/measure/{name}/accuracy/{model}-T{frames}-seed{seed}-{selection}.jsonl"
            for name, study in self.config.studies.items()
            for model in study.models
            for frames in study.frames
            for seed in study.seeds
            for selection in study.selections
        ]
        controls = [
            f"{self.root}/measure/{name}/controls/{control}-T{frames}.jsonl"
            for name, study in self.config.studies.items()
            for control in study.controls
            for frames in study.frames
        ]
        return scored + controls

    def cost(self) -> list[str]:
        """Records of all counted costs."""
        studies = self.config.studies.items()
        return [f"{self.root}/measure/{name}/cost/{model}.jsonl" for name, s in studies for model in s.cost_models()]

    def latency(self) -> list[str]:
        """Records of all timings and memory peaks, one file per study: its models are timed side by side."""
        return [f"{self.root}/measure/{name}/latency.jsonl" for name in self.config.studies]

    def claims(self) -> list[str]:
        """Counts behind the ledger of published numbers, where the run asks for it."""
        return [f"{self.root}/measure/claims.jsonl"] if self.config.claims else []

    def records(self) -> list[str]:
        """Every record file the report reads, published ones apart."""
        return [*self.trained(), *self.accuracy(), *self.cost(), *self.latency(), *self.claims()]

    def _cells(self) -> Iterator[str]:
        for name, study in self.config.studies.items():
            for model in study.models:
                for frames in study.frames:
                    yield from (f"{name}/{model}-T{frames}-seed{seed}" for seed in study.seeds)


def plan(values: dict[str, Any]) -> Run:
    """Check the configuration and plan the run; a wrong one ends Snakemake with the reason alone, no traceback."""
    try:
        return Run(parse(values))
    except ConfigError as error:
        raise SystemExit(f"posescale: {error}") from None


def data_options(study: Study) -> str:
    """Arguments of `posescale data prepare` for a study's dataset."""
    source = data_source(study.dataset)
    return " ".join(([f"--source {source!r}"] if source else []) + _settings(study.dataset.settings))


def training_options(study: Study) -> str:
    """Arguments of `posescale train` for a study's recipe."""
    return " ".join([f"--recipe {study.training.recipe}", *_settings(study.training.changes)])


def _settings(values: dict[str, Any]) -> list[str]:
    return [f"--set {key}={value}" for key, value in sorted(values.items())]


def code_digest(*folders: str, model: str | None = None) -> str:
    """Digest of the source a step depends on: when it changes, Snakemake runs the step again."""
    parts = [folder_digest(ROOT / "posescale" / folder) for folder in folders]
    if model is not None:
        try:
            parts.append(component(model).digest)
        except PosescaleError as error:
            raise SystemExit(f"posescale: {error}") from None
    return "-".join(parts)


def components_digest() -> str:
    """Digest of every component that cards declare."""
    return "-".join(sorted({found.digest for found in components().values()}))


def claim(folder: Path = Path(".snakemake")) -> None:
    """Hold the working folder until this process ends, however it ends; refuse when another run holds it.

    Snakemake's own lock outlives a killed process and then needs `--unlock`; the kernel drops this one.
    """
    folder.mkdir(exist_ok=True)
    descriptor = os.open(folder / "posescale.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode() or "unknown"
        sys.exit(f"posescale: another run (process {holder}) is at work in this folder; wait for it or stop it first")
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
