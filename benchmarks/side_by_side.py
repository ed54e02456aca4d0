"""Times of rivals taken in turn, in one process, and their ratios with intervals.

One thread is timed by the process's CPU time, which other programs disturb least; several by the wall clock.
"""

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median

import torch

from posescale.ops.native import kernel, tokens
from posescale.stats import Estimate, bootstrap_ratio

Samples = dict[str, list[list[float]]]  # seconds by name, by round


def take_turns(works: dict[str, Callable[[], object]], threads: int, budget: float, least: int = 3) -> Samples:
    """Call every work in turn, round after round, for `budget` seconds but at least `least` rounds; one round warms.

    A fast work is called several times a round, so that it gets about as much time as the slowest allows.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    before = torch.get_num_threads()
    samples: Samples = {name: [] for name in works}
    try:
        torch.set_num_threads(threads)
        once = {name: _second_call(work, clock) for name, work in works.items()}
        slowest = max(once.values())
        calls = {name: max(1, min(20, int(slowest / max(seconds, 1e-6) / 4))) for name, seconds in once.items()}
        end = time.perf_counter() + budget
        while len(next(iter(samples.values()))) < least or time.perf_counter() < end:
            for name, work in works.items():
                samples[name].append([_timed(work, clock) for _ in range(calls[name])])
    finally:
        torch.set_num_threads(before)
    return samples


def ratios(samples: Samples, to: str) -> dict[str, Estimate]:
    """Each rival's median time over that of `to`, with a 95 % interval over the rounds."""
    return {name: bootstrap_ratio(rounds, samples[to], draws=300) for name, rounds in samples.items() if name != to}


def milliseconds(rounds: list[list[float]]) -> float:
    """The median."""
    return 1e3 * median(seconds for samples in rounds for seconds in samples)


def peak_mib(work: Callable[[], object]) -> float:
    """Growth of resident memory while `work` runs, at its highest; NaN where the system does not tell."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that others freed would be reused unseen
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status("VmRSS")
        work()
        return (_status("VmHWM") - before) / 1024
    except (OSError, AttributeError, TypeError):
        return float("nan")


def shares(work: Callable[[], object], least: float = 0.01) -> dict[str, float]:
    """Share of each operator and native call in `work`'s CPU time, the largest first, by torch's profiler."""
    named, cpu = torch.profiler.record_function, torch.profiler.ProfilerActivity.CPU
    with _native_calls_inside(named), torch.profiler.profile(activities=[cpu]) as profile:
        work()
    times = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    total = sum(times.values())
    found = {name: spent / total for name, spent in times.items() if spent >= least * total}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


@contextmanager
def in_native_calls() -> Iterator[list[float]]:
    """Wall seconds of every call into our C files made meanwhile; the rest of a work is Python and torch."""
    seconds: list[float] = []

    @contextmanager
    def timed(_: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds.append(time.perf_counter() - start)

    with _native_calls_inside(timed):
        yield seconds


@contextmanager
def _native_calls_inside(around: Callable[[str], AbstractContextManager[object]]) -> Iterator[None]:
    """Make every call into our C files, which are no operators, inside `around(its name)`."""

    def wrapped(run: Callable[..., None]) -> Callable[..., None]:
        def call(function: str, *inputs: object) -> None:
            with around(function):
                run(function, *inputs)

        return call

    runs = {module: module._run for module in (kernel, tokens)}
    try:
        for module, run in runs.items():
            module._run = wrapped(run)
        yield
    finally:
        for module, run in runs.items():
            module._run = run


def note(benchmark, samples: Samples, to: str, **more: object) -> str:
    """Put the ratios into the benchmark's JSON (`--benchmark-json`); the table's row as text."""
    found = ratios(samples, to)
    benchmark.extra_info.update(
        milliseconds={name: milliseconds(rounds) for name, rounds in samples.items()},
        ratios={name: list(ratio) for name, ratio in found.items()},
        samples=samples,
        **more,
    )
    cells = "".join(f"  {name} {r.value:.2f} [{r.low:.2f}, {r.high:.2f}]" for name, r in found.items())
    return f"{to} {milliseconds(samples[to]):9.2f} ms;{cells}"


def _second_call(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """The first may import or compile for a second, and finds cold caches."""
    work()
    return _timed(work, clock)


def _timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    work()
    return clock() - start


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
