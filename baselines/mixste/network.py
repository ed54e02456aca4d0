"""MixSTE (Zhang et al., CVPR 2022): attention over joints and over frames, in turns.

B batch, T frames, J joints, C width. Names, shapes and order of the state_dict are the official ones (class MixSTE2).
"""

from typing import Literal

import torch
from torch import nn

from posescale.errors import ConfigError
from posescale.layers import Block
from posescale.layers.inputs import keypoints


def norm(dim: int) -> nn.LayerNorm:
    """The official LayerNorm: eps 1e-6, but for the head's."""
    return nn.LayerNorm(dim, eps=1e-6)


class MixSTE(nn.Module):
    """`(B, T, J, 2)` normalised key points (confidence is dropped if given) to `(B, T, J, 3)` root-relative metres.

    Args:
        frames: T; the clip must have exactly this many.
        joints: J.
        dim: C.
        depth: number of (joints, frames) pairs of blocks.
        heads: attention heads.
        mlp_ratio: hidden width of the perceptrons over C.
        drop_path: rate of the last pair in training; it grows linearly from 0.
        channels: 2, or 3 to read the detector's confidence too.
        attention: `fused` (PyTorch's kernel), or `naive`, which holds the attention map as the official code does.
    """

    def __init__(
        self,
        frames: int = 243,
        joints: int = 17,
        dim: int = 512,
        depth: int = 8,
        heads: int = 8,
        mlp_ratio: float = 2,
        drop_path: float = 0.1,
        channels: Literal[2, 3] = 2,
        attention: Literal["fused", "naive"] = "fused",
    ) -> None:
        super().__init__()
        if channels not in (2, 3):
            raise ConfigError(f"MixSTE: channels must be 2 or 3 (with confidence), found {channels!r}")
        self.frames, self.joints, self.channels = frames, joints, channels
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(Block(dim, heads, mlp_ratio, rate, attention) for rate in rates)

        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, joints, dim))
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, frames, dim))
        self.Spatial_patch_to_embedding = nn.Linear(channels, dim)
        self.STEblocks, self.TTEblocks = blocks(), blocks()
        self.Spatial_norm, self.Temporal_norm = norm(dim), norm(dim)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Lift a batch of clips.

        Raises:
            ShapeError: not `(B, frames, J, 2 or 3)`.
        """
        x = keypoints(
            x,
            self.channels,
            self.joints,
            self.frames,
            "MixSTE",
            exactly="it learns one position vector for each frame of a full clip",
        )
        x = self.Spatial_patch_to_embedding(x) + self.Spatial_pos_embed
        for i, (over_joints, over_frames) in enumerate(zip(self.STEblocks, self.TTEblocks, strict=True)):
            x = self.Spatial_norm(over_joints(x)).transpose(1, 2)  # (B, J, T, C); both norms are shared by all layers
            if i == 0:
                x = x + self.Temporal_pos_embed
            x = self.Temporal_norm(over_frames(x)).transpose(1, 2)  # (B, T, J, C)
        return self.head(x)
