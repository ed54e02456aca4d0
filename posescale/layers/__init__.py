"""Building blocks shared by components. B batch, T frames, J joints, C channels, N tokens, H heads."""

from posescale.layers.attention import Attention
from posescale.layers.block import Block
from posescale.layers.drop_path import DropPath
from posescale.layers.mlp import Mlp

__all__ = ["Attention", "Block", "DropPath", "Mlp"]
