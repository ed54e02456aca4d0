"""Counting parameters: every tensor once, and those that module-based counters cannot see told apart."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from posescale.errors import PosescaleError


@dataclass(frozen=True)
class Parameters:
    """Numbers of elements, each tensor counted once however many names it has.

    Attributes:
        total: trainable and frozen parameters.
        trainable: those that require a gradient.
        frozen: those that do not.
        bare: of the total, parameters owned by a module that is no leaf of PyTorch's own (position tables, state-space
            matrices): counters that know leaf modules only miss them.
        buffers: running statistics and constant tables, those outside the state_dict included.
    """

    total: int
    trainable: int
    frozen: int
    bare: int
    buffers: int


def count_parameters(model: nn.Module) -> Parameters:
    """Count a model's parameters and check the sum against its state_dict.

    Raises:
        PosescaleError: the state_dict holds another number of elements than parameters and persistent buffers.
    """
    parameters = list(model.parameters())  # PyTorch gives a tied tensor once
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    total = _elements(parameters)
    bare = _elements(
        {id(p): p for m in model.modules() if not _is_leaf(m) for p in m.parameters(recurse=False)}.values()
    )
    stored = _elements({id(t): t for t in model.state_dict(keep_vars=True).values() if isinstance(t, Tensor)}.values())
    persistent = _elements(_persistent_buffers(model))
    if stored != total + persistent:
        raise PosescaleError(
            f"{type(model).__name__}: the state_dict holds {stored:,} elements, parameters and persistent buffers "
            f"{total:,} + {persistent:,}; one of the two hides tensors, so no parameter count can be stated"
        )
    return Parameters(total, trainable, total - trainable, bare, _elements(model.buffers()))


def _elements(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() for t in tensors)


def _is_leaf(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.modules") and not list(module.children())


def _persistent_buffers(model: nn.Module) -> list[Tensor]:
    kept = {}
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name not in module._non_persistent_buffers_set:
                kept[id(buffer)] = buffer
    return list(kept.values())
