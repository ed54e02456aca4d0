"""One model made ready for timing: built, moved, compiled or captured, warm, and checked against itself in float32."""

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from posescale import ops
from posescale.measure import timer
from posescale.measure.subject import Subject

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
CHECKED = 10  # timed calls whose outputs are compared


class Contender:
    """A prepared model, its inputs, and the outputs of some of its timed calls.

    Args:
        subject: the model and its input shape.
        device: `cpu` or `cuda`.
        dtype: a key of `DTYPES`; `tf32` is float32 with TensorFloat-32 products.
        mode: `eager`, `compile` (torch.compile) or `graph` (a captured CUDA graph).
        seed: of the inputs and of the choice of checked calls.

    Raises:
        ValueError: the mode does not exist on the device, or the model refuses the shape.
    """

    def __init__(self, subject: Subject, device: str, dtype: str, mode: str, seed: int) -> None:
        if mode == "graph" and torch.device(device).type != "cuda":
            raise ValueError(f"mode 'graph' captures a CUDA graph; {device} has none")
        self.subject, self.dtype, self.time = subject, dtype, timer.stopwatch(device)
        flags = torch_flags()
        model = subject.build()
        self.changed_flags = changed(flags, torch_flags())
        restore(flags)
        self.reference = copy.deepcopy(model).to(device)
        self.model = model.to(device, DTYPES[dtype])
        self.pool = [subject.draw(seed + i).to(device, DTYPES[dtype]) for i in range(_pool_size(subject, device))]
        self.random = random.Random(seed)
        self.calls, self.kept = 0, []
        with torch.inference_mode(), precision(dtype):
            self.run = self._prepare(mode)

    def _prepare(self, mode: str) -> Callable[[Tensor], Any]:
        if mode == "compile":
            return torch.compile(self.model, dynamic=False)
        return _captured(self.model, self.pool[0]) if mode == "graph" else self.model

    def warm(self, seconds: float) -> dict[str, Any]:
        """Call twice at least, then until `seconds` are busy or ten calls made.

        Returns:
            Seconds of the first call (compiling included), output frames per clip, and the back ends that ran.
        """
        with torch.inference_mode(), precision(self.dtype), ops.ran() as backends:
            first = self.time(lambda: self.run(self.pool[0]))
            busy, calls = 0.0, 1
            while calls < 2 or (busy < seconds and calls < 10):
                busy += self.time(lambda: self.run(self.pool[0])).host_ms / 1e3
                calls += 1
        return {
            "first_call": first.host_ms / 1e3,
            "frames_out": _frames(first.output),
            "backends": dict(backends),
            "changed_flags": self.changed_flags,
        }

    def timed(self, seconds: float, least: int) -> dict[str, Any]:
        """Time calls on ever other inputs until `seconds` are busy and `least` calls made."""
        device_ms, host_ms, busy = [], [], 0.0
        with torch.inference_mode(), precision(self.dtype), timer.undisturbed():
            watch = timer.Watch()
            while busy < seconds or len(device_ms) < least:
                chosen = self.calls % len(self.pool)
                lap = self.time(lambda: self.run(self.pool[chosen]))  # noqa: B023 (called at once)
                device_ms.append(lap.device_ms)
                host_ms.append(lap.host_ms)
                busy += lap.host_ms / 1e3
                self._keep(chosen, lap.output)
            watch.stop()
        return {"device_ms": device_ms, "host_ms": host_ms, "waited": watch.waited, "foreign": watch.foreign}

    def _keep(self, chosen: int, output: Any) -> None:
        # Reservoir sampling: any CHECKED of all timed calls, with equal chance.
        self.calls += 1
        place = len(self.kept) if len(self.kept) < CHECKED else self.random.randrange(self.calls)
        if place < CHECKED:
            entry = (chosen, _first(output).clone())
            self.kept[place : place + 1] = [entry]

    def disagreement(self, seconds: float) -> str:
        """Compare kept outputs with a fresh eager float32 model's; empty when all lie within the type's band.

        At least one output is checked, and as many as fit into `seconds`.
        """
        spent, band = 0.0, BANDS[self.dtype]
        for chosen, output in self.random.sample(self.kept, len(self.kept)):
            fresh = copy.deepcopy(self.reference)
            with torch.inference_mode(), precision("float32"):
                lap = self.time(lambda: fresh(self.pool[chosen].float()))  # noqa: B023 (called at once)
            expected, found = _first(lap.output).double(), output.double()
            if found.shape != expected.shape:
                return f"a timed call gave shape {tuple(found.shape)}, the eager model {tuple(expected.shape)}"
            distance = float((found - expected).norm() / expected.norm().clamp_min(1e-30))
            if not distance <= band:
                return f"a timed call's output is {distance:.2g} away from the eager float32 model's (band {band:g})"
            spent += lap.host_ms / 1e3
            if spent > seconds:
                break
        return ""


def _pool_size(subject: Subject, device: str) -> int:
    if torch.device(device).type != "cuda":
        return 8
    one = subject.draw(0).numel() * 4
    return max(8, min(64, 2 * torch.cuda.get_device_properties(device).L2_cache_size // one + 1))


def _captured(model: nn.Module, example: Tensor) -> Callable[[Tensor], Tensor]:
    still = example.clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            model(still)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = model(still)

    def replay(x: Tensor) -> Tensor:
        still.copy_(x)
        graph.replay()
        return output

    return replay


def _first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else _first(next(iter(output)))


def _frames(output: Any) -> int:
    """Output frames of one clip: 1 for a model that answers for one frame."""
    tensor = _first(output)
    return tensor.shape[1] if tensor.ndim == 4 and tensor.shape[-1] == 3 else 1


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
