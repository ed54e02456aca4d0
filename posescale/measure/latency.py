"""Timing models side by side: interleaved rounds, each in a fresh process, under recorded conditions."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from posescale import stats
from posescale.measure.plan import Cell, Plan, Progress, check
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
    """

    half_width: float = 0.05
    samples: int = 6
    drift: float = 0.10
    foreign: float = 0.5
    waited: float = 0.10


def default_limits(device: str) -> Limits:
    """The bounds of a device: a GPU that is ours alone must be steadier than a shared CPU."""
    if device == "cpu":
        return Limits()
    return Limits(half_width=0.005, samples=100, drift=0.02, foreign=math.inf, waited=math.inf)


def latency(
    names: Sequence[str],
    frames: Sequence[int],
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
) -> list[Record]:
    """Time models against each other over clip lengths.

    Every round is a fresh process that warms all cells (model x T), then visits them in a random order and back
    again, and last compares outputs of timed calls with an eager float32 copy of the model.

    Args:
        names, frames: model ids and clip lengths T.
        batch, threads: clips per call, and PyTorch's threads on the CPU.
        rounds: at least 3 for an interval worth the name.
        seconds: busy time per cell and round; a slow model is called twice at least.
        device, dtype, mode: `cpu` or `cuda`; a key of `contender.DTYPES`; one of `contender.MODES`.
        attention: `fused` or `naive`, for models that have the choice.
        study, seed: written into the records; of inputs, of the order, and of the interval's draws.
        timeout, memory_limit: seconds one step of a cell may take, and GiB a worker may (all that is free when None).
        limits: bounds of `unstable` and `contaminated`; those of the device when None.
        overrides, progress: constructor arguments for all models; called with the share done and what is going on.

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
    plan = Plan(batch, threads, device, dtype, mode, seconds, timeout, memory_limit, seed, study,
                 dict(overrides or {}), preferences)  # fmt: skip
    session = _Session(plan, [Cell(name, t) for t in frames for name in names], rounds, progress)
    session.run()
    return [_record(cell, session, limits or default_limits(device)) for cell in session.cells]


class _Session:
    """All rounds over all cells."""

    def __init__(self, plan: Plan, cells: list[Cell], rounds: int, progress: Progress) -> None:
        self.plan, self.cells, self.rounds, self.progress = plan, cells, rounds, progress
        self.random = random.Random(plan.seed)
        self.controls: list[dict[str, float]] = []
        self.fingerprint: dict[str, Any] = {}
        self.drifts: list[float] = []

    def run(self) -> None:
        """All rounds."""
        for number in range(self.rounds):
            self.round(number)

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

    @property
    def drift(self) -> float:
        """Slowest over fastest control work of the session, minus 1."""
        work = [c["work"] for c in self.controls]
        return max(work) / min(work) - 1 if work else 0.0


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
                    self.session.controls.append({k: event[k] for k in ("work", "nothing")})
                case "end":
                    self.session.fingerprint = event["fingerprint"]
                case "warm":
                    cell.first_call.append(event["first_call"])
                    cell.facts |= {k: event[k] for k in ("frames_out", "backends", "changed_flags")}
                case "timed":
                    samples[id(cell)][0].extend(event["device_ms"])
                    samples[id(cell)][1].extend(event["host_ms"])
                    cell.waited = max(cell.waited, event["waited"])
                    cell.foreign = max(cell.foreign, event["foreign"])
                case "checked" if event["disagreement"]:
                    cell.failure = {"status": "contaminated", "reason": f"{event['disagreement']}; no time is reported"}
        for cell in self.cells:
            cell.device_ms.append(samples[id(cell)][0])
            cell.host_ms.append(samples[id(cell)][1])


def _record(cell: Cell, session: _Session, limits: Limits) -> Record:
    plan = session.plan
    shared = plan.record(cell, "latency", session.fingerprint)
    if cell.failure is not None:
        return Record(**shared, **cell.failure)
    median = stats.bootstrap_median(cell.device_ms, seed=plan.seed)
    flat = [ms for row in cell.device_ms for ms in row]
    shared["options"] |= {
        "seconds": plan.seconds,
        "frames_out": cell.facts["frames_out"],
        "round_p50_ms": [float(np.median(row)) for row in cell.device_ms],
        "first_call_s": cell.first_call,
        "conditions": {
            "control_drift": session.drift,
            "null_call_ms": min(c["nothing"] for c in session.controls),
            "foreign_cores": cell.foreign,
            "waited": cell.waited,
        },
        "limits": asdict(limits),
        "seed": plan.seed,
    }
    samples = {"latency": flat, "round": [float(i) for i, row in enumerate(cell.device_ms) for _ in row]}
    if plan.device != "cpu":
        samples["latency_host"] = [ms for row in cell.host_ms for ms in row]
    return Record(**shared, values=_values(cell, plan, median), samples=samples,
                  **_verdict(cell, session, limits, median))  # fmt: skip


def _values(cell: Cell, plan: Plan, median: stats.Estimate) -> list[Value]:
    flat = np.concatenate(cell.device_ms)
    frames = plan.batch * cell.facts["frames_out"]
    p50, low, high = median

    def ms(name: str, value: float, interval: tuple[float, float] | None = None) -> Value:
        return Value(name=name, value=value, unit="ms", better="lower", interval=interval)

    values = [ms("latency", p50, (low, high)), ms("latency_min", flat.min()), ms("latency_p5", np.percentile(flat, 5))]
    for percent in PERCENTILES:
        if flat.size >= stats.samples_needed(percent):
            values.append(ms(f"latency_p{percent:g}", np.percentile(flat, percent)))
    if plan.device != "cpu":
        values.append(ms("latency_host", float(np.median(np.concatenate(cell.host_ms)))))
    rate = {"unit": "frames/s", "better": "higher", "interval": (1e3 * frames / high, 1e3 * frames / low)}
    return [
        *values,
        ms("latency_mad", float(np.median(np.abs(flat - np.median(flat))))),
        ms("latency_per_frame", p50 / frames, (low / frames, high / frames)),
        Value(name="throughput", value=1e3 * frames / p50, **rate),
        Value(name="samples", value=flat.size, unit="calls"),
    ]


def _verdict(cell: Cell, session: _Session, limits: Limits, median: stats.Estimate) -> dict[str, str]:
    count = sum(map(len, cell.device_ms))
    doubts = [
        (bool(cell.facts["changed_flags"]), f"building the model changed {cell.facts['changed_flags']}"),
        (session.drift > limits.drift, f"the session's control work drifted by {session.drift:.1%}"),
        (cell.foreign > limits.foreign, f"other processes kept {cell.foreign:.2f} cores busy meanwhile"),
        (
            session.plan.threads == 1 and session.plan.device == "cpu" and cell.waited > limits.waited,
            f"for {cell.waited:.0%} of the time the process did not get its core",
        ),
    ]
    if reasons := [reason for holds, reason in doubts if holds]:
        return {"status": "contaminated", "reason": "; ".join(reasons)}
    if count < limits.samples:
        return {"status": "unstable", "reason": f"{count} calls were timed, {limits.samples} are needed"}
    if median.half_width > limits.half_width:
        wide = f"the median's interval is +-{median.half_width:.1%} wide, {limits.half_width:.1%} is allowed"
        return {"status": "unstable", "reason": wide}
    return {"status": "ok"}
