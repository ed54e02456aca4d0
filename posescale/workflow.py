"""What the Snakefile needs to know: paths, targets and parameters of one configured run. No torch here."""

import fcntl
import json
import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from posescale import consent
from posescale.cards import ROOT, component, components, folder_digest
from posescale.config import Config, Cost, Dataset, Latency, Machine, Study, data_source, parse, read
from posescale.data import catalog
from posescale.errors import ConfigError, PosescaleError

LAST_WEIGHTS = ("weights-last.pt", "history.csv", "record.jsonl")
WEIGHTS = (*LAST_WEIGHTS, "weights-val-best.pt")
SUFFIXES = {  # of accuracy files, by condition
    "as_is": "", "own_frame": "-own_frame", "shuffled": "-shuffled", "other_video": "-other_video",
}  # fmt: skip


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
        self._told = False

    def study(self, wildcards: Any) -> Study:
        """The study that a rule's wildcards name."""
        return self.config.studies[wildcards.study]

    def model(self, wildcards: Any) -> str:
        """Id of the model that a rule's wildcards name; a study may call it otherwise."""
        return self.study(wildcards).variant(wildcards.model)

    def data(self) -> list[str]:
        """Indices of all prepared datasets."""
        return [f"{self.root}/data/{name}/index.json" for name, study in self.config.studies.items() if study.dataset]

    def trained(self) -> list[str]:
        """Records of all trainings."""
        return [f"{self.root}/train/{cell}/record.jsonl" for cell in self._cells()]

    def accuracy(self) -> list[str]:
        """Records of all evaluations, controls included."""
        scored, controls = [], []
        for name, study in self.config.studies.items():
            folder = f"{self.root}/measure/{name}"
            scored += [
                f"{folder}/accuracy/{model}-T{frames}-seed{seed}-{selection}{SUFFIXES[condition]}.jsonl"
                for model, frames in study.cells()
                for seed in study.seeds
                for selection in study.selections
                for condition in study.conditions_of(frames)
            ]
            controls += [f"{folder}/controls/{control}-T{frames}.jsonl" for control, frames in study.controls_scored()]
        return scored + controls

    def cost(self) -> list[str]:
        """Records of all counted costs."""
        studies = self.config.studies.items()
        return [f"{self.root}/measure/{name}/cost/{model}.jsonl" for name, s in studies for model in s.cost_models()]

    def latency(self) -> list[str]:
        """Records of all timings and memory peaks, one file per study: its models are timed side by side."""
        studies = self.config.studies.items()
        return [f"{self.root}/measure/{name}/latency.jsonl" for name, study in studies if study.latency_models()]

    def claims(self) -> list[str]:
        """Counts behind the ledger of published numbers, where the run asks for it."""
        return [f"{self.root}/measure/claims.jsonl"] if self.config.claims else []

    def records(self) -> list[str]:
        """Every record file the report reads, published ones apart."""
        return [*self.trained(), *self.accuracy(), *self.cost(), *self.latency(), *self.claims()]

    def titles(self) -> str:
        """Options of `posescale report` that title this run's studies, and the published ones, whose folders go by
        their configurations' names.
        """
        names = dict.fromkeys(name for path in self.config.published for name in Path(path).parts)
        files = [ROOT / "workflows" / "config" / f"{name}.yaml" for name in names]
        runs = [*(read(file) for file in files if file.is_file()), self.config]
        titles = {name: study.title for run in runs for name, study in run.studies.items()}
        return " ".join(f"--study {shlex.quote(f'{name}={title}')}" for name, title in titles.items())

    def _cells(self) -> Iterator[str]:
        for name, study in self.config.studies.items():
            for model, frames in study.cells():
                yield from (f"{name}/{model}-T{frames}-seed{seed}" for seed in study.seeds)

    def validated(self) -> str:
        """Pattern of the studies that score the best epoch by validation, so that trainings must keep one."""
        return self._pattern(lambda study: "val-best" in study.selections)

    def unvalidated(self) -> str:
        """Pattern of the other studies."""
        return self._pattern(lambda study: "val-best" not in study.selections)

    def _pattern(self, wanted: Callable[[Study], bool]) -> str:
        return "|".join(name for name, study in self.config.studies.items() if wanted(study)) or "(?!)"

    def lacking(self) -> dict[str, str]:
        """Study -> what keeps its data from being prepared here; studies whose data are prepared, or can be, are left
        out.
        """
        found = {name: _lacking(study.dataset) for name, study in self.config.studies.items() if study.dataset}
        done = {name for name in found if Path(f"{self.root}/data/{name}/index.json").exists()}
        return {name: words for name, words in found.items() if words and name not in done}

    def raw(self, wildcards: Any) -> list[str]:
        """An input that does not exist, where a study's original files are missing; the first time, what is missing of
        all studies is said in words.
        """
        if wildcards.study not in (lacking := self.lacking()):
            return []
        if not self._told:
            self._told = True
            sys.stderr.write(_how_to_get(self, lacking))
        return [f"missing-data/{self.study(wildcards).dataset.name}"]


