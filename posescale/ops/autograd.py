"""Differentiate an ordinary function inside an operator of torch's library."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from threading import Thread
from typing import Any

import torch
from torch import Tensor


def differentiate(
    function: Callable[..., Tensor], inputs: Sequence[Tensor | None], rest: Sequence[Any], dy: Tensor
) -> tuple[Tensor | None, ...]:
    """Run `function(*inputs, *rest)` again and return the gradients of `inputs` (None for None), given its output's.

    This happens in a fresh thread: autograd is switched off inside an operator, per thread. On a GPU that thread takes
    over the caller's stream, and walks the graph itself: autograd's own thread for the GPU is the caller, and waits.
    """
    given = [None if x is None else x.detach().requires_grad_() for x in inputs]
    leaves = [x for x in given if x is not None]
    outcome: list[Any] = []
    stream = torch.cuda.current_stream(dy.device) if dy.is_cuda else None

    def work() -> None:
        try:
            with ExitStack() as here:
                here.enter_context(torch.autograd.set_multithreading_enabled(False))
                if stream is not None:
                    here.enter_context(torch.cuda.stream(stream))  # and its device
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
