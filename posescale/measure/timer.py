"""The only clock of this package: every timing goes through here (a test keeps clocks out of all other files)."""

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import psutil
import torch

CYCLES = 20_000_000  # of the spin that is a GPU's control work


class Lap(NamedTuple):
    """One timed call.

    Attributes:
        output: what the call returned.
        device_ms: time on the device that computes, by events on a GPU.
        host_ms: wall time until the result is there, launch and synchronisation included.
    """

    output: Any
    device_ms: float
    host_ms: float


class Stopwatch(Protocol):
    """Times one call to completion."""

    def __call__(self, call: Callable[[], Any]) -> Lap:
        """Run `call` and time it."""


def stopwatch(device: str) -> Stopwatch:
    """The stopwatch of a device: the host's clock for `cpu`, events and explicit synchronisation for `cuda`."""
    return _by_events if torch.device(device).type == "cuda" else _by_clock


def _by_clock(call: Callable[[], Any]) -> Lap:
    start = time.perf_counter_ns()
    output = call()
    ms = (time.perf_counter_ns() - start) / 1e6
    return Lap(output, ms, ms)


def _by_events(call: Callable[[], Any]) -> Lap:
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start = time.perf_counter_ns()
    first.record()
    output = call()
    last.record()
    torch.cuda.synchronize()
    return Lap(output, first.elapsed_time(last), (time.perf_counter_ns() - start) / 1e6)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep Python's garbage collector out of the timings inside."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Watch:
    """What the machine did while something was timed.

    After `stop()`: `seconds` of wall time; `waited`, the share of it that this thread did not get a core; `foreign`,
    how many cores other processes kept busy, among those this process may use.
    """

    def __init__(self) -> None:
        self._cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
        self._before = self._now()
        self.seconds = self.waited = self.foreign = 0.0

    def stop(self) -> "Watch":
        """Fill in the figures."""
        wall, thread, process, busy = (b - a for a, b in zip(self._before, self._now()))
        self.seconds = wall
        self.waited = max(0.0, 1 - thread / wall)
        self.foreign = max(0.0, busy - process) / wall
        return self

    def _now(self) -> tuple[float, float, float, float]:
        busy = sum(
            sum(core)
            - core.idle
            - getattr(core, "iowait", 0.0)
            - getattr(core, "guest", 0.0)
            - getattr(core, "guest_nice", 0.0)
            for number, core in enumerate(psutil.cpu_times(percpu=True))
            if number in self._cores
        )
        return time.perf_counter_ns() / 1e9, time.thread_time(), time.process_time(), busy


def pause(seconds: float) -> None:
    """Let a hot device cool down."""
    time.sleep(seconds)


def control(device: str, clock: Callable[[], float | None] = lambda: None, repetitions: int = 9) -> dict[str, Any]:
    """Session controls in ms: the best time of a fixed piece of work, and of a call that does nothing.

    The best of several is blind to interruptions and sees what changes the machine's speed for good: clocks, heat,
    a neighbour on the same core. On a GPU the work is a spin of known cycles: with `clock`, the SM clock in MHz read
    while one runs, `cycles_error` says by which share the events' time differs from cycles over clock.
    """
    time_it = stopwatch(device)
    if torch.device(device).type == "cuda":

        def work() -> None:
            torch.cuda._sleep(CYCLES)
    else:
        square = torch.full((192, 192), 1e-3)

        def work() -> None:
            for _ in range(10):
                torch.mm(square, square)

    with torch.inference_mode(), undisturbed():
        laps = [(time_it(work).device_ms, time_it(lambda: None).device_ms) for _ in range(repetitions)]
        mhz = _clock_during(work, clock) if torch.device(device).type == "cuda" else None
    best = {"work": min(lap[0] for lap in laps), "nothing": min(lap[1] for lap in laps)}
    return best | ({"cycles_error": best["work"] * mhz * 1e3 / CYCLES - 1} if mhz else {})


def _clock_during(work: Callable[[], Any], clock: Callable[[], float | None]) -> float | None:
    """The clock while the device is busy with several pieces of work queued behind one another."""
    for _ in range(4):
        work()
    mhz = clock()
    torch.cuda.synchronize()
    return mhz


def copy_rate(device: str) -> float:
    """Bytes per second that a plain large copy moves on the device, read and written: the best of several."""
    size = 2**30 if torch.device(device).type == "cuda" else 2**26
    source = torch.ones(size, dtype=torch.int8, device=device)
    target, time_it = torch.empty_like(source), stopwatch(device)
    with torch.inference_mode(), undisturbed():
        best = min(time_it(lambda: target.copy_(source)).device_ms for _ in range(9))
    return 2 * size / best * 1e3
