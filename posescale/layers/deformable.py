"""Modulated deformable convolution (Zhu et al., DCNv2, 2019): compiled for CPUs, or in plain PyTorch.

N images, C channels in, O out, H x W pixels, K = kernel height x width taps.
"""

import torch
import torch.nn.functional as F
from torch import nn

from posescale.errors import ConfigError, UnavailableError
from posescale.ops import deform
from posescale.ops.checks import check_deform
from posescale.ops.registry import record


def deform_conv2d(
    x: torch.Tensor,
    offset: torch.Tensor,
    mask: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    groups: int = 1,
    backend: str = "auto",
) -> torch.Tensor:
    """Each tap k of the kernel reads the image at its place plus an offset, bilinearly, times a mask.

    y[o, p] = bias[o] + sum_{c, k} weight[o, c, k] mask[k, p] x[c](p + p_k + offset[k, p]); stride 1, the grid is kept,
    and x is zero outside the image. Places are worked out in float32 at least: a half-precision number cannot tell
    neighbouring pixels of a large image apart.

    Args:
        x: (N, C, H, W).
        offset: (N, 2 K, H, W) in pixels; rows 2k and 2k + 1 are the vertical and horizontal offset of tap k.
        mask: (N, K, H, W).
        weight: (O, C / groups, kernel height, kernel width), both odd.
        bias: (O,).
        groups: of channels, as in an ordinary convolution.
        backend: `native` (float32 or float64 on a CPU), `torch` (grid_sample), or `auto`: native where it can run.

    Returns:
        (N, O, H, W).

    Raises:
        ValueError, TypeError: inputs that do not fit together.
        UnavailableError: the back end named is unknown or cannot take these tensors here.
    """
    check_deform(x, offset, mask, weight, bias, groups)
    if _resolve(backend, x, offset, mask, weight) == "native":
        rows = [tensor.permute(0, 2, 3, 1) for tensor in (x, offset, mask)]
        y = deform.deform_conv2d(*rows, weight, groups).permute(0, 3, 1, 2)
    else:
        y = _by_grid_sample(x, offset, mask, weight, groups)
    return y if bias is None else y + bias[:, None, None]


def _resolve(backend: str, *tensors: torch.Tensor) -> str:
    if backend not in ("auto", "native", "torch"):
        raise UnavailableError(f"{deform.OP}: unknown back end {backend!r}; known are auto, native, torch")
    reason = None if backend == "torch" else deform.unavailable(*tensors)
    if backend == "native" and reason:
        raise UnavailableError(f"{deform.OP}: back end 'native' is not available: {reason}; backend='auto' takes torch")
    return "torch" if backend == "torch" or reason else "native"


def _by_grid_sample(
    x: torch.Tensor, offset: torch.Tensor, mask: torch.Tensor, weight: torch.Tensor, groups: int
) -> torch.Tensor:
    """The reference: differentiable, any device and type; holds all reads, (N, C, K H, W)."""
    if x.device.type != "meta" and not torch.compiler.is_compiling():
        record(deform.OP, "torch")
    height, width = x.shape[2:]
    kernel = weight.shape[2:]
    taps = kernel[0] * kernel[1]
    wide = torch.promote_types(offset.dtype, torch.float32)
    rows, columns, tap_rows, tap_columns = (
        torch.arange(n, dtype=wide, device=x.device) for n in (height, width, *kernel)
    )
    down, right = offset.to(wide).unflatten(1, (taps, 2)).unbind(2)  # (N, K, H, W) each
    down = down + rows[:, None] + (tap_rows - kernel[0] // 2).repeat_interleave(kernel[1])[:, None, None]
    right = right + columns + (tap_columns - kernel[1] // 2).repeat(kernel[0])[:, None, None]
    # grid_sample's own units: pixel i of n lies at (2 i + 1) / n - 1.
    grid = torch.stack([(2 * right + 1) / width - 1, (2 * down + 1) / height - 1], dim=-1)
    read = F.grid_sample(x.to(wide), grid.flatten(1, 2), padding_mode="zeros", align_corners=False)  # (N, C, K H, W)
    read = read.to(x.dtype).unflatten(2, (taps, height)) * mask[:, None]
    # A matrix product per group: PyTorch's grouped 1 x 1 convolution takes twice the time on a CPU.
    read = read.reshape(len(x), groups, -1, height * width)
    return (weight.view(groups, len(weight) // groups, -1) @ read).view(len(x), -1, height, width)


class DeformableConv(nn.Module):
    """3 x 3 deformable convolution, `(N, C, H, W)` to the same shape, that starts as the identity.

    Offsets and masks (2 sigmoid, so 1 at the start) come from a depth-wise 3 x 3 and a 1 x 1 convolution of `guide`.

    Args:
        channels: C.
        groups: of channels in the convolution; `channels` makes it depth-wise.

    Raises:
        ConfigError: the groups do not divide the channels.
    """

    taps = 9

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise ConfigError(f"groups of a deformable convolution must divide its {channels} channels, found {groups}")
        self.groups = groups
        self.look = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels)
        self.steer = nn.Conv2d(channels, 3 * self.taps, kernel_size=1)
        self.weight = nn.Parameter(torch.empty(channels, channels // groups, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        nn.init.zeros_(self.steer.weight)
        nn.init.zeros_(self.steer.bias)
        nn.init.dirac_(self.weight, groups)

    def forward(self, x: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        """Convolve x where `guide`, of x's shape, says."""
        offset, mask = self.steer(self.look(guide)).split([2 * self.taps, self.taps], dim=1)
        return deform_conv2d(x, offset, 2 * mask.sigmoid(), self.weight, self.bias, self.groups)
