"""Distances of predicted joints in the image, and how far a protocol lets them be."""

import torch

from posescale.data.video.skeletons import Skeleton
from posescale.errors import DataError
from posescale.metrics.video_protocols import VideoProtocol

Batch = dict[str, torch.Tensor]


def to_image(joints: torch.Tensor, back: torch.Tensor) -> torch.Tensor:
    """(B, K, 2) crop pixels to image pixels, float64, by (B, 2, 3) matrices."""
    return joints.double() @ back[..., :2].transpose(-1, -2) + back[..., 2].unsqueeze(-2)


def allowed(protocol: VideoProtocol, skeleton: Skeleton, batch: Batch) -> torch.Tensor:
    """(B,) distance in image pixels within which a joint counts as found, for a batch of `VideoClips`.

    Raises:
        DataError: a person lacks what the protocol measures by.
    """
    if protocol.size == "head":
        size = batch["head"].double()
    elif protocol.size == "person":
        size = batch["box"][:, 2:].amax(dim=1)
    else:
        ends = [skeleton.joints.index(name) for name in ("left_shoulder", "right_hip")]
        size = torch.linalg.vector_norm(batch["image_joints"][:, ends[0]] - batch["image_joints"][:, ends[1]], dim=-1)
    if not torch.isfinite(size).all():
        row = int(batch["row"][~torch.isfinite(size)][0])
        raise DataError(
            f"person {row} of the prepared data has no {protocol.size} to measure by, as {protocol.id} does"
        )
    return protocol.share * size


def distances(joints: torch.Tensor, batch: Batch) -> torch.Tensor:
    """(B, K) image pixels between joints (B, K, 2) in crop pixels and the annotated ones."""
    return torch.linalg.vector_norm(to_image(joints, batch["back"]) - batch["image_joints"], dim=-1)
