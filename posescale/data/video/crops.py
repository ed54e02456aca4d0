"""From a person's box to a crop: one affine map, applied to images, joints and, inverted, to predictions.

The conventions are those of the DCPose line: the box grows about its centre to the crop's aspect, then by 1.25; the
centre of the box goes to the centre (W/2, H/2) of the crop; bilinear warp, black outside the image.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from posescale.errors import ConfigError

ENLARGE = 1.25  # DCPose and FAMI-Pose's BBOX_ENLARGE_FACTOR
# ImageNet's statistics of RGB in 0..1.
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """What part of an image a crop shows.

    Attributes:
        centre: (2,) pixels of the image.
        size: (2,) width and height in image pixels, before any rotation.
        degrees: by which the crop is turned.
        flip: whether it is mirrored.
    """

    centre: Array
    size: Array
    degrees: float = 0.0
    flip: bool = False


def view_of_box(box: ArrayLike, height: int, width: int, enlarge: float = ENLARGE) -> View:
    """The view of a box (x, y, width, height): grown to the crop's aspect, then enlarged.

    Raises:
        ConfigError: the box has no extent at all, or the crop is empty.
    """
    x, y, w, h = (float(v) for v in np.asarray(box))
    if height < 1 or width < 1 or not (w > 0 or h > 0):
        raise ConfigError(f"a box of {w} x {h} pixels cannot fill a crop of {width} x {height}")
    aspect = width / height
    size = np.array([max(w, h * aspect), max(h, w / aspect)])
    return View(np.array([x + w / 2, y + h / 2]), size * enlarge)


def affine(view: View, height: int, width: int) -> Array:
    """The (2, 3) matrix that takes image pixels to crop pixels."""
    scale = width / view.size[0]
    angle = np.radians(view.degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    shift = np.array([width / 2, height / 2]) - turn @ view.centre
    matrix = np.concatenate([turn, shift[:, None]], axis=1)
    if view.flip:
        matrix[0] = -matrix[0]
        matrix[0, 2] += width - 1
    return matrix


def inverse(matrix: ArrayLike) -> Array:
    """The (2, 3) matrix of the way back, for one matrix or a batch `(..., 2, 3)`."""
    matrix = np.asarray(matrix, dtype=np.float64)
    turn = np.linalg.inv(matrix[..., :2])
    return np.concatenate([turn, -turn @ matrix[..., 2:]], axis=-1)


def transform(points: ArrayLike, matrix: ArrayLike) -> Array:
    """Points `(..., K, 2)` through matrices `(..., 2, 3)`."""
    points, matrix = np.asarray(points, dtype=np.float64), np.asarray(matrix, dtype=np.float64)
    return points @ np.swapaxes(matrix[..., :2], -1, -2) + np.swapaxes(matrix[..., 2:], -1, -2)


def normalised(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB crops `(T, H, W, 3)` uint8 to ImageNet-normalised `(T, 3, H, W)` float32."""
    channels = np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32)
    channels *= (1 / (255 * STD))[:, None, None]
    channels -= (MEAN / STD)[:, None, None]
    return channels
