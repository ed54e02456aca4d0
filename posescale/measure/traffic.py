"""Bytes: what must move at least, and what training keeps for the backward pass."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Traffic:
    """Bytes that one forward pass must move at least: each weight and input read once, each output written.

    Attributes:
        inputs: bytes of the inputs.
        weights: bytes of parameters and buffers.
        outputs: bytes of the outputs.
    """

    inputs: int
    weights: int
    outputs: int

    @property
    def total(self) -> int:
        """The sum, in bytes."""
        return self.inputs + self.weights + self.outputs


def compulsory_traffic(model: nn.Module, *inputs: Tensor) -> Traffic:
    """Run once (on `meta` for nothing) and add up the sizes."""
    with torch.no_grad():
        outputs = model(*inputs)
    produced = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return Traffic(_bytes(inputs), _bytes([*model.parameters(), *model.buffers()]), _bytes(produced))


def saved_for_backward(model: nn.Module, *inputs: Tensor) -> int:
    """Bytes of activations that autograd keeps after one forward pass (model in evaluation mode, weights apart).

    Storages are counted once. What a custom operator keeps is included where it saves tensors through autograd.
    """
    weights = {t.untyped_storage()._cdata for t in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Tensor] = {}  # holding the tensors keeps their storages' identities from being reused

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = tensor.detach()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(*inputs)
    return sum(t.untyped_storage().nbytes() for t in kept.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in {id(t): t for t in tensors}.values())
