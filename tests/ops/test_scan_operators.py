"""Refusals, dispatch, compilation, counting, threads and memory of the scan operators."""

import json
import os
import subprocess
import sys

import pytest
import torch
from scan_problems import FAST, multi_problem, run, selective_problem
from torch.utils.flop_counter import FlopCounterMode

from posescale.errors import UnavailableError
from posescale.ops import (
    backends,
    dt_projection_macs,
    multi_scan,
    ran,
    scan_bytes,
    scan_flops,
    selective_scan,
    selective_scan_bytes,
)
from posescale.ops.native import build

native = pytest.mark.skipif("native" not in FAST, reason=f"native: {build.unavailable()}")
every = pytest.mark.parametrize("backend", [*FAST, "reference"])


def _single(problem):
    tensors, orders, sources = problem
    return [x.float() for x in tensors], orders, sources


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [(0, (2, 33, 20), "u must be"), (1, (2, 33, 4, 9), "proj"), (2, (4, 21, 3), "dt_weight"), (3, (80,), "dt_bias")]
    + [(4, (79, 4), "A must"), (5, (4, 20), "D must")],
)
def test_multi_scan_names_the_tensor_that_does_not_fit(index, shape, message):
    tensors, orders, sources = multi_problem()
    tensors[index] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        multi_scan(*tensors, orders, sources)


@pytest.mark.parametrize("sources", [(0, 1, 0), (0, 1, 2, 0), (0, 1, -1, 0)])
def test_multi_scan_refuses_sources(sources):
    tensors, orders, _ = multi_problem()
    with pytest.raises(ValueError, match="sources"):
        multi_scan(*tensors, orders, sources)


@every
def test_multi_scan_refuses_orders_that_are_no_permutations(backend):
    tensors, orders, sources = multi_problem()
    for bad in (33, -1, int(orders[2, 1])):
        wrong = orders.clone()
        wrong[2, 0] = bad
        with pytest.raises(ValueError, match="row 2 of orders"):
            multi_scan(*tensors, wrong, sources, backend=backend)
    multi_scan(*tensors, orders, sources, backend=backend)
    orders[1, 0] = orders[1, 1]  # changed after it was accepted
    with pytest.raises(ValueError, match="row 1 of orders"):
        multi_scan(*tensors, orders, sources, backend=backend)


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [(0, (2, 20), "u must be"), (1, (2, 20, 32), "delta"), (2, (20,), "A"), (3, (20, 4), "B must be")]
    + [
        (4, (2, 3, 4, 33), "groups of C"),
        (4, (2, 2, 4, 33), "same shape"),
        (5, (19,), "D must"),
        (6, (1,), "delta_bias"),
    ],
)
def test_selective_scan_names_the_tensor_that_does_not_fit(index, shape, message):
    tensors = selective_problem()
    tensors[index] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        selective_scan(*tensors)


def test_wrong_types_are_refused():
    tensors, orders, sources = multi_problem()
    with pytest.raises(TypeError, match="orders"):
        multi_scan(*tensors, orders.float(), sources)
    with pytest.raises(TypeError, match="proj"):
        multi_scan(tensors[0], tensors[1].long(), *tensors[2:], orders, sources)
    with pytest.raises(TypeError, match="A must be a real"):
        selective_scan(*selective_problem()[:2], selective_problem()[2].to(torch.complex64), *selective_problem()[3:])


def test_unknown_and_unavailable_back_ends_are_named():
    tensors, orders, sources = multi_problem()
    with pytest.raises(UnavailableError, match="unknown back end 'fast'"):
        multi_scan(*tensors, orders, sources, backend="fast")
    for name, state in backends()["multi_scan"].items():
        if state != "available":
            with pytest.raises(UnavailableError, match=name):
                multi_scan(*tensors, orders, sources, backend=name)


def test_what_ran_is_collected():
    tensors, orders, sources = multi_problem()
    with ran() as outer:
        with ran() as inner:
            multi_scan(*tensors, orders, sources, backend="torch")
        multi_scan(*tensors, orders, sources, backend="reference")
        selective_scan(*selective_problem())
    assert inner == {"multi_scan": "torch"}
    assert outer == {"multi_scan": "torch+reference", "selective_scan": FAST[0]}


