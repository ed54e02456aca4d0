"""The video-pose framework of GLSMamba, with the token mixers left open.

B batch, T frames, h x w tokens per frame, D width, E = expand * D inner width, K joints.
A mixer maps `(B, T, h, w, E)` to the same shape; state-space models and attention differ in nothing else.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from posescale.errors import CheckpointError, ConfigError
from posescale.layers.clips import check_clip, check_frames
from posescale.layers.mlp import Mlp
from posescale.layers.vit import FrameEncoder, deconvolution

Mixers = Sequence[nn.Module]


def to_images(x: torch.Tensor) -> torch.Tensor:
    """`(B, T, h, w, C)` to `(B T, C, h, w)`."""
    return x.flatten(0, 1).permute(0, 3, 1, 2)


def to_grid(x: torch.Tensor, frames: int) -> torch.Tensor:
    """`(B T, C, h, w)` to `(B, T, h, w, C)`."""
    return x.permute(0, 2, 3, 1).unflatten(0, (-1, frames))


def depthwise(channels: int) -> nn.Conv2d:
    """3 x 3 convolution of each channel alone."""
    return nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels)


def per_frame(convolution: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Apply a convolution of images to each frame of `(B, T, h, w, C)`."""
    return to_grid(convolution(to_images(x)), x.shape[1])


class ChannelAttention(nn.Module):
    """SCA: weights in 0..1 per frame and channel from all frames' means, `(B, T, h, w, D)` to `(B, T, 1, 1, D)`."""

    def __init__(self, frames: int, dim: int, reduction: int) -> None:
        super().__init__()
        hidden = frames * dim // reduction
        if hidden < 1:
            raise ConfigError(f"reduction must be at most frames * dim = {frames * dim}, found {reduction}")
        self.fc1 = nn.Linear(frames * dim, hidden)
        self.fc2 = nn.Linear(hidden, frames * dim)
        nn.init.constant_(self.fc2.bias, 2.0)  # nearly open

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """sigmoid(fc2 ReLU(fc1 means))."""
        means = x.mean(dim=(2, 3))  # (B, T, D)
        weights = self.fc2(F.relu(self.fc1(means.flatten(1)))).sigmoid()
        return weights.view_as(means)[:, :, None, None]


