"""The counters behind published numbers, called as they are: so that each published number can be explained.

thop adds up leaf modules (Linear, convolutions, norms at 4 per element) and nothing else; fvcore traces operators and
leaves out fused attention and custom ones. Both say "FLOPs" for multiply-accumulates.
"""

import copy
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Ruler:
    """What an old counter says: MACs, and parameters where it counts them; what it left out, by its own account."""

    macs: int
    parameters: int | None = None
    left_out: tuple[str, ...] = ()


def thop(model: nn.Module, *inputs: Tensor) -> Ruler:
    """`thop.profile`; only shapes matter to it, so the `meta` device gives the same numbers at once."""
    with _quiet():
        from thop import profile

        macs, parameters = profile(copy.deepcopy(model), inputs=inputs, verbose=False)  # it leaves buffers behind
    return Ruler(int(macs), int(parameters))


def fvcore(model: nn.Module, *inputs: Tensor) -> Ruler:
    """What fvcore's `FlopCountAnalysis` says of one call, with the operators that it owns to count as nothing."""
    with _quiet(), torch.no_grad():
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model, inputs)
        macs, left_out = int(analysis.total()), tuple(sorted(analysis.unsupported_ops()))
    return Ruler(macs, left_out=left_out)


@contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
