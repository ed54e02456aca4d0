"""What lifting models are trained to predict, and the way from there to millimetres.

Every kind of label is the root-relative pose times a number, so a unit is two numbers: label units per unit of the
prepared poses, and millimetres per label unit.

    metres      prepared in camera space: as they are
    mm          prepared in camera space: times 1000 (P-STMO line of MPI-INF-3DHP)
    screen_mm   prepared in camera space: mm over half the image's width (MotionAGFormer line of MPI-INF-3DHP)
    screen_25d  prepared in image space: pixels over half the image's width; a factor per frame leads to mm
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from posescale.data.prepared import PreparedData, Sequence, Space
from posescale.errors import DataError
from posescale.metrics.protocols import Protocol


@dataclass(frozen=True)
class Unit:
    """A kind of label.

    Attributes:
        space: of the prepared poses it is made from.
        per_pose: label units per prepared unit, from the image's width.
        mm: millimetres per label unit, from the image's width (the factor of `screen_25d` apart).
        plain: whether that is one number for all sequences, so that training can report millimetres.
    """

    space: Space
    per_pose: Callable[[Any], Any]
    mm: Callable[[Any], Any]
    plain: bool = False


UNITS: dict[str, Unit] = {
    "metres": Unit("camera", lambda width: 1.0, lambda width: 1000.0, plain=True),
    "mm": Unit("camera", lambda width: 1000.0, lambda width: 1.0, plain=True),
    "screen_mm": Unit("camera", lambda width: 2000.0 / width, lambda width: width / 2),
    "screen_25d": Unit("image", lambda width: 2.0 / width, lambda width: width / 2),
}


def unit_of(data: PreparedData, rules: Protocol) -> Unit:
    """The protocol's unit.

    Raises:
        DataError: the data are of the other space.
    """
    unit = UNITS[rules.labels]
    if unit.space != data.index.space:
        raise DataError(
            f"{data.folder}: holds poses in {data.index.space} space, protocol {rules.id} needs {unit.space} space; "
            f"its own protocol is {data.index.protocol}"
        )
    return unit


def to_mm(data: PreparedData, sequence: Sequence, rules: Protocol) -> np.ndarray:
    """Millimetres per label unit for each frame of a sequence, `(F,)` float64.

    Raises:
        DataError: a frame has no factor (only test data have them in the official Human3.6M file).
    """
    width = rules.label_width or sequence.width
    scale = np.full(sequence.length, float(unit_of(data, rules).mm(float(width))))
    if data.index.space == "camera":
        return scale
    factor = data.factor[sequence.rows].astype(np.float64)
    if not (factor > 0).all():
        raise DataError(
            f"{data.folder}: {sequence.name} has no mm-per-pixel factor, so its errors have no millimetres; the "
            "official file gives factors for test videos only"
        )
    return scale * factor


def labels(data: PreparedData, sequence: Sequence, rules: Protocol) -> np.ndarray:
    """What a model should predict for each frame of a sequence, `(F, J, 3)` float64."""
    poses = data.poses[sequence.rows].astype(np.float64)
    scale = unit_of(data, rules).per_pose(float(rules.label_width or sequence.width))
    return (poses - poses[:, rules.root, None]) * scale
