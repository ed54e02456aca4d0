"""Counting arithmetic by dispatch: every operator that runs is priced, or named as one that cannot be."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

from posescale.measure.operators import (
    BESIDE,
    CONTRACTIONS,
    ELEMENTWISE,
    FREE,
    REDUCTIONS,
    TRANSFORMS,
    plain_name,
)
from posescale.measure.scan_prices import SCANS

# Ways out of PyTorch: arithmetic behind them is invisible to any counter.
_EXITS = {"torch.Tensor.numpy", "torch.Tensor.__array__", "torch.Tensor.data_ptr", "torch.Tensor.tolist"}


class Count:
    """Arithmetic of one forward pass.

    Attributes:
        contractions: MACs of all matrix products and convolutions, attention's and the scans' own included.
        scan: FLOPs of the scans' recurrences, 9 N + 1 per token, channel and direction.
        skip: the 1 of that sum, per token, channel and direction: one product by the skip weight.
        elementwise: FLOPs of everything else, by the tables of `posescale.measure.operators`.
        calls: how often each operator ran.
        uncounted: operators that no table prices, with their calls; the counts above are void unless it is empty.
    """

    def __init__(self) -> None:
        self.contractions = self.scan = self.skip = self.elementwise = 0
        self.calls: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()

    @property
    def mac_equivalent(self) -> float:
        """Contractions, half of the recurrences' 9 N operations, and the skip product as one MAC."""
        return self.contractions + (self.scan - self.skip) / 2 + self.skip

    @property
    def flops_with_scan(self) -> int:
        """Two FLOPs per contraction MAC, and the scans'."""
        return 2 * self.contractions + self.scan

    @property
    def total(self) -> int:
        """All FLOPs, elementwise ones included."""
        return self.flops_with_scan + self.elementwise

    def add(self, packet: Any, args: tuple, kwargs: Mapping[str, Any], out: Any) -> None:
        """Price one call."""
        name = plain_name(packet)
        self.calls[name] += 1
        if packet in CONTRACTIONS:
            self.contractions += CONTRACTIONS[packet](*args, out=out, **kwargs)
            self.elementwise += BESIDE.get(packet, _nothing)(*args, **kwargs)
        elif packet in TRANSFORMS:
            self.elementwise += TRANSFORMS[packet](*args, out=out, **kwargs)
        elif name in SCANS:
            price = SCANS[name](*args, **kwargs)
            self.contractions += price.contractions
            self.scan += price.scan
            self.skip += price.skip
            self.elementwise += price.elementwise
        elif name in ELEMENTWISE:
            self.elementwise += ELEMENTWISE[name] * _first(out).numel()
        elif name in REDUCTIONS:
            self.elementwise += REDUCTIONS[name] * _first(args).numel()
        elif name not in FREE:
            self.uncounted[name] += 1


def _nothing(*_: Any, **__: Any) -> int:
    return 0


def _first(values: Any) -> Tensor:
    found = values if isinstance(values, Tensor) else next(v for v in values if isinstance(v, (Tensor, list, tuple)))
    return found if isinstance(found, Tensor) else _first(found)


class _Dispatch(TorchDispatchMode):
    """Sees every operator that reaches a kernel; composite ones are taken apart first."""

    supports_higher_order_operators = True

    def __init__(self, count: Count) -> None:
        super().__init__()
        self.count = count
        self.inside = 0  # depth within a priced kernel, whose own way of working is its own business

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Mapping | None = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            self.count.uncounted[f"higher_order::{func.name()}"] += 1
            return func(*args, **kwargs)
        if not self._priced(func):
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        self.inside += 1
        try:
            out = func(*args, **kwargs)
        finally:
            self.inside -= 1
        self.count.add(func._overloadpacket, args, kwargs, out)
        return out

    @staticmethod
    def _priced(func: Any) -> bool:
        packet = func._overloadpacket
        name = plain_name(packet)
        return (
            packet in CONTRACTIONS
            or packet in TRANSFORMS
            or any(name in table for table in (SCANS, ELEMENTWISE, REDUCTIONS, FREE))
        )


class _Exits(TorchFunctionMode):
    """Sees tensors handed to code outside PyTorch."""

    def __init__(self, dispatch: _Dispatch) -> None:
        super().__init__()
        self.dispatch = dispatch

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: Mapping | None = None) -> Any:
        if not self.dispatch.inside and (name := resolve_name(func)) in _EXITS and args[0].is_floating_point():
            self.dispatch.count.uncounted[name] += 1
        return func(*args, **(kwargs or {}))


def count(model: nn.Module, *inputs: Tensor) -> Count:
    """Count one forward pass of `model(*inputs)` on its own device; on `meta` no arithmetic is done at all."""
    result = Count()
    dispatch = _Dispatch(result)
    with torch.no_grad(), dispatch, _Exits(dispatch):
        model(*inputs)
    return result
