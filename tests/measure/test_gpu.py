"""The GPU's monitor with made-up drivers: what it reads, what it marks, and what it says when there is nothing."""

import os
import stat
import sys
import types

import pytest
import torch

from posescale.measure import gpu
from posescale.measure.gpu import Monitor, Reading

QUIET = Reading(1980.0, 2619.0, 40.0, 300.0, 0.0)


def watched(*readings, default_clock=1980.0):
    monitor = Monitor("made up", default_clock=default_clock)
    monitor.readings.extend(readings)
    return monitor


@pytest.mark.parametrize(
    ("reading", "slowed"),
    [
        (QUIET, False),
        (QUIET._replace(sm_clock=0.76 * 1980), False),
        (QUIET._replace(sm_clock=0.74 * 1980), True),
        (QUIET._replace(slowdown=0x4), False),  # the power cap is no slowdown
        (QUIET._replace(slowdown=0x1), False),  # nor is an idle GPU
        *((QUIET._replace(slowdown=float(bit)), True) for bit in (0x8, 0x20, 0x40, 0x80, 0x84)),
    ],
)
def test_slowdowns(reading, slowed):
    assert watched(QUIET, reading).slowed() == slowed
    assert not watched(reading, QUIET).slowed()


def test_nothing_known_is_not_slow():
    assert not Monitor().slowed()
    assert not watched(QUIET._replace(sm_clock=0.0)).slowed()
    assert not watched(QUIET._replace(sm_clock=300.0), default_clock=0.0).slowed()


def test_readings_since_a_mark():
    monitor = watched(QUIET, QUIET._replace(sm_clock=1500.0))
    assert monitor.since(1)["gpu_sm_clock"] == [1500.0]
    assert monitor.since(2)["gpu_sm_clock"] == [1500.0]  # too short for a reading of its own: the newest
    assert gpu.typical_clock(monitor.since(0)) == 1740.0
    assert gpu.typical_clock({}) is None


def test_it_reads_in_the_background_until_stopped(monkeypatch):
    monkeypatch.setattr(gpu, "INTERVAL", 0.005)
    monitor = Monitor("made up", _look=lambda: QUIET, _processes=lambda: [os.getpid(), os.getppid(), 1])
    monitor.start()
    while len(monitor.readings) < 20:
        pass
    monitor.stop()
    count = len(monitor.readings)
    assert monitor.foreign <= {1} and monitor.missing == ""
    assert not monitor._thread.is_alive() and len(monitor.readings) == count


def test_a_driver_that_fails_ends_the_readings():
    def look():
        raise OSError("GPU is lost")

    monitor = Monitor("made up", _look=look)
    assert monitor.look() is None and "GPU is lost" in monitor.missing and monitor.source == ""


def other_processes(monkeypatch, listed, exists):
    monkeypatch.setattr(gpu.psutil, "pid_exists", lambda pid: exists)
    monitor = Monitor("made up", _processes=lambda: listed)
    monitor._find_foreign()
    return monitor.foreign


def test_foreign_processes(monkeypatch):
    me = os.getpid()
    assert other_processes(monkeypatch, [me, os.getppid()], True) == set()
    assert other_processes(monkeypatch, [me, 999999], True) == {999999}
    assert other_processes(monkeypatch, [999999], True) == {999999}
    # In a container the only process listed is this one, by its number outside.
    assert other_processes(monkeypatch, [999999], False) == set()
    assert other_processes(monkeypatch, [999999, 999998], False) == {999999, 999998}


class _Error(Exception):
    pass


def made_up_nvml(monkeypatch, **functions):
    def refuse(*_):
        raise _Error("not supported")

    names = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: ("handle", uuid),
        "nvmlDeviceGetHandleByIndex": lambda index: ("handle", index),
        "nvmlDeviceGetClockInfo": lambda handle, which: {0: 1980, 1: 2619}[which],
        "nvmlDeviceGetMaxClockInfo": lambda handle, which: 1980,
        "nvmlDeviceGetDefaultApplicationsClock": refuse,
        "nvmlDeviceGetTemperature": lambda handle, which: 41,
        "nvmlDeviceGetPowerUsage": lambda handle: 305_000,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 4,
        "nvmlDeviceGetUUID": lambda handle: b"GPU-1234",
        "nvmlSystemGetDriverVersion": lambda: "580.1",
        "nvmlDeviceGetEnforcedPowerLimit": lambda handle: 700_000,
        "nvmlDeviceGetMigMode": refuse,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [types.SimpleNamespace(pid=os.getpid())],
    }  # fmt: skip
    module = types.SimpleNamespace(NVMLError=_Error, NVML_CLOCK_SM=0, NVML_CLOCK_MEM=1, NVML_TEMPERATURE_GPU=0,
                                   **(names | functions))  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", module)


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(uuid="1234"))


def test_nvml(a_gpu, monkeypatch):
    made_up_nvml(monkeypatch)
    monitor = gpu.monitor("cuda")
    assert monitor.source == "nvml" and monitor.default_clock == 1980.0  # the default clock is refused: the largest
    assert monitor.look() == Reading(1980.0, 2619.0, 41.0, 305.0, 4.0)
    assert monitor.facts["driver"] == "580.1" and monitor.facts["gpu_mig"] is None
    assert monitor.facts["gpu_uuid"] == gpu._digest("GPU-1234") != "GPU-1234"


def test_nvidia_smi_where_there_is_no_nvml(a_gpu, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    script = tmp_path / "nvidia-smi"
    script.write_text(
        "#!/bin/sh\n"
        '[ "$1 $2" = "-i GPU-1234" ] || exit 9\n'
        'case "$3" in\n'
        '  *clocks.sm*) echo "1755, 2619, 40, 290.5, 0x0000000000000008";;\n'
        '  *uuid*) echo "GPU-1234, 580.1, 1980, [N/A]";;\n'
        '  *compute-apps*) echo "77";;\n'
        "esac\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monitor = gpu.monitor("cuda")
    assert monitor.source == "nvidia-smi" and monitor.look() == Reading(1755.0, 2619.0, 40.0, 290.5, 8.0)
    assert monitor.slowed() and monitor._processes() == [77] and monitor.facts["gpu_default_clock_mhz"] == 1980.0


def test_without_any_the_reasons_are_told(a_gpu, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monitor = gpu.monitor("cuda")
    assert monitor.source == "" and "nvml" in monitor.missing and "smi" in monitor.missing
    assert monitor.start().look() is None
    assert gpu.monitor("cpu").missing == "no GPU is measured"
