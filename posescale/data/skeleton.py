"""The skeletons of lifting datasets: names, parents, and the joints that a mirror exchanges."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Skeleton:
    """Joints in order; the parent of each, -1 for the root; left and right joints, pairwise."""

    joints: list[str]
    parents: list[int]
    left: list[int]
    right: list[int]

    @property
    def root(self) -> int:
        """The joint without a parent."""
        return self.parents.index(-1)


H36M = Skeleton(  # Human3.6M's 17, as VideoPose3D and MotionBERT use them
    joints=[
        "Hip", "RHip", "RKnee", "RFoot", "LHip", "LKnee", "LFoot", "Spine", "Thorax", "Neck/Nose", "Head",
        "LShoulder", "LElbow", "LWrist", "RShoulder", "RElbow", "RWrist",
    ],
    parents=[-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15],
    left=[4, 5, 6, 11, 12, 13],
    right=[1, 2, 3, 14, 15, 16],
)  # fmt: skip
MPI_INF_3DHP = Skeleton(  # the 17 that MPI-INF-3DHP scores, in its own order
    joints=[
        "head_top", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "pelvis", "spine", "head",
    ],
    parents=[16, 15, 1, 2, 3, 1, 5, 6, 14, 8, 9, 14, 11, 12, -1, 14, 1],
    left=[5, 6, 7, 11, 12, 13],
    right=[2, 3, 4, 8, 9, 10],
)  # fmt: skip
JOINTS, PARENTS, LEFT, RIGHT = H36M.joints, H36M.parents, H36M.left, H36M.right
