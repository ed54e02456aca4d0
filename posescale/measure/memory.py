"""Peak memory of models over clip lengths, each cell in a fresh process."""

from collections.abc import Mapping, Sequence
from typing import Any

from posescale.measure.plan import Cell, Entry, Plan, Progress, Shape, check, model_cells
from posescale.measure.session import Event, Worker
from posescale.records import Record, Value


def memory(
    names: Sequence[str | Entry],
    frames: Sequence[int | Shape],
    batch: int = 1,
    threads: int = 1,
    device: str = "cpu",
    dtype: str = "float32",
    attention: str | None = None,
    study: str = "",
    timeout: float = 120.0,
    memory_limit: float | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress = lambda share, what: None,
) -> list[Record]:
    """Peak memory of one forward pass, each cell in a fresh process; arguments as in `posescale.measure.latency`.

    Returns:
        Records of kind `memory`: on a CPU `peak_rss_delta` (weights, and the growth of the resident set
        during a call), on a GPU `peak_allocated` and `peak_reserved`; `weights` is parameters and buffers. In MiB.
    """
    check(names, frames, device, dtype, batch=batch, threads=threads, timeout=timeout)
    plan = Plan(threads, device, dtype, "eager", 0.0, timeout, memory_limit, 0, study)
    preferences = {"attention": attention} if attention else {}
    cells = model_cells(names, frames, batch, overrides or {}, preferences)
    records = []
    for number, cell in enumerate(cells):
        progress(number / len(cells), f"memory: {cell.label}")
        records.append(_weighed(cell, plan))
    return records


def _weighed(cell: Cell, plan: Plan) -> Record:
    events: dict[str, Event] = {}
    ending = Worker(plan.job("memory", [cell], [], 0), plan.timeout).hear(lambda e: events.update({e["event"]: e}))
    failed = events.get("failed", ending)
    cell.facts["backends"] = events.get("weighed", {}).get("backends", {})
    shared = plan.record(cell, "memory", events.get("end", {}).get("fingerprint", {}))
    if failed is not None:
        return Record(**shared, status=failed["status"], reason=failed["reason"])
    sizes = events["weighed"]["bytes"].items()
    values = [Value(name=name, value=size / 2**20, unit="MiB", better="lower") for name, size in sizes]
    return Record(**shared, values=values)
