"""GLSMamba (Feng et al., ICCV 2025): heat maps of a video's key frame by global and local space-time scans.

B batch, T frames, h x w tokens per frame, L = T h w, D width, E inner width. The paper's equations were not to be had:
what is known and what is chosen stands in README.md. Encoder, blocks and head are `posescale/layers/global_local.py`.
"""

import math
from typing import Literal

import torch
from torch import nn

from posescale.errors import ConfigError
from posescale.layers.attention import Kernel
from posescale.layers.deformable import DeformableConv
from posescale.layers.global_local import GlobalLocalPose, grid_of, to_grid, to_images
from posescale.layers.s6 import S6Paths
from posescale.layers.space_time import (
    UnifiedPair,
    Window,
    from_windows,
    space_time_orders,
    to_windows,
    window_orders,
)
from posescale.layers.vit import FrameEncoder, Frozen, Stem, ViT

Merging = Literal["stmm", "sum"]
Guide = Literal["stream", "unified_and_stream"]
Grid = tuple[int, int, int]


class STMM(nn.Module):
    """Unified + sum of deformed streams: y_u + DCN_s(y_s) + DCN_t(y_t); starts as the plain sum.

    `guide`: what offsets and masks see, the stream itself or its sum with the unified one.
    """

    def __init__(self, width: int, streams: int, guide: Guide, groups: int) -> None:
        super().__init__()
        if guide not in ("stream", "unified_and_stream"):
            raise ConfigError(f"guide must be stream or unified_and_stream, found {guide!r}")
        self.guide = guide
        self.deform = nn.ModuleList(DeformableConv(width, groups) for _ in range(streams - 1))

    def forward(self, streams: torch.Tensor) -> torch.Tensor:
        """Merge `(B, streams, T, h, w, E)` into `(B, T, h, w, E)`; stream 0 is the unified one."""
        unified, *others = streams.unbind(1)
        merged = unified
        for stream, deform in zip(others, self.deform, strict=True):
            guide = stream if self.guide == "stream" else unified + stream
            merged = merged + to_grid(deform(to_images(stream), to_images(guide)), stream.shape[1])
        return merged


class STS6D(nn.Module):
    """Six scans of all L tokens, each path added to its partner, the three streams merged."""

    def __init__(
        self, grid: Grid, s6: S6Paths, unified_pair: UnifiedPair, merging: Merging, guide: Guide, groups: int
    ) -> None:
        super().__init__()
        if merging not in ("stmm", "sum"):
            raise ConfigError(f"merging must be stmm or sum, found {merging!r}")
        self.register_buffer("orders", space_time_orders(*grid, s6.paths, unified_pair), persistent=False)
        self.s6 = s6
        self.stmm = STMM(s6.width, s6.paths // 2, guide, groups) if merging == "stmm" else None

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, h, w, E)` to the same shape."""
        y = self.s6(u.flatten(1, 3), self.orders, merge=self.stmm is None)
        if self.stmm is None:
            return y.view_as(u)
        pairs = y.unflatten(1, (2, -1)).sum(1)  # (B, streams, L, E): y_k + y_{k+3}
        return self.stmm(pairs.unflatten(2, u.shape[1:4]))


class WSTS(nn.Module):
    """One scan forward and one backward through all windows, one after the other; the state runs on between them.

    `reset_state` starts every window anew instead: the receptive field is then the window.
    """

    def __init__(self, grid: Grid, s6: S6Paths, window: Window, reset_state: bool) -> None:
        super().__init__()
        self.window, self.reset_state = window, reset_state
        if reset_state and (grid[1] % window[0] or grid[2] % window[1]):
            raise ConfigError(
                f"reset_state=True scans each window alone, so windows of {window} must fill the grid, found "
                f"{grid[1]} x {grid[2]} tokens; choose another window or reset_state=False"
            )
        within = (grid[0], *window) if reset_state else grid
        self.register_buffer("orders", window_orders(*within, window), persistent=False)
        self.s6 = s6

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, h, w, E)` to the same shape."""
        if self.reset_state:
            y = self.s6(to_windows(u, self.window), self.orders, merge=True)
            return from_windows(y, *u.shape[1:4], self.window)
        return self.s6(u.flatten(1, 3), self.orders, merge=True).view_as(u)


class GLSMamba(GlobalLocalPose):
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
        stride: pixels per token of the blocks: 4, or 16 (the paper's LR model, whose deconvolutions stand in the head).
        dim: D.
        gsm: number of global blocks.
        lrm: number of local blocks.
        state: N.
        expand: E / D.
        mlp_ratio: hidden width of the perceptrons over D.
        reduction: of the channel attention.
        paths: 6, 4 (no temporal scans) or 2 (the unified ones alone).
        unified_pair: partner of the unified path, see `space_time_orders`.
        share_s6: one set of scan weights for all paths of a block.
        merging: `stmm`, or `sum` of the streams.
        guide: what STMM's offsets see, `stream` or `unified_and_stream`.
        deform_groups: channel groups of STMM's convolutions; E makes them depth-wise.
        window_height: of the local scans, in tokens.
        window_width: of the local scans, in tokens.
        reset_state: scan every window alone.
        dt_max: largest step of the scans at the start.
        attention: kernel of the encoder's attention, `fused` or `naive`.
        backend: of the scans, see `posescale.ops`.

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
        state: int = 16,
        expand: int = 2,
        mlp_ratio: float = 4,
        reduction: int = 8,
        paths: Literal[2, 4, 6] = 6,
        unified_pair: UnifiedPair = "h_flip_v",
        share_s6: bool = False,
        merging: Merging = "stmm",
        guide: Guide = "stream",
        deform_groups: int = 16,
        window_height: int = 8,
        window_width: int = 6,
        reset_state: bool = False,
        dt_max: float = 0.1,
        attention: Kernel = "fused",
        backend: str = "auto",
    ) -> None:
        grid, window = grid_of(frames, height, width, stride), (window_height, window_width)
        vit = ViT(height, width, vit_dim, vit_depth, vit_heads, stem, kernel=attention)
        encoder = FrameEncoder(vit, vit_dim, decoder if stride == 4 else 0, frozen)

        def s6(paths: int) -> S6Paths:
            return S6Paths(expand * dim, math.ceil(dim / 16), state, paths, share_s6, backend, dt_max)

        merge = (unified_pair, merging, guide, deform_groups)
        mixers = [STS6D(grid, s6(paths), *merge) for _ in range(gsm)]
        local_mixers = [WSTS(grid, s6(2), window, reset_state) for _ in range(lrm)]
        clip, sizes = (frames, height, width), (dim, expand, mlp_ratio, reduction)
        super().__init__(encoder, clip, stride, decoder, joints, *sizes, mixers, local_mixers)
        self.hidden_settings |= {"vit_heads": vit_heads, "paths": paths, "unified_pair": unified_pair, "guide": guide}
        self.hidden_settings |= {"window": f"{window_height} x {window_width}", "reset_state": reset_state}
