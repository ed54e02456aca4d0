"""The published CUDA kernel, `mamba_ssm.ops.selective_scan_interface.selective_scan_fn`, where it is installed.

Its states are not kept between the passes of our operator: the backward pass runs its forward pass again. Whoever
times training steps against it must know that. K directions are folded into the channels of one call, as VMamba does.
"""

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from posescale.errors import UnavailableError
from posescale.ops.autograd import differentiate
from posescale.ops.sequences import in_order, to_tokens


def unavailable(device: torch.device | None = None) -> str | None:
    """None if this back end runs here (on tensors of `device`, if given), else why not."""
    if _missing():
        return f"{' and '.join(_missing())} not installed"
    if not torch.cuda.is_available():
        return "no CUDA device"
    if device is not None and device.type != "cuda":
        return f"runs on CUDA tensors, found {device.type}"
    return None


@cache
def _missing() -> tuple[str, ...]:
    return tuple(name for name in ("mamba_ssm", "selective_scan_cuda") if find_spec(name) is None)


def states_shape(batch: int, directions: int, length: int, channels: int, states: int) -> tuple[int, ...]:
    """Nothing is kept for the backward pass."""
    return (0,)


def selective_forward(*inputs) -> tuple[Tensor, Tensor]:
    """Y (b, d, l), and no states; the last input says whether states should be kept."""
    return _selective(*inputs[:-1]).contiguous(), inputs[0].new_empty(0)


def selective_backward(dy: Tensor, _states: Tensor, *inputs) -> tuple[Tensor | None, ...]:
    """Gradients of u, delta, A, B, C, D and delta_bias (None where not given)."""
    return differentiate(_selective, inputs[:7], inputs[7:], dy)


def multi_forward(*inputs) -> tuple[Tensor, Tensor]:
    """Y (B, L, D) or (B, K, L, D), and no states; the last input says whether states should be kept."""
    return _multi(*inputs[:-1]).contiguous(), inputs[0].new_empty(0)


def multi_backward(dy: Tensor, _states: Tensor, *inputs) -> tuple[Tensor | None, ...]:
    """Gradients of u, proj, dt_weight, dt_bias, A and D."""
    return differentiate(_multi, inputs[:6], inputs[6:], dy)


def _selective(u, delta, A, B, C, D, delta_bias, softplus: bool) -> Tensor:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    if u.dtype != torch.float32:
        raise UnavailableError(
            f"back end 'mamba_ssm' keeps its state in float32; found {u.dtype}, use 'torch' for that"
        )
    return selective_scan_fn(u, delta, A, B, C, D, None, delta_bias, softplus)


def _multi(u, proj, dt_weight, dt_bias, A, D, orders, sources, merge: bool) -> Tensor:
    k, d, r = dt_weight.shape
    n = A.shape[1]
    dt, B, C = proj.split([r, n, n], dim=-1)
    delta = torch.einsum("blkr,kdr->blkd", dt, dt_weight)
    x = torch.stack([u[:, source] for source in sources], 2)  # no index from the host: a CUDA graph can hold it
    x, delta, B, C = (in_order(v, orders).permute(1, 2, 3, 0) for v in (x, delta, B, C))
    y = _selective(x.flatten(1, 2), delta.flatten(1, 2), A, B, C, D, dt_bias.flatten(), True)
    return to_tokens(y.unflatten(1, (k, d)).permute(3, 0, 1, 2), orders, merge)
