"""VideoPose3D's temporal convolutions (Pavllo et al., CVPR 2019).

B batch, T frames, J joints, C width, R receptive field. Names, shapes and order of the state_dict are the official
ones; the dilated and the strided form share them, so their weights are interchangeable.
"""

import math
import sys
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from posescale.errors import ConfigError, ShapeError
from posescale.layers.inputs import keypoints


def filter_widths(frames: int) -> tuple[int, ...]:
    """The released filters, all three wide, for a receptive field of 3, 9, 27, 81, 243 ... frames.

    Raises:
        ConfigError: `frames` is no power of three.
    """
    count = round(math.log(max(frames, 3), 3))
    if 3**count != frames:
        raise ConfigError(
            f"VideoPose3D: filters of width 3 see 3, 9, 27, 81, 243 ... frames, found frames={frames}; "
            "give other filters, odd and with that product, by widths=[...]"
        )
    return (3,) * count


class VideoPose3D(nn.Module):
    """`(B, T, J, 2)` normalised key points to `(B, T - R + 1, J, 3)` root-relative metres: one pose where T = R.

    Convolutions are valid: pad a video at its ends to get a pose for every frame.

    Args:
        frames: R, the receptive field.
        widths: odd filter widths, whose product is `frames`; threes when not given.
        joints: J.
        dim: C.
        dropout: after every ReLU, in training.
        causal: the pose is that of the last frame of R, not the middle one (residuals are cut accordingly; weights
            have the same shapes but are not interchangeable, see `hidden_settings`).
        form: `dilated` takes any T >= R; `strided` takes T = R only and skips what one pose does not need.
        channels: 2, or 3 to read the detector's confidence too.
    """

    def __init__(
        self,
        frames: int = 243,
        widths: Sequence[int] | None = None,
        joints: int = 17,
        dim: int = 1024,
        dropout: float = 0.25,
        causal: bool = False,
        form: Literal["dilated", "strided"] = "dilated",
        channels: Literal[2, 3] = 2,
    ) -> None:
        super().__init__()
        self.widths = filter_widths(frames) if widths is None else tuple(widths)
        _check(self.widths, frames, form, channels)
        self.frames, self.joints, self.channels, self.causal, self.form = frames, joints, channels, causal, form
        self.hidden_settings = {"causal": causal}  # what weights depend on without showing it in a shape
        first, *rest = self.widths
        self.drop, self.relu = nn.Dropout(dropout), nn.ReLU()
        self.expand_bn = nn.BatchNorm1d(dim)
        self.shrink = nn.Conv1d(dim, 3 * joints, 1)
        stride = first if form == "strided" else 1
        self.expand_conv = nn.Conv1d(channels * joints, dim, first, stride=stride, bias=False)
        self.layers_conv, self.layers_bn = nn.ModuleList(), nn.ModuleList()
        dilation = first
        for width in rest:
            step = {"stride": width} if form == "strided" else {"dilation": dilation}
            self.layers_conv.append(nn.Conv1d(dim, dim, width, bias=False, **step))
            self.layers_conv.append(nn.Conv1d(dim, dim, 1, bias=False))
            self.layers_bn.extend([nn.BatchNorm1d(dim), nn.BatchNorm1d(dim)])
            dilation *= width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Lift every frame of each clip that has a whole receptive field around it.

        Raises:
            ShapeError: not `(B, T >= frames, J, 2 or 3)`, or T is not `frames` in the strided form.
        """
        x = self.check(x)
        h = self.layer(x.flatten(2).transpose(1, 2), self.expand_conv, self.expand_bn)  # (B, C, T')
        dilation = self.widths[0]
        for i, width in enumerate(self.widths[1:]):
            skip = self.residual(h, width, dilation)
            h = self.layer(h, self.layers_conv[2 * i], self.layers_bn[2 * i])
            h = skip + self.layer(h, self.layers_conv[2 * i + 1], self.layers_bn[2 * i + 1])
            dilation *= width
        return self.shrink(h).transpose(1, 2).unflatten(2, (self.joints, 3))

    def check(self, x: torch.Tensor) -> torch.Tensor:
        """The channels that the model reads, `(B, T, J, channels)`, of an input whose shape will do.

        Raises:
            ShapeError: as of `forward`.
        """
        if x.ndim == 4 and x.shape[1] < self.frames:
            raise ShapeError(
                f"this VideoPose3D sees {self.frames} frames at once, input has {x.shape[1]}: found shape "
                f"{tuple(x.shape)}; repeat the end frames, or build with a smaller frames="
            )
        one_pose = "the strided form gives one pose" if self.form == "strided" else ""
        longest = self.frames if one_pose else sys.maxsize
        return keypoints(x, self.channels, self.joints, longest, "VideoPose3D", exactly=one_pose)

    def layer(self, h: torch.Tensor, conv: nn.Conv1d, bn: nn.BatchNorm1d) -> torch.Tensor:
        """Convolution, batch norm, ReLU, dropout of `(B, C, T')`."""
        return self.drop(self.relu(bn(conv(h))))

    def residual(self, h: torch.Tensor, width: int, dilation: int) -> torch.Tensor:
        """The frames of `h`, `(B, C, T')`, that a filter's outputs stand for: middle ones, or last ones if causal."""
        shift = width // 2 if self.causal else 0
        if self.form == "strided":
            return h[:, :, shift + width // 2 :: width]
        first = (width // 2 + shift) * dilation
        return h[:, :, first : first + h.shape[2] - (width - 1) * dilation]


def _check(widths: tuple[int, ...], frames: int, form: str, channels: int) -> None:
    if not widths or any(width < 1 or width % 2 == 0 for width in widths):
        raise ConfigError(f"VideoPose3D: filter widths are odd numbers, at least one, found {list(widths)}")
    if math.prod(widths) != frames:
        raise ConfigError(
            f"VideoPose3D: filters {list(widths)} see {math.prod(widths)} frames, found frames={frames}; "
            f"give frames={math.prod(widths)} with them"
        )
    if form not in ("dilated", "strided"):
        raise ConfigError(f"VideoPose3D: form must be 'dilated' or 'strided', found {form!r}")
    if channels not in (2, 3):
        raise ConfigError(f"VideoPose3D: channels must be 2 or 3 (with confidence), found {channels!r}")
