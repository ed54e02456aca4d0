"""What one GPU does while something runs on it: clocks, heat, power, slowdowns and other programs, at 10 Hz.

Read through NVML (the package nvidia-ml-py) or, without it, from `nvidia-smi`; nothing is ever set.
"""

import hashlib
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import psutil

INTERVAL = 0.1  # seconds between readings
SLOWDOWN = 0x8 | 0x20 | 0x40 | 0x80  # NVML's reasons: hardware, software-thermal, hardware-thermal, power brake
SLOW = 0.75  # of the default SM clock; below it a timing does not count
_QUERY = "clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_throttle_reasons.active"


class Reading(NamedTuple):
    """One look at the GPU: MHz, MHz, degrees Celsius, watts, NVML's bit mask of slowdown reasons."""

    sm_clock: float
    memory_clock: float
    temperature: float
    power: float
    slowdown: float


@dataclass
class Monitor:
    """Readings of one GPU, taken in a thread between `start` and `stop`.

    Attributes:
        source: `nvml`, `nvidia-smi`, or empty when neither works; then `missing` says why.
        facts: identity and settings of the GPU, for the fingerprint.
        default_clock: of the SMs in MHz; 0 when unknown.
        readings: all so far, in order.
        foreign: process ids seen on the GPU that belong to none of ours.
    """

    source: str = ""
    missing: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    default_clock: float = 0.0
    readings: list[Reading] = field(default_factory=list)
    foreign: set[int] = field(default_factory=set)
    _look: Callable[[], Reading] | None = None
    _processes: Callable[[], list[int]] = list
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> "Monitor":
        """Begin reading."""
        if self._look is not None and self._thread is None:
            self.look()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """End reading."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self.look()

    def look(self) -> Reading | None:
        """Take one reading now; a driver that fails ends the readings and is named in `missing`."""
        if self._look is None:
            return None
        try:
            reading = self._look()
        except Exception as error:  # a driver error must not end a measurement
            self.source, self._look, self.missing = "", None, f"the driver stopped answering: {error}"
            return None
        self.readings.append(reading)
        return reading

    def slowed(self) -> bool:
        """Whether the newest reading shows a slowdown, so that what was just timed does not count."""
        if not self.readings:
            return False
        newest = self.readings[-1]
        slow = 0 < newest.sm_clock < SLOW * self.default_clock
        return slow or bool(int(newest.slowdown) & SLOWDOWN)

    def since(self, mark: int) -> dict[str, list[float]]:
        """The readings from number `mark` on, by quantity."""
        rows = self.readings[mark:] or self.readings[-1:]
        return {f"gpu_{name}": [row[i] for row in rows] for i, name in enumerate(Reading._fields)}

    def _watch(self) -> None:
        count = 0
        while not self._stop.wait(INTERVAL):
            self.look()
            count += 1
            if count % 10 == 1:
                self._find_foreign()

    def _find_foreign(self) -> None:
        try:
            seen = self._processes()
        except Exception:  # not every driver tells; the facts say so
            self.facts["gpu_processes"] = "not told"
            return
        unknown = [pid for pid in seen if pid not in _own()]
        if len(seen) == len(unknown) == 1 and not psutil.pid_exists(unknown[0]):
            return  # a container's process is listed by its number outside, and it is the only one
        self.foreign.update(unknown)


def monitor(device: str) -> Monitor:
    """A monitor of a CUDA device; one without a source for any other device, or where nothing can be read."""
    import torch

    if torch.device(device).type != "cuda":
        return Monitor(missing="no GPU is measured")
    identity = torch.cuda.get_device_properties(device)
    uuid = str(getattr(identity, "uuid", ""))
    reasons = []
    for build in (_nvml, _smi):
        try:
            return build(uuid)
        except Exception as error:  # absent package, library, program or permission
            reasons.append(f"{build.__name__.strip('_')}: {type(error).__name__}: {error}")
    return Monitor(missing="; ".join(reasons))


def typical_clock(readings: dict[str, list[float]]) -> float | None:
    """The median SM clock in MHz, None without readings."""
    clocks = [c for c in readings.get("gpu_sm_clock", []) if c > 0]
    return median(clocks) if clocks else None


def _nvml(uuid: str) -> Monitor:
    import pynvml

    pynvml.nvmlInit()
    if uuid:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
    else:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def ask(function: str, *arguments: Any) -> Any:
        try:
            return getattr(pynvml, function)(handle, *arguments)
        except (pynvml.NVMLError, AttributeError):
            return None

    def look() -> Reading:
        watts = ask("nvmlDeviceGetPowerUsage")
        return Reading(
            float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
            float(ask("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM) or 0),
            float(ask("nvmlDeviceGetTemperature", pynvml.NVML_TEMPERATURE_GPU) or 0),
            (watts or 0) / 1e3,
            float(ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0),
        )

    look()
    default = ask("nvmlDeviceGetDefaultApplicationsClock", pynvml.NVML_CLOCK_SM)
    default = default or ask("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM) or 0
    mig = ask("nvmlDeviceGetMigMode")
    facts = {
        "gpu_uuid": _digest(_text(ask("nvmlDeviceGetUUID"))),
        "driver": _text(pynvml.nvmlSystemGetDriverVersion()),
        "gpu_default_clock_mhz": default,
        "gpu_max_clock_mhz": ask("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM),
        "gpu_power_limit_w": (ask("nvmlDeviceGetEnforcedPowerLimit") or 0) / 1e3,
        "gpu_mig": mig[0] if mig else None,
        "gpu_clocks": "unlocked, read by NVML at 10 Hz",
    }
    return Monitor(
        "nvml", facts=facts, default_clock=float(default), _look=look,
        _processes=lambda: [p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)],
    )  # fmt: skip


def _smi(uuid: str) -> Monitor:
    chosen = ["-i", uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"] if uuid else ["-i", "0"]

    def ask(query: str, about: str = "gpu") -> list[list[str]]:
        command = ["nvidia-smi", *chosen, f"--query-{about}={query}", "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return [[word.strip() for word in line.split(",")] for line in done.stdout.splitlines() if line.strip()]

    def look() -> Reading:
        return Reading(*map(_number, ask(_QUERY)[0]))

    look()
    name, driver, most, mig = ask("uuid,driver_version,clocks.max.sm,mig.mode.current")[0]
    facts = {
        "gpu_uuid": _digest(name), "driver": driver, "gpu_default_clock_mhz": _number(most), "gpu_mig": mig,
        "gpu_clocks": "unlocked, read by nvidia-smi",
    }  # fmt: skip
    return Monitor(
        "nvidia-smi", facts=facts, default_clock=_number(most), _look=look,
        _processes=lambda: [int(row[0]) for row in ask("pid", "compute-apps")],
    )  # fmt: skip


def _number(word: str) -> float:
    try:
        return float(int(word, 16)) if word.startswith("0x") else float(word)
    except ValueError:
        return 0.0  # "[N/A]"


def _own() -> set[int]:
    me = psutil.Process()
    relatives = [*me.parents(), *me.children(recursive=True)]
    return {os.getpid(), *(p.pid for p in relatives)}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _digest(uuid: str) -> str:
    return hashlib.sha256(uuid.encode()).hexdigest()[:12]
