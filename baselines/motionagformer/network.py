"""MotionAGFormer (Mehraban et al., WACV 2024): attention and graph convolution side by side, fused per token.

B batch, T frames, J joints, C width, N nodes (the J joints of a frame, or the T frames of a joint). Names, shapes and
order of the state_dict are the official ones.
"""

from typing import Literal

import torch
from torch import nn

from posescale.errors import ConfigError
from posescale.layers import Attention, Mlp
from posescale.layers.inputs import keypoints

Normalisation = Literal["dense", "scaled"]

# Row i: joints that joint i listens to. As published: 0 does not list 4, and 8 lists neither 11 nor 14.
SKELETON = (
    (1, 7), (0, 2), (1, 3), (2,), (0, 5), (4, 6), (5,), (0, 8), (7, 9), (8, 10), (9,),
    (8, 12), (11, 13), (12,), (8, 15), (14, 16), (15,),
)  # fmt: skip
JOINTS = len(SKELETON)


def normalise(adjacency: torch.Tensor, how: Normalisation) -> torch.Tensor:
    """`D^-1/2 A D^-1/2` of `(..., N, N)` with D the row sums.

    `dense` multiplies by the diagonal matrices, 2 N^3 multiply-adds, as the official code does and published costs
    pay for; `scaled` scales rows and columns, the same numbers for N^2.
    """
    d = adjacency.sum(dim=-1) ** -0.5
    if how == "dense":
        diagonal = torch.diag_embed(d)
        return diagonal @ adjacency @ diagonal
    return d.unsqueeze(-1) * adjacency * d.unsqueeze(-2)


class GraphConvolution(nn.Module):
    """`ReLU(z + BN(A^ V(z) + U(z)))` over N nodes; the batch norm holds one statistic per node."""

    def __init__(self, dim: int, nodes: int, how: Normalisation) -> None:
        super().__init__()
        self.how = how
        self.U, self.V = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.batch_norm = nn.BatchNorm1d(nodes)
        for linear in (self.U, self.V):
            nn.init.normal_(linear.weight, std=(2.0 / dim) ** 0.5)

    def adjacency(self, z: torch.Tensor) -> torch.Tensor:
        """`(..., N, N)` of 0 and 1: which nodes each node listens to; each kind of graph says its own."""
        raise NotImplementedError

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map `(B, groups, N, C)` to the same shape."""
        y = normalise(self.adjacency(z), self.how) @ self.V(z) + self.U(z)
        return torch.relu(z + self.batch_norm(y.flatten(0, 1)).view_as(z))


class SkeletonGraph(GraphConvolution):
    """Graph convolution over the joints of each frame, along fixed bones."""

    def __init__(self, dim: int, how: Normalisation) -> None:
        super().__init__(dim, JOINTS, how)
        bones = torch.zeros(JOINTS, JOINTS)
        for joint, neighbours in enumerate(SKELETON):
            bones[joint, list(neighbours)] = 1.0
        self.register_buffer("bones", bones, persistent=False)  # not an entry of the official state_dict

    def adjacency(self, z: torch.Tensor) -> torch.Tensor:
        """The skeleton's `(..., J, J)`, once for every frame."""
        return self.bones.expand(*z.shape[:-2], JOINTS, JOINTS)


class SimilarityGraph(GraphConvolution):
    """Graph convolution over the frames of each joint, along the most similar frames."""

    def __init__(self, dim: int, frames: int, neighbours: int, how: Normalisation) -> None:
        super().__init__(dim, frames, how)
        self.neighbours = neighbours

    @torch.no_grad()
    def adjacency(self, z: torch.Tensor) -> torch.Tensor:
        """Frames at least as similar as the k-th most similar one (ties add more); a choice without a gradient."""
        similarity = z @ z.transpose(-2, -1)
        threshold = similarity.topk(self.neighbours, dim=-1).values[..., -1:]
        return (similarity >= threshold).to(z.dtype)


class MixerBlock(nn.Module):
    """`z += s1 mixer(LN(z)); z += s2 mlp(LN(z))` with a learnt scale per channel."""

    def __init__(self, dim: int, mlp_ratio: float, mixer: nn.Module) -> None:
        super().__init__()
        self.layer_scale_1 = nn.Parameter(torch.full((dim,), 1e-5))
        self.layer_scale_2 = nn.Parameter(torch.full((dim,), 1e-5))
        self.norm1 = nn.LayerNorm(dim)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map `(B, groups, N, C)` to the same shape, mixing the N nodes."""
        z = z + self.layer_scale_1 * self.mixer(self.norm1(z))
        return z + self.layer_scale_2 * self.mlp(self.norm2(z))


def attention(dim: int, heads: int, kernel: str) -> Attention:
    """Self-attention without qkv bias; the official state_dict lists `proj` before `qkv`."""
    layer = Attention(dim, heads, qkv_bias=False, kernel=kernel)
    layer.qkv = layer._modules.pop("qkv")
    return layer


def over_frames(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Let `block` mix the T frames of `(B, T, J, C)` instead of the joints."""
    return block(x.transpose(1, 2)).transpose(1, 2)


