"""Poses of clips of any length, whole or as a stream."""

from posescale.inference.seams import Seams
from posescale.inference.stream import LiftStream, lift
from posescale.inference.windows import blend_weights

__all__ = ["LiftStream", "Seams", "blend_weights", "lift"]
