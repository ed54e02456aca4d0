"""ViTPose's parts (Xu et al., 2022): a plain vision transformer per image and two deconvolutions.

N images, C channels, H x W pixels. Names, shapes and order of the state_dict are those of the official code.
"""

from collections import OrderedDict
from contextlib import nullcontext
from typing import Literal

import torch
from torch import nn

from posescale.errors import ConfigError
from posescale.layers.attention import Kernel
from posescale.layers.block import Block

PATCH = 16  # pixels per token, both ways
MLP_RATIO = 4
Stem = Literal["patch", "conv"]
Frozen = Literal["nothing", "vit", "vit_and_deconv"]


class PatchStem(nn.Module):
    """One 16 x 16 convolution of stride 16, `(N, 3, H, W)` to `(N, C, H / 16, W / 16)`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, channels, kernel_size=PATCH, stride=PATCH, padding=2)  # the official padding

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, 3, H, W)` to `(N, C, H / 16, W / 16)`."""
        return self.proj(images)


class ConvStem(nn.Module):
    """Four 3 x 3 convolutions of stride 2 and a 1 x 1 one; learns from few images, where 16 x 16 patches do not."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (3, channels // 4, channels // 2, channels // 2, channels)
        self.convs = nn.Sequential(
            *(
                layer
                for before, after in zip(widths, widths[1:])
                for layer in (nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            )
        )
        self.proj = nn.Conv2d(channels, channels, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, 3, H, W)` to `(N, C, H / 16, W / 16)`."""
        return self.proj(self.convs(images))


STEMS: dict[str, type[nn.Module]] = {"patch": PatchStem, "conv": ConvStem}


class ViT(nn.Module):
    """`(N, 3, H, W)` to `(N, C, H / 16, W / 16)`.

    The first row of `pos_embed` belongs to the class token of the pre-training; it is added to every token.

    Args:
        height: H, a multiple of 16; the position table fixes it.
        width: W, a multiple of 16.
        channels: C.
        depth: number of blocks.
        heads: attention heads.
        stem: `patch` as published, or `conv`, ours for small studies.
        drop_path: stochastic depth of the last block; the rates rise linearly from 0.
        kernel: of the attention, `fused` or `naive`.

    Raises:
        ConfigError: the image is not made of whole patches, or the stem is unknown.
    """

    def __init__(
        self,
        height: int,
        width: int,
        channels: int,
        depth: int,
        heads: int,
        stem: Stem = "patch",
        drop_path: float = 0.0,
        kernel: Kernel = "fused",
    ) -> None:
        super().__init__()
        if min(height, width) < PATCH or height % PATCH or width % PATCH:
            raise ConfigError(
                f"height and width must be positive multiples of {PATCH} pixels (one token of the encoder each), "
                f"found height={height}, width={width}"
            )
        if stem not in STEMS:
            raise ConfigError(f"stem must be {' or '.join(STEMS)}, found {stem!r}")
        tokens = (height // PATCH) * (width // PATCH)
        self.pos_embed = nn.Parameter(torch.empty(1, tokens + 1, channels))
        self.patch_embed = STEMS[stem](channels)
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(Block(channels, heads, MLP_RATIO, rate, kernel) for rate in rates)
        self.last_norm = nn.LayerNorm(channels, eps=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for linear in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of each image: `(N, 3, H, W)` to `(N, C, H / 16, W / 16)`."""
        patches = self.patch_embed(images)
        x = patches.flatten(2).transpose(1, 2) + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
        for block in self.blocks:
            x = block(x)
        return self.last_norm(x).transpose(1, 2).reshape(patches.shape)


def deconvolution(channels: int, width: int) -> nn.Sequential:
    """Two transposed convolutions, each doubling the grid: `(N, channels, h, w)` to `(N, width, 4 h, 4 w)`."""
    layers: list[nn.Module] = []
    for before in (channels, width):
        convolution = nn.ConvTranspose2d(before, width, kernel_size=4, stride=2, padding=1, bias=False)
        nn.init.normal_(convolution.weight, std=0.001)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


class FrameEncoder(nn.Module):
    """A vision transformer and ViTPose's deconvolutions, image by image; parts of it may be frozen.

    A frozen part has no gradients, runs under `no_grad` and stays in evaluation mode.

    Args:
        vit: the backbone.
        channels: its width.
        decoder: width of the deconvolutions; 0 for none.
        frozen: `nothing`, `vit`, or `vit_and_deconv`.

    Raises:
        ConfigError: for another value of `frozen`.
    """

    def __init__(self, vit: ViT, channels: int, decoder: int, frozen: Frozen) -> None:
        super().__init__()
        if frozen not in ("nothing", "vit", "vit_and_deconv"):
            raise ConfigError(f"frozen must be nothing, vit or vit_and_deconv, found {frozen!r}")
        self.frozen = frozen
        self.channels = decoder or channels  # of the features
        self.backbone = vit
        self.keypoint_head = nn.Sequential(
            OrderedDict(deconv_layers=deconvolution(channels, decoder)) if decoder else OrderedDict()
        )
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train(self.training)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, 3, H, W)` to `(N, decoder, H / 4, W / 4)`, or `(N, C, H / 16, W / 16)` without deconvolutions."""
        with nullcontext() if self.frozen == "nothing" else torch.no_grad():
            x = self.backbone(images)
        for name, part in self.keypoint_head.named_children():
            still = self.frozen == "vit_and_deconv" and name == "deconv_layers"
            with torch.no_grad() if still else nullcontext():
                x = part(x)
        return x

    def train(self, mode: bool = True) -> "FrameEncoder":
        """Set the mode of the parts that are not frozen."""
        super().train(mode)
        for part in self._frozen_parts():
            part.eval()
        return self

    def _frozen_parts(self) -> list[nn.Module]:
        names = {"nothing": (), "vit": ("backbone",), "vit_and_deconv": ("backbone", "keypoint_head.deconv_layers")}
        own = dict(self.named_modules())
        return [own[name] for name in names[self.frozen] if name in own]
