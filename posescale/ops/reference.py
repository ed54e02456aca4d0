"""The oracle: the recurrence of a selective scan, one step after the other, differentiated by autograd.

    s_t = exp(delta_t A) s_{t-1} + delta_t B_t x_t,    y_t = C_t s_t        (Gu & Dao 2023, eq. 2 with Euler's B)

Exact to rounding in the inputs' type (test it in float64), and slow: about eight small operations per step. Rows are
taken by one `unbind`; indexing x[..., t] instead would make the backward pass quadratic in L.

`scan`, `selective_scan` and `multi_scan` are ordinary differentiable functions. The rest wraps them as a back end.
"""

import torch
from torch import Tensor

from posescale.ops.autograd import differentiate
from posescale.ops.sequences import Sequences, from_channels, from_tokens, to_channels, to_tokens


def scan(q: Sequences) -> Tensor:
    """Outputs (L, B, G, D) of sequences in scan order."""
    state = q.x.new_zeros(*q.x.shape[1:], q.A.shape[-1])
    y = []
    for x, delta, B, C in zip(q.x.unbind(), q.delta.unbind(), q.B.unbind(), q.C.unbind()):
        state = torch.exp(delta[..., None] * q.A) * state + (delta * x)[..., None] * B[..., None, :]
        y.append((state * C[..., None, :]).sum(-1))
    return torch.stack(y) if y else torch.zeros_like(q.x)


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> Tensor:
    """`posescale.ops.selective_scan` by the loop, in the type of its inputs; B and C (b, g, n, l), y (b, d, l)."""
    y = to_channels(scan(from_channels(u, delta, A, B, C, delta_bias, softplus)))
    return y if D is None else y + D[:, None] * u


def multi_scan(
    u: Tensor,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    orders: Tensor,
    sources,
    merge: bool,
) -> Tensor:
    """`posescale.ops.multi_scan` by gather, loop and scatter, in the type of its inputs."""
    q = from_tokens(u, proj, dt_weight, dt_bias, A, orders, sources)
    return to_tokens(scan(q) + D.unflatten(0, (len(sources), -1)) * q.x, orders, merge)


def unavailable(device: torch.device | None = None) -> str | None:
    """Always None: plain torch runs everywhere."""
    return None


def states_shape(batch: int, directions: int, length: int, channels: int, states: int) -> tuple[int, ...]:
    """Nothing is kept for the backward pass."""
    return (0,)


def selective_forward(*inputs) -> tuple[Tensor, Tensor]:
    """`selective_scan`, and no states; the last input says whether states should be kept."""
    return selective_scan(*inputs[:-1]).contiguous(), inputs[0].new_empty(0)


def selective_backward(dy: Tensor, _states: Tensor, *inputs) -> tuple[Tensor | None, ...]:
    """Gradients of u, delta, A, B, C, D and delta_bias (None where not given), by autograd."""
    return differentiate(selective_scan, inputs[:7], inputs[7:], dy)


def multi_forward(*inputs) -> tuple[Tensor, Tensor]:
    """`multi_scan`, and no states; the last input says whether states should be kept."""
    return multi_scan(*inputs[:-1]).contiguous(), inputs[0].new_empty(0)


def multi_backward(dy: Tensor, _states: Tensor, *inputs) -> tuple[Tensor, ...]:
    """Gradients of u, proj, dt_weight, dt_bias, A and D, by autograd."""
    return differentiate(multi_scan, inputs[:6], inputs[6:], dy)
