"""Running a plan within given minutes: cell after cell, each in a process of its own, each kept as a whole or not.

The folder of a campaign holds `records.jsonl`, `campaign.log` (what every cell took), and `data` and `trained` for
cells that go on in a later call.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from posescale import records
from posescale.campaign.plan import Cell
from posescale.errors import ConfigError
from posescale.measure.session import Event, Worker
from posescale.records import Record

log = logging.getLogger(__name__)
RECORDS, LOG = "records.jsonl", "campaign.log"
RESERVE = 5.0  # seconds kept for ending and the table
LEAST = 20.0  # seconds that are worth starting a resumable cell for
PATIENCE, SHORTEST_LIMIT = 4.0, 120.0  # times its forecast that a cell may take, and seconds at least
LEAST_LEARNT = 0.5  # a few quick cells must not make all others look quick
MODULE = "posescale.campaign.cell"


@dataclass
class Outcome:
    """What became of one cell in this call: `done`, `earlier`, `left`, `cut`, with its records.

    A cell that was `blocked` in an earlier call is tried again: what it needs may be there now.

    `seconds` is what it took, or for a cell that was left what it would take.
    """

    cell: Cell
    state: str
    seconds: float = 0.0
    records: list[Record] = field(default_factory=list)


def run(
    cells: list[Cell],
    out: Path,
    device: str,
    minutes: float,
    earlier: Path | None = None,
    study: str = "campaign",
    progress: Callable[[str], None] = log.info,
) -> list[Outcome]:
    """Run what fits.

    Args:
        cells: of the plan, in order.
        out: the campaign's folder; what it holds is taken up.
        device: cpu or cuda.
        minutes: after which nothing runs any more. A cell whose forecast does not fit is left for a later call; one
            that outlasts the minutes is stopped and left too, one that outlasts PATIENCE gets a `timeout` record.
        earlier: folder of an earlier call, copied into `out` first where `out` has nothing of its own.
        study: name written into the records.
        progress: told what is going on.

    Returns:
        what became of every cell, in the plan's order.

    Raises:
        ConfigError: `minutes` is not positive, or `earlier` is no folder.
    """
    end = time.monotonic() + 60 * minutes - RESERVE
    if not minutes > 0:
        raise ConfigError(f"minutes must be more than 0, found {minutes}")
    _take_up(earlier, out)
    campaign = _Campaign(out, device, study, _kept(out), _Diary(out / LOG), progress)
    return [campaign.attempt(cell, end, f"{number} of {len(cells)}") for number, cell in enumerate(cells, 1)]


def _take_up(earlier: Path | None, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if earlier is None or earlier.resolve() == out.resolve():
        return
    if not earlier.is_dir():
        raise ConfigError(f"{earlier}: no folder; give the --out of an earlier call")
    for name in (RECORDS, LOG, "data", "trained"):
        source, target, partial = earlier / name, out / name, out / f".{name}.partial"
        if target.exists() or not source.exists():
            continue
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial) if source.is_dir() else shutil.copyfile(source, partial)
        partial.rename(target)


def _kept(out: Path) -> dict[str, list[Record]]:
    """Records of earlier calls by the key of their cell."""
    kept: dict[str, list[Record]] = {}
    for record in records.read(out / RECORDS) if (out / RECORDS).exists() else ():
        if key := record.options.get("campaign", {}).get("cell"):
            kept.setdefault(key, []).append(record)
    return kept


class _Diary:
    """What cells took: the base of forecasts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = [line for text in _lines(path) if (line := _parsed(text))]

    def add(self, **line: Any) -> None:
        """One more line, whole or not at all."""
        self.lines.append(line)
        with self.path.open("ab", buffering=0) as stream:
            stream.write(("\n" + json.dumps(line) + "\n").encode())

    def forecast(self, cell: Cell, key: str) -> float:
        """The plan's seconds, scaled by what this kind of run took so far; at least what a cut attempt had."""
        ratios = [x["seconds"] / x["planned"] for x in self.lines if x["run"] == cell.run and x["state"] == "done"]
        cut = [x["seconds"] for x in self.lines if x["cell"] == key and x["state"] == "cut"]
        learnt = max(LEAST_LEARNT, median(ratios)) if ratios else 1.0
        return max([cell.forecast * learnt, *(1.2 * seconds for seconds in cut)])


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
        return line if {"cell", "run", "state", "seconds", "planned"} <= line.keys() else None
    except (ValueError, AttributeError):
        return None  # torn or empty


