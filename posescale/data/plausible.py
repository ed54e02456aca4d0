"""Whether numbers can be the joints they claim to be: bone lengths, left and right, bending knees, 2D beside 3D.

Readers call these on every sequence, so that a file with another joint order, other units, swapped cameras or mixed-up
videos is refused before anything is trained on it. The bounds are wide: adults in any pose pass.
"""

import numpy as np

from posescale.data.skeleton import H36M, MPI_INF_3DHP, Skeleton
from posescale.errors import DataError

STEP = 5  # 2D tracks are looked at in every fifth frame
SYMMETRY = 0.3  # largest difference of a left and a right bone, as a share of their mean
LEG_MM = (450.0, 1250.0)  # thigh and shin together
HINT = "If the file is right all the same, prepare with --set plausible=false"

# Limb -> its left and its right bone, as pairs of joints.
LIMBS: dict[int, dict[str, tuple[tuple[int, int], tuple[int, int]]]] = {
    H36M.root: {
        "thigh": ((4, 5), (1, 2)), "shin": ((5, 6), (2, 3)), "upper arm": ((11, 12), (14, 15)),
        "forearm": ((12, 13), (15, 16)), "hip": ((0, 4), (0, 1)), "shoulder": ((8, 11), (8, 14)),
        "trunk": ((0, 8), (0, 8)), "head": ((8, 10), (8, 10)),
    },
    MPI_INF_3DHP.root: {
        "thigh": ((11, 12), (8, 9)), "shin": ((12, 13), (9, 10)), "upper arm": ((5, 6), (2, 3)),
        "forearm": ((6, 7), (3, 4)), "hip": ((14, 11), (14, 8)), "shoulder": ((1, 5), (1, 2)),
        "trunk": ((14, 1), (14, 1)), "head": ((1, 0), (1, 0)),
    },
}  # fmt: skip
# Limb -> its length as a share of thigh and shin together.
SHARES = {
    "thigh": (0.35, 0.65), "shin": (0.35, 0.65), "upper arm": (0.2, 0.5), "forearm": (0.15, 0.5), "hip": (0.05, 0.3),
    "shoulder": (0.08, 0.4), "trunk": (0.35, 0.95), "head": (0.12, 0.55),
}  # fmt: skip


def check_bones(poses: np.ndarray, skeleton: Skeleton, where: str, mm_per_unit: float | None = None) -> None:
    """Refuse poses whose bones are no human's.

    Args:
        poses: `(F, J, 3)` in axes x right, y down, z forward, in one unit.
        skeleton: H36M or MPI_INF_3DHP.
        where: file and sequence, for the message.
        mm_per_unit: millimetres per unit of `poses`; None where that is not known, and only shapes are checked.

    Raises:
        DataError: says which bone is how long, what was expected, and the likely reason.
    """
    poses = np.asarray(poses, dtype=np.float64)
    limbs = LIMBS[skeleton.root]
    left, right = ({limb: _length(poses, bones[side]) for limb, bones in limbs.items()} for side in (0, 1))
    leg = (left["thigh"] + left["shin"] + right["thigh"] + right["shin"]) / 2
    if not leg > 0:
        raise DataError(f"{where}: hips, knees and ankles lie in one point. {HINT}")
    _check_unit(leg, where, mm_per_unit)
    for limb in limbs:
        a, b = left[limb], right[limb]
        if abs(a - b) > SYMMETRY * (a + b) / 2:
            raise DataError(
                f"{where}: the left {limb} is {a / leg:.2f} and the right {b / leg:.2f} of a leg's length; expected "
                f"the same within {SYMMETRY:.0%}. Are the joints in another order? {HINT}"
            )
        low, high = SHARES[limb]
        if not low <= (a + b) / 2 / leg <= high:
            raise DataError(
                f"{where}: the {limb} is {(a + b) / 2 / leg:.2f} of a leg's length (thigh and shin), expected "
                f"{low} to {high}. Are the joints in another order? {HINT}"
            )
    _check_sides(poses, limbs, leg, where)


def _length(poses: np.ndarray, bone: tuple[int, int]) -> float:
    return float(np.median(np.linalg.norm(poses[:, bone[0]] - poses[:, bone[1]], axis=-1)))


def _check_unit(leg: float, where: str, mm_per_unit: float | None) -> None:
    if mm_per_unit is None:
        return
    low, high = LEG_MM
    if low <= leg * mm_per_unit <= high:
        return
    guess = next((f" They look like {unit}." for unit, mm in (("millimetres", 1), ("centimetres", 10), ("metres", 1000))
                  if low <= leg * mm <= high), "")  # fmt: skip
    unit = {1.0: "millimetres", 1000.0: "metres"}.get(mm_per_unit, f"units of {mm_per_unit:g} mm")
    raise DataError(
        f"{where}: a leg (thigh and shin) is {leg:.3g} long; expected {low / mm_per_unit:g} to {high / mm_per_unit:g}, "
        f"in {unit}.{guess} {HINT}"
    )


def _check_sides(poses: np.ndarray, limbs: dict, leg: float, where: str) -> None:
    """Knees bend forward: seen from above, forward is left of right to left times up. A mirror image fails."""
    (_, left_hip), (pelvis, right_hip) = limbs["hip"]
    forward = np.cross(poses[:, left_hip] - poses[:, right_hip], poses[:, limbs["trunk"][0][1]] - poses[:, pelvis])
    forward /= np.linalg.norm(forward, axis=-1, keepdims=True) + 1e-12
    bends = []
    for (hip, knee), (_, ankle) in zip(limbs["thigh"], limbs["shin"], strict=True):
        bends.append(((poses[:, knee] - (poses[:, hip] + poses[:, ankle]) / 2) * forward).sum(-1))
    bend = np.concatenate(bends)
    clear = bend[np.abs(bend) > 0.06 * leg]
    if len(clear) > 20 and (clear < 0).mean() > 0.9:
        raise DataError(
            f"{where}: knees bend backward in {(clear < 0).mean():.0%} of the frames in which they bend; expected "
            f"forward. Are left and right exchanged, or an axis mirrored? {HINT}"
        )


def check_tracks(found: np.ndarray, exact: np.ndarray, width: int, where: str) -> None:
    """Refuse a 2D track that does not follow the projection of its 3D poses.

    Args:
        found: `(F, J, 2)` pixels of a detector.
        exact: `(F, J, 2)` pixels of the projected poses.
        width: of the image, pixels.
        where: file and sequence, for the message.

    Raises:
        DataError: another scale, video or camera, or other joints.
    """
    found, exact = found[::STEP].astype(np.float64), exact[::STEP].astype(np.float64)
    distance = np.median(np.linalg.norm(found[:, :, None] - exact[:, None], axis=-1), axis=0)  # (J found, J exact)
    own = np.diag(distance)
    if np.median(own) > 0.15 * width:
        raise DataError(
            f"{where}: 2D joints lie {np.median(own):.0f} pixels from the projected 3D ones (median; image width "
            f"{width}). Are they in pixels, and of the same video and camera? {HINT}"
        )
    strangers = np.flatnonzero(own > 2 * distance.min(axis=1) + 0.01 * width)
    if len(strangers) > 1:
        raise DataError(
            f"{where}: 2D joints {', '.join(map(str, strangers))} lie nearest to 3D joints "
            f"{', '.join(map(str, distance.argmin(axis=1)[strangers]))}. Are the 2D joints in another order? {HINT}"
        )
