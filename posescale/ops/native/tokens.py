"""Calls into tokens.c: dense layers and the depth-wise convolution around a scan, without gradients, on CPU tensors.

Tensors are all float32 or all float64, which the caller has seen to; shapes are checked here, before C reads memory.
"""

import ctypes
import logging
from functools import cache

import torch
from torch import Tensor, nn

from posescale.errors import ShapeError
from posescale.ops.native import build

_log = logging.getLogger("posescale.ops")


class _Norm(ctypes.Structure):
    _fields_ = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p), ("eps", ctypes.c_double)]


class _Rows(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("row", ctypes.c_int64)]


class _Dense(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "in_", "out", "gelu", "threads", "group", "group_step")),
        *((name, _Rows) for name in ("x", "gate", "residual")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias")),
        *((name, _Norm) for name in ("before", "after")),
        ("y", _Rows),
    ]


class _Conv(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "frames", "joints", "channels", "threads")),
        ("x", _Rows),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "limb", "u")),
    ]


@cache
def unavailable() -> str | None:
    """None if these kernels can be used, else why not, which is logged once."""
    reason = build.unavailable("tokens")
    if reason:
        _log.warning("layers around a scan take their way in plain torch: %s", reason)
    return reason


def dense(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    y: Tensor,
    *,
    before: nn.LayerNorm | None = None,
    gate: Tensor | None = None,
    gelu: bool = False,
    residual: Tensor | None = None,
    after: nn.LayerNorm | None = None,
) -> None:
    """Write y = after(residual + gelu(weight (before(x) SiLU(gate)) + bias)); whatever is not given is left out.

    Args:
        x: (rows, in).
        weight: (out, in).
        bias: (out,).
        y: written, (rows, out), or (rows, groups, columns) with out = groups * columns; may be `residual`.
        before: norm over in.
        gate: (rows, in).
        gelu: whether the exact (erf) GELU is applied.
        residual: (rows, out).
        after: norm over out, for a `y` without groups.
    """
    (rows, width), out = x.shape, weight.shape[0]
    _expect("weight", weight, (out, width))
    _expect("bias", bias, (out,))
    _expect("y", y, (rows, out) if y.ndim == 2 else (rows, out // y.shape[2], y.shape[2]))
    _expect("gate", gate, (rows, width))
    _expect("residual", residual, (rows, out))
    weight = weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    problem = _Dense(
        *(rows, width, out, gelu, torch.get_num_threads(), y.shape[-1], y.stride(1)),
        *(_rows("x", x), _rows("gate", gate), _rows("residual", residual)),
        *map(_pointer, (weight, bias)),
        *(_norm("before", before, width), _norm("after", after, out)),
        _rows("y", y),
    )
    _run("posescale_dense", x, problem)


def convolve(x: Tensor, weight: Tensor, bias: Tensor, limbs: Tensor | None, u: Tensor) -> None:
    """Write u[-1] = SiLU(3 x 3 depth-wise convolution of x), and with limbs u[0][j] = u[-1][j] + u[-1][limbs[j]].

    Args:
        x: (B, T, J, D), rows of numbers next to each other; rows may be any equal distance apart.
        weight: (D, 1, 3, 3), over frames and joints.
        bias: (D,).
        limbs: (J,) int64, joints, or None.
        u: written, (2 or without limbs 1, B, T, J, D), contiguous.
    """
    _expect("weight", weight, (x.shape[3], 1, 3, 3))
    _expect("bias", bias, (x.shape[3],))
    _expect("limbs", limbs, (x.shape[2],))
    _expect("u", u, (1 if limbs is None else 2, *x.shape))
    weight = weight.flatten(1).t().contiguous()
    bias = bias.contiguous()
    pointers = map(_pointer, (weight, bias, limbs, u))
    _run("posescale_conv", x, _Conv(*x.shape, torch.get_num_threads(), _rows("x", x.flatten(0, 2)), *pointers))


def _expect(name: str, x: Tensor | None, shape: tuple[int, ...]) -> None:
    if x is not None and tuple(x.shape) != shape:
        raise ShapeError(f"a native layer expects {name} {shape} beside its other tensors, found {tuple(x.shape)}")


def _rows(name: str, x: Tensor | None) -> _Rows:
    if x is None:
        return _Rows()
    if x.stride(-1) != 1:
        raise ShapeError(
            f"a native layer expects the numbers of a row of {name} side by side, found strides {x.stride()}"
        )
    return _Rows(x.data_ptr(), x.stride(0))


def _norm(name: str, norm: nn.LayerNorm | None, width: int) -> _Norm:
    if norm is None:
        return _Norm()
    _expect(f"the norm {name}", norm.weight, (width,))
    return _Norm(norm.weight.data_ptr(), norm.bias.data_ptr(), norm.eps)


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _run(function: str, x: Tensor, problem: ctypes.Structure) -> None:
    if getattr(build.library(x.dtype == torch.float64, "tokens"), function)(ctypes.byref(problem)):
        raise MemoryError(f"{function}: no memory for the kernel's tiles")
