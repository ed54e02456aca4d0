"""Timing models side by side: interleaved rounds, each in a fresh process, under recorded conditions."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from posescale import stats
from posescale.measure.gpu import typical_clock
from posescale.measure.plan import Cell, Entry, Plan, Progress, Shape, check, model_cells
from posescale.measure.session import Event, Worker
from posescale.records import Record, Value

PERCENTILES = (90.0, 95.0, 99.0)


@dataclass(frozen=True)
class Limits:
    """Bounds beyond which a timing is kept but marked.

    Attributes:
        half_width: of the median's interval, as a share of the median; above it the row is `unstable`.
        samples: below this many it is `unstable` too.
        drift: of the session's control work, slowest over fastest minus 1; above it all rows are `contaminated`.
        foreign: cores that other processes keep busy while a row is timed; above it the row is `contaminated`.
        waited: share of the time a single-threaded row did not get its core; above it the row is `contaminated`.
        seconds: of accumulated calls; a row with less is `unstable`.
        discarded: share of calls during which the GPU was slowed down; above it the row is `unstable`.
        cycles: by which the spin of known cycles may differ from its cycles over the SM clock read meanwhile; above it
            all rows are `contaminated`.
    """

    half_width: float = 0.05
    samples: int = 6
    drift: float = 0.10
    foreign: float = 0.5
    waited: float = 0.10
    seconds: float = 0.0
    discarded: float = 0.05
    cycles: float = 0.02


def default_limits(device: str) -> Limits:
    """The bounds of a device: a GPU that is ours alone must be steadier than a shared CPU."""
    if device == "cpu":
        return Limits()
    return Limits(half_width=0.005, samples=100, drift=0.02, foreign=math.inf, waited=math.inf, seconds=10.0)


def latency(
    names: Sequence[str | Entry],
    frames: Sequence[int | Shape],
    batch: int = 1,
    threads: int = 1,
    rounds: int = 3,
    seconds: float = 1.0,
    device: str = "cpu",
    dtype: str = "float32",
    mode: str = "eager",
    attention: str | None = None,
    study: str = "",
    seed: int = 0,
    timeout: float = 120.0,
    memory_limit: float | None = None,
    limits: Limits | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress = lambda share, what: None,
    proceed: Callable[[], bool] = lambda: True,
) -> list[Record]:
    """Time models against each other over clip lengths.

    Every round is a fresh process that warms all cells (model x T), then visits them in a random order and back
    again, and last compares outputs of timed calls with an eager float32 copy of the model.

    Args:
        names, frames: model ids (or ids with arguments of their own), and clip lengths T (or shapes of clips).
        batch, threads: clips per call, and PyTorch's threads on the CPU.
        rounds: at least 3 for an interval worth the name.
        seconds: busy time per cell and round; a slow model is called twice at least.
        device, dtype, mode: `cpu` or `cuda`; a key of `contender.DTYPES`; one of `contender.MODES`.
        attention: `fused` or `naive`, for models that have the choice.
        study, seed: written into the records; of inputs, of the order, and of the interval's draws.
        timeout, memory_limit: seconds one step of a cell may take, and GiB a worker may (all that is free when None).
        limits: bounds of `unstable` and `contaminated`; those of the device when None.
        overrides, progress: constructor arguments for all models; called with the share done and what is going on.
        proceed: asked after every round but the last; if not, the rows are those of the rounds made, and `unstable`.

    Returns:
        One record per cell, `ok` or with the status and reason of what went wrong; nothing a model does raises here.

    Raises:
        UnavailableError, ConfigError: no model has one of the names; a setting is out of range.
    """
    check(
        names,
        frames,
        device,
        dtype,
        mode,
        batch=batch,
        threads=threads,
        rounds=rounds,
        seconds=seconds,
        timeout=timeout,
    )
    preferences = {"attention": attention} if attention else {}
    cells = model_cells(names, frames, batch, overrides or {}, preferences)
    plan = Plan(threads, device, dtype, mode, seconds, timeout, memory_limit, seed, study)
    return latency_of(cells, plan, rounds, limits, progress, proceed)


def latency_of(
    cells: list[Cell],
    plan: Plan,
    rounds: int = 3,
    limits: Limits | None = None,
    progress: Progress = lambda share, what: None,
    proceed: Callable[[], bool] = lambda: True,
) -> list[Record]:
    """Time cells of any kind against each other, as `latency` does: one record per cell, in order."""
    session = _Session(plan, cells, rounds, progress)
    session.run(proceed)
    return [_record(cell, session, limits or default_limits(plan.device)) for cell in cells]


class _Session:
    """All rounds over all cells."""

    def __init__(self, plan: Plan, cells: list[Cell], rounds: int, progress: Progress) -> None:
        self.plan, self.cells, self.rounds, self.progress = plan, cells, rounds, progress
        self.random, self.made = random.Random(plan.seed), 0
        self.controls: list[dict[str, Any]] = []
        self.copy_rate = 0.0  # bytes/s of a large copy on the device, read and written
        self.monitoring: dict[str, Any] = {}
        self.fingerprint: dict[str, Any] = {}

    def run(self, proceed: Callable[[], bool]) -> None:
        """All rounds, or as many as may proceed."""
        while self.made < self.rounds and (not self.made or proceed()):
            self.round(self.made)
            self.made += 1

    def round(self, number: int) -> None:
        """Time every cell that has not failed; a process that dies is replaced by one without its last cell."""
        while alive := [cell for cell in self.cells if cell.failure is None]:
            attempt = _Attempt(self, alive, number)
            order = self.random.sample(range(len(alive)), len(alive))
            job = self.plan.job("time", alive, [*order, *reversed(order)], self.plan.seed + 1000 * number)
            ending = Worker(job, self.plan.timeout).hear(attempt)
            if ending is None:
                attempt.keep()
                return
            for cell in [attempt.current] if attempt.current else alive:
                cell.failure = ending

    def heed(self, monitor: dict[str, Any]) -> None:
        """Keep what a worker's GPU monitor says at its end: the worst of all rounds."""
        self.monitoring["missing"] = self.monitoring.get("missing") or monitor["missing"]
        self.monitoring["foreign"] = sorted({*self.monitoring.get("foreign", []), *monitor["foreign"]})

    @property
    def drift(self) -> float:
        """Slowest over fastest control work of the session, minus 1."""
        work = [c["work"] for c in self.controls]
        return max(work) / min(work) - 1 if work else 0.0

    @property
    def cycles_error(self) -> float | None:
        """Largest disagreement between the spin's time and its known cycles; None where no clock could be read."""
        errors = [abs(c["cycles_error"]) for c in self.controls if "cycles_error" in c]
        return max(errors) if errors else None


