"""The native deformable convolution as an operator of torch's library, on token-major tensors.

N images, H x W pixels, C channels, O outputs, K = kernel height x width taps. Inputs have been checked by
`posescale.layers.deformable`, which also holds the form in plain PyTorch.
"""

import logging
from functools import cache

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from posescale.ops.cost import deform_macs
from posescale.ops.native import build, deform
from posescale.ops.registry import record

OP = "deform_conv2d"
_log = logging.getLogger("posescale.ops")


@torch.library.custom_op("posescale::deform_conv2d", mutates_args=())
def deform_conv2d(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Y (N, H, W, O) of x (N, H, W, C), offset (N, H, W, 2 K), mask (N, H, W, K), weight (O, C / groups, kh, kw)."""
    record(OP, "native")
    return deform.forward(x, offset, mask, weight, groups)


@deform_conv2d.register_fake
def _(x, offset, mask, weight, groups):
    return x.new_empty(*x.shape[:3], len(weight))


@torch.library.custom_op("posescale::deform_conv2d_backward", mutates_args=())
def deform_conv2d_backward(
    dy: Tensor, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, groups: int
) -> list[Tensor]:
    """Gradients of x, offset, mask and weight; what was read is read again."""
    return deform.backward(dy, x, offset, mask, weight, groups)


@deform_conv2d_backward.register_fake
def _(dy, x, offset, mask, weight, groups):
    return [tensor.new_empty(tensor.shape) for tensor in (x, offset, mask, weight)]


def _setup(ctx, inputs, output) -> None:
    *tensors, ctx.groups = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, dy):
    return *deform_conv2d_backward(dy, *ctx.saved_tensors, ctx.groups), None


deform_conv2d.register_autograd(_backward, setup_context=_setup)


@register_flop_formula(torch.ops.posescale.deform_conv2d)
def _flops(x, offset, mask, weight, groups, *_, out_shape=None, **__) -> int:
    return 2 * deform_macs(x[0], x[1] * x[2], weight[0], weight[1], weight[2] * weight[3])


@register_flop_formula(torch.ops.posescale.deform_conv2d_backward)
def _backward_flops(dy, *inputs, out_shape=None, **__) -> int:
    """Twice the forward pass, as for every product: one gradient for each factor; recomputation is not counted."""
    return 2 * _flops(*inputs)


def unavailable(*tensors: Tensor) -> str | None:
    """None if the native form takes these tensors on this machine, else why not."""
    if any(tensor.device.type != "cpu" for tensor in tensors):
        return f"runs on CPU tensors, found {tensors[0].device.type}"
    found = {tensor.dtype for tensor in tensors}
    if len(found) > 1 or not found <= {torch.float32, torch.float64}:
        return f"takes float32 or float64, all of one type, found {', '.join(sorted(map(str, found)))}"
    return _not_built()


@torch.compiler.assume_constant_result  # no graph holds the building of a library
def _not_built() -> str | None:
    return _reason()


@cache
def _reason() -> str | None:
    """Why there is no library; said once, since the form in plain PyTorch takes over."""
    reason = build.unavailable("deform")
    if reason:
        _log.warning("%s on cpu falls back to torch: native: %s", OP, reason)
    return reason
