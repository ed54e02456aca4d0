"""Reading and bounding a process's memory."""

import ctypes
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from posescale import ops
from posescale.measure.contender import DTYPES
from posescale.measure.subject import Subject


def limit(device: str, gib: float | None) -> None:
    """Refuse allocations beyond `gib` more than now, or beyond what the machine has free when None.

    On a GPU the device's own memory is bounded, on a CPU the process's address space. So an allocation that is too
    large fails in the model, with a message, instead of ending the process.
    """
    if torch.device(device).type == "cuda":
        if gib is not None:
            share = gib * 2**30 / torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, share))
        return
    if sys.platform != "linux":
        return  # other systems do not enforce the limit
    import resource

    room = psutil.virtual_memory().available * 0.9 if gib is None else gib * 2**30
    ceiling = int(psutil.Process().memory_info().vms + room)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ceiling if hard < 0 else min(ceiling, hard), hard))


def weigh(subject: Subject, device: str, dtype: str) -> dict[str, Any]:
    """Peak memory of one forward pass, in bytes, and the back ends that ran.

    Meant for a fresh process. On a CPU: `peak_rss_delta` is the weights plus the growth of the resident set during a
    second call; the first one loads code and tables, which are not the model's. On a GPU: `peak_allocated` and
    `peak_reserved`. `weights` is parameters and buffers.
    """
    model, example = subject.build().to(device, DTYPES[dtype]), subject.draw(0).to(device, DTYPES[dtype])
    weights = sum(t.numel() * t.element_size() for t in [*model.parameters(), *model.buffers()])
    with torch.inference_mode(), ops.ran() as backends:
        model(example)
        before = restart(device)
        model(example)
    if torch.device(device).type != "cuda":
        sizes = {"peak_rss_delta": weights + peak(device, before), "weights": weights}
    else:
        allocated, reserved = peak(device, before), torch.cuda.max_memory_reserved(device)
        sizes = {"peak_allocated": allocated, "peak_reserved": reserved, "weights": weights}
    return {"backends": backends, "bytes": sizes}


def restart(device: str) -> int:
    """Start the record of the peak anew; the bytes from which `peak` counts."""
    return _restart_gpu(device) if torch.device(device).type == "cuda" else _restart_peak()


def peak(device: str, before: int) -> int:
    """Bytes at the peak since `restart`: all that PyTorch had allocated on a GPU, the growth on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    return max(0, _peak() - before)


def _restart_gpu(device: str) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _restart_peak() -> int:
    """Give freed memory back to the system and start its record of the peak anew; returns bytes resident now."""
    _trim()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return _peak()  # the old peak stays, so only growth above it will be seen
    return psutil.Process().memory_info().rss


def _trim() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        pass  # not the GNU C library: freed memory stays resident, and a second call may reuse it unseen


def _peak() -> int:
    """Largest resident set of this process so far, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
