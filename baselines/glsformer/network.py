"""GLSFormer: GLSMamba's framework with attention in place of the scans, and nothing else changed. Ours, not published.

B batch, T frames, h x w tokens per frame, E inner width of a block, A width of the attention.
Encoder, blocks and head are `posescale/layers/global_local.py`.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from posescale.errors import ConfigError
from posescale.layers.attention import Kernel
from posescale.layers.global_local import GlobalLocalPose, grid_of
from posescale.layers.space_time import Window, from_windows, to_windows, window_mask
from posescale.layers.vit import FrameEncoder, Frozen, Stem, ViT

Grid = tuple[int, int, int]


class NarrowAttention(nn.Module):
    """Multi-head self-attention of N tokens at a width A below theirs, `(batch, N, E)` to the same shape; no biases."""

    def __init__(self, width: int, inner: int, heads: int, kernel: Kernel) -> None:
        super().__init__()
        if heads < 1 or inner % heads:
            raise ConfigError(f"attention_width must be a multiple of the heads, found {inner} and {heads}")
        if kernel not in ("fused", "naive"):
            raise ConfigError(f"attention must be 'fused' or 'naive', found {kernel!r}")
        self.heads, self.kernel = heads, kernel
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Attend; `mask` (batch, N) is False for tokens that nobody may listen to."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (batch, H, N, d) each
        mask = None if mask is None else mask[:, None, None]
        y = F.scaled_dot_product_attention(q, k, v, mask) if self.kernel == "fused" else _naive(q, k, v, mask)
        return self.proj(y.transpose(1, 2).flatten(2))


def _naive(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Attention with its `(N, N)` map in memory."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1) @ v


class Joint(nn.Module):
    """All T h w tokens attend to each other."""

    def __init__(self, width: int, inner: int, heads: int, kernel: Kernel) -> None:
        super().__init__()
        self.attention = NarrowAttention(width, inner, heads, kernel)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, h, w, E)` to the same shape."""
        return self.attention(u.flatten(1, 3)).view_as(u)


class Divided(nn.Module):
    """v = u + spatial(u) within each frame, then temporal(v) within each pixel; each half the width and the heads."""

    def __init__(self, width: int, inner: int, heads: int, kernel: Kernel) -> None:
        super().__init__()
        if heads % 2 or inner % 2:
            raise ConfigError(
                f"divided attention halves attention_width and attention_heads, so both must be even, found {inner} "
                f"and {heads}"
            )
        self.spatial = NarrowAttention(width, inner // 2, heads // 2, kernel)
        self.temporal = NarrowAttention(width, inner // 2, heads // 2, kernel)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, h, w, E)` to the same shape."""
        batch, frames, height, width, channels = u.shape
        u = u + self.spatial(u.reshape(batch * frames, height * width, channels)).view_as(u)
        pixels = u.permute(0, 2, 3, 1, 4).reshape(-1, frames, channels)
        return self.temporal(pixels).view(batch, height, width, frames, channels).permute(0, 3, 1, 2, 4)


class Windowed(nn.Module):
    """The tokens of a window, all frames, attend to each other; padding at the border is not listened to."""

    def __init__(self, grid: Grid, window: Window, width: int, inner: int, heads: int, kernel: Kernel) -> None:
        super().__init__()
        if min(window) < 1:
            raise ConfigError(f"a window must be at least 1 x 1 tokens, found {window[0]} x {window[1]}")
        self.window = window
        self.attention = NarrowAttention(width, inner, heads, kernel)
        padded = grid[1] % window[0] or grid[2] % window[1]
        self.register_buffer("mask", window_mask(*grid, window) if padded else None, persistent=False)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, h, w, E)` to the same shape."""
        mask = None if self.mask is None else self.mask.repeat(len(u), 1)
        return from_windows(self.attention(to_windows(u, self.window), mask), *u.shape[1:4], self.window)


MIXERS: dict[str, type[nn.Module]] = {"joint": Joint, "divided": Divided}


class GLSFormer(GlobalLocalPose):
    """`(B, T, 3, H, W)` person crops to heat maps `(B, K, H/4, W/4)` of frame T // 2.

    Args:
        frames: T, exactly; the channel attention and the temporal embedding are made for it.
        height: H, a multiple of 16.
        width: W, a multiple of 16.
        joints: K.
        vit_dim: width of the encoder.
        vit_depth: blocks of the encoder.
        vit_heads: attention heads of the encoder.
        stem: of the encoder, `patch` as published or `conv`.
        decoder: width of the deconvolutions.
        frozen: which part of the encoder is not trained: `nothing`, `vit`, `vit_and_deconv`.
        stride: pixels per token of the blocks: 4, or 16.
        dim: D.
        gsm: number of global blocks.
        lrm: number of local blocks.
        expand: E / D.
        mlp_ratio: hidden width of the perceptrons over D.
        reduction: of the channel attention.
        mixer: of the global blocks, `joint` or `divided`.
        attention_width: A; divided attention gives each of its two one half.
        attention_heads: over A.
        window_height: of the local blocks, in tokens.
        window_width: of the local blocks, in tokens.
        attention: kernel, `fused` or `naive`, in encoder and blocks.

    Raises:
        ConfigError: an argument is not one of these, or they do not fit together.
    """

    def __init__(
        self,
        frames: int = 5,
        height: int = 256,
        width: int = 192,
        joints: int = 15,
        vit_dim: int = 768,
        vit_depth: int = 12,
        vit_heads: int = 12,
        stem: Stem = "patch",
        decoder: int = 256,
        frozen: Frozen = "vit",
        stride: Literal[4, 16] = 4,
        dim: int = 192,
        gsm: int = 4,
        lrm: int = 2,
        expand: int = 2,
        mlp_ratio: float = 4,
        reduction: int = 8,
        mixer: Literal["joint", "divided"] = "joint",
        attention_width: int = 192,
        attention_heads: int = 6,
        window_height: int = 8,
        window_width: int = 6,
        attention: Kernel = "fused",
    ) -> None:
        if mixer not in MIXERS:
            raise ConfigError(f"mixer must be {' or '.join(MIXERS)}, found {mixer!r}")
        grid, window = grid_of(frames, height, width, stride), (window_height, window_width)
        vit = ViT(height, width, vit_dim, vit_depth, vit_heads, stem, kernel=attention)
        encoder = FrameEncoder(vit, vit_dim, decoder if stride == 4 else 0, frozen)
        shape = (expand * dim, attention_width, attention_heads, attention)
        mixers = [MIXERS[mixer](*shape) for _ in range(gsm)]
        local_mixers = [Windowed(grid, window, *shape) for _ in range(lrm)]
        clip, sizes = (frames, height, width), (dim, expand, mlp_ratio, reduction)
        super().__init__(encoder, clip, stride, decoder, joints, *sizes, mixers, local_mixers)
        self.hidden_settings |= {"vit_heads": vit_heads, "attention_heads": attention_heads}
        self.hidden_settings |= {"window": f"{window_height} x {window_width}"}
