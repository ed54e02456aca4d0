"""Growing one size of a model until memory or time ends: by doubling, then by bisection. Runs in a worker process."""

import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch

from posescale.measure import memory_meter, timer
from posescale.measure.contender import DTYPES, precision
from posescale.measure.subject import Subject

FINE = 1 / 16  # bisection stops when the largest size that fits is known to this share
Tried = dict[str, Any]


def tries(
    cell: dict[str, Any], ways: dict[str, Any], device: str, dtype: str, failure: Callable[[BaseException], dict]
) -> Iterator[Tried]:
    """Size after size: what one call took, or how it failed.

    Args:
        cell: fields of a `Subject`, as plain JSON.
        ways: `along` (frames, batch or resolution), `start`, `most`, `step` (sizes are its multiples), `seconds`
            (no larger size is tried once a call takes longer).
        device, dtype: as in `posescale.measure.latency`.
        failure: status and reason of an exception.
    """
    good, bad, size = 0, None, ways["start"]
    while size <= ways["most"]:
        result = _attempt(sized(cell, ways["along"], size), device, dtype, failure)
        yield {"size": size, **result}
        if result["status"] == "ok":
            good = size
        else:
            bad = size
            break
        if result["ms"] > 1e3 * ways["seconds"]:
            return  # what fits in the time is known, not what fits in the memory
        size *= 2
    step = ways["step"]
    while good and bad and result["status"] in ("ok", "oom") and bad - good > max(step, FINE * good):
        size = (good + bad) // 2 // step * step
        if size in (good, bad):
            return
        result = _attempt(sized(cell, ways["along"], size), device, dtype, failure)
        yield {"size": size, **result}
        good, bad = (size, bad) if result["status"] == "ok" else (good, size)


def sized(cell: dict[str, Any], along: str, size: int) -> dict[str, Any]:
    """The cell at another T, batch or height (the width keeps the card's 3 to 4)."""
    if along == "resolution":
        return cell | {"overrides": {**cell["overrides"], "height": size, "width": size * 3 // 4}}
    return cell | {along: size}


def _attempt(cell: dict[str, Any], device: str, dtype: str, failure: Callable[[BaseException], dict]) -> Tried:
    subject = Subject(**cell)
    try:
        return {"status": "ok", **_call(subject, device, dtype)}
    except Exception as error:  # the size's failure is its result
        found = failure(error) | _memory(device)
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
    return found


def _call(subject: Subject, device: str, dtype: str) -> Tried:
    time_it = timer.stopwatch(device)
    with torch.inference_mode(), precision(dtype):
        model = subject.build().to(device, DTYPES[dtype])
        (x,) = (x.to(DTYPES[dtype]) for x in subject.inputs(0, device))
        model(x)
        before = memory_meter.restart(device)
        laps = [time_it(lambda: model(x)) for _ in range(3)]
        peak = memory_meter.peak(device, before)
    return {"ms": min(lap.device_ms for lap in laps), "peak": peak, "frames_out": subject.frames_out(laps[0].output)}


def _memory(device: str) -> dict[str, int]:
    """Bytes free and in use when a size failed."""
    if torch.device(device).type != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info(device)
    return {"free": free, "total": total, "allocated": torch.cuda.memory_allocated(device)}
