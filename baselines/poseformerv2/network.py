"""PoseFormerV2 (Zhao et al., CVPR 2023): a few central frames and the low frequencies of the whole clip, one pose out.

B batch, T frames, J joints, e width per joint, C = J e, f kept frames, n kept DCT coefficients. Names, shapes and
order of the state_dict are the official ones (class PoseTransformerV2).
"""

from typing import Literal

import torch
from torch import nn

from posescale.errors import ConfigError
from posescale.layers import Attention, Block, DropPath, Mlp
from posescale.layers.inputs import keypoints


def norm(dim: int) -> nn.LayerNorm:
    """The official LayerNorm: eps 1e-6, but for the head's."""
    return nn.LayerNorm(dim, eps=1e-6)


def _half_sample(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of pi k / 2N for k = 0 .. N-1, each `(N, 1)`: the shift between a DCT and a Fourier transform."""
    n = x.shape[-2]
    angle = torch.arange(n, device=x.device, dtype=x.dtype).unsqueeze(-1) * (torch.pi / (2 * n))
    return angle.cos(), angle.sin()


def dct(x: torch.Tensor) -> torch.Tensor:
    """Unnormalised DCT-II over the last but one axis, X_k = 2 sum_t x_t cos(pi k (2t + 1) / 2N), `(..., N, C)`.

    It is the Fourier transform of the sequence followed by its mirror image. Half precision is computed in float32.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    spectrum = torch.fft.rfft(torch.cat([wide, wide.flip(-2)], dim=-2), dim=-2)[..., : x.shape[-2], :]
    real, imaginary = torch.view_as_real(spectrum).unbind(-1)
    cos, sin = _half_sample(wide)
    return (real * cos + imaginary * sin).to(x.dtype)


def idct(x: torch.Tensor) -> torch.Tensor:
    """The inverse of `dct`, `(..., N, C)`."""
    wide = x if x.dtype == torch.float64 else x.float()
    cos, sin = _half_sample(wide)
    spectrum = torch.view_as_complex(torch.stack([wide * cos, wide * sin], dim=-1))
    spectrum = torch.cat([spectrum, torch.zeros_like(spectrum[..., :1, :])], dim=-2)  # nothing at frequency N
    return torch.fft.irfft(spectrum, n=2 * x.shape[-2], dim=-2)[..., : x.shape[-2], :].to(x.dtype)


class MixedBlock(nn.Module):
    """Attention over all tokens; then one perceptron in time, and one in frequency for the second half of them."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, drop: float, kernel: str) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.attn = Attention(dim, heads, kernel=kernel)
        self.drop_path = DropPath(drop)
        self.norm2 = norm(dim)
        self.mlp1 = Mlp(dim, mlp_ratio)
        self.norm3 = norm(dim)
        self.mlp2 = Mlp(dim, mlp_ratio)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, n + f, C)` to the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        half = x.shape[1] // 2  # the official split: between frequency and time tokens only where n = f
        a, b = x[:, :half], x[:, half:]
        a = a + self.drop_path(self.mlp1(self.norm2(a)))
        b = b + self.drop_path(idct(self.mlp2(dct(self.norm3(b)))))
        return torch.cat([a, b], dim=1)


class PoseFormerV2(nn.Module):
    """`(B, T, J, 2)` normalised key points (confidence is dropped if given) to the centre pose `(B, 1, J, 3)`, metres.

    No shape of the state_dict shows T, but the DCT's scale grows with it: weights belong to one T (`hidden_settings`).

    Args:
        frames: T; the clip must have exactly this many. The centre is frame (T - 1) // 2.
        kept_frames: f, odd: frames around the centre that become time tokens.
        coefficients: n: lowest DCT coefficients of the clip that become frequency tokens.
        joints: J.
        dim: e, width per joint.
        depth: number of spatial blocks, and of mixed blocks.
        heads: attention heads, of both kinds of blocks.
        mlp_ratio: hidden width of the perceptrons over their input's.
        drop_path: rate of the last block in training; it grows linearly from 0.
        channels: 2, or 3 to read the detector's confidence too.
        attention: `fused` (PyTorch's kernel), or `naive`, which holds the attention map as the official code does.
    """

    def __init__(
        self,
        frames: int = 243,
        kept_frames: int = 27,
        coefficients: int = 27,
        joints: int = 17,
        dim: int = 32,
        depth: int = 4,
        heads: int = 8,
        mlp_ratio: float = 2,
        drop_path: float = 0.1,
        channels: Literal[2, 3] = 2,
        attention: Literal["fused", "naive"] = "fused",
    ) -> None:
        super().__init__()
        _check(frames, kept_frames, coefficients, channels)
        self.frames, self.joints, self.channels = frames, joints, channels
        self.kept_frames, self.coefficients = kept_frames, coefficients
        self.hidden_settings = {"frames": frames}  # what weights depend on without showing it in a shape
        wide = joints * dim
        rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, joints, dim))
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, kept_frames, wide))
        self.Temporal_pos_embed_ = nn.Parameter(torch.zeros(1, coefficients, wide))
        self.Joint_embedding = nn.Linear(channels, dim)
        self.Freq_embedding = nn.Linear(channels * joints, wide)
        self.Spatial_blocks = nn.ModuleList(Block(dim, heads, mlp_ratio, rate, attention) for rate in rates)
        self.blocks = nn.ModuleList(MixedBlock(wide, heads, mlp_ratio, rate, attention) for rate in rates)
        self.Spatial_norm, self.Temporal_norm = norm(dim), norm(wide)
        self.weighted_mean = nn.Conv1d(coefficients, 1, kernel_size=1)
        self.weighted_mean_ = nn.Conv1d(kept_frames, 1, kernel_size=1)
        self.head = nn.Sequential(nn.LayerNorm(2 * wide), nn.Linear(2 * wide, 3 * joints))

    def time_tokens(self, x: torch.Tensor) -> torch.Tensor:
        """The f frames around the centre, joints mixed within each: `(B, T, J, c)` to `(B, f, C)`."""
        first = (self.frames - 1) // 2 - self.kept_frames // 2
        x = x[:, first : first + self.kept_frames]
        h = (self.Joint_embedding(x) + self.Spatial_pos_embed).flatten(0, 1)  # (B f, J, e)
        for block in self.Spatial_blocks:
            h = block(h)
        return self.Spatial_norm(h).reshape(len(x), self.kept_frames, -1) + self.Temporal_pos_embed

    def frequency_tokens(self, x: torch.Tensor) -> torch.Tensor:
        """The n lowest frequencies of every coordinate: `(B, T, J, c)` to `(B, n, C)`."""
        return self.Freq_embedding(dct(x.flatten(2))[:, : self.coefficients]) + self.Temporal_pos_embed_

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Lift the centre frame of each clip.

        Raises:
            ShapeError: not `(B, frames, J, 2 or 3)`.
        """
        x = keypoints(
            x,
            self.channels,
            self.joints,
            self.frames,
            "PoseFormerV2",
            exactly="the scale of its frequency tokens grows with T",
        )
        z = torch.cat([self.frequency_tokens(x), self.time_tokens(x)], dim=1)
        for block in self.blocks:
            z = block(z)
        frequency, time = self.Temporal_norm(z).split([self.coefficients, self.kept_frames], dim=1)
        means = torch.cat([self.weighted_mean(frequency), self.weighted_mean_(time)], dim=-1)  # (B, 1, 2C)
        return self.head(means).view(-1, 1, self.joints, 3)


def _check(frames: int, kept_frames: int, coefficients: int, channels: int) -> None:
    if kept_frames % 2 == 0 or not 1 <= kept_frames <= frames:
        raise ConfigError(
            f"PoseFormerV2: kept_frames is an odd number from 1 to frames ({frames}), found {kept_frames}; "
            "released with frames 27: 1 or 3; 81: 1, 3 or 9; 243: 27"
        )
    if not 1 <= coefficients <= frames:
        raise ConfigError(f"PoseFormerV2: coefficients is from 1 to frames ({frames}), found {coefficients}")
    if channels not in (2, 3):
        raise ConfigError(f"PoseFormerV2: channels must be 2 or 3 (with confidence), found {channels!r}")
