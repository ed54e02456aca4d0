"""Errors and average precision of poses, as the field's official code computes them; nothing here imports torch."""

from posescale.metrics.jhmdb import jhmdb_pck, mean_of_splits
from posescale.metrics.pck import auc, pck, threedhp_frames, threedhp_tables
from posescale.metrics.pose import PoseInputError, acceleration_error, mpjpe, mpjve, n_mpjpe, p_mpjpe
from posescale.metrics.posetrack import posetrack_ap, posetrack_by_sequence, posetrack_table

__all__ = [
    "PoseInputError",
    "acceleration_error",
    "auc",
    "jhmdb_pck",
    "mean_of_splits",
    "mpjpe",
    "mpjve",
    "n_mpjpe",
    "p_mpjpe",
    "pck",
    "posetrack_ap",
    "posetrack_by_sequence",
    "posetrack_table",
    "threedhp_frames",
    "threedhp_tables",
]