class _Attempt:
    """What one process says; kept only if it reaches its end."""

    def __init__(self, session: _Session, cells: list[Cell], number: int) -> None:
        self.session, self.cells, self.number = session, cells, number
        self.current: Cell | None = None
        self.events: list[Event] = []
        self.steps = 4 * len(cells)  # warm, two visits, check

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        cell = self.cells[event["cell"]] if "cell" in event else None
        self.current = cell if event["event"] == "start" else None
        if event["event"] == "failed":
            cell.failure = {"status": event["status"], "reason": event["reason"]}
        done = sum(e["event"] in ("warm", "timed", "checked", "failed") for e in self.events) / self.steps
        share = (self.number + min(done, 1.0)) / self.session.rounds
        self.session.progress(share, f"round {self.number + 1}: {cell.label if cell else 'controls'}")

    def keep(self) -> None:
        samples = {id(cell): ([], []) for cell in self.cells}
        for event in self.events:
            cell = self.cells[event["cell"]] if "cell" in event else None
            match event["event"]:
                case "control":
                    self.session.controls.append({k: v for k, v in event.items() if k != "event"})
                case "copied":
                    self.session.copy_rate = max(self.session.copy_rate, event["rate"])
                case "end":
                    self.session.fingerprint = event["fingerprint"]
                    self.session.heed(event["monitor"])
                case "warm":
                    cell.first_call.append(event["first_call"])
                    cell.facts |= {k: v for k, v in event.items() if k not in ("event", "cell", "first_call")}
                case "timed":
                    samples[id(cell)][0].extend(event["device_ms"])
                    samples[id(cell)][1].extend(event["host_ms"])
                    cell.waited = max(cell.waited, event["waited"])
                    cell.foreign = max(cell.foreign, event["foreign"])
                    cell.discarded += event["discarded"]
                    for name, readings in event["gpu"].items():
                        cell.gpu.setdefault(name, []).extend(readings)
                case "checked" if event["disagreement"]:
                    cell.failure = {"status": "contaminated", "reason": f"{event['disagreement']}; no time is reported"}
        for cell in self.cells:
            cell.device_ms.append(samples[id(cell)][0])
            cell.host_ms.append(samples[id(cell)][1])