@every
@pytest.mark.parametrize("merge", [True, False])
def test_compiled_as_one_graph(backend, merge):
    problem = _single(multi_problem())

    def function(*inputs):
        return multi_scan(*inputs, merge, backend).sin()

    def other(*inputs):
        return selective_scan(*inputs, True, backend).sin()

    for f, inputs in ((function, problem), (other, [selective_problem()])):
        eager, eager_grads = run(f, *inputs, dtype=torch.float32)
        compiled, grads = run(torch.compile(f, fullgraph=True, backend="aot_eager"), *inputs, dtype=torch.float32)
        assert torch.equal(eager, compiled)
        assert all(torch.equal(a, b) for a, b in zip(eager_grads, grads))


@every
def test_operators_keep_the_library_contract(backend):
    tensors, orders, sources = _single(multi_problem(length=5))
    leaves = [x.requires_grad_() for x in tensors]
    torch.library.opcheck(torch.ops.posescale.multi_scan, (*leaves, orders, sources, True, True, backend))
    u, delta, A, B, C, D, bias = (x.float().requires_grad_() for x in selective_problem(length=5))
    torch.library.opcheck(torch.ops.posescale.selective_scan, (u, delta, A, B, C, None, bias, True, True, backend))


@every
def test_backward_works_from_a_forward_that_kept_no_states(backend):
    tensors, orders, sources = multi_problem()
    _, grads = run(multi_scan, tensors, orders, sources, backend=backend)
    raw = torch.ops.posescale.multi_scan
    _, again = run(lambda *x: raw(*x, orders, sources, True, False, backend)[0], tensors)
    assert all(torch.equal(a, b) for a, b in zip(grads, again))


@every
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flop_counter_sees_the_closed_form(backend, device):
    tensors, orders, sources = multi_problem(batch=2, length=33, channels=20, states=4, rank=3)
    tensors, orders = [x.to(device).requires_grad_() for x in tensors], orders.to(device)
    scan, low_rank = 2 * 4 * 33 * 20 * (9 * 4 + 1), 2 * 2 * 33 * 4 * 20 * 3
    assert scan_flops(2, 4, 33, 20, 4) == scan and 2 * dt_projection_macs(2, 4, 33, 20, 3) == low_rank
    with FlopCounterMode(display=False) as counter:
        y = multi_scan(*tensors, orders, sources, backend=backend)
    assert counter.get_flop_counts()["Global"] == {torch.ops.posescale.multi_scan: scan + low_rank}
    with FlopCounterMode(display=False) as counter:
        y.sum().backward()
    assert counter.get_total_flops() == 2 * (scan + low_rank)
    with FlopCounterMode(display=False) as counter:
        selective_scan(*[x.to(device) for x in selective_problem()], backend=backend)
    assert counter.get_total_flops() == 2 * 33 * 20 * 37


def test_bytes_are_the_tensors():
    (u, proj, weight, bias, A, D), orders, sources = _single(multi_problem())
    tensors = (u, proj, weight, bias, A, D, multi_scan(u, proj, weight, bias, A, D, orders, sources), orders.int())
    assert scan_bytes(2, 4, 33, 20, 4, rank=3, sources=2) == sum(x.numel() * 4 for x in tensors)
    flat = selective_problem(groups=2)
    assert selective_scan_bytes(2, 33, 20, 4, groups=2) == sum(x.numel() * 4 for x in (*flat, flat[0]))


@native
def test_native_refuses_a_table_changed_behind_torchs_back():
    tensors, orders, sources = multi_problem()
    table = orders.numpy().copy()
    shared = torch.from_numpy(table)
    multi_scan(*tensors, shared, sources, backend="native")
    table[1, 2] = 1_000_000
    with pytest.raises(ValueError, match="outside 0..L-1"):
        multi_scan(*tensors, shared, sources, backend="native")


@native
@pytest.mark.parametrize("shape", [(1, 128), (3, 70), (20, 24)])
def test_results_do_not_depend_on_the_threads(shape):
    problem = multi_problem(batch=shape[0], channels=shape[1], length=50, states=16)
    flat = selective_problem(batch=shape[0], channels=shape[1], length=50)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y, grads = run(multi_scan, *problem, dtype=torch.float32, backend="native")
            other, other_grads = run(selective_scan, flat, True, dtype=torch.float32, backend="native")
            results.append([y, *grads, other, *other_grads])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@every
