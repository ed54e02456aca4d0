"""From CMU's bones to 17 joints at 60 frames per second, z up."""

import logging

import numpy as np

from posescale.errors import DataError

log = logging.getLogger(__name__)
FPS = 60.0
# The CMU bones whose ends are the joints, in the order of posescale.data.skeleton; two bones mean their midpoint.
BONES = [
    ("lhipjoint", "rhipjoint"), ("rhipjoint",), ("rfemur",), ("rtibia",), ("lhipjoint",), ("lfemur",), ("ltibia",),
    ("lowerback",), ("thorax",), ("upperneck",), ("head",), ("lclavicle",), ("lhumerus",), ("lwrist",), ("rclavicle",),
    ("rhumerus",), ("rwrist",),
]  # fmt: skip
# Metres per second squared, between frames of the result, above which a joint flipped (a fault of the original file).
GLITCH = {120.0: 500.0, 60.0: 950.0}


def joints_of(ends: dict[str, np.ndarray], name: str) -> np.ndarray:
    """17 joints `(F, 17, 3)`, metres, z up, from bone ends (y up): (x, y, z) = (x, -z, y).

    Raises:
        DataError: the skeleton lacks a bone that is needed.
    """
    lacking = sorted({bone for bones in BONES for bone in bones if bone not in ends})
    if lacking:
        raise DataError(f"{name}: the skeleton has no bone {', '.join(lacking)}; 17 joints need CMU's own bones")
    joints = np.stack([sum(ends[bone] for bone in bones) / len(bones) for bones in BONES], axis=1)
    return np.stack([joints[..., 0], -joints[..., 2], joints[..., 1]], axis=-1)


def clean_run(joints: np.ndarray, native_fps: float, name: str) -> np.ndarray:
    """The longest run (F', 17, 3) without joint flips of a trial at FPS; what is left out is logged.

    Args:
        joints: (F, 17, 3) metres.
        native_fps: rate it was recorded at, which decides what acceleration is a flip.
        name: of the trial, for the log.
    """
    acceleration = np.sqrt((np.diff(joints, 2, axis=0) ** 2).sum(-1)).max(1) * FPS**2 if len(joints) > 2 else []
    bad = np.flatnonzero(np.asarray(acceleration) > GLITCH[native_fps]) + 1
    edges = np.concatenate([[-1], bad, [len(joints)]])
    longest = int(np.argmax(np.diff(edges)))
    run = joints[edges[longest] + 1 : edges[longest + 1]]
    if len(run) < len(joints):
        log.warning("%s: joints flip in the original; its longest clean run is kept, %d of %d frames",
                    name, len(run), len(joints))  # fmt: skip
    return run