def _record(cell: Cell, session: _Session, limits: Limits) -> Record:
    plan = session.plan
    shared = plan.record(cell, cell.kind, session.fingerprint)
    if cell.failure is not None:
        return Record(**shared, **cell.failure)
    flat = [ms for row in cell.device_ms for ms in row]
    if not flat:
        reason = f"the GPU was slowed down during all {cell.discarded} timed calls"
        return Record(**shared, status="unstable", reason=reason, samples=cell.gpu)
    median = stats.bootstrap_median([row for row in cell.device_ms if row], seed=plan.seed)
    shared["options"] |= {
        "seconds": plan.seconds,
        "frames_out": cell.facts["frames_out"],
        "round_p50_ms": [float(np.median(row)) for row in cell.device_ms if row],
        "first_call_s": cell.first_call,
        "calls_per_sample": cell.facts["calls_per_sample"],
        "inputs_in_rotation": cell.facts["inputs"],
        "conditions": _conditions(cell, session),
        "limits": asdict(limits),
        "seed": plan.seed,
    }
    samples = {"latency": flat, "round": [float(i) for i, row in enumerate(cell.device_ms) for _ in row]}
    if plan.device != "cpu":
        samples |= {"latency_host": [ms for row in cell.host_ms for ms in row], **cell.gpu}
    return Record(**shared, values=_values(cell, session, median), samples=samples,
                  **_verdict(cell, session, limits, median))  # fmt: skip


def _conditions(cell: Cell, session: _Session) -> dict[str, Any]:
    conditions = {
        "control_drift": session.drift,
        "null_call_ms": min(c["nothing"] for c in session.controls),
        "foreign_cores": cell.foreign,
        "waited": cell.waited,
    }
    if session.plan.device == "cpu":
        return conditions
    return conditions | {
        "cycles_error": session.cycles_error,
        "discarded": cell.discarded,
        "foreign_processes": len(session.monitoring.get("foreign", [])),
    }


def _values(cell: Cell, session: _Session, median: stats.Estimate) -> list[Value]:
    flat = np.concatenate(cell.device_ms)
    frames = cell.batch * cell.facts["frames_out"]
    p50, low, high = median

    def ms(name: str, value: float, interval: tuple[float, float] | None = None) -> Value:
        return Value(name=name, value=value, unit="ms", better="lower", interval=interval)

    values = [ms("latency", p50, (low, high)), ms("latency_min", flat.min()), ms("latency_p5", np.percentile(flat, 5))]
    for percent in PERCENTILES if cell.facts["calls_per_sample"] == 1 else ():
        if flat.size >= stats.samples_needed(percent):
            values.append(ms(f"latency_p{percent:g}", np.percentile(flat, percent)))
    if session.plan.device != "cpu":
        values.append(ms("latency_host", float(np.median(np.concatenate(cell.host_ms)))))
    if (clock := typical_clock(cell.gpu)) is not None:
        values.append(Value(name="latency_cycles", value=p50 * clock * 1e3, unit="cycles", better="lower"))
    rate = {"unit": "frames/s", "better": "higher", "interval": (1e3 * frames / high, 1e3 * frames / low)}
    return [
        *values,
        ms("latency_mad", float(np.median(np.abs(flat - np.median(flat))))),
        ms("latency_per_frame", p50 / frames, (low / frames, high / frames)),
        Value(name="throughput", value=1e3 * frames / p50, **rate),
        Value(name="samples", value=flat.size, unit="calls"),
        *_rates(cell, session, p50),
    ]


