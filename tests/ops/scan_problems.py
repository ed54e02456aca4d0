"""Random scan problems, and errors in the sense of the accuracy rule."""

import torch

from posescale.ops import reference
from posescale.ops.registry import BACKENDS

FAST = [name for name in BACKENDS if name != "reference" and not BACKENDS[name].unavailable(torch.device("cpu"))]


def randn(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def multi_problem(
    batch=2, sources=(0, 1, 0, 1), length=33, channels=20, states=4, rank=3, dt_bias=-1.0, decay=4.0, seed=0
):
    """Tensors (float64) and orders of a `multi_scan` with random permutations."""
    g = torch.Generator().manual_seed(seed)
    k, s = len(sources), max(sources) + 1
    tensors = [
        randn(g, batch, s, length, channels),
        randn(g, batch, length, k, rank + 2 * states),
        0.3 * randn(g, k, channels, rank),
        0.5 * randn(g, k, channels) + dt_bias,
        -decay * torch.rand(k * channels, states, generator=g, dtype=torch.float64) - 0.01,
        randn(g, k * channels),
    ]
    orders = torch.stack([torch.randperm(length, generator=g) for _ in range(k)])
    return tensors, orders, sources


def selective_problem(batch=2, channels=20, length=33, states=4, groups=1, dt_bias=-1.0, seed=0):
    """u, delta, A, B, C, D, delta_bias (float64) of a `selective_scan` with softplus."""
    g = torch.Generator().manual_seed(seed)
    u, delta, A = randn(g, batch, channels, length), randn(g, batch, channels, length), randn(g, channels, states)
    B, C = randn(g, batch, groups, states, length), randn(g, batch, groups, states, length)
    return [u, delta, -A.abs() - 0.01, B, C, randn(g, channels), 0.5 * randn(g, channels) + dt_bias]


def run(function, tensors, *rest, dtype=torch.float64, **named):
    """Output of `function(*tensors, *rest)` and the gradients of a fixed random projection of it, for every tensor."""
    leaves = [None if x is None else x.detach().to(dtype).requires_grad_() for x in tensors]
    y = function(*leaves, *rest, **named)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return y.detach(), torch.autograd.grad(y, [x for x in leaves if x is not None], dy.to(y))


def error(x, truth):
    """Largest absolute error over the largest absolute true value."""
    if not truth.numel():
        return 0.0
    return ((x.double() - truth.double()).abs().max() / truth.double().abs().max().clamp_min(1e-300)).item()


def assert_accurate(function, oracle, tensors, *rest, backends=None):
    """The rule: within 1e-6 + 8 x the float32 loop's own error for y, 4e-6 + 8 x for gradients; for every back end."""
    truth, true_grads = run(oracle, tensors, *rest)
    loop, loop_grads = run(oracle, tensors, *rest, dtype=torch.float32)
    for backend in backends or FAST:
        y, grads = run(function, tensors, *rest, dtype=torch.float32, backend=backend)
        assert error(y, truth) <= 1e-6 + 8 * error(loop, truth), backend
        for index, (grad, loop_grad, true_grad) in enumerate(zip(grads, loop_grads, true_grads)):
            found, allowed = error(grad, true_grad), 4e-6 + 8 * error(loop_grad, true_grad)
            assert found <= allowed, f"{backend}, gradient {index}: {found} > {allowed}"


def multi_oracle(*inputs):
    """`multi_scan` by plain autograd over the loop."""
    return reference.multi_scan(*inputs, True)


def selective_oracle(u, delta, A, B, C, D=None, bias=None, softplus=False):
    """`selective_scan` by plain autograd over the loop."""
    B, C = (x.unsqueeze(1) if x.ndim == 3 else x for x in (B, C))
    return reference.selective_scan(u, delta, A, B, C, D, bias, softplus)