class Layer(nn.Module):
    """The attention stream and the graph stream on the same input, fused by learnt weights per token."""

    def __init__(
        self, dim: int, frames: int, heads: int, mlp_ratio: float, neighbours: int, kernel: str, how: Normalisation
    ) -> None:
        super().__init__()
        self.att_spatial = MixerBlock(dim, mlp_ratio, attention(dim, heads, kernel))
        self.att_temporal = MixerBlock(dim, mlp_ratio, attention(dim, heads, kernel))
        self.graph_spatial = MixerBlock(dim, mlp_ratio, SkeletonGraph(dim, how))
        self.graph_temporal = MixerBlock(dim, mlp_ratio, SimilarityGraph(dim, frames, neighbours, how))
        self.fusion = nn.Linear(2 * dim, 2)
        nn.init.zeros_(self.fusion.weight)
        nn.init.constant_(self.fusion.bias, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, J, C)` to the same shape."""
        a = over_frames(self.att_temporal, self.att_spatial(x))
        g = over_frames(self.graph_temporal, self.graph_spatial(x))
        w = self.fusion(torch.cat([a, g], dim=-1)).softmax(dim=-1)
        return w[..., :1] * a + w[..., 1:] * g


class MotionAGFormer(nn.Module):
    """`(B, T, 17, 3)` normalised key points with confidence to `(B, T, 17, 3)` poses in the same units.

    Frame order enters only through the temporal batch norms, which hold one statistic per frame: T is fixed.

    Args:
        frames: T, at least `neighbours`.
        dim: C.
        depth: number of layers.
        rep: width of the motion representation before the head.
        heads: attention heads.
        mlp_ratio: hidden width of the perceptrons over C.
        neighbours: how many similar frames each frame listens to, itself included.
        channels: 3, or 2 for a model without the detector's confidence.
        attention: `fused` (PyTorch's kernel), or `naive`, which holds the attention map as the official code does.
        adjacency: how the graphs are normalised, see `normalise`; `dense` is the official cost.
    """

    def __init__(
        self,
        frames: int = 243,
        dim: int = 128,
        depth: int = 16,
        rep: int = 512,
        heads: int = 8,
        mlp_ratio: float = 4,
        neighbours: int = 2,
        channels: Literal[2, 3] = 3,
        attention: Literal["fused", "naive"] = "fused",
        adjacency: Normalisation = "dense",
    ) -> None:
        super().__init__()
        if frames < neighbours:
            raise ConfigError(
                f"MotionAGFormer: every frame listens to {neighbours} frames, so a clip needs that many; "
                f"found frames={frames}"
            )
        if adjacency not in ("dense", "scaled"):
            raise ConfigError(f"MotionAGFormer: adjacency must be 'dense' or 'scaled', found {adjacency!r}")
        if channels not in (2, 3):
            raise ConfigError(f"MotionAGFormer: channels must be 2 or 3 (with confidence), found {channels!r}")
        self.frames, self.channels = frames, channels
        self.pos_embed = nn.Parameter(torch.zeros(1, JOINTS, dim))
        self.joints_embed = nn.Linear(channels, dim)
        self.norm = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            Layer(dim, frames, heads, mlp_ratio, neighbours, attention, adjacency) for _ in range(depth)
        )
        self.rep_logit = nn.Sequential()
        self.rep_logit.add_module("fc", nn.Linear(dim, rep))
        self.rep_logit.add_module("act", nn.Tanh())
        self.head = nn.Linear(rep, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Lift a batch of clips.

        Raises:
            ShapeError: not `(B, frames, 17, 3)`.
        """
        x = keypoints(
            x,
            self.channels,
            JOINTS,
            self.frames,
            "MotionAGFormer",
            exactly="its temporal batch norms hold one statistic per frame",
        )
        x = self.joints_embed(x) + self.pos_embed
        for layer in self.layers:
            x = layer(x)
        return self.head(self.rep_logit(self.norm(x)))
