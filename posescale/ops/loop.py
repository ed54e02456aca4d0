"""The back end `torch`: no compiler, any device. A loop of one fused operation per step, with a hand-written adjoint.

The sequence is cut into about sqrt(L) chunks. Decays, drives and contractions of a chunk are single large operations;
only the recurrence itself loops. The backward pass recomputes a chunk from its saved first state, so memory grows with
sqrt(L) and time linearly.
"""

from math import isqrt

import torch
from torch import Tensor

from posescale.ops.sequences import Sequences, from_channels, from_tokens, in_order, to_channels, to_tokens


def unavailable(device: torch.device | None = None) -> str | None:
    """Always None: plain torch runs everywhere."""
    return None


def states_shape(batch: int, directions: int, length: int, channels: int, states: int) -> tuple[int, ...]:
    """Shape of the states that a forward pass keeps for the backward pass: one per chunk."""
    return -(-length // _chunk(length)), batch, directions, channels, states


def scan(q: Sequences, keep: bool) -> tuple[Tensor, Tensor]:
    """Outputs (L, B, G, D) and the state before each chunk, empty unless `keep`."""
    length, size = len(q.x), _chunk(len(q.x))
    state = q.x.new_zeros(*q.x.shape[1:], q.A.shape[-1])
    saved = q.x.new_empty(states_shape(*q.x.shape[1:3], length, *state.shape[2:]) if keep else 0)
    y = torch.empty(q.x.shape, dtype=q.x.dtype, device=q.x.device)
    for index, start in enumerate(range(0, length, size)):
        if keep:
            saved[index] = state
        part = _steps(q, start, size)
        _, history = _history(part, state)
        torch.matmul(history, part.C[..., None], out=y[start : start + size, ..., None])
        state = history[-1]
    return y, saved


def scan_backward(dy: Tensor, q: Sequences, saved: Tensor) -> Sequences:
    """Gradients of the sequences, given that of the outputs and the saved states."""
    length, size = len(q.x), _chunk(len(q.x))
    grads = Sequences(*(torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in q))
    carry = q.x.new_zeros(*q.x.shape[1:], q.A.shape[-1])
    for start in reversed(range(0, length, size)):
        part, out = _steps(q, start, size), _steps(grads, start, size)
        carry = _chunk_backward(dy[start : start + size], part, saved[start // size], carry, out)
    return grads


def selective_forward(u, delta, A, B, C, D, delta_bias, softplus: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """Y (b, d, l) and the saved states; B and C (b, g, n, l)."""
    y, saved = scan(from_channels(u, delta, A, B, C, delta_bias, softplus), keep)
    y = to_channels(y)
    return (y if D is None else y + D[:, None] * u).contiguous(), saved


def selective_backward(dy, saved, u, delta, A, B, C, D, delta_bias, softplus: bool) -> tuple[Tensor | None, ...]:
    """Gradients of u, delta, A, B, C, D and delta_bias (None where not given)."""
    q = from_channels(u, delta, A, B, C, delta_bias, softplus)
    grads = scan_backward(dy.unflatten(1, (B.shape[1], -1)).permute(3, 0, 1, 2), q, saved)
    du, ddelta = to_channels(grads.x), to_channels(grads.delta)
    if softplus:
        ddelta = ddelta * _softplus_slope(delta if delta_bias is None else delta + delta_bias[:, None])
    dD = None if D is None else (dy * u).sum((0, 2))
    dbias = None if delta_bias is None else ddelta.sum((0, 2))
    dB, dC = (x.permute(1, 2, 3, 0).contiguous() for x in (grads.B, grads.C))
    du = du if D is None else du + D[:, None] * dy
    return du.contiguous(), ddelta.contiguous(), grads.A.flatten(0, 1), dB, dC, dD, dbias


def multi_forward(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge: bool, keep: bool) -> tuple[Tensor, Tensor]:
    """Y (B, L, D), or (B, K, L, D) unless merge, and the saved states."""
    q = from_tokens(u, proj, dt_weight, dt_bias, A, orders, sources)
    y, saved = scan(q, keep)
    return to_tokens(y + D.unflatten(0, (len(sources), -1)) * q.x, orders, merge).contiguous(), saved


def multi_backward(dy, saved, u, proj, dt_weight, dt_bias, A, D, orders, sources, merge: bool) -> tuple[Tensor, ...]:
    """Gradients of u, proj, dt_weight, dt_bias, A and D."""
    k, r = len(sources), dt_weight.shape[2]
    q = from_tokens(u, proj, dt_weight, dt_bias, A, orders, sources)
    rows = dy[:, :, None].expand(-1, -1, k, -1) if merge else dy.transpose(1, 2)
    dy = in_order(rows, orders)
    grads = scan_backward(dy, q, saved)
    dx, ddelta, dB, dC = (
        to_tokens(x, orders, merge=False).transpose(1, 2)
        for x in (grads.x + D.unflatten(0, (k, -1)) * dy, grads.delta, grads.B, grads.C)
    )
    dt = proj[..., :r]
    dv = ddelta * _softplus_slope(torch.einsum("blkr,kdr->blkd", dt, dt_weight) + dt_bias)
    du = torch.zeros(u.shape, dtype=u.dtype, device=u.device)
    for direction, source in enumerate(sources):
        du[:, source] += dx[:, :, direction]
    dproj = torch.cat([torch.einsum("blkd,kdr->blkr", dv, dt_weight), dB, dC], dim=-1)
    dweight = torch.einsum("blkd,blkr->kdr", dv, dt).contiguous()
    return du, dproj, dweight, dv.sum((0, 1)), grads.A.flatten(0, 1), (dy * q.x).sum((0, 1)).flatten()


def _chunk(length: int) -> int:
    return max(1, isqrt(length))


def _steps(q: Sequences, start: int, size: int) -> Sequences:
    """The steps of one chunk, as views."""
    x, delta, B, C = (v[start : start + size] for v in (q.x, q.delta, q.B, q.C))
    return Sequences(x, delta, q.A, B, C)


def _history(q: Sequences, state: Tensor) -> tuple[Tensor, Tensor]:
    """Decay exp(delta A) and the state after each step, both (steps, B, G, D, N)."""
    decay = torch.exp(q.delta[..., None] * q.A)
    history = (q.delta * q.x)[..., None] * q.B[..., None, :]  # the drive, turned into states in place
    for a, h in zip(decay.unbind(), history.unbind()):
        state = h.addcmul_(a, state)
    return decay, history


def _chunk_backward(dy: Tensor, q: Sequences, first: Tensor, carry: Tensor, out: Sequences) -> Tensor:
    """Fill the gradients of one chunk (adding to A's); return what reaches the state before it."""
    decay, history = _history(q, first)
    g = dy[..., None] * q.C[..., None, :]  # turned into the gradient of each state in place
    for a, grad in zip(reversed(decay.unbind()), reversed(g.unbind())):
        carry = a * grad.add_(carry)
    along_input = torch.matmul(g, q.B[..., None]).squeeze(-1)  # gradient of delta x
    torch.mul(along_input, q.delta, out=out.x)
    torch.sum(g * (q.delta * q.x)[..., None], dim=3, out=out.B)
    torch.sum(dy[..., None] * history, dim=3, out=out.C)
    before = torch.cat([first[None], history[:-1]])
    w = g.mul_(decay).mul_(before)  # gradient of delta A
    out.delta.copy_((w * q.A).sum(-1) + along_input * q.x)
    out.A.add_((w * q.delta[..., None]).sum((0, 1)))
    return carry


def _softplus_slope(v: Tensor) -> Tensor:
    """Derivative of F.softplus, which is the identity above 20."""
    return torch.where(v > 20, 1.0, torch.sigmoid(v)).to(v.dtype)
