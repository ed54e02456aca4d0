"""Heat maps as training targets, their loss, and joints read from predicted ones, as the DCPose line has them.

A heat map's pixel (x, y) stands for the crop's pixel (STRIDE x, STRIDE y). Facts: DCPose (Liu et al., CVPR 2021,
commit 8d90d88), `generate_heatmaps`, `get_final_preds`, `JointMSELoss`.
"""

import torch

from posescale.errors import ConfigError, ShapeError

STRIDE = 4  # crop pixels per heat-map pixel
RADIUS = 3  # a target ends at this many sigmas, on each axis


def targets(
    joints: torch.Tensor, weight: torch.Tensor, height: int, width: int, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Un-normalised Gaussians, 1 at the joint's nearest pixel, 0 beyond 3 sigma on either axis.

    Args:
        joints: (B, K, 2) x, y in crop pixels.
        weight: (B, K) 1 for a joint that counts, 0 for one that does not.
        height, width: of the heat maps.
        sigma: in heat-map pixels.

    Returns:
        maps (B, K, height, width) and weights (B, K): 0, as is the whole map, also where no pixel of the Gaussian
        falls into the map. (DCPose keeps weight 1 where it only touches the map's left or upper side.)

    Raises:
        ConfigError: sigma is not positive.
    """
    if not sigma > 0:
        raise ConfigError(f"sigma must be a positive number of heat-map pixels, found {sigma}")
    centre = torch.trunc(joints / STRIDE + 0.5)  # towards 0, as int() does
    x, y = (_bell(centre[..., axis], length, sigma) for axis, length in ((0, width), (1, height)))
    maps = y[..., :, None] * x[..., None, :]
    kept = weight * (maps.flatten(2).amax(-1) > 0)
    return maps * (kept > 0)[..., None, None], kept


def _bell(centre: torch.Tensor, length: int, sigma: float) -> torch.Tensor:
    """(..., length) exp(-(i - centre)^2 / 2 sigma^2), cut off at the radius."""
    distance = torch.arange(length, device=centre.device) - centre[..., None]
    return torch.where(distance.abs() <= int(RADIUS * sigma), torch.exp(-distance.square() / (2 * sigma**2)), 0.0)


def loss(pred: torch.Tensor, maps: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean squared error per joint, both maps times its weight, then the mean over all joints, those of weight 0 too.

    Args:
        pred: (B, K, h, w).
        maps: (B, K, h, w) targets.
        weight: (B, K).

    Raises:
        ShapeError: pred and maps differ in shape.
    """
    if pred.shape != maps.shape:
        raise ShapeError(f"the model answers with heat maps {tuple(pred.shape)}, expected {tuple(maps.shape)}")
    return (weight[..., None, None] * (pred - maps)).square().mean()


def decode(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Joints at the largest value, moved a quarter pixel towards the higher neighbour on each axis.

    A maximum in the two outer pixels of a side is not moved, and a map without a positive value gives (0, 0), as in
    DCPose.

    Args:
        maps: (B, K, h, w), at least 3 x 3.

    Returns:
        joints (B, K, 2) in crop pixels, and the maxima (B, K).

    Raises:
        ShapeError: not such maps.
    """
    if maps.ndim != 4 or min(maps.shape[2:]) < 3:
        raise ShapeError(f"heat maps must be (B, K, h, w) of at least 3 x 3 pixels, found {tuple(maps.shape)}")
    height, width = maps.shape[2:]
    peak, place = maps.flatten(2).max(dim=2)
    x, y = place % width, place // width
    inner = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)

    def at(dx: int, dy: int) -> torch.Tensor:
        index = (y + dy).clamp(0, height - 1) * width + (x + dx).clamp(0, width - 1)
        return maps.flatten(2).gather(2, index[..., None])[..., 0]

    slope = torch.stack([at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)], dim=-1)
    joints = torch.stack([x, y], dim=-1) + 0.25 * slope.sign() * inner[..., None]
    return STRIDE * joints * (peak > 0)[..., None], peak