def test_every_output_is_written(backend):
    """In this mode of torch fresh memory is NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        for shape in ((2, 20), (1, 200)):
            for merge in (True, False):
                problem = multi_problem(batch=shape[0], channels=shape[1], sources=(2, 0, 2))
                y, grads = run(multi_scan, *problem, merge, backend=backend)
                assert not any(x.isnan().any() for x in (y, *grads))
        y, grads = run(selective_scan, selective_problem(), True, backend=backend)
        assert not any(x.isnan().any() for x in (y, *grads))
    finally:
        torch.use_deterministic_algorithms(False)


_LONG = """
import resource, sys, torch
from posescale.ops import multi_scan
def step(L, D=64, K=2, N=16, R=4):
    u, proj = torch.randn(1, 1, L, D), torch.randn(1, L, K, R + 2 * N)
    parameters = torch.randn(K, D, R), torch.zeros(K, D), -torch.rand(K * D, N), torch.ones(K * D)
    leaves = [x.requires_grad_() for x in (u, proj, *parameters)]
    orders = torch.stack([torch.arange(L), torch.arange(L).flip(0)])
    multi_scan(*leaves, orders, (0, 0), backend=sys.argv[1]).sum().backward()
    assert all(x.grad.isfinite().all() for x in leaves)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
step(100)
before = peak()
step(60000)
print(peak() - before)
"""


@pytest.mark.parametrize("backend", FAST)
def test_long_sequences_take_modest_memory(backend):
    """Forward and backward at L = 60,000 never hold one (B, K D, L, N) tensor; native not even half of it."""
    returned = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed memory goes back at once: no fragments counted
    command = [sys.executable, "-c", _LONG, backend]
    done = subprocess.run(command, env=returned, capture_output=True, text=True, check=True)
    one = 128 * 60_000 * 16 * 4 / 2**20
    assert float(done.stdout) < (one / 2 if backend == "native" else one)


_ASK = """
import json, logging
logging.basicConfig(level=logging.INFO)
import torch
from posescale.ops import backends, ran, selective_scan
with ran() as used:
    y = selective_scan(*[torch.ones(1, 2, 3)] * 2, -torch.ones(2, 4), *[torch.ones(1, 4, 3)] * 2)
print(json.dumps([backends()["selective_scan"], used, y.sum().item()]))
"""


def _ask(cache, **environment):
    clean = {k: v for k, v in os.environ.items() if k != "CC"} | {"XDG_CACHE_HOME": str(cache), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", _ASK], env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_without_a_compiler_torch_runs_and_says_why(tmp_path):
    out, log = _ask(tmp_path, PATH="").communicate()
    states, used, _ = json.loads(out)
    assert "no C compiler" in states["native"] and states["torch"] == "available"
    assert used == {"selective_scan": "torch"}
    assert log.count("falls back to torch: native: no C compiler") == 1


def test_a_failing_compiler_is_quoted(tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo broken 1.0;; *) echo "no luck today" >&2; exit 1;; esac\n'
    )
    compiler.chmod(0o755)
    states, used, _ = json.loads(_ask(tmp_path / "cache", CC=str(compiler)).communicate()[0])
    assert "no luck today" in states["native"] and used == {"selective_scan": "torch"}


@native
def test_what_is_compiled_beside_the_scan_may_fail_alone(tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *tokens.c*) exit 1;; *) exec cc "$@";; esac\n')
    compiler.chmod(0o755)
    states, used, _ = json.loads(_ask(tmp_path / "cache", CC=str(compiler)).communicate()[0])
    assert states["native"] == "available" and used == {"selective_scan": "native"}


@native
def test_two_processes_build_at_once(tmp_path):
    processes = [_ask(tmp_path) for _ in range(2)]
    answers = [process.communicate() for process in processes]
    assert all(json.loads(out)[1] == {"selective_scan": "native"} for out, _ in answers)
    assert "compiled scan_forward.c" in "".join(log for _, log in answers)
    files = sorted((p.name.partition("-")[0], p.suffix) for p in (tmp_path / "posescale" / "native").iterdir())
    assert files == [(name, suffix) for name in ("deform", "scan_forward", "tokens") for suffix in (".sha256", ".so")]
    assert "compiled" not in _ask(tmp_path).communicate()[1]


@native
def test_a_torn_cache_file_is_rebuilt(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_folder", lambda: tmp_path)
    build.library.__wrapped__(False, "scan_backward")
    (path,) = tmp_path.glob("*.so")
    whole = path.read_bytes()
    path.unlink()  # not truncated in place: the file is mapped into this process
    path.write_bytes(whole[: len(whole) // 2])
    assert build.library.__wrapped__(False, "scan_backward").posescale_scan_backward
    assert len(path.read_bytes()) == len(whole)