@dataclass
class _Campaign:
    out: Path
    device: str
    study: str
    earlier: dict[str, list[Record]]
    diary: _Diary
    progress: Callable[[str], None]

    def attempt(self, cell: Cell, end: float, place: str) -> Outcome:
        key = cell.key(self.device)
        earlier = self.earlier.get(key, [])
        ended = [record for record in earlier if cell.blocked or record.status != "blocked"]
        if ended:
            return Outcome(cell, "earlier", records=ended)
        if cell.blocked:  # by the plan itself
            return self._keep(cell, key, 0.0, [_blocked(cell, self.device, self.study)])
        room, forecast = end - time.monotonic(), self.diary.forecast(cell, key)
        if room < (min(LEAST, forecast) if cell.resumable else forecast):
            return Outcome(cell, "left", forecast)
        self.progress(f"{place}, {room:.0f} s left: {cell.part}: {cell.label}")
        return self._run(cell, key, end, forecast)

    def _run(self, cell: Cell, key: str, end: float, forecast: float) -> Outcome:
        limit = max(SHORTEST_LIMIT, PATIENCE * forecast)
        begun = time.monotonic()
        stop = end if cell.resumable else min(end, begun + limit)
        job = {"run": cell.run, "settings": cell.settings, "device": self.device, "out": str(self.out.resolve()),
               "study": self.study, "threads": 1, "limit": stop - begun}  # fmt: skip
        found, failure = _hear(Worker(job, stop - begun, MODULE), stop, self.progress)
        seconds = time.monotonic() - begun
        if failure is not None and failure["status"] == "timeout" and time.monotonic() >= end - 0.5:
            self.diary.add(cell=key, label=cell.label, run=cell.run, state="left" if cell.resumable else "cut",
                           seconds=seconds, planned=cell.forecast)  # fmt: skip
            return Outcome(cell, "cut", seconds)
        if failure is not None:
            found.append(_failed(cell, self.device, self.study, **failure))
        return self._keep(cell, key, seconds, found)

    def _keep(self, cell: Cell, key: str, seconds: float, found: list[Record]) -> Outcome:
        mark = {"cell": key, "part": cell.part, "label": cell.label}
        marked = [_marked(record, mark) for record in found]
        known = {record.id for record in self.earlier.get(key, [])}  # blocked before, for the same reason
        records.append(self.out / RECORDS, *(record for record in marked if record.id not in known))
        state = "noted" if all(record.status == "blocked" for record in marked) else "done"  # quick: no forecast
        self.diary.add(cell=key, label=cell.label, run=cell.run, state=state, seconds=seconds, planned=cell.forecast)
        return Outcome(cell, "done", seconds, marked)


def _hear(worker: Worker, stop: float, progress: Callable[[str], None]) -> tuple[list[Record], dict[str, str] | None]:
    """The records of a cell's process, and how it failed if it did."""
    found: list[Record] = []
    failures: list[dict[str, str]] = []

    def on_event(event: Event) -> None:
        worker.timeout = max(0.1, stop - time.monotonic())
        if event["event"] == "progress":
            progress(f"    {event['line']}")
        if event["event"] == "record":
            found.append(Record.model_validate_json(event["line"]))
        if event["event"] == "failed":
            failures.append({"status": event["status"], "reason": event["reason"]})

    ending = worker.hear(on_event)
    if ending is None and not found and not failures:
        ending = {"status": "crashed", "reason": "the cell gave no record"}
    return found, ending or next(iter(failures), None)


def _marked(record: Record, mark: dict[str, str]) -> Record:
    content = record.model_dump() | {"id": "", "options": {**record.options, "campaign": mark}}
    return Record.model_validate(content)


def _blocked(cell: Cell, device: str, study: str) -> Record:
    return _failed(cell, device, study, "blocked", cell.blocked)


def _failed(cell: Cell, device: str, study: str, status: str, reason: str) -> Record:
    """A cell without a result of its own, as a record."""
    from posescale.cards import component
    from posescale.provenance import fingerprint

    kinds = {"right": "check", "scan": "operator", "models": "latency", "accuracy": "accuracy", "video": "accuracy"}
    variant = cell.settings.get("model") or next(iter(cell.settings.get("models", [])), "")
    card, digest = (component(variant).card.id, component(variant).digest) if variant else ("ops", "")
    return Record(
        kind=kinds[cell.part], component=card, variant=variant or "multi_scan", digest=digest, study=study,
        device=device, options={"settings": cell.settings}, status=status, reason=reason, fingerprint=fingerprint(),
    )  # fmt: skip
