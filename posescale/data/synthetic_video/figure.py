"""A body that can be drawn: from 17 joints to tapered capsules, and which of its parts show each joint."""

from dataclasses import dataclass

import numpy as np

from posescale.data.video.skeletons import H36M_OF_JOINT, POSETRACK

# Points beyond the 17 joints of the motion.
L_TOE, R_TOE, L_HAND, R_HAND, HEAD, NOSE, CROWN, CHIN, L_EYE, R_EYE = range(17, 27)
POINTS = 27
# Image point of each PoseTrack joint: the drawn nose and crown stand for the motion's inner joints.
DRAWN = {"nose": NOSE, "head_top": CROWN}
POINT_OF_JOINT = tuple(DRAWN.get(name, H36M_OF_JOINT[k]) for k, name in enumerate(POSETRACK.joints))


@dataclass(frozen=True)
class Part:
    """A tapered capsule from point `a` to point `b`: radii in metres, and what it is made of."""

    name: str
    a: int
    b: int
    radius_a: float
    radius_b: float
    garment: str


PARTS = (
    Part("l_foot", 6, L_TOE, 0.05, 0.038, "shoes"), Part("r_foot", 3, R_TOE, 0.05, 0.038, "shoes"),
    Part("l_shin", 5, 6, 0.06, 0.042, "shins"), Part("r_shin", 2, 3, 0.06, 0.042, "shins"),
    Part("l_thigh", 4, 5, 0.088, 0.062, "thighs"), Part("r_thigh", 1, 2, 0.088, 0.062, "thighs"),
    Part("pelvis", 1, 4, 0.1, 0.1, "thighs"),
    Part("torso", 8, 0, 0.07, 0.1, "shirt"),
    Part("l_arm", 11, 12, 0.055, 0.042, "sleeves"), Part("r_arm", 14, 15, 0.055, 0.042, "sleeves"),
    Part("l_forearm", 12, 13, 0.042, 0.032, "forearms"), Part("r_forearm", 15, 16, 0.042, 0.032, "forearms"),
    Part("l_hand", 13, L_HAND, 0.04, 0.035, "skin"), Part("r_hand", 16, R_HAND, 0.04, 0.035, "skin"),
    Part("neck", 8, CHIN, 0.055, 0.05, "skin"),
    Part("head", CHIN, 10, 0.082, 0.095, "hair"),
)  # fmt: skip
NUMBER = {part.name: n for n, part in enumerate(PARTS)}
TRUNK = ("torso", "pelvis")
_SHOWN_BY = {
    "ankle": ("shin", "foot"), "knee": ("thigh", "shin"), "hip": ("thigh",), "wrist": ("forearm", "hand"),
    "elbow": ("arm", "forearm"), "shoulder": ("arm",),
}  # fmt: skip


def _parts_of(joint: str) -> frozenset[int]:
    side, _, name = joint.partition("_")
    if name in _SHOWN_BY:
        trunk = TRUNK if name in ("hip", "shoulder") else ()
        return frozenset(NUMBER[p] for p in (*(f"{side[0]}_{part}" for part in _SHOWN_BY[name]), *trunk))
    return frozenset(NUMBER[p] for p in (("neck", "head", "torso") if joint == "neck" else ("head",)))


PARTS_OF_JOINT = tuple(_parts_of(name) for name in POSETRACK.joints)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors `(..., 3)` of length one; sums are written out so that no library orders them differently."""
    x, y, z = vectors[..., 0], vectors[..., 1], vectors[..., 2]
    return vectors / np.maximum(np.sqrt(x * x + y * y + z * z), 1e-9)[..., None]


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products of vectors `(..., 3)`."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    i, j = [1, 2, 0], [2, 0, 1]
    return a[..., i] * b[..., j] - a[..., j] * b[..., i]


def points_of(joints: np.ndarray) -> np.ndarray:
    """Joints `(..., 17, 3)` in the world, z up, with toes, hands and head: `(..., POINTS, 3)` metres."""
    points = np.zeros((*joints.shape[:-2], POINTS, 3))
    points[..., :17, :] = joints
    left = unit(joints[..., 4, :] - joints[..., 1, :])
    forward = unit(_cross(left, joints[..., 7, :] - joints[..., 0, :]))
    for knee, ankle, toe in ((5, 6, L_TOE), (2, 3, R_TOE)):
        shin = unit(joints[..., ankle, :] - joints[..., knee, :])
        along = unit(forward - dot(forward, shin)[..., None] * shin)
        points[..., toe, :] = joints[..., ankle, :] + 0.15 * along + 0.035 * shin
    for elbow, wrist, hand in ((12, 13, L_HAND), (15, 16, R_HAND)):
        points[..., hand, :] = joints[..., wrist, :] + 0.085 * unit(joints[..., wrist, :] - joints[..., elbow, :])
    _add_head(points)
    return points


def _add_head(points: np.ndarray) -> None:
    """Crown, chin, nose and eyes, from the motion's neck, nose and head joints."""
    neck, nose, top = points[..., 8, :], points[..., 9, :], points[..., 10, :]
    length = np.sqrt(dot(top - neck, top - neck))[..., None] * 1.15  # to the skin of the crown
    up = unit(top - neck)
    face = unit((nose - neck) - dot(nose - neck, up)[..., None] * up)
    side = _cross(up, face)
    points[..., CROWN, :] = neck + up * length
    points[..., CHIN, :] = neck + up * length * 0.5
    points[..., HEAD, :] = neck + up * length * 0.68
    points[..., NOSE, :] = points[..., HEAD, :] + face * 0.105
    for eye, sign in ((L_EYE, 1.0), (R_EYE, -1.0)):
        points[..., eye, :] = points[..., HEAD, :] + face * 0.08 + up * 0.035 + side * sign * 0.042
    # The capsule's ends are ball centres: the crown's ball must end at the crown.
    points[..., 10, :] = points[..., CROWN, :] - up * 0.095


def jitter_bones(joints: np.ndarray, parents: list[int], factors: np.ndarray) -> np.ndarray:
    """Joints `(F, 17, 3)` with each bone (to joint k from its parent) made `factors[k]` times as long, on the floor."""
    changed = joints.copy()
    for joint, parent in enumerate(parents):
        if parent >= 0:
            changed[:, joint] = changed[:, parent] + (joints[:, joint] - joints[:, parent]) * factors[joint]
    changed[..., 2] += joints[..., 2].min() - changed[..., 2].min()
    return changed
