"""Both operators as one: sequences in scan order, and the way back to tokens.

The scans of the pure-torch back ends read `Sequences`: the step axis first (a loop takes one contiguous row per step),
then B batch, G groups (the K directions of `multi_scan`), D channels of one group, N states.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Sequences(NamedTuple):
    """Input x and step size delta (L, B, G, D), decay A (G, D, N), B and C (L, B, G, N)."""

    x: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor


def from_channels(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, bias: Tensor | None, softplus: bool):
    """The sequences of `selective_scan`; B and C (b, g, n, l). delta = softplus(delta + bias), both optional."""
    groups = B.shape[1]
    if bias is not None:
        delta = delta + bias[:, None]
    if softplus:
        delta = F.softplus(delta)
    x, delta = (v.unflatten(1, (groups, -1)).permute(3, 0, 1, 2) for v in (u, delta))
    return Sequences(x, delta, A.unflatten(0, (groups, -1)), B.permute(3, 0, 1, 2), C.permute(3, 0, 1, 2))


def to_channels(y: Tensor) -> Tensor:
    """(L, B, G, D) to (b, d, l)."""
    return y.permute(1, 2, 3, 0).flatten(1, 2)


def from_tokens(u: Tensor, proj: Tensor, dt_weight: Tensor, dt_bias: Tensor, A: Tensor, orders: Tensor, sources):
    """The sequences of `multi_scan`: direction k reads token orders[k, p] at its step p."""
    k, _, r = dt_weight.shape
    n = A.shape[1]
    dt, B, C = proj.split([r, n, n], dim=-1)
    delta = F.softplus(torch.einsum("blkr,kdr->blkd", dt, dt_weight) + dt_bias)
    x = u[:, list(sources)].transpose(1, 2)
    return Sequences(
        in_order(x, orders),
        in_order(delta, orders),
        A.unflatten(0, (k, -1)),
        in_order(B, orders),
        in_order(C, orders),
    )


def to_tokens(y: Tensor, orders: Tensor, merge: bool) -> Tensor:
    """(L, B, K, D) in scan order to (B, L, D), directions added at the token's row, or (B, K, L, D)."""
    back = torch.argsort(orders, dim=1)
    rows = [y[:, :, k].index_select(0, back[k]) for k in range(y.shape[2])]
    return torch.stack(rows).sum(0).transpose(0, 1) if merge else torch.stack(rows, dim=0).permute(2, 0, 1, 3)


def in_order(x: Tensor, orders: Tensor) -> Tensor:
    """(B, L, K, C) at tokens to (L, B, K, C) in scan order."""
    return torch.stack([x[:, :, k].index_select(1, orders[k]) for k in range(x.shape[2])], dim=2).transpose(0, 1)
