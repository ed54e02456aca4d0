"""What one call of a scan operator costs, from its shapes. Convention: 9 N + 1 FLOPs per token, channel and direction.

The recurrence s = exp(delta A) s + delta B u, y = D u + C s makes 5 products, 2 sums and one exponential (2 FLOPs) per
state, and one product by the skip weight (`posescale.measure.instrumented` counts it). Sequential work is stated,
whatever a parallel back end does on top.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from posescale.ops.cost import dt_projection_macs, scan_flops

_SOFTPLUS = 4  # bias and softplus of one step size


class Price(NamedTuple):
    """`contractions` in MACs, `scan` in FLOPs with the skip product, `skip` alone, `elementwise` in FLOPs."""

    contractions: int
    scan: int
    skip: int
    elementwise: int


def selective_scan(u: Tensor, delta: Tensor, A: Tensor, *_: Any, **__: Any) -> Price:
    """Price of `posescale::selective_scan`: u `(b, d, l)`, A `(d, n)`."""
    batch, channels, length = u.shape
    steps = u.numel()
    return Price(0, scan_flops(batch, 1, length, channels, A.shape[1]), steps, _SOFTPLUS * steps)


def multi_scan(u: Tensor, proj: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, *_: Any, **__: Any) -> Price:
    """Price of `posescale::multi_scan`: u `(B, S, L, D)`, dt_weight `(K, D, R)`, A `(K * D, N)`.

    The contraction of the low-rank step sizes, R MACs per step, happens inside and is a matrix product like any other.
    """
    batch, _sources, length, channels = u.shape
    directions, _, rank = dt_weight.shape
    steps = batch * length * channels * directions
    return Price(
        contractions=dt_projection_macs(batch, directions, length, channels, rank),
        scan=scan_flops(batch, directions, length, channels, A.shape[1]),
        skip=steps,
        elementwise=(_SOFTPLUS + 1) * steps,  # 1: the sum over directions
    )


SCANS: dict[str, Callable[..., Price]] = {
    "posescale::selective_scan": selective_scan,
    "posescale::multi_scan": multi_scan,
}
