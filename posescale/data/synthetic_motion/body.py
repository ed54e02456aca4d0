"""A procedural body: joint angles with limits, bones of a subject, forward kinematics, and feet that stand.

A pose is a row of joint angles in degrees, one column per entry of `LIMITS`; a motion is `(F, len(LIMITS))`.
Body axes: x forward, y left, z up. Flexion moves a limb forward, abduction away from the middle.
"""

from dataclasses import dataclass

import numpy as np

from posescale.data.skeleton import JOINTS, PARENTS

# Angle -> lowest and highest value in degrees, within what people can do. `flight` is the one exception: metres above
# the ground, for jumps and running.
LIMITS: dict[str, tuple[float, float]] = {
    "flight": (0, 0.6),
    "pelvis_pitch": (-15, 70), "pelvis_roll": (-15, 15), "pelvis_yaw": (-30, 30),
    "spine_pitch": (-25, 60), "spine_roll": (-30, 30), "spine_yaw": (-45, 45),
    "neck_pitch": (-30, 45), "neck_yaw": (-60, 60),
    "l_hip": (-30, 120), "l_hip_abduction": (-15, 45), "l_hip_twist": (-30, 35), "l_knee": (0, 140),
    "r_hip": (-30, 120), "r_hip_abduction": (-15, 45), "r_hip_twist": (-30, 35), "r_knee": (0, 140),
    "l_shoulder": (-50, 175), "l_shoulder_abduction": (-10, 160), "l_shoulder_twist": (-80, 80), "l_elbow": (0, 145),
    "r_shoulder": (-50, 175), "r_shoulder_abduction": (-10, 160), "r_shoulder_twist": (-80, 80), "r_elbow": (0, 145),
}  # fmt: skip
COLUMN = {name: column for column, name in enumerate(LIMITS)}
ANKLE_HEIGHT = 0.08  # metres above the floor when standing


@dataclass(frozen=True)
class Body:
    """Bones of one subject: `offsets` (17, 3), metres, each joint from its parent in the parent bone's axes."""

    offsets: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """Bone lengths `(16,)` of joints 1 to 16."""
        return np.sqrt((self.offsets[1:] ** 2).sum(-1))


def draw_body(rng: np.random.Generator) -> Body:
    """A body of 1.55 to 1.95 m whose proportions differ by some per cent; left and right are alike."""
    height = rng.uniform(1.55, 1.95) / 1.75

    def size(metres: float) -> float:
        return metres * height * rng.uniform(0.94, 1.06)

    hip, thigh, shin = size(0.132), size(0.45), size(0.445)
    shoulder, drop, upper, lower = size(0.165), size(0.03), size(0.285), size(0.25)
    offsets = np.zeros((len(JOINTS), 3))
    for side, (h, k, a) in ((1, (4, 5, 6)), (-1, (1, 2, 3))):
        offsets[h], offsets[k], offsets[a] = (0, side * hip, 0), (0, 0, -thigh), (0, 0, -shin)
    for side, (s, e, w) in ((1, (11, 12, 13)), (-1, (14, 15, 16))):
        offsets[s], offsets[e], offsets[w] = (0, side * shoulder, -drop), (0, 0, -upper), (0, 0, -lower)
    offsets[7], offsets[8] = (-0.01, 0, size(0.235)), (0.01, 0, size(0.255))
    offsets[9], offsets[10] = (size(0.04), 0, size(0.105)), (-size(0.02), 0, size(0.115))
    return Body(offsets)


def rotation(axis: int, degrees: np.ndarray) -> np.ndarray:
    """Rotations `(F, 3, 3)` about a body axis (0 x, 1 y, 2 z), right-handed."""
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.zeros((*angle.shape, 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1
    matrix[..., i, i], matrix[..., i, j], matrix[..., j, i], matrix[..., j, j] = c, -s, s, c
    return matrix


def _ball(motion: np.ndarray, name: str, side: int) -> np.ndarray:
    """A hip or shoulder: twist about the limb, then flexion, then abduction."""
    flexion, abduction, twist = (motion[:, COLUMN[name + part]] for part in ("", "_abduction", "_twist"))
    return rotation(0, side * abduction) @ rotation(1, -flexion) @ rotation(2, side * twist)


def _trunk(motion: np.ndarray, name: str) -> np.ndarray:
    pitch, roll, yaw = (motion[:, COLUMN[f"{name}_{part}"]] for part in ("pitch", "roll", "yaw"))
    return rotation(2, yaw) @ rotation(1, pitch) @ rotation(0, roll)


def pose(body: Body, motion: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """Forward kinematics: joints `(F, 17, 3)` in world axes, relative to the hip.

    Args:
        body: the bones.
        motion: `(F, len(LIMITS))` degrees.
        heading: `(F,)` degrees, counter-clockwise seen from above.
    """
    pelvis = rotation(2, heading) @ _trunk(motion, "pelvis")
    chest = pelvis @ _trunk(motion, "spine")
    neck = motion[:, COLUMN["neck_pitch"]]
    face = chest @ rotation(2, motion[:, COLUMN["neck_yaw"]]) @ rotation(1, neck)
    carried_by = {1: pelvis, 4: pelvis, 7: pelvis, 8: chest, 9: face, 10: face, 11: chest, 14: chest}
    for side, letter, hip, shoulder in ((1, "l", 4, 11), (-1, "r", 1, 14)):
        carried_by[hip + 1] = pelvis @ _ball(motion, f"{letter}_hip", side)
        carried_by[hip + 2] = carried_by[hip + 1] @ rotation(1, motion[:, COLUMN[f"{letter}_knee"]])
        carried_by[shoulder + 1] = chest @ _ball(motion, f"{letter}_shoulder", side)
        carried_by[shoulder + 2] = carried_by[shoulder + 1] @ rotation(1, -motion[:, COLUMN[f"{letter}_elbow"]])
    joints = np.zeros((len(motion), len(JOINTS), 3))
    for joint in range(1, len(JOINTS)):
        joints[:, joint] = joints[:, PARENTS[joint]] + carried_by[joint] @ body.offsets[joint]
    return joints


def stand(relative: np.ndarray, flight: np.ndarray, fps: float) -> np.ndarray:
    """Put a motion on the floor: the lower ankle stands, and the foot that stands does not slide.

    Args:
        relative: `(F, 17, 3)` joints in world axes relative to the hip.
        flight: `(F,)` metres of the lower foot above its standing height.
        fps: frames per second.

    Returns:
        `(F, 17, 3)` metres, world, floor at z = 0, starting above the origin.
    """
    ankles = relative[:, [3, 6]]
    # A soft minimum over the two ankles: the weight passes from one foot to the other within about 2 cm.
    weight = np.exp(-(ankles[..., 2] - ankles[..., 2].min(1, keepdims=True)) / 0.02)
    weight /= weight.sum(1, keepdims=True)
    height = ANKLE_HEIGHT + flight - (weight * ankles[..., 2]).sum(1)
    velocity = -(weight[..., None] * np.gradient(ankles[..., :2], 1 / fps, axis=0)).sum(1)
    grounded = flight < 0.01
    if grounded.any():  # in the air the body keeps the velocity it left the ground with
        frames = np.arange(len(flight))
        velocity = np.stack([np.interp(frames, frames[grounded], v[grounded]) for v in velocity.T], axis=1)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum((velocity[1:] + velocity[:-1]) / 2 / fps, axis=0)])
    return relative + np.concatenate([path, height[:, None]], axis=1)[:, None]
