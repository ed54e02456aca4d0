"""MotionBERT's DSTformer (Zhu et al., ICCV 2023): two streams of spatial and temporal attention, fused per token.

B batch, T frames, J joints, C width. Names, shapes and order of the state_dict are the official ones.
"""

from typing import Literal

import torch
from torch import nn

from posescale.errors import ConfigError
from posescale.layers import Attention, Mlp
from posescale.layers.inputs import keypoints

Axis = Literal["s", "t"]  # over the joints of a frame, over the frames of a joint


def norm(dim: int) -> nn.LayerNorm:
    """The official LayerNorm: eps 1e-6 everywhere."""
    return nn.LayerNorm(dim, eps=1e-6)


def attention(dim: int, heads: int, kernel: str) -> Attention:
    """Self-attention whose state_dict lists `proj` before `qkv`, as the official one does."""
    layer = Attention(dim, heads, kernel=kernel)
    qkv = layer.qkv
    del layer.qkv
    layer.qkv = qkv
    return layer


class Block(nn.Module):
    """Attention and perceptron over one axis, then over the other: x += f(LN(x)), four times."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, order: tuple[Axis, Axis], kernel: str) -> None:
        super().__init__()
        self.order = order
        self.norm1_s, self.norm1_t = norm(dim), norm(dim)
        self.attn_s, self.attn_t = attention(dim, heads, kernel), attention(dim, heads, kernel)
        self.norm2_s, self.norm2_t = norm(dim), norm(dim)
        self.mlp_s, self.mlp_t = Mlp(dim, mlp_ratio), Mlp(dim, mlp_ratio)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, J, C)` to the same shape."""
        for axis in self.order:
            x = self.spatial(x) if axis == "s" else self.temporal(x)
        return x

    def spatial(self, x: torch.Tensor) -> torch.Tensor:
        """Attention and perceptron over the J joints of each frame; `(B, T, J, C)` to the same."""
        x = x + self.attn_s(self.norm1_s(x))
        return x + self.mlp_s(self.norm2_s(x))

    def temporal(self, x: torch.Tensor) -> torch.Tensor:
        """Attention and perceptron over the T frames of each joint; `(B, T, J, C)` to the same."""
        x = x + self.attn_t(self.norm1_t(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_t(self.norm2_t(x))


class DSTformer(nn.Module):
    """`(B, T, J, 3)` normalised key points with confidence to `(B, T, J, 3)` poses in the same units.

    Args:
        frames: the longest clip; any T from 1 to `frames` is accepted.
        joints: J.
        dim: C.
        rep: width of the motion representation before the head.
        depth: number of layers, each two blocks (spatial first, temporal first) on the same input.
        heads: attention heads.
        mlp_ratio: hidden width of the perceptrons over C.
        channels: 3, or 2 for a model without the detector's confidence.
        init_std: of the initial weights; 0.02 as published. A narrow model starts on a plateau with it, because what a
            layer passes on grows with the width: 0.1 at C = 32 gives the signals that 0.02 gives at C = 800.
        attention: `fused` (PyTorch's kernel), or `naive`, which holds the attention map as the official code does.
    """

    def __init__(
        self,
        frames: int = 243,
        joints: int = 17,
        dim: int = 512,
        rep: int = 512,
        depth: int = 5,
        heads: int = 8,
        mlp_ratio: float = 2,
        channels: Literal[2, 3] = 3,
        init_std: float = 0.02,
        attention: Literal["fused", "naive"] = "fused",
    ) -> None:
        super().__init__()
        if channels not in (2, 3):
            raise ConfigError(f"channels must be 2 (x, y) or 3 (x, y, confidence), found {channels}")
        self.frames, self.joints, self.channels = frames, joints, channels

        def stream(*order: Axis) -> nn.ModuleList:
            return nn.ModuleList(Block(dim, heads, mlp_ratio, order, attention) for _ in range(depth))

        self.temp_embed = nn.Parameter(torch.zeros(1, frames, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, joints, dim))
        self.joints_embed = nn.Linear(channels, dim)
        self.blocks_st = stream("s", "t")
        self.blocks_ts = stream("t", "s")
        self.norm = norm(dim)
        self.pre_logits = nn.Sequential()
        self.pre_logits.add_module("fc", nn.Linear(dim, rep))
        self.pre_logits.add_module("act", nn.Tanh())
        self.head = nn.Linear(rep, 3)
        self.ts_attn = nn.ModuleList(nn.Linear(2 * dim, 2) for _ in range(depth))
        self.reset_parameters(init_std)

    @torch.no_grad()
    def reset_parameters(self, std: float) -> None:
        """Truncated normal weights, zero biases; both streams start with weight 1/2."""
        for table in (self.temp_embed, self.pos_embed):
            nn.init.trunc_normal_(table, std=std)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)
        for fusion in self.ts_attn:
            nn.init.zeros_(fusion.weight)
            nn.init.constant_(fusion.bias, 0.5)

    def represent(self, x: torch.Tensor) -> torch.Tensor:
        """The motion representation, `(B, T, J, rep)`.

        Raises:
            ShapeError: not `(B, T, J, 3)` with 1 <= T <= frames.
        """
        x = keypoints(x, self.channels, self.joints, self.frames, "MotionBERT")
        x = self.joints_embed(x) + self.pos_embed + self.temp_embed[:, : x.shape[1]]
        for st, ts, fuse in zip(self.blocks_st, self.blocks_ts, self.ts_attn, strict=True):
            a, b = st(x), ts(x)
            w = fuse(torch.cat([a, b], dim=-1)).softmax(dim=-1)
            x = w[..., :1] * a + w[..., 1:] * b
        return self.pre_logits(self.norm(x))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map key points `(B, T, J, 3)` to poses of the same shape; errors as of `represent`."""
        return self.head(self.represent(x))
