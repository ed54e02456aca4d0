"""PoseMamba (Huang et al., AAAI 2025): 2-D key points of a clip to 3-D poses by selective scans alone.

B batch, T frames, J joints, C width. Names, shapes and order of the state_dict are the official ones.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from posescale.errors import ConfigError
from posescale.layers import DropPath, Mlp, fused
from posescale.layers.inputs import keypoints
from posescale.layers.ss2d import SS2D, Gradient, Scan

# Which joint's token is added to each joint before the joint-fastest scans (Human3.6M order). The official list is the
# flattened limb list 0 | 0 1 2 3 | 0 4 5 6 | 8 11 12 13 | 8 14 15 16 read as a gather, not the skeleton's parents.
LIMBS: dict[str, tuple[int, ...]] = {
    "official": (0, 0, 1, 2, 3, 0, 4, 5, 6, 8, 11, 12, 13, 8, 14, 15, 16),
    "true_parents": (0, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
}
# What weights depend on without showing it in a shape; other values are noted in the files of such models.
PUBLISHED = {"scan": "v2_plus_poselimbs", "limbs": LIMBS["official"]}
LimbMap = Literal["official", "true_parents"] | Sequence[int]


def limb_list(limb_map: LimbMap, joints: int) -> tuple[int, ...]:
    """The list of J joints that `limb_map` stands for.

    Raises:
        ConfigError: not one joint of 0..J-1 for each of the J joints.
    """
    if isinstance(limb_map, str) and limb_map not in LIMBS:
        raise ConfigError(f"limb_map must be {', '.join(LIMBS)} or a list of joints, found {limb_map!r}")
    limbs = tuple(LIMBS[limb_map] if isinstance(limb_map, str) else limb_map)
    if len(limbs) != joints or not all(isinstance(j, int) and 0 <= j < joints for j in limbs):
        raise ConfigError(f"limb_map needs one joint of 0..{joints - 1} for each of {joints} joints, found "
                         f"{limb_map!r}; give a list, or scan='v2' for none")  # fmt: skip
    return limbs


class Block(nn.Module):
    """h = x + SS2D(LN(x)); out = h + MLP(LN(h)). Spatial and temporal blocks differ in their weights only."""

    def __init__(self, dim: int, mixer: SS2D, mlp_ratio: float, drop_path: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.op = mixer
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, mlp_ratio)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map `(B, T, J, C)` to the same shape."""
        x = x + self.drop_path(self.op(self.norm(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PoseMamba(nn.Module):
    """`(B, T, J, 2 or 3)` normalised key points to `(B, T, J, 3)` root-relative poses in the same units.

    Args:
        frames: the longest clip; any T from 1 to `frames` is accepted.
        joints: J.
        dim: C.
        depth: number of PAIRS of a spatial and a temporal block (the paper's depth is twice this).
        d_state: N of the scans.
        mlp_ratio: hidden width of the perceptrons over C.
        drop_path: stochastic depth of the last pair; the rates rise linearly from 0.
        channels: 2 reads x, y as published; 3 reads the detector's confidence too.
        gradient: `exact`, or `official`: the published code's backward, which takes the limb term for a constant.
        scan: the four directions; the published model is `v2_plus_poselimbs`, the paper's Table 4 has the others.
        limb_map: `official`, `true_parents`, or for each joint the joint whose token is added to it.
        backend: of the scan, see `posescale.ops`.

    Raises:
        ConfigError: an argument is not one of these.
    """

    def __init__(
        self,
        frames: int = 243,
        joints: int = 17,
        dim: int = 64,
        depth: int = 10,
        d_state: int = 16,
        mlp_ratio: float = 2,
        drop_path: float = 0.2,
        channels: Literal[2, 3] = 2,
        gradient: Gradient = "exact",
        scan: Scan = "v2_plus_poselimbs",
        limb_map: LimbMap = "official",
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if channels not in (2, 3):
            raise ConfigError(f"channels must be 2 (x, y) or 3 (x, y, confidence), found {channels}")
        self.frames, self.joints, self.channels = frames, joints, channels
        limbs = limb_list(limb_map, joints) if scan == PUBLISHED["scan"] else ()
        settings = {"scan": scan, "limbs": limbs}
        self.hidden_settings = {key: value for key, value in settings.items() if value != PUBLISHED[key]}
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]

        def stream() -> nn.ModuleList:
            mixers = (SS2D(dim, d_state, scan, limbs, gradient, backend) for _ in rates)
            return nn.ModuleList(Block(dim, mixer, mlp_ratio, rate) for mixer, rate in zip(mixers, rates))

        self.Spatial_pos_embed = nn.Parameter(torch.zeros(1, joints, dim))
        self.Temporal_pos_embed = nn.Parameter(torch.zeros(1, frames, dim))
        self.Spatial_patch_to_embedding = nn.Linear(channels, dim)
        self.STEblocks = stream()
        self.TTEblocks = stream()
        self.Spatial_norm = nn.LayerNorm(dim, eps=1e-6)  # both norms are shared by all pairs
        self.Temporal_norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Lift a batch of clips.

        Raises:
            ShapeError: not `(B, T, J, 2 or 3)` with 1 <= T <= frames.
        """
        x = keypoints(x, self.channels, self.joints, self.frames, "PoseMamba")
        x = self.Spatial_patch_to_embedding(x) + self.Spatial_pos_embed
        run = _fused(self, x) if fused.possible(self, x, PoseMamba, Block) else _plain
        for i, (spatial, temporal) in enumerate(zip(self.STEblocks, self.TTEblocks, strict=True)):
            x = run(spatial, self.Spatial_norm, x)
            if i == 0:
                x = x + self.Temporal_pos_embed[:, : x.shape[1], None]  # (1, T, 1, C)
            x = run(temporal, self.Temporal_norm, x)
        return self.head(x)


def _plain(block: Block, norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
    return norm(block(x))


def _fused(model: PoseMamba, x: torch.Tensor) -> Callable[[Block, nn.LayerNorm, torch.Tensor], torch.Tensor]:
    """As `_plain`, in place of x, for a pass without gradients on a CPU."""
    first = model.STEblocks[0]
    buffers = fused.buffers(x, first.op, first.mlp)

    def run(block: Block, norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        fused.block(x, block.norm, block.op, block.norm2, block.mlp, norm, buffers)
        return x

    return run
