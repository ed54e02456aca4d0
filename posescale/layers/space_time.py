"""Orders and windows over a clip's T x H x W grid of tokens; token (t, h, w) is number (t H + h) W + w."""

from typing import Literal

import torch
import torch.nn.functional as F

from posescale.errors import ConfigError

UnifiedPair = Literal["h_flip_v", "h_flip_h", "h_v"]
UNIFIED_PAIRS = ("h_flip_v", "h_flip_h", "h_v")
Window = tuple[int, int]  # height and width in tokens; a window spans all frames

# Axes of a traversal, slowest first; axis 0 is t, 1 is h, 2 is w.
_HORIZONTAL, _VERTICAL = (1, 0, 2), (2, 0, 1)  # a row, or a column, of all frames side by side, then the next one
_SPATIAL = (0, 1, 2)  # frame after frame, row by row
_TEMPORAL = (1, 2, 0)  # all frames of one pixel, then the next pixel


def space_time_orders(
    frames: int, height: int, width: int, paths: int = 6, unified_pair: UnifiedPair = "h_flip_v"
) -> torch.Tensor:
    """The scan paths through the grid, `(paths, T H W)` int32: row k holds the tokens in the order they are visited.

    | path | order, slowest axis first | its partner, path k + paths / 2 |
    | --- | --- | --- |
    | unified | (h, t, w) | by `unified_pair` |
    | spatial | (t, h, w) | reversed |
    | temporal | (h, w, t) | reversed |

    Args:
        frames: T.
        height: H in tokens.
        width: W in tokens.
        paths: 2 (unified), 4 (unified, spatial) or 6 (unified, spatial, temporal).
        unified_pair: the partner of the unified path: `h_flip_v` is (w, t, h) reversed, `h_flip_h` is (h, t, w)
            reversed, `h_v` is (w, t, h).

    Raises:
        ConfigError: for other values of the last two.
    """
    if paths not in (2, 4, 6):
        raise ConfigError(f"paths must be 2 (unified), 4 (and spatial) or 6 (and temporal), found {paths!r}")
    if unified_pair not in UNIFIED_PAIRS:
        raise ConfigError(f"unified_pair must be one of {', '.join(UNIFIED_PAIRS)}, found {unified_pair!r}")
    tokens = torch.arange(frames * height * width, dtype=torch.int32).view(frames, height, width)

    def visit(axes: tuple[int, int, int]) -> torch.Tensor:
        return tokens.permute(axes).reshape(-1)

    first = [visit(axes) for axes in (_HORIZONTAL, _SPATIAL, _TEMPORAL)[: paths // 2]]
    unified = visit(_HORIZONTAL if unified_pair == "h_flip_h" else _VERTICAL)
    partners = [unified if unified_pair == "h_v" else unified.flip(0), *(order.flip(0) for order in first[1:])]
    return torch.stack([*first, *partners])


def window_orders(frames: int, height: int, width: int, window: Window) -> torch.Tensor:
    """Windows in raster order, (t, h, w) inside each, and the same reversed: `(2, T H W)` int32.

    Windows at the lower and right border are smaller where the grid is no multiple of the window.

    Raises:
        ConfigError: a window without tokens.
    """
    if min(window) < 1:
        raise ConfigError(f"a window must be at least 1 x 1 tokens, found {window[0]} x {window[1]}")
    tokens = torch.arange(frames * height * width, dtype=torch.int32).view(frames, height, width)
    order = torch.cat(
        [
            tokens[:, top : top + window[0], left : left + window[1]].reshape(-1)
            for top in range(0, height, window[0])
            for left in range(0, width, window[1])
        ]
    )
    return torch.stack([order, order.flip(0)])


def window_counts(height: int, width: int, window: Window) -> tuple[int, int]:
    """How many windows lie below and beside each other, those at the border padded."""
    return -(-height // window[0]), -(-width // window[1])


def to_windows(x: torch.Tensor, window: Window) -> torch.Tensor:
    """`(B, T, H, W, C)` to `(B * windows, T * window tokens, C)`, zeros where a window reaches over the border."""
    batch, frames, height, width, channels = x.shape
    down, across = window_counts(height, width, window)
    x = F.pad(x, (0, 0, 0, across * window[1] - width, 0, down * window[0] - height))
    x = x.reshape(batch, frames, down, window[0], across, window[1], channels)
    return x.permute(0, 2, 4, 1, 3, 5, 6).reshape(batch * down * across, -1, channels)


def from_windows(x: torch.Tensor, frames: int, height: int, width: int, window: Window) -> torch.Tensor:
    """The inverse of `to_windows`, to `(B, frames, height, width, C)`: padding is dropped."""
    down, across = window_counts(height, width, window)
    x = x.reshape(-1, down, across, frames, *window, x.shape[-1])
    x = x.permute(0, 3, 1, 4, 2, 5, 6).reshape(-1, frames, down * window[0], across * window[1], x.shape[-1])
    return x[:, :, :height, :width]


def window_mask(frames: int, height: int, width: int, window: Window) -> torch.Tensor:
    """`(windows, T * window tokens)`: True for tokens of the grid, False for padding."""
    return to_windows(torch.ones(1, frames, height, width, 1), window)[..., 0] > 0
