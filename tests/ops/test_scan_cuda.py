"""Back ends on a GPU, where there is one: gradients from autograd's own thread, and inside a captured graph."""

import pytest
import torch
from scan_problems import error, multi_oracle, multi_problem, run

from posescale.ops import multi_scan
from posescale.ops.registry import BACKENDS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def usable(backend):
    if reason := BACKENDS[backend].unavailable(torch.device("cuda")):
        pytest.skip(f"{backend}: {reason}")


@pytest.mark.parametrize("backend", ["torch", "reference", "triton", "mamba_ssm"])
def test_gradients_equal_those_of_the_oracle(backend):
    usable(backend)
    tensors, orders, sources = multi_problem(batch=2, sources=(0, 1, 0), channels=40, length=70, states=4, rank=2)
    truth, true_grads = run(multi_oracle, tensors, orders, sources)
    moved = [x.cuda() for x in tensors]
    y, grads = run(multi_scan, moved, orders.cuda(), sources, dtype=torch.float32, backend=backend)
    assert error(y.cpu(), truth) < 1e-5
    assert all(error(g.cpu(), t) < 1e-4 for g, t in zip(grads, true_grads, strict=True))


@pytest.mark.parametrize("backend", ["torch", "triton", "mamba_ssm"])
def test_a_captured_graph_repeats_both_passes(backend):
    usable(backend)
    tensors, orders, sources = multi_problem(batch=1, sources=(0, 1), channels=32, length=33, states=4, rank=2)
    leaves, orders = [x.cuda().float().requires_grad_() for x in tensors], orders.cuda()

    def both():
        y = multi_scan(*leaves, orders, sources, backend=backend)
        return (y, *torch.autograd.grad(y.square().sum(), leaves))

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        expected = [x.clone() for x in both()]
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = both()
    for x in found:
        x.detach().fill_(float("nan"))
    graph.replay()
    assert all(error(f.detach(), e) < 1e-5 for f, e in zip(found, expected, strict=True))
