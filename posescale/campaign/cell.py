"""The process that runs one cell: a job as a line of JSON in, records as events out. Ends when its parent does."""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from posescale import lifeline
from posescale.errors import ConfigError
from posescale.records import Record

# what a plan may `run`: module below posescale.campaign, function
RUNS = {
    "scan_is_right": ("right", "scan_is_right"),
    "model_is_right": ("right", "model_is_right"),
    "scan": ("scan", "scan"),
    "latency": ("models", "latency"),
    "memory": ("models", "memory"),
    "frontier": ("models", "frontier"),
    "throughput": ("models", "throughput"),
    "train": ("accuracy", "train"),
}


@dataclass(frozen=True)
class Context:
    """What every run is told besides its own settings.

    Attributes:
        device: cpu or cuda.
        out: the campaign's folder, for data and weights that outlive the cell.
        study: name written into the records.
        seconds: until this cell is stopped.
        tell: shows a line to people.
    """

    device: str
    out: Path
    study: str
    seconds: float = math.inf
    tell: Callable[[str], None] = lambda line: None
    began: float = field(default_factory=time.monotonic)

    def another_round(self) -> Callable[[], bool]:
        """To be asked after every round of a session that begins now: does one as long as the longest still fit?"""
        marks = [time.monotonic()]

        def fits() -> bool:
            marks.append(time.monotonic())
            took = [after - before for before, after in zip(marks, marks[1:])]
            left = self.seconds - (marks[-1] - self.began)
            self.tell(f"round {len(took)} took {took[-1]:.0f} s, {left:.0f} s left")
            return 1.1 * max(took) < left

        return fits


Run = Callable[..., Iterable[Record]]


def function(run: str) -> Run:
    """The function of a run: takes a Context and the entry's settings as keywords, gives records.

    Raises:
        ConfigError: there is none of that name.
    """
    if run not in RUNS:
        raise ConfigError(f"a plan cannot run {run!r}; there are {', '.join(RUNS)}")
    module, name = RUNS[run]
    return getattr(import_module(f"posescale.campaign.{module}"), name)


def main() -> None:
    """Run the cell on standard input."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a run prints goes to standard error
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    lifeline.end_with_parent()
    lifeline.tell_where_when_asked()

    def emit(event: str, **fields: Any) -> None:
        channel.write(json.dumps({"event": event, **fields}) + "\n")
        channel.flush()

    context = Context(
        job["device"], Path(job["out"]), job["study"], job["limit"], lambda line: emit("progress", line=line)
    )
    try:
        for record in function(job["run"])(context, **job["settings"]):
            emit("record", line=record.line())
    except Exception as error:  # a cell's failure is its result; the campaign goes on
        from posescale.measure.worker import failure

        emit("failed", **failure(error))
    emit("end")


if __name__ == "__main__":
    main()