class GatedBlock(nn.Module):
    """A GSM block (with channel attention) or an LRM block (without).

    n = LN(x); u = SiLU(DWConv(W_in(SCA(n) * n))); f = LN(mixer(u)); a = SiLU(LN(DWConv(W_gate n)));
    y = x + W_out(f * a); out = y + FFN(LN(y)).
    """

    def __init__(
        self, dim: int, expand: int, mlp_ratio: float, mixer: nn.Module, channel_attention: nn.Module | None
    ) -> None:
        super().__init__()
        inner = expand * dim
        self.norm = nn.LayerNorm(dim)
        self.channel_attention = channel_attention
        self.proj_in = nn.Linear(dim, inner, bias=False)
        self.conv_in = depthwise(inner)
        self.mixer = mixer
        self.norm_mixed = nn.LayerNorm(inner)
        self.proj_gate = nn.Linear(dim, inner, bias=False)
        self.conv_gate = depthwise(inner)
        self.norm_gate = nn.LayerNorm(inner)
        self.proj_out = nn.Linear(inner, dim, bias=False)
        self.norm_ffn = nn.LayerNorm(dim)
        self.ffn = Mlp(dim, mlp_ratio)
        self._start_at_unit_scale()

    @torch.no_grad()
    def _start_at_unit_scale(self) -> None:
        """Let the mixer's input and the gate start about as large as the normalised tokens.

        PyTorch's defaults shrink them twentyfold. A selective scan reads what it stored through products of its input
        (B, C and the step), so what other frames say then starts a thousandfold below the token's own skip path, and
        short trainings never find it.
        """
        for linear, convolution in ((self.proj_in, self.conv_in), (self.proj_gate, self.conv_gate)):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            convolution.weight.mul_(0.3)
            convolution.weight[:, 0, 1, 1] += 1  # near the identity
            nn.init.zeros_(convolution.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, h, w, D)` to the same shape."""
        n = self.norm(x)
        chosen = n if self.channel_attention is None else self.channel_attention(n) * n
        mixed = self.norm_mixed(self.mixer(F.silu(per_frame(self.conv_in, self.proj_in(chosen)))))
        gate = F.silu(self.norm_gate(per_frame(self.conv_gate, self.proj_gate(n))))
        x = x + self.proj_out(mixed * gate)
        return x + self.ffn(self.norm_ffn(x))


def sine_cosine_grid(height: int, width: int, dim: int) -> torch.Tensor:
    """Fixed embedding `(h, w, D)`: half of D for rows, half for columns, each sines then cosines, temperature 10000.

    Raises:
        ConfigError: D is no multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"dim must be a multiple of 4 (sine and cosine for rows and columns), found {dim}")
    rates = 10000.0 ** -(torch.arange(dim // 4) / (dim // 4))

    def axis(length: int) -> torch.Tensor:
        angles = torch.arange(length)[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (length, D / 2)

    rows, columns = axis(height)[:, None], axis(width)[None]
    return torch.cat([rows.expand(-1, width, -1), columns.expand(height, -1, -1)], dim=-1)


class HeatMapHead(nn.Module):
    """LN, deconvolutions where the tokens are coarse, and a 3 x 3 convolution: `(B, h, w, D)` to `(B, K, H/4, W/4)`."""

    def __init__(self, dim: int, joints: int, decoder: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.deconv_layers = deconvolution(dim, decoder) if decoder else nn.Identity()
        self.conv = nn.Conv2d(decoder or dim, joints, kernel_size=3, padding=1)
        nn.init.normal_(self.conv.weight, std=0.001)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Heat maps of one frame."""
        return self.conv(self.deconv_layers(self.norm(x).permute(0, 3, 1, 2)))


class GlobalLocalPose(nn.Module):
    """`(B, T, 3, H, W)` crops of one person to heat maps `(B, K, H/4, W/4)` of the key frame T // 2.

    Encoder per frame, embeddings, one global block per global mixer, one local block per local mixer, head.

    Args:
        encoder: of a frame, one token per `stride` pixels.
        clip: T, H, W.
        stride: 4, or 16: then `decoder` is the width of deconvolutions in the head.
        decoder: see stride.
        joints: K.
        dim: D.
        expand: E / D.
        mlp_ratio: hidden width of the perceptrons over D.
        reduction: of the channel attention's hidden width, T D / reduction.
        global_mixers: one for each GSM block.
        local_mixers: one for each LRM block.
    """

    def __init__(
        self,
        encoder: FrameEncoder,
        clip: tuple[int, int, int],
        stride: int,
        decoder: int,
        joints: int,
        dim: int,
        expand: int,
        mlp_ratio: float,
        reduction: int,
        global_mixers: Mixers,
        local_mixers: Mixers,
    ) -> None:
        super().__init__()
        self.frames, self.height, self.width = clip
        self.encoder = encoder
        self.embed = nn.Linear(encoder.channels, dim)
        # A ViTPose's features are small and sparse; at the default scale they drown in the embedding of places.
        nn.init.normal_(self.embed.weight, std=6 * encoder.channels**-0.5)
        spatial = sine_cosine_grid(self.height // stride, self.width // stride, dim)
        self.register_buffer("spatial_embed", spatial, persistent=False)
        self.temporal_embed = nn.Parameter(torch.empty(self.frames, 1, 1, dim))
        nn.init.normal_(self.temporal_embed, std=0.02)
        self.global_blocks = nn.ModuleList(
            GatedBlock(dim, expand, mlp_ratio, mixer, ChannelAttention(self.frames, dim, reduction))
            for mixer in global_mixers
        )
        self.local_blocks = nn.ModuleList(GatedBlock(dim, expand, mlp_ratio, mixer, None) for mixer in local_mixers)
        self.head = HeatMapHead(dim, joints, decoder if stride == 16 else 0)
        # What weights depend on without showing it in a shape.
        self.hidden_settings = {"height": self.height, "width": self.width}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Heat maps of the key frame.

        Raises:
            ShapeError: not a clip of the length and resolution that the model was built for.
        """
        check_clip(x, self.frames, self.height, self.width, type(self).__name__)
        x = to_grid(self.encoder(x.flatten(0, 1)), self.frames)
        x = self.embed(x) + self.spatial_embed + self.temporal_embed
        for block in (*self.global_blocks, *self.local_blocks):
            x = block(x)
        return self.head(x[:, self.frames // 2])

    def start_from(self, vitpose: Mapping[str, torch.Tensor]) -> None:
        """Take the encoder's weights from the state_dict of a ViTPose of the same size, whose last layer is left out.

        Raises:
            CheckpointError: an entry is missing, unexpected or of another shape; nothing was taken.
        """
        own = self.encoder.state_dict()
        given = {name: entry for name, entry in vitpose.items() if name in own or name.startswith("backbone.")}
        wrong = [n for n in {**own, **given} if n not in own or n not in given or own[n].shape != given[n].shape]
        if wrong:
            raise CheckpointError(
                f"these weights are not those of this model's encoder: {len(wrong)} entries are missing, unexpected or "
                f"of another shape, found first {', '.join(wrong[:5])}; build both for one size and resolution"
            )
        self.encoder.load_state_dict(given)


def grid_of(frames: int, height: int, width: int, stride: int) -> tuple[int, int, int]:
    """T, h, w of the tokens.

    Raises:
        ConfigError: T is no positive number, or the stride neither 4 nor 16.
    """
    check_frames(frames)
    if stride not in (4, 16):
        raise ConfigError(f"stride must be 4 or 16 pixels per token, found {stride!r}")
    return frames, height // stride, width // stride
