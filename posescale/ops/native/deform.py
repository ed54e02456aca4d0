"""Calls into deform.c: lay the tensors out as it wants them, allocate the results, run."""

import ctypes

import torch
import torch.nn.functional as F
from torch import Tensor

from posescale.ops.native.build import library

_LANES, _SLICES = 16, 16  # channels are padded to a multiple of LANES; sums of weight gradients in the backward pass


class _Deform(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("images", "height", "width", "pitch", "groups", "inputs", "outputs")),
        *((name, ctypes.c_int64) for name in ("down", "right", "threads", "slices")),
        *((name, ctypes.c_void_p) for name in ("x", "offset", "mask", "weight", "y")),
        *((name, ctypes.c_void_p) for name in ("grad_x", "grad_offset", "grad_mask", "grad_weight")),
    ]


def forward(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Y (N, H, W, O) of x (N, H, W, C), offset (N, H, W, 2 K), mask (N, H, W, K), weight (O, C / groups, kh, kw)."""
    y = x.new_empty(*x.shape[:3], len(weight))
    _run("posescale_deform_forward", [_padded(x), offset, mask, weight], groups, y)
    return y


def backward(dy: Tensor, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, groups: int) -> list[Tensor]:
    """Gradients of x, offset, mask and weight, given y's."""
    slices, channels, padded = min(len(x), _SLICES), x.shape[3], _padded(x)
    grads = [torch.zeros_like(padded), torch.empty_like(offset, memory_format=torch.contiguous_format)]
    grads += [torch.empty_like(mask, memory_format=torch.contiguous_format), weight.new_zeros(slices, *weight.shape)]
    _run("posescale_deform_backward", [padded, offset, mask, weight], groups, dy.contiguous(), grads)
    return [grads[0][..., :channels].contiguous(), *grads[1:3], grads[3].sum(0)]


def _padded(x: Tensor) -> Tensor:
    missing = -x.shape[3] % _LANES
    return F.pad(x, (0, missing)) if missing else x.contiguous()


def _run(function: str, tensors: list[Tensor], groups: int, y: Tensor, grads: list[Tensor] = ()) -> None:
    x, _, _, weight = tensors = [tensor.contiguous() for tensor in tensors]
    sizes = (*x.shape, groups, weight.shape[1], len(weight) // groups, *weight.shape[2:])
    pointers = [tensor.data_ptr() for tensor in (*tensors, y, *grads)]
    problem = _Deform(*sizes, torch.get_num_threads(), len(grads[3]) if grads else 0, *pointers)
    if getattr(library(x.dtype == torch.float64, "deform"), function)(ctypes.byref(problem)):
        raise MemoryError(f"{function}: no memory for the kernel's buffers")
