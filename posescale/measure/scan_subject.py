"""A multi-direction scan as something to time: the operator alone, by one back end, at one shape."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from posescale.cards import ROOT, folder_digest
from posescale.measure.plan import Cell
from posescale.ops import dt_projection_macs, multi_scan, scan_backward_bytes, scan_bytes, scan_flops
from posescale.ops.registry import BACKENDS


@dataclass(frozen=True)
class ScanShape:
    """K directions over B rows of L tokens from S sources; D channels, N states, rank R."""

    batch: int
    length: int
    channels: int
    states: int
    rank: int
    directions: int = 4
    sources: int = 2

    def flops(self) -> int:
        """Of one forward pass: the recurrence and the low-rank product inside."""
        b, k, length, d = self.batch, self.directions, self.length, self.channels
        return scan_flops(b, k, length, d, self.states) + 2 * dt_projection_macs(b, k, length, d, self.rank)

    def bytes(self, passes: str) -> int:
        """Compulsory traffic in float32: every tensor once in each pass."""
        sizes = (self.batch, self.directions, self.length, self.channels, self.states, self.rank, self.sources)
        return scan_bytes(*sizes) + (scan_backward_bytes(*sizes) if passes == "forward+backward" else 0)


@dataclass(frozen=True)
class ScanSubject:
    """A scan to time.

    Attributes:
        shape: fields of a `ScanShape`.
        backend: name of a back end; `auto` is not timed, so that nothing falls back unseen.
        passes: `forward`, or `forward+backward` with the gradients of every input.
        cache: `warm` or `cold`.
    """

    shape: dict[str, int]
    backend: str
    passes: str = "forward"
    cache: str = "warm"
    repeats = True

    @property
    def sizes(self) -> ScanShape:
        """The shape, with its names."""
        return ScanShape(**self.shape)

    def build(self) -> nn.Module:
        """The operator with Mamba's usual parameters and two interleaved order tables, each both ways."""
        return _Scan(self.sizes, self.backend, self.passes)

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        """Tokens, projections and the gradient that comes back; drawn on the device, for they may be gigabytes."""
        g = torch.Generator(device).manual_seed(seed)
        return tuple(torch.randn(shape, generator=g, device=device) for shape in self._shapes())

    def elements(self) -> int:
        """Numbers in one call's inputs."""
        return sum(map(math.prod, self._shapes()))

    def _shapes(self) -> list[tuple[int, ...]]:
        q = self.sizes
        return [(q.batch, q.sources, q.length, q.channels),
                (q.batch, q.length, q.directions, q.rank + 2 * q.states),
                (q.batch, q.length, q.channels)]  # fmt: skip

    def truth(self, model: nn.Module, device: str) -> Callable[..., Any]:
        """The pure-torch loop on the first row of the batch; rows do not depend on one another."""
        loop = _Scan(self.sizes, "torch", self.passes).to(device)
        return lambda *inputs: loop(*(x[:1] for x in inputs))

    def compared(self, output: Any) -> Sequence[Tensor]:
        """First row of the output, and of the gradients of the batched inputs."""
        return [x[:1] for x in output[:3]]

    def frames_out(self, output: Any) -> int:
        """Tokens, for a rate per token."""
        return self.sizes.length


class _Scan(nn.Module):
    def __init__(self, q: ScanShape, backend: str, passes: str) -> None:
        super().__init__()
        if reason := BACKENDS[backend].unavailable() if backend in BACKENDS else "there is none of that name":
            raise ValueError(f"back end {backend!r}: {reason}")
        k, d, n, g = q.directions, q.channels, q.states, torch.Generator().manual_seed(0)
        self.sources = tuple(i % q.sources for i in range(k))
        self.dt_weight = nn.Parameter(0.3 * torch.randn(k, d, q.rank, generator=g))
        self.dt_bias = nn.Parameter(torch.randn(k, d, generator=g) - 4)
        self.A = nn.Parameter(-torch.arange(1.0, n + 1).repeat(k * d, 1))
        self.D = nn.Parameter(torch.ones(k * d))
        self.register_buffer("orders", _orders(k, q.length))
        self.backend, self.passes = backend, passes

    def forward(self, u: Tensor, proj: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
        if self.passes == "forward":
            return (self._scan(u, proj),)
        with torch.inference_mode(False), torch.enable_grad():
            leaves = [u.detach().requires_grad_(), proj.detach().requires_grad_()]
            y = self._scan(*leaves)
            return (y.detach(), *torch.autograd.grad(y, [*leaves, *self.parameters()], dy))

    def _scan(self, u: Tensor, proj: Tensor) -> Tensor:
        return multi_scan(u, proj, self.dt_weight, self.dt_bias, self.A, self.D, self.orders, self.sources,
                          backend=self.backend)  # fmt: skip


def _orders(directions: int, length: int) -> Tensor:
    """Rows, columns, and both backwards: of a plane 17 wide where the length allows, else the tokens as they are."""
    rows = torch.arange(length)
    columns = rows.view(-1, 17).t().flatten() if length % 17 == 0 else rows
    four = [rows, columns, rows.flip(0), columns.flip(0)]
    return torch.stack([four[i % 4] for i in range(directions)])


def scan_cell(shape: ScanShape, backend: str, passes: str, cache: str, label: str) -> Cell:
    """A cell of a session: `latency_of` times it beside others."""
    subject = {"shape": asdict(shape), "backend": backend, "passes": passes, "cache": cache}
    identity = {
        "component": "ops", "variant": "multi_scan", "digest": folder_digest(ROOT / "posescale" / "ops"),
        "batch": shape.batch,
        "options": {"scope": "operator only", "backend": backend, "passes": passes, "cache": cache,
                    "shape": asdict(shape), "label": label},
    }  # fmt: skip
    work = {"bytes": float(shape.bytes(passes)), "flops": float(shape.flops() * (1 if passes == "forward" else 3))}
    return Cell(f"{label} {backend} {passes} {cache}", {"scan": subject}, identity, work, "operator")
