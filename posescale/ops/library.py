"""The two scans as operators of torch's library, so that torch.compile and FLOP counters see one operator each.

An operator returns its output and the states that its backward pass starts from (empty unless `keep`). The backward
passes are operators too. Inputs have been checked and brought to one type by `posescale.ops.scan`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from posescale.ops.checks import check_permutations
from posescale.ops.cost import dt_projection_macs, scan_flops
from posescale.ops.registry import BACKENDS, record, resolve

# ---- selective_scan ---------------------------------------------------------------------------------------------


@torch.library.custom_op("posescale::selective_scan", mutates_args=())
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Y (b, d, l) and the states kept for the backward pass; B and C (b, g, n, l)."""
    name = resolve("selective_scan", backend, u.device)
    record("selective_scan", name)
    return BACKENDS[name].selective_forward(u, delta, A, B, C, D, delta_bias, softplus, keep)


@selective_scan.register_fake
def _(u, delta, A, B, C, D, delta_bias, softplus, keep, backend):
    b, d, length = u.shape
    groups = B.shape[1]
    states = _states_shape("selective_scan", backend, u, b, groups, length, d // groups, A.shape[1])
    return u.new_empty(u.shape), u.new_empty(states if keep else 0)


@torch.library.custom_op("posescale::selective_scan_backward", mutates_args=())
def selective_scan_backward(
    dy: Tensor,
    states: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    backend: str,
) -> list[Tensor]:
    """Gradients of u, delta, A, B, C, D and delta_bias; empty for one that was not given."""
    module = BACKENDS[resolve("selective_scan", backend, u.device)]
    inputs = (u, delta, A, B, C, D, delta_bias, softplus)
    if not states.numel():
        states = module.selective_forward(*inputs, True)[1]
    return [u.new_empty(0) if x is None else x for x in module.selective_backward(dy, states, *inputs)]


@selective_scan_backward.register_fake
def _(dy, states, u, delta, A, B, C, D, delta_bias, softplus, backend):
    return [u.new_empty(0 if x is None else x.shape) for x in (u, delta, A, B, C, D, delta_bias)]


def _selective_setup(ctx, inputs, output) -> None:
    ctx.set_materialize_grads(False)
    *tensors, ctx.softplus, _, ctx.backend = inputs
    ctx.save_for_backward(output[1], *tensors)


def _selective_backward(ctx, dy, _):
    if dy is None:
        return (None,) * 10
    states, *tensors = ctx.saved_tensors
    grads = selective_scan_backward(dy, states, *tensors, ctx.softplus, ctx.backend)
    return *(None if x is None else g for g, x in zip(grads, tensors)), None, None, None


selective_scan.register_autograd(_selective_backward, setup_context=_selective_setup)

# ---- multi_scan -------------------------------------------------------------------------------------------------


@torch.library.custom_op("posescale::multi_scan", mutates_args=())
def multi_scan(
    u: Tensor,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    orders: Tensor,
    sources: Sequence[int],
    merge: bool,
    keep: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Y (B, L, D), or (B, K, L, D) unless merge, and the states kept for the backward pass."""
    name = resolve("multi_scan", backend, u.device)
    check_permutations(orders)
    record("multi_scan", name)
    return BACKENDS[name].multi_forward(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge, keep)


@multi_scan.register_fake
def _(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge, keep, backend):
    b, _, length, d = u.shape
    k = dt_weight.shape[0]
    states = _states_shape("multi_scan", backend, u, b, k, length, d, A.shape[1])
    y = u.new_empty((b, length, d) if merge else (b, k, length, d))
    return y, u.new_empty(states if keep else 0)


@torch.library.custom_op("posescale::multi_scan_backward", mutates_args=())
def multi_scan_backward(
    dy: Tensor,
    states: Tensor,
    u: Tensor,
    proj: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    orders: Tensor,
    sources: Sequence[int],
    merge: bool,
    backend: str,
) -> list[Tensor]:
    """Gradients of u, proj, dt_weight, dt_bias, A and D."""
    module = BACKENDS[resolve("multi_scan", backend, u.device)]
    inputs = (u, proj, dt_weight, dt_bias, A, D, orders, sources, merge)
    if not states.numel():
        states = module.multi_forward(*inputs, True)[1]
    return list(module.multi_backward(dy, states, *inputs))


@multi_scan_backward.register_fake
def _(dy, states, u, proj, dt_weight, dt_bias, A, D, orders, sources, merge, backend):
    return [x.new_empty(x.shape) for x in (u, proj, dt_weight, dt_bias, A, D)]


def _multi_setup(ctx, inputs, output) -> None:
    ctx.set_materialize_grads(False)
    *tensors, ctx.sources, ctx.merge, _, ctx.backend = inputs
    ctx.save_for_backward(output[1], *tensors)


def _multi_backward(ctx, dy, _):
    if dy is None:
        return (None,) * 11
    states, *tensors = ctx.saved_tensors
    grads = multi_scan_backward(dy, states, *tensors, ctx.sources, ctx.merge, ctx.backend)
    return *grads, None, None, None, None, None


multi_scan.register_autograd(_multi_backward, setup_context=_multi_setup)

# ---- both -------------------------------------------------------------------------------------------------------


def _states_shape(op: str, backend: str, u: Tensor, *sizes: int) -> tuple[int, ...]:
    return BACKENDS[resolve(op, backend, u.device)].states_shape(*sizes)


@register_flop_formula(torch.ops.posescale.selective_scan)
def _selective_flops(u, delta, A, B, *_, out_shape=None, **__) -> int:
    return scan_flops(u[0], 1, u[2], u[1], A[1])


@register_flop_formula(torch.ops.posescale.multi_scan)
def _multi_flops(u, proj, dt_weight, dt_bias, A, *_, out_shape=None, **__) -> int:
    (k, d, r), (b, _, length, _) = dt_weight, u
    return scan_flops(b, k, length, d, A[1]) + 2 * dt_projection_macs(b, k, length, d, r)


@register_flop_formula(torch.ops.posescale.selective_scan_backward)
def _selective_backward_flops(dy, states, *inputs, out_shape=None, **__) -> int:
    """Twice the forward pass, as for every product: one gradient for each factor; recomputation is not counted."""
    return 2 * _selective_flops(*inputs)


@register_flop_formula(torch.ops.posescale.multi_scan_backward)
def _multi_backward_flops(dy, states, *inputs, out_shape=None, **__) -> int:
    """Twice the forward pass, as for every product: one gradient for each factor; recomputation is not counted."""
    return 2 * _multi_flops(*inputs)
