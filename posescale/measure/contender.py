"""One subject made ready for timing: built, moved, compiled or captured, warm, and checked against the truth."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from posescale import ops
from posescale.measure import timer
from posescale.measure.gpu import Monitor
from posescale.measure.subject import Measurable

DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Relative distance |y - y32| / |y32| of an output from the eager float32 model's, above which no time is reported.
BANDS = {"float32": 1e-3, "tf32": 2e-2, "float64": 1e-3, "bfloat16": 2e-1, "float16": 5e-2}
MODES = ("eager", "compile", "graph")
SDP = {  # PyTorch's fused attention kernels
    "flash": torch.backends.cuda.flash_sdp_enabled,
    "efficient": torch.backends.cuda.mem_efficient_sdp_enabled,
    "cudnn": torch.backends.cuda.cudnn_sdp_enabled,
    "math": torch.backends.cuda.math_sdp_enabled,
}
CHECKED = 10  # timed calls whose outputs are compared
SHORTEST_LAP = 0.5  # ms; shorter operators are timed several calls at once


class Contender:
    """A prepared subject, its inputs, and the outputs of some of its timed calls.

    Args:
        subject: what is timed, and its input shapes.
        device: `cpu` or `cuda`.
        dtype: a key of `DTYPES`; `tf32` is float32 with TensorFloat-32 products.
        mode: `eager`, `compile` (torch.compile) or `graph` (a captured CUDA graph).
        seed: of the inputs and of the choice of checked calls.
        monitor: of the GPU; calls timed while it was slowed down are marked.

    Raises:
        ValueError: the mode does not exist on the device, or the subject refuses the shape.
    """

    def __init__(
        self, subject: Measurable, device: str, dtype: str, mode: str, seed: int, monitor: Monitor | None = None
    ) -> None:
        if mode == "graph" and torch.device(device).type != "cuda":
            raise ValueError(f"mode 'graph' captures a CUDA graph; {device} has none")
        self.subject, self.dtype, self.time = subject, dtype, timer.stopwatch(device)
        self.monitor = monitor or Monitor()
        flags = torch_flags()
        model = subject.build()
        self.changed_flags = changed(flags, torch_flags())
        restore(flags)
        self.truth = subject.truth(model, device)
        self.model = model.to(device, DTYPES[dtype])
        count = _pool_size(subject, device)
        self.pool = [tuple(x.to(DTYPES[dtype]) for x in subject.inputs(seed + i, device)) for i in range(count)]
        self.flush = _flusher(device) if subject.cache == "cold" else None
        self.random = random.Random(seed)
        self.calls, self.kept, self.repeat = 0, [], 1
        with torch.inference_mode(), precision(dtype), ops.ran() as self.backends:
            self.run = self._prepare(mode)

    def _prepare(self, mode: str) -> Callable[..., Any]:
        if mode == "compile":
            return torch.compile(self.model, dynamic=False)
        return _captured(self.model, self.pool[0]) if mode == "graph" else self.model

    def warm(self, seconds: float) -> dict[str, Any]:
        """Call twice at least, then until `seconds` are busy or ten calls made.

        Returns:
            Seconds of the first call (compiling included), output frames per clip, and the back ends that ran.
        """
        with torch.inference_mode(), precision(self.dtype), ops.ran() as backends:
            first = self.time(lambda: self.run(*self.pool[0]))
            shortest, busy, calls = math.inf, 0.0, 1
            while calls < 2 or (busy < seconds and calls < 10):
                lap = self.time(lambda: self.run(*self.pool[0]))
                shortest = min(shortest, lap.device_ms)  # one disturbed call must not decide
                busy += lap.host_ms / 1e3
                calls += 1
        if self.subject.repeats and self.flush is None:  # very short calls are timed several at once
            self.repeat = max(1, min(64, int(SHORTEST_LAP / max(shortest, 1e-3))))
        return {
            "first_call": first.host_ms / 1e3,
            "frames_out": self.subject.frames_out(first.output),
            "backends": self.backends | backends,
            "changed_flags": self.changed_flags,
            "calls_per_sample": self.repeat,
            "inputs": len(self.pool),
        }

    def timed(self, seconds: float, least: int) -> dict[str, Any]:
        """Time calls on ever other inputs until `seconds` are busy and `least` calls made.

        A call during which the GPU was slowed down is counted as discarded, and a pause lets it recover.
        """
        device_ms, host_ms, busy, discarded = [], [], 0.0, 0
        mark = len(self.monitor.readings)
        with torch.inference_mode(), precision(self.dtype), timer.undisturbed():
            watch = timer.Watch()
            while busy < seconds or len(device_ms) + discarded < least:
                chosen = self.calls % len(self.pool)
                lap = self._lap(self.pool[chosen])
                busy += lap.host_ms / 1e3
                if self.monitor.slowed():
                    discarded += 1
                    timer.pause(min(0.5, 0.05 * 2 ** min(discarded, 4)))
                else:
                    device_ms.append(lap.device_ms / self.repeat)
                    host_ms.append(lap.host_ms / self.repeat)
                self._keep(chosen, lap.output)
            watch.stop()
        return {"device_ms": device_ms, "host_ms": host_ms, "waited": watch.waited, "foreign": watch.foreign,
                "discarded": discarded, "gpu": self.monitor.since(mark)}  # fmt: skip

    def _lap(self, inputs: tuple[Tensor, ...]) -> timer.Lap:
        if self.flush is not None:
            self.flush()
        if self.repeat == 1:
            return self.time(lambda: self.run(*inputs))
        return self.time(lambda: [self.run(*inputs) for _ in range(self.repeat)][-1])

    def _keep(self, chosen: int, output: Any) -> None:
        # Reservoir sampling: any CHECKED of all timed calls, with equal chance.
        self.calls += 1
        place = len(self.kept) if len(self.kept) < CHECKED else self.random.randrange(self.calls)
        if place < CHECKED:
            entry = (chosen, [x.clone() for x in self.subject.compared(output)])
            self.kept[place : place + 1] = [entry]

    def disagreement(self, seconds: float) -> str:
        """Compare kept outputs with the truth in float32; empty when all lie within the type's band.

        At least one output is checked, and as many as fit into `seconds`.
        """
        spent, band = 0.0, BANDS[self.dtype]
        for chosen, outputs in self.random.sample(self.kept, len(self.kept)):
            with torch.inference_mode(), precision("float32"):
                lap = self.time(lambda: self.truth(*(x.float() for x in self.pool[chosen])))  # noqa: B023 (at once)
            for expected, found in zip(self.subject.compared(lap.output), outputs, strict=True):
                if found.shape != expected.shape:
                    return f"a timed call gave shape {tuple(found.shape)}, the eager model {tuple(expected.shape)}"
                expected, found = expected.double(), found.double()
                distance = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
                if not distance <= band:
                    return (
                        f"a timed call's output is {distance:.2g} away from the eager float32 model's (band {band:g})"
                    )
            spent += lap.host_ms / 1e3
            if spent > seconds:
                break
        return ""


def _pool_size(subject: Measurable, device: str) -> int:
    """Distinct inputs: 8 on a CPU; on a GPU as many as hold twice its L2 cache, within bounds."""
    one = 4 * subject.elements()
    if torch.device(device).type != "cuda":
        return 8 if one < 2**26 else 2
    fits = max(2, 2**33 // one)  # 8 GiB of inputs at most
    return min(fits, max(8, min(64, 2 * torch.cuda.get_device_properties(device).L2_cache_size // one + 1)))


def _flusher(device: str) -> Callable[[], Any]:
    """Something that pushes everything else out of the caches: a write of twice the L2, 64 MiB on a CPU."""
    on_gpu = torch.device(device).type == "cuda"
    size = 2 * torch.cuda.get_device_properties(device).L2_cache_size if on_gpu else 2**26
    return torch.empty(size, dtype=torch.int8, device=device).zero_


def _captured(model: nn.Module, example: tuple[Tensor, ...]) -> Callable[..., Any]:
    with torch.inference_mode(False):
        still = [x.clone() for x in example]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model(*still)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = model(*still)

    def replay(*inputs: Tensor) -> Any:
        for kept, x in zip(still, inputs):
            kept.copy_(x)
        graph.replay()
        return output

    return replay


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Products in full float32 inside, or in TensorFloat-32 for the type `tf32`."""
    flags = torch_flags()
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = dtype == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(flags["float32_matmul_precision"])
        torch.backends.cudnn.allow_tf32 = flags["cudnn.allow_tf32"]


