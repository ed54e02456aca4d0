"""The two scan operators as models call them: checks, one type, then the operator."""

from collections.abc import Sequence

import torch
from torch import Tensor

from posescale.ops import library
from posescale.ops.checks import check_multi, check_selective, state_dtype


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    backend: str = "auto",
) -> Tensor:
    """The selective scan of Mamba (Gu & Dao 2023), with the arguments of mamba-ssm's `selective_scan_fn`.

    With dt = delta + delta_bias, through softplus if `delta_softplus`, per channel:
    s_t = exp(dt_t A) s_{t-1} + dt_t B_t u_t from s = 0, and y_t = C_t s_t + D u_t.

    Args:
        u: input (b, d, l).
        delta: step sizes (b, d, l).
        A: decay rates (d, n), usually negative.
        B: input matrix (b, n, l), or (b, g, n, l) with g groups of d / g neighbouring channels.
        C: output matrix, shaped as B.
        D: skip (d,).
        delta_bias: (d,).
        delta_softplus: whether dt passes through softplus (the identity above 20).
        backend: `auto`, `reference`, `native`, `torch`, `triton` or `mamba_ssm`; see `backends()`.

    Returns:
        y (b, d, l) in u's type. The state is float32, or float64 if an input is float64.

    Raises:
        ValueError, TypeError: inputs that do not fit together.
        UnavailableError: the back end named is unknown or not to be had here.
    """
    check_selective(u, delta, A, B, C, D, delta_bias)
    tensors = _one_type(u, delta, A, B, C, D, delta_bias)
    tensors[3:5] = [x.unsqueeze(1) if x.ndim == 3 else x for x in tensors[3:5]]
    return library.selective_scan(*tensors, delta_softplus, _differentiated(tensors), backend)[0].to(u.dtype)


def multi_scan(
    u: Tensor,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    orders: Tensor,
    sources: Sequence[int],
    merge: bool = True,
    backend: str = "auto",
) -> Tensor:
    """Scan the same tokens in K orders and bring every result back to its token's row.

    Direction k visits token i = orders[k, p] at step p and reads x = u[:, sources[k]] there, with
    dt = softplus(dt_weight[k] proj_dt + dt_bias[k]); then the recurrence of `selective_scan` with A and D of rows
    k*D ... k*D + D-1. A fast back end makes no permuted copy.

    Args:
        u: token-major inputs (B, S, L, D) of S sources.
        proj: per token and direction R numbers for dt, N for B, N for C, in token order: (B, L, K, R + 2N).
        dt_weight: (K, D, R).
        dt_bias: (K, D).
        A: decay rates (K*D, N), usually negative.
        D: skip (K*D,).
        orders: (K, L), int32 or int64; every row is a permutation of 0 ... L-1.
        sources: for each direction the index of its source.
        merge: add the directions, or keep them apart.
        backend: `auto`, `reference`, `native`, `torch`, `triton` or `mamba_ssm`; see `backends()`.

    Returns:
        (B, L, D) with the directions added, or (B, K, L, D), in u's type. The state is float32, or float64 if an
        input is float64.

    Raises:
        ValueError, TypeError: inputs that do not fit together, or orders that are no permutations.
        UnavailableError: the back end named is unknown or not to be had here.
    """
    check_multi(u, proj, dt_weight, dt_bias, A, D, orders, sources)
    tensors = _one_type(u, proj, dt_weight, dt_bias, A, D)
    sources = [int(source) for source in sources]
    return library.multi_scan(*tensors, orders, sources, merge, _differentiated(tensors), backend)[0].to(u.dtype)


def _one_type(*tensors: Tensor | None) -> list[Tensor | None]:
    dtype = state_dtype(*tensors)
    return [None if x is None else x.to(dtype) for x in tensors]


def _differentiated(tensors: list[Tensor | None]) -> bool:
    """Whether a backward pass will come, for which states must be kept."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
