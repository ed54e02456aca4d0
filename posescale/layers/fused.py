"""The blocks of `norm, SS2D, norm, Mlp` without gradients on a CPU: a few native calls each, in place.

What a block computes stands in `ss2d.py` and `mlp.py`. Here each matrix product takes along the norm, gate, activation
and residual next to it, and all blocks of a pass share their buffers: fresh memory costs more than what is done to it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from posescale.layers.drop_path import DropPath
from posescale.layers.mlp import Mlp
from posescale.layers.ss2d import SS2D, joint_index, scan_orders
from posescale.ops import native
from posescale.ops.native import tokens
from posescale.ops.registry import record, resolve

_KNOWN = (SS2D, Mlp, DropPath, nn.Linear, nn.LayerNorm, nn.Conv2d, nn.GELU, nn.ModuleList, nn.Sequential)
_DTYPES = (torch.float32, torch.float64)


def possible(model: nn.Module, x: Tensor, *own: type[nn.Module]) -> bool:
    """Whether blocks of `model` may run fused on x: nothing but their result may be wanted of them.

    Not while a gradient, a trace, a compilation, a count or a function transform is under way, nor with hooks or
    modules or parameters of other types than the network's `own` and those read here.
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or torch.jit.is_tracing():
        return False
    if type(x) is not Tensor or x.device.type != "cpu" or x.dtype not in _DTYPES or not x.is_contiguous():
        return False
    watched = torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack()
    transformed = torch._C._are_functorch_transforms_active() or forward_ad.unpack_dual(x).tangent is not None
    if watched or transformed or torch.is_autocast_enabled("cpu") or nn.modules.module._has_any_global_hook():
        return False
    return all(_readable(module, x, (*_KNOWN, *own)) for module in model.modules()) and tokens.unavailable() is None


def _readable(module: nn.Module, x: Tensor, known: tuple[type[nn.Module], ...]) -> bool:
    if type(module) not in known or module.training or module._forward_hooks or module._forward_pre_hooks:
        return False
    if type(module) is SS2D and resolve("multi_scan", module.backend, x.device) != "native":
        return False
    return all(_lies_dense(p, x) for p in module._parameters.values() if p is not None)


def _lies_dense(weight: Tensor, x: Tensor) -> bool:
    """Whether C can read a weight where it lies, beside x."""
    plain = type(weight) is nn.Parameter and weight.is_contiguous()
    return plain and weight.dtype == x.dtype and weight.device == x.device


class Buffers(NamedTuple):
    """What a block of B clips of T frames writes on its way; L = T * J tokens, S sources."""

    gates: Tensor  # (B * L, 2 D): h and z
    u: Tensor  # (S, B, T, J, D)
    proj: Tensor  # (B, L, K, R + 2 N)
    hidden: Tensor  # (B * L, H)


def buffers(x: Tensor, mixer: SS2D, mlp: Mlp) -> Buffers:
    """For blocks of such a mixer and perceptron on x `(B, T, J, C)`."""
    b, t, j, _ = x.shape
    k, columns, d = mixer.x_proj_weight.shape
    return Buffers(
        x.new_empty(b * t * j, 2 * d),
        x.new_empty(2 if mixer.limbs else 1, b, t, j, d),
        x.new_empty(k, b, t * j, columns).permute(1, 2, 0, 3),
        x.new_empty(b * t * j, mlp.fc1.out_features),
    )


def block(
    x: Tensor, norm: nn.LayerNorm, mixer: SS2D, norm2: nn.LayerNorm, mlp: Mlp, after: nn.LayerNorm, to: Buffers
) -> None:
    """Turn x `(B, T, J, C)`, contiguous, into after(h + mlp(norm2(h))) with h = x + mixer(norm(x)), in place."""
    record("block", "fused")  # a record of timings must say which way a block went
    rows = x.view(-1, x.shape[-1])
    tokens.dense(rows, mixer.in_proj.weight, None, to.gates, before=norm)
    h, z = to.gates.chunk(2, dim=1)
    y = _scan(h.unflatten(0, x.shape[:3]), mixer, to)
    tokens.dense(y, mixer.out_proj.weight, None, rows, before=mixer.out_norm, gate=z, residual=rows)
    tokens.dense(rows, mlp.fc1.weight, mlp.fc1.bias, to.hidden, before=norm2, gelu=True)
    tokens.dense(to.hidden, mlp.fc2.weight, mlp.fc2.bias, rows, residual=rows, after=after)


def _scan(h: Tensor, mixer: SS2D, to: Buffers) -> Tensor:
    """`SS2D.scan_tokens` of SiLU(conv(h)), `(B, T, J, D)` to `(B * L, D)`."""
    limbs = joint_index(mixer.limbs, like=h) if mixer.limbs else None
    tokens.convolve(h, mixer.conv2d.weight, mixer.conv2d.bias, limbs, to.u)
    sources = len(to.u)  # direction k reads source k % S
    for s in range(sources):
        weight = mixer.x_proj_weight[s::sources].flatten(0, 1)
        tokens.dense(to.u[s].flatten(0, 2), weight, None, to.proj[:, :, s::sources].flatten(0, 1))
    record("multi_scan", "native")
    y, _ = native.multi_forward(
        to.u.transpose(0, 1).flatten(2, 3),
        to.proj,
        mixer.dt_projs_weight,
        mixer.dt_projs_bias,
        -mixer.A_logs.exp(),
        mixer.Ds,
        scan_orders(mixer.scan, *h.shape[1:3], like=h),
        [k % sources for k in range(mixer.directions)],
        merge=True,
        keep=False,
    )
    return y.flatten(0, 1)
