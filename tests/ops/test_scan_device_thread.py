"""Gradients on a device for which autograd has a thread of its own, as for every GPU: nothing may wait for itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
_CHECK = """
import sys, threading, types
import torch
from scan_problems import error, multi_oracle, multi_problem, run
from posescale.ops import multi_scan, ran

torch.ops.load_library(sys.argv[1])
torch.utils.rename_privateuse1_backend("threaded")
torch._register_device_module("threaded", types.SimpleNamespace(
    is_available=lambda: True, device_count=lambda: 1, current_device=lambda: 0, _is_in_bad_fork=lambda: False))

class Where(torch.autograd.Function):
    forward = staticmethod(lambda ctx, x: x.clone())
    @staticmethod
    def backward(ctx, dy):
        walkers.add(threading.get_ident())
        return dy

walkers = set()
Where.apply(torch.ones(3).to("threaded").requires_grad_()).sum().backward()
assert walkers and threading.get_ident() not in walkers, "this device has no thread: the test shows nothing"

tensors, orders, sources = multi_problem(batch=1, sources=(0, 1), channels=4, length=6, states=2, rank=1)
truth, true_grads = run(multi_oracle, tensors, orders, sources)
with ran() as used:
    y, grads = run(multi_scan, [x.to("threaded") for x in tensors], orders.to("threaded"), sources, backend="reference")
assert used == {"multi_scan": "reference"}
assert all(error(found.cpu(), true) < 1e-12 for found, true in zip((y, *grads), (truth, *true_grads), strict=True))
"""


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    from torch.utils.cpp_extension import include_paths, library_paths

    library = tmp_path_factory.mktemp("device") / "device.so"
    folders = [*(f"-isystem{p}" for p in include_paths()), *(f"-L{p}" for p in library_paths())]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    command = [compiler, "-std=c++20", "-O0", "-fPIC", "-shared", abi, *folders, str(HERE / "device_with_a_thread.cpp"),
               "-ltorch_cpu", "-lc10", "-o", str(library)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return library


def test_gradients_do_not_wait_for_the_thread_they_run_in(device):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])}
    done = subprocess.run([sys.executable, "-c", _CHECK, str(device)], env=environment, capture_output=True, text=True,
                          timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
