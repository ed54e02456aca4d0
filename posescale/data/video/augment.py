"""Augmentation of person crops: one transform per clip, a function of (seed, epoch, sample).

The numbers are those of the DCPose, FAMI-Pose and DSTA configurations.
"""

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from posescale.data.camera import named_seed
from posescale.data.video.crops import View, view_of_box
from posescale.data.video.skeletons import Skeleton


class Augmentation(BaseModel):
    """How training crops vary.

    Attributes:
        scale: factor clip(N(0, 1) * scale + 1, 1 - 0.35, 1 + 0.35) on the crop's size.
        rotation: degrees clip(N(0, rotation), -2 rotation, 2 rotation), applied with `rotation_share`.
        flip: probability of the mirror image, left and right joints exchanged.
        half_body: probability of a crop of the upper or lower body alone, where more than `half_body_joints` joints
            are annotated.
        seed: of all draws.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: float = Field(default=0.35, ge=0, lt=1)
    rotation: float = Field(default=45.0, ge=0, le=90)
    rotation_share: float = Field(default=0.6, ge=0, le=1)
    flip: float = Field(default=0.5, ge=0, le=1)
    half_body: float = Field(default=0.3, ge=0, le=1)
    half_body_joints: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0)

    def view(
        self, view: View, joints: np.ndarray, annotated: np.ndarray, skeleton: Skeleton, epoch: int, sample: int,
        height: int, width: int,
    ) -> View:  # fmt: skip
        """Vary one view.

        Args:
            view: of the person's box.
            joints: (K, 2) pixels of the image.
            annotated: (K,) which of them count.
            skeleton: the joint order.
            epoch, sample: with `seed`, what the draws depend on.
            height, width: of the crop.
        """
        rng = np.random.Generator(np.random.PCG64(named_seed("augment", self.seed, epoch, sample)))
        half = rng.random() < self.half_body, rng.random() < 0.5
        factor = np.clip(rng.standard_normal() * self.scale + 1, 1 - self.scale, 1 + self.scale)
        degrees = np.clip(rng.standard_normal() * self.rotation, -2 * self.rotation, 2 * self.rotation)
        turned, flipped = rng.random() < self.rotation_share, rng.random() < self.flip
        if half[0] and annotated.sum() > self.half_body_joints:
            view = half_body(view, joints, annotated, skeleton, half[1], height, width)
        return View(view.centre, view.size * factor, float(degrees) if turned else 0.0, bool(flipped))


def half_body(
    view: View, joints: np.ndarray, annotated: np.ndarray, skeleton: Skeleton, upper: bool, height: int, width: int
) -> View:
    """A view of the upper or the lower body: the extent of its annotated joints about their mean, times 1.5.

    Joints are (K, 2) pixels with (K,) flags; `height` and `width` are the crop's (DCPose's half-body augmentation). The
    other half is taken where this one has fewer than three joints, and `view` itself where that has fewer too.
    """
    is_upper = np.isin(np.arange(len(joints)), skeleton.upper)
    for half in (upper, not upper):
        chosen = joints[(is_upper == half) & (annotated > 0)]
        if len(chosen) > 2:
            extent = np.maximum(chosen.max(0) - chosen.min(0), 1)
            box = np.concatenate([chosen.mean(0) - extent / 2, extent])
            return view_of_box(box, height, width, enlarge=1.5)
    return view
