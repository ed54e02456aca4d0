"""The transformer block of ViT, MixSTE and PoseFormerV2."""

import torch
from torch import nn

from posescale.layers.attention import Attention, Kernel
from posescale.layers.drop_path import DropPath
from posescale.layers.mlp import Mlp


class Block(nn.Module):
    """`x += attn(LN(x)); x += mlp(LN(x))` over N tokens; in training each branch may be dropped, group by group.

    Args:
        channels: C.
        heads: attention heads.
        mlp_ratio: hidden width of the perceptron over C.
        drop_path: rate at which a branch is dropped in training.
        kernel: of the attention, `fused` or `naive`.
    """

    def __init__(self, channels: int, heads: int, mlp_ratio: float, drop_path: float, kernel: Kernel) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, heads, kernel=kernel)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, mlp_ratio)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(..., N, C)` to the same shape, mixing the N tokens of each group."""
        shape = x.shape
        x = x.flatten(0, -3)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.view(shape)