def _lacking(dataset: Dataset) -> str:
    source = data_source(dataset)
    card = catalog.dataset_card(dataset.name)
    try:
        lacking = catalog.missing(dataset.name, Path(source) if source else None, dataset.settings)
    except PosescaleError as error:
        raise SystemExit(f"posescale: {error}") from None
    agreed = consent.accepted(dataset.name, card.terms)
    return "; ".join(filter(None, [lacking, "" if agreed else "its licence is not accepted yet"]))


def _how_to_get(run: Run, lacking: dict[str, str]) -> str:
    """What is missing for which study, then how to get each dataset."""
    lines = [f"posescale: {run.config.name}: data are missing for {len(lacking)} of {len(run.config.studies)} studies"]
    datasets = {name: run.config.studies[name].dataset for name in lacking}
    for name, words in lacking.items():
        settings = ", ".join(f"{key}={value}" for key, value in datasets[name].settings.items())
        lines.append(f"  study {name}: {datasets[name].name}{f' ({settings})' if settings else ''}: {words}")
    for id in dict.fromkeys(dataset.name for dataset in datasets.values()):
        card = catalog.dataset_card(id)
        lines += ["", f"  {id}: {' '.join(card.title.split())}"]
        parts = {"licence": card.licence, "get it": card.obtain, "files": card.layout, "size": card.size}
        for word, text in parts.items():
            lines += textwrap.wrap(
                f"{word}: {' '.join(text.split())}",
                110,
                initial_indent="    ",
                subsequent_indent="      ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        if card.terms is not None and not consent.accepted(id, card.terms):
            lines.append(f"    accept the licence once: `posescale data prepare {id} --out FOLDER --accept-licence`")
    lines += [
        "",
        "  The original files are looked for below POSESCALE_DATA, or where a study's dataset.source says.",
        "",
    ]
    return "\n".join(lines)


def plan(values: dict[str, Any]) -> Run:
    """Check the configuration and plan the run; a wrong one ends Snakemake with the reason alone, no traceback."""
    try:
        return Run(parse(values))
    except ConfigError as error:
        raise SystemExit(f"posescale: {error}") from None


def data_options(study: Study) -> str:
    """Arguments of `posescale data prepare` for a study's dataset."""
    source = data_source(study.dataset)
    return " ".join(([f"--source {shlex.quote(source)}"] if source else []) + _settings(study.dataset.settings))


def training_options(study: Study, model: str, machine: Machine) -> str:
    """Arguments of `posescale train` for a model of a study: recipe, changes, its own arguments, size, machine."""
    place = {"device": machine.device, "devices": machine.devices, "workers": machine.workers}
    plain = Machine().model_dump()
    words = [f"--{key} {value}" for key, value in place.items() if value != plain[key]]
    words += [f"--label {label}"] if (label := study.label(model)) else []
    words += [f"--{side} {n}" for side, n in zip(("height", "width"), study.size or (), strict=False)]
    own = _settings(study.choice(model).overrides, "--model")
    return " ".join([f"--recipe {study.recipe_name(model)}", *_settings(study.changes(model)), *own, *words])


def scoring_options(study: Study, model: str, suffix: str, machine: Machine) -> str:
    """Arguments of `posescale evaluate` for a model of a study: the protocol its recipe teaches, condition, device."""
    rules = study.recipe(model).protocol
    words = [f"--protocol {rules}"] if rules else []
    words += [f"--condition {suffix[1:]}"] if suffix else []
    return " ".join(words + ([f"--device {machine.device}"] if machine.device != "cpu" else []))


def start_file(run: Run, wildcards: Any) -> list[str]:
    """The weights that a training starts from, if it does: a file, or what this run trains for the same seed."""
    study = run.study(wildcards)
    choice = study.choice(wildcards.model)
    if other := choice.start_from:
        cell = f"{other}-T{study.lengths(other)[0]}-seed{wildcards.seed}"
        return [f"{run.root}/train/{wildcards.study}/{cell}/weights-last.pt"]
    return [choice.start] if choice.start else []


def measured(study: Study, models: Iterable[str]) -> str:
    """Models as `posescale cost` and `posescale latency` take them: [LABEL=]MODEL[:KEY=VALUE]..."""
    return " ".join(shlex.quote(_entry(study, model)) for model in models)


def _entry(study: Study, model: str) -> str:
    label, overrides = study.label(model), study.choice(model).overrides
    pairs = [f":{key}={json.dumps(value)}" for key, value in sorted(overrides.items())]
    return (f"{label}=" if label else "") + study.variant(model) + "".join(pairs)


def shapes(study: Study, section: Cost) -> str:
    """Their --frames."""
    return ",".join(study.shapes(section))


def limits(latency: Latency) -> str:
    """The limits of a timing as options."""
    words = {"timeout": latency.timeout, "memory-limit": latency.memory_limit}
    return " ".join(f"--{name} {number:g}" for name, number in words.items() if number is not None)


def _settings(values: dict[str, Any], option: str = "--set") -> list[str]:
    return [f"{option} {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in sorted(values.items())]


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
