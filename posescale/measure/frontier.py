"""How far a model goes: the largest clip, batch or picture that fits, and the batch at which it is fastest."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from posescale.cards import component
from posescale.measure.plan import Plan, check, model_cell
from posescale.measure.session import Event, Worker
from posescale.records import Record, Value

Along = Literal["frames", "batch", "resolution"]


def frontier(
    name: str,
    along: Along,
    start: int,
    most: int,
    step: int = 1,
    frames: int = 81,
    batch: int = 1,
    device: str = "cuda",
    dtype: str = "float32",
    attention: str | None = None,
    seconds: float = 2.0,
    threads: int = 1,
    timeout: float = 120.0,
    memory_limit: float | None = None,
    overrides: Mapping[str, Any] | None = None,
    study: str = "",
) -> Record:
    """Let one size grow by doubling until memory ends, then bisect. Nothing a model does raises here.

    Args:
        name: model id.
        along: what grows: T, clips per call, or the picture's height (its width is three quarters of it).
        start, most, step: first size, last size tried, and what sizes are multiples of.
        frames, batch: T and clips per call where they do not grow.
        seconds: a size whose call takes longer is the last; then the frontier is one of time, and the record says so.
        device, dtype, attention, threads, timeout, memory_limit, overrides, study: as in `posescale.measure.latency`.

    Returns:
        A record of kind `memory`. Values: `largest_frames`, `largest_batch` or `largest_resolution`, and for growing
        batches `best_batch` with its `throughput`; `bytes_per_size` is the slope of the peak. Samples: every size
        tried with milliseconds, peak in MiB and success. `options.frontier` says what ended it.

    Raises:
        UnavailableError, ConfigError: no such model; a setting is out of range.
    """
    check([name], [frames], device, dtype, batch=batch, start=start, most=most, step=step, timeout=timeout)
    plan = Plan(threads, device, dtype, "eager", seconds, timeout, memory_limit, 0, study)
    sizes = {"frames": frames, "batch": batch} | ({} if along == "resolution" else {along: start})
    cell = model_cell(name, overrides=overrides or {}, preferences={"attention": attention} if attention else {},
                      **sizes)  # fmt: skip
    ways = {"along": along, "start": start, "most": most, "step": step, "seconds": seconds}
    events: list[Event] = []
    ending = Worker(plan.job("climb", [cell], [], 0, climb=ways), timeout).hear(events.append)
    tried = [e for e in events if e["event"] == "tried"]
    ended = next((e for e in events if e["event"] == "end"), {})
    shared = plan.record(cell, "memory", ended.get("fingerprint", {}))
    shared["options"] |= {"scenario": "frontier", "along": along, "frontier": _ending(tried, ending, seconds, most)}
    shared[along] = None
    fits = [t for t in tried if t["status"] == "ok"]
    if not fits:
        failed = next((e for e in events if e["event"] in ("failed", "tried")), ending)
        return Record(**shared, status=failed["status"], reason=failed["reason"])
    return Record(**shared, values=_values(fits, along, sizes, component(name).card.task), samples=_samples(tried))


def _ending(tried: list[Event], ending: dict[str, str] | None, seconds: float, most: int) -> dict[str, Any]:
    failed = [t for t in tried if t["status"] != "ok"]
    if ending is not None:
        return {"by": ending["status"], "reason": ending["reason"]}
    if failed:
        smallest = min(failed, key=lambda t: t["size"])
        return {"by": smallest["status"], **{k: v for k, v in smallest.items() if k not in ("event", "status")}}
    if tried and tried[-1]["ms"] > 1e3 * seconds:
        return {"by": "time", "reason": f"a call took {tried[-1]['ms'] / 1e3:.2f} s, more than {seconds:g} s"}
    return {"by": "limit", "reason": f"larger sizes than {most} were not asked for"}


def _values(fits: list[Event], along: Along, sizes: dict[str, int], task: str) -> list[Value]:
    largest = max(fits, key=lambda t: t["size"])
    values = [
        Value(name=f"largest_{along}", value=largest["size"], unit=_UNITS[along], better="higher"),
        Value(name="peak", value=largest["peak"] / 2**20, unit="MiB", better="lower"),
    ]
    if len(fits) > 1:
        slope = np.polyfit([t["size"] for t in fits], [t["peak"] for t in fits], 1)[0]
        if slope > 0:  # a CPU's resident set may hide it
            unit = f"B/{_UNITS[along]}"
            values.append(Value(name="bytes_per_size", value=float(slope), unit=unit, better="lower"))
    if along == "batch":
        best = max(fits, key=lambda t: t["size"] / t["ms"])
        rate = 1e3 * best["size"] * best["frames_out"] / best["ms"]
        values += [
            Value(name="best_batch", value=best["size"], unit="clips"),
            Value(name="best_throughput", value=rate, unit="frames/s", better="higher"),
        ]
    return values


_UNITS = {"frames": "frames", "batch": "clips", "resolution": "px"}


def _samples(tried: list[Event]) -> dict[str, list[float]]:
    return {
        "size": [float(t["size"]) for t in tried],
        "fits": [float(t["status"] == "ok") for t in tried],
        "ms": [t.get("ms", float("nan")) for t in tried],
        "peak_mib": [t["peak"] / 2**20 if "peak" in t else float("nan") for t in tried],
    }