def _rates(cell: Cell, session: _Session, p50: float) -> list[Value]:
    """Work of one call over its time; traffic also as a share of what a plain copy moves on this device."""
    values = []
    if "bytes" in cell.work:
        rate = cell.work["bytes"] / p50 * 1e3
        rates = {"unit": "GB/s", "better": "higher", "convention": "compulsory"}
        values = [Value(name="bytes", value=cell.work["bytes"], unit="B", convention="compulsory"),
                  Value(name="bandwidth", value=rate / 1e9, **rates)]  # fmt: skip
        if session.copy_rate:
            copied, share = session.copy_rate / 1e9, rate / session.copy_rate
            values += [Value(name="copy_bandwidth", value=copied, unit="GB/s", better="higher"),
                       Value(name="bandwidth_share", value=share, unit="", better="higher")]  # fmt: skip
    if "flops" in cell.work:
        values.append(Value(name="flop_rate", value=cell.work["flops"] / p50 / 1e6, unit="GFLOP/s", better="higher"))
    return values


def _verdict(cell: Cell, session: _Session, limits: Limits, median: stats.Estimate) -> dict[str, str]:
    plan, count = session.plan, sum(map(len, cell.device_ms))
    busy = sum(map(sum, cell.host_ms)) * cell.facts["calls_per_sample"] / 1e3
    off, monitoring = session.cycles_error, session.monitoring
    doubts = [
        (bool(cell.facts["changed_flags"]), f"building the model changed {cell.facts['changed_flags']}"),
        (session.drift > limits.drift, f"the session's control work drifted by {session.drift:.1%}"),
        (off is not None and off > limits.cycles, f"a spin of known cycles was off by {off or 0:.1%}"),
        (cell.foreign > limits.foreign, f"other processes kept {cell.foreign:.2f} cores busy meanwhile"),
        (
            plan.threads == 1 and plan.device == "cpu" and cell.waited > limits.waited,
            f"for {cell.waited:.0%} of the time the process did not get its core",
        ),
        (
            plan.device != "cpu" and bool(monitoring.get("missing")),
            f"the GPU's clocks and heat could not be read ({monitoring.get('missing')})",
        ),
        (bool(monitoring.get("foreign")), f"other processes were on the GPU: {monitoring.get('foreign')}"),
    ]
    if reasons := [reason for holds, reason in doubts if holds]:
        return {"status": "contaminated", "reason": "; ".join(reasons)}
    shaky = [
        (session.made < session.rounds, f"{session.made} of {session.rounds} rounds were made before the time was up"),
        (
            cell.discarded > limits.discarded * (count + cell.discarded),
            f"the GPU was slowed down during {cell.discarded} of {count + cell.discarded} calls",
        ),
        (count < limits.samples, f"{count} calls were timed, {limits.samples} are needed"),
        (busy < limits.seconds, f"calls of {busy:.1f} s were accumulated, {limits.seconds:g} s are needed"),
        (
            median.half_width > limits.half_width,
            f"the median's interval is +-{median.half_width:.1%} wide, {limits.half_width:.1%} is allowed",
        ),
    ]
    if reasons := [reason for holds, reason in shaky if holds]:
        return {"status": "unstable", "reason": "; ".join(reasons)}
    return {"status": "ok"}
