"""Differentiate an ordinary function inside an operator of torch's library."""

from collections.abc import Callable, Sequence
from threading import Thread
from typing import Any

import torch
from torch import Tensor


def differentiate(
    function: Callable[..., Tensor], inputs: Sequence[Tensor | None], rest: Sequence[Any], dy: Tensor
) -> tuple[Tensor | None, ...]:
    """Run `function(*inputs, *rest)` again and return the gradients of `inputs` (None for None), given its output's.

    This happens in a fresh thread: autograd is switched off inside an operator, per thread.
    """
    given = [None if x is None else x.detach().requires_grad_() for x in inputs]
    leaves = [x for x in given if x is not None]
    outcome: list[Any] = []

    def work() -> None:
        try:
            y = function(*given, *rest)
            outcome.append(torch.autograd.grad(y, leaves, dy, allow_unused=True, materialize_grads=True))
        except BaseException as error:  # raised again below, in the caller's thread
            outcome.append(error)

    thread = Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    grads = iter(outcome[0])
    return tuple(None if x is None else next(grads).contiguous() for x in inputs)
