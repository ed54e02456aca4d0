"""Errors of poses, as the field's official code computes them. NumPy only: nothing here imports torch."""

from posescale.metrics.pck import auc, pck, threedhp_frames, threedhp_tables
from posescale.metrics.pose import PoseInputError, acceleration_error, mpjpe, mpjve, n_mpjpe, p_mpjpe

__all__ = [
    "PoseInputError",
    "acceleration_error",
    "auc",
    "mpjpe",
    "mpjve",
    "n_mpjpe",
    "p_mpjpe",
    "pck",
    "threedhp_frames",
    "threedhp_tables",
]
