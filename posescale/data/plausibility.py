"""Whether poses can be a person: bones of possible lengths that do not change.

Files of the field carry neither units nor joint names, so a file in metres where millimetres are meant, or with its
joints in another order, reads without an error and only scores badly.
"""

from typing import Any

import numpy as np

from posescale.data.skeleton import Skeleton
from posescale.errors import DataError

# Lengths in metres between a joint and its parent, by a word in the joint's name; of adults, with room to spare.
LENGTHS = {
    "hip": (0.04, 0.25), "knee": (0.25, 0.65), "ankle": (0.25, 0.65), "foot": (0.25, 0.65),
    "shoulder": (0.05, 0.35), "elbow": (0.15, 0.5), "wrist": (0.12, 0.45),
}  # fmt: skip
COLUMN = (0.02, 0.5)  # every other bone: spine, neck, head
LIMBS = ("knee", "ankle", "foot", "elbow", "wrist")
LEG = 0.85  # metres, hip to ankle along the bones: what poses of unknown scale are brought to
SPREAD = 0.15  # of a limb's length between its quartiles, as a share of the median
SIDES = 1.5  # how much longer a left limb may be than the right one, or the other way


def check_person(name: str, poses: np.ndarray, skeleton: Skeleton, metres_per_unit: float | None) -> None:
    """Refuse poses that cannot be a person's; medians decide, so that a few bad frames do not.

    Args:
        name: of the sequence, for the message.
        poses: (F, J, 3), F at least 1, finite.
        skeleton: of J joints.
        metres_per_unit: 1 for metres, 0.001 for mm; None where the scale is not known (pixels): the legs then set it.

    Raises:
        DataError: which bone is how long, how long it may be, and what may be wrong.
    """
    lengths = _lengths(poses, skeleton)
    if metres_per_unit is None:
        lengths = _scaled(lengths, name)
    scale = metres_per_unit or 1.0
    middle = {joint: float(np.median(bone)) for joint, bone in lengths.items()}
    for joint, bone in lengths.items():
        label = f"{name}: the bone {_parent(joint, skeleton)} - {joint}"
        low, high = next((limits for word, limits in LENGTHS.items() if word in joint.lower()), COLUMN)
        length = middle[joint] * scale
        if not low <= length <= high:
            raise DataError(f"{label} is {length:.3g} m long (median), expected {low} to {high} m; "
                            f"{_guess(middle, metres_per_unit)}")  # fmt: skip
        first, third = np.percentile(bone, [25, 75])
        if _is_limb(joint) and third - first > SPREAD * middle[joint]:
            raise DataError(f"{label} changes its length from {first * scale:.3g} to {third * scale:.3g} m "
                            "(quartiles), as no limb does; are the joints in another order?")  # fmt: skip
    _check_sides(name, middle, skeleton)


def _lengths(poses: np.ndarray, skeleton: Skeleton) -> dict[str, np.ndarray]:
    poses = np.asarray(poses, dtype=np.float64)
    return {
        skeleton.joints[j]: np.linalg.norm(poses[:, j] - poses[:, parent], axis=-1)
        for j, parent in enumerate(skeleton.parents)
        if parent >= 0
    }


def _parent(joint: str, skeleton: Skeleton) -> str:
    return skeleton.joints[skeleton.parents[skeleton.joints.index(joint)]]


def _is_limb(joint: str) -> bool:
    return any(word in joint.lower() for word in LIMBS)


def _leg(lengths: dict[str, Any]) -> Any:
    """Hip to ankle along the bones, the mean of both legs."""
    return sum(length for joint, length in lengths.items() if any(word in joint.lower() for word in LIMBS[:3])) / 2


def _scaled(lengths: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Lengths in metres, as if the legs of every frame were those of an adult."""
    leg = _leg(lengths)
    if not (leg > 0).all():
        raise DataError(f"{name}: the legs have no length; are the joints there at all?")
    return {joint: bone * LEG / leg for joint, bone in lengths.items()}


def _guess(middle: dict[str, float], metres_per_unit: float | None) -> str:
    """What may be wrong: the unit where the legs have a power of ten, else the order."""
    leg = _leg(middle)
    for unit, size in {"metres": 1.0, "centimetres": 0.01, "millimetres": 0.001}.items():
        if metres_per_unit is not None and size != metres_per_unit and 0.6 < leg * size < 1.2:
            return f"are the numbers in {unit}?"
    return "are the joints in another order?"


def _check_sides(name: str, middle: dict[str, float], skeleton: Skeleton) -> None:
    for left, right in zip(skeleton.left, skeleton.right, strict=True):
        pair = skeleton.joints[left], skeleton.joints[right]
        if _is_limb(pair[0]):
            short, long = sorted(middle[joint] for joint in pair)
            if long > SIDES * short:
                raise DataError(f"{name}: the bones of {pair[0]} and {pair[1]} differ by a factor {long / short:.2f}; "
                                "are the joints in another order?")  # fmt: skip
