"""Joint orders of the 2D-video datasets, declared once.

Every prepared PoseTrack-like dataset is expressed in poseval's fifteen ids (`POSETRACK`); JHMDB keeps its own fifteen.
Left and right are the person's.
"""

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Skeleton:
    """A joint order.

    Attributes:
        id: its name in indices and records.
        joints: names in order; names are shared between skeletons where the meaning is.
        upper: indices of the upper body, for half-body crops; the others are the lower body.
        parents: the joint each is drawn from, -1 for the root.
    """

    id: str
    joints: tuple[str, ...]
    upper: tuple[int, ...]
    parents: tuple[int, ...]

    @cached_property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs (left, right) of indices that a mirror exchanges."""
        lefts = (name for name in self.joints if name.startswith("left_"))
        return tuple((self.joints.index(n), self.joints.index(n.replace("left_", "right_"))) for n in lefts)

    @cached_property
    def flip_order(self) -> tuple[int, ...]:
        """`mirrored = joints[flip_order]`: each joint's partner, itself where it has none."""
        partner = {a: b for pair in self.flip_pairs for a, b in (pair, pair[::-1])}
        return tuple(partner.get(joint, joint) for joint in range(len(self.joints)))


POSETRACK = Skeleton(
    id="posetrack15",  # the ids of PoseTrack17 and of poseval's table
    joints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
        "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "nose", "head_top",
    ),
    upper=(6, 7, 8, 9, 10, 11, 12, 13, 14),
    parents=(1, 2, 12, 12, 3, 4, 7, 8, 12, 12, 9, 10, -1, 12, 13),
)  # fmt: skip
JHMDB = Skeleton(
    id="jhmdb15",
    joints=(
        "neck", "belly", "head", "right_shoulder", "left_shoulder", "right_hip", "left_hip", "right_elbow",
        "left_elbow", "right_knee", "left_knee", "right_wrist", "left_wrist", "right_ankle", "left_ankle",
    ),
    upper=(0, 1, 2, 3, 4, 7, 8, 11, 12),
    parents=(-1, 0, 0, 0, 0, 1, 1, 3, 4, 5, 6, 7, 8, 9, 10),
)  # fmt: skip
SKELETONS = {skeleton.id: skeleton for skeleton in (POSETRACK, JHMDB)}

# The seventeen slots of a PoseTrack18 or PoseTrack21 annotation; the ears are placeholders and never scored.
COCO_SLOTS = (
    "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
# Slot of each POSETRACK joint, so that `joints15 = slots17[SLOT_OF_JOINT]` (head_bottom is poseval's neck).
SLOT_OF_JOINT = tuple(COCO_SLOTS.index("head_bottom" if name == "neck" else name) for name in POSETRACK.joints)
# COCO edges between slots, counted from 1: the `skeleton` entry of PoseTrack18's categories.
COCO_EDGES = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
# H36M-17 joint of each POSETRACK joint, for sets rendered from 3D motion.
H36M_OF_JOINT = (3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 9, 10)

# What is known of how a joint looks in its frame; a person's `state` holds indices into this, or UNKNOWN.
STATES = (
    "visible",
    "self_occluded",  # behind the person's own body
    "occluder",  # behind something else, or in a dropped frame
    "blurred",  # smeared or out of focus
    "out_of_frame",
    "occluded",  # flagged by the annotators, by what is not known
)
UNKNOWN = -1
