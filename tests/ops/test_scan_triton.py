"""The Triton kernels' semantics, interpreted on the CPU: tiny problems, float64, one process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is not installed")

_CHECK = """
import sys, torch
from scan_problems import error, multi_oracle, multi_problem, run, selective_oracle, selective_problem
from posescale.ops import multi_scan, ran, selective_scan, triton_scan

def agree(function, oracle, tensors, *rest):
    with ran() as used:
        y, grads = run(function, tensors, *rest, backend="triton")
    assert list(used.values()) == ["triton"]
    truth, true_grads = run(oracle, tensors, *rest)
    assert error(y, truth) < 1e-13
    assert all(error(g, t) < 1e-12 for g, t in zip(grads, true_grads, strict=True))

case = sys.argv[1]
torch.use_deterministic_algorithms("deterministic" in case)
if "segments" in case:
    triton_scan.SHORTEST_SEGMENT = 16
small = dict(batch=1, sources=(0, 1, 0), states=3, rank=2)
if case.startswith("multi"):
    agree(multi_scan, multi_oracle, *multi_problem(channels=5, length=35 if "segments" in case else 18, **small))
elif case == "apart":
    tensors, orders, sources = multi_problem(channels=5, length=18, **small)
    apart = lambda *x, **kw: multi_scan(*x, orders, sources, False, **kw)
    from posescale.ops import reference
    agree(apart, lambda *x: reference.multi_scan(*x, orders, sources, False), tensors)
elif case == "blocks":
    agree(multi_scan, multi_oracle, *multi_problem(batch=2, sources=(0,), channels=40, length=3, states=1, rank=0))
elif case.startswith("selective"):
    tensors = selective_problem(batch=1, channels=6, length=34 if "segments" in case else 17, states=2, groups=2)
    agree(selective_scan, selective_oracle, tensors, "softplus" in case)
"""


@pytest.mark.parametrize(
    "case",
    ["multi", "multi deterministic segments", "apart", "blocks", "selective softplus", "selective segments"],
)
def test_interpreted_kernels_match_the_oracle(case):
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", _CHECK, case], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