def torch_flags() -> dict[str, Any]:
    """Switches of PyTorch that change how fast or how exactly it computes."""
    return {
        "cudnn.enabled": torch.backends.cudnn.enabled,
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.deterministic": torch.backends.cudnn.deterministic,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "num_threads": torch.get_num_threads(),
        "default_dtype": torch.get_default_dtype(),
        "grad_enabled": torch.is_grad_enabled(),
        "sdp": "+".join(name for name, on in SDP.items() if on()) or "none",
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The switches that differ, in words."""
    return ", ".join(f"{k} from {v} to {after[k]}" for k, v in before.items() if after[k] != v)


def restore(flags: dict[str, Any]) -> None:
    """Put PyTorch's switches back."""
    torch.backends.cudnn.enabled = flags["cudnn.enabled"]
    torch.backends.cudnn.benchmark = flags["cudnn.benchmark"]
    torch.backends.cudnn.deterministic = flags["cudnn.deterministic"]
    torch.backends.cudnn.allow_tf32 = flags["cudnn.allow_tf32"]
    torch.set_float32_matmul_precision(flags["float32_matmul_precision"])
    torch.use_deterministic_algorithms(flags["deterministic_algorithms"])
    torch.set_num_threads(flags["num_threads"])
    torch.set_default_dtype(flags["default_dtype"])
    torch.set_grad_enabled(flags["grad_enabled"])
    torch.backends.cuda.enable_flash_sdp("flash" in flags["sdp"])
    torch.backends.cuda.enable_mem_efficient_sdp("efficient" in flags["sdp"])
    torch.backends.cuda.enable_cudnn_sdp("cudnn" in flags["sdp"])
    torch.backends.cuda.enable_math_sdp("math" in flags["sdp"])
