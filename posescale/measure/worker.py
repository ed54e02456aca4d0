"""The process in which models are timed or weighed: one fresh one per round, so that a crash costs nothing else.

Reads one job as a line of JSON from standard input; writes one event per line of JSON to what was its standard output
(whatever a model prints goes to standard error). Ends when its parent does.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

import torch

from posescale import lifeline, provenance
from posescale.measure import climb, memory_meter, timer
from posescale.measure.contender import Contender, precision
from posescale.measure.gpu import Monitor, monitor
from posescale.measure.scan_subject import ScanSubject
from posescale.measure.subject import Measurable, Subject, refusal

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc", "cannot allocate memory")


def failure(error: BaseException) -> dict[str, str]:
    """Status and reason of a cell whose model raised."""
    text = f"{type(error).__name__}: {error}".strip()
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(w in text.lower() for w in _OUT_OF_MEMORY):
        return {"status": "oom", "reason": text.splitlines()[0]}
    if isinstance(error, Exception) and (words := refusal(error)) is not None:
        return {"status": "unsupported", "reason": words}
    return {"status": "crashed", "reason": text}


def measurable(spec: dict[str, Any]) -> Measurable:
    """What a cell's specification stands for: a scan, or a model."""
    return ScanSubject(**spec["scan"]) if "scan" in spec else Subject(**spec)


class Round:
    """One process's share of a session: every cell warmed, then timed in the job's order, then checked."""

    def __init__(self, job: dict[str, Any], channel: TextIO) -> None:
        self.job, self.channel = job, channel
        self.contenders: dict[int, Contender] = {}
        self.monitor = Monitor()

    def emit(self, event: str, **fields: Any) -> None:
        """Tell the parent."""
        self.channel.write(json.dumps({"event": event, **fields}) + "\n")
        self.channel.flush()

    def time(self) -> None:
        """Warm all cells before timing any; the controls come first and last."""
        job = self.job
        if self._unavailable():
            return
        memory_meter.limit(job["device"], job["memory_limit"])
        self.monitor = monitor(job["device"]).start()
        self._control()
        if any("scan" in cell for cell in job["cells"]):
            self.emit("copied", rate=timer.copy_rate(job["device"]))
        for index, cell in enumerate(job["cells"]):
            self._guard(index, "warm", lambda cell=cell, index=index: self._warm(index, cell))
        for index in job["order"]:
            if index in self.contenders:
                self._guard(index, "timed", lambda index=index: self._timed(index))
        for index in list(self.contenders):
            self._guard(index, "checked", lambda index=index: self._checked(index))
        self._control()
        self.monitor.stop()

    def _control(self) -> None:
        def clock() -> float | None:
            reading = self.monitor.look()
            return reading and reading.sm_clock

        self.emit("control", **timer.control(self.job["device"], clock))

    def climb(self) -> None:
        """One cell at growing sizes, up to the largest that fits."""
        if self._unavailable():
            return
        cell, job = self.job["cells"][0], self.job
        memory_meter.limit(job["device"], job["memory_limit"])
        self.emit("start", cell=0)
        for tried in climb.tries(cell, job["climb"], job["device"], job["dtype"], failure):
            self.emit("tried", **tried)

    def weigh(self) -> None:
        """Peak memory of one cell."""
        if self._unavailable():
            return
        cell, job = self.job["cells"][0], self.job
        memory_meter.limit(job["device"], job["memory_limit"])
        self._guard(0, "weighed", lambda: memory_meter.weigh(Subject(**cell), job["device"], job["dtype"]))

    def _unavailable(self) -> bool:
        missing = self.job["device"] != "cpu" and not torch.cuda.is_available()
        for index in range(len(self.job["cells"]) if missing else 0):
            reason = f"device {self.job['device']!r} is not to be had: this PyTorch sees no GPU"
            self.emit("failed", cell=index, status="unsupported", reason=reason)
        return missing

    def _guard(self, index: int, event: str, act: Callable[[], dict[str, Any]]) -> None:
        self.emit("start", cell=index)
        try:
            fields = act()
        except Exception as error:  # the model's failure is the cell's result
            self.contenders.pop(index, None)
            self.emit("failed", cell=index, **failure(error))
        else:
            self.emit(event, cell=index, **fields)

    def _warm(self, index: int, cell: dict[str, Any]) -> dict[str, Any]:
        job = self.job
        contender = Contender(measurable(cell), job["device"], job["dtype"], job["mode"], job["seed"], self.monitor)
        fields = contender.warm(job["seconds"] / 2)
        self.contenders[index] = contender
        return fields

    def _timed(self, index: int) -> dict[str, Any]:
        return self.contenders[index].timed(self.job["seconds"] / 2, self.job["least"])

    def _checked(self, index: int) -> dict[str, Any]:
        return {"disagreement": self.contenders[index].disagreement(self.job["seconds"])}


def main() -> None:
    """Run the job on standard input."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    lifeline.end_with_parent()
    lifeline.tell_where_when_asked()
    torch.set_num_threads(job["threads"])
    work = Round(job, channel)
    with precision(job["dtype"]):
        {"memory": work.weigh, "climb": work.climb, "time": work.time}[job["task"]]()
    seen = {"missing": work.monitor.missing, "foreign": sorted(work.monitor.foreign)}
    work.emit("end", fingerprint=provenance.fingerprint() | work.monitor.facts, monitor=seen)


if __name__ == "__main__":
    main()
