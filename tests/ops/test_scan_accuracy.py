"""Every back end against the oracle, and the oracle against the equations."""

import pytest
import torch
from scan_problems import (
    FAST,
    assert_accurate,
    error,
    multi_oracle,
    multi_problem,
    run,
    selective_oracle,
    selective_problem,
)

from posescale.ops import multi_scan, reference, selective_scan

LENGTHS = [1, 2, 15, 16, 17, 33, 243, 459]
fast = pytest.mark.parametrize("backend", FAST)
every = pytest.mark.parametrize("backend", [*FAST, "reference"])


def test_oracle_is_the_recurrence():
    u, delta, A, B, C, D, bias = selective_problem(batch=1, channels=2, length=5, states=3)
    y = selective_oracle(u, delta, A, B, C, D, bias, True)
    for c in range(2):
        state = torch.zeros(3, dtype=torch.float64)
        for t in range(5):
            dt = torch.log1p(torch.exp(delta[0, c, t] + bias[c]))
            state = torch.exp(dt * A[c]) * state + dt * B[0, 0, :, t] * u[0, c, t]
            assert torch.allclose(y[0, c, t], C[0, 0, :, t] @ state + D[c] * u[0, c, t], rtol=1e-12)


def test_oracle_multi_scan_is_selective_scans_along_the_orders():
    (u, proj, weight, bias, A, D), orders, sources = multi_problem(sources=(0, 1, 1), states=3, rank=2)
    y = reference.multi_scan(u, proj, weight, bias, A, D, orders, sources, False)
    for k, source in enumerate(sources):
        dt, B, C = (x.transpose(1, 2) for x in proj[:, orders[k], k].split([2, 3, 3], dim=-1))
        x = u[:, source, orders[k]].transpose(1, 2)
        rows = slice(k * 20, (k + 1) * 20)
        along = selective_oracle(x, weight[k] @ dt, A[rows], B, C, D[rows], bias[k], True)
        assert torch.allclose(y[:, k, orders[k]], along.transpose(1, 2), rtol=1e-12, atol=1e-14)
    assert torch.allclose(
        reference.multi_scan(u, proj, weight, bias, A, D, orders, sources, True), y.sum(1), rtol=1e-12
    )


@every
@pytest.mark.parametrize("merge", [True, False])
def test_multi_scan_gradcheck(backend, merge):
    tensors, orders, sources = multi_problem(batch=2, sources=(0, 1, 0), length=5, channels=3, states=2, rank=1)
    leaves = [x.requires_grad_() for x in tensors]
    assert torch.autograd.gradcheck(lambda *x: multi_scan(*x, orders, sources, merge, backend), leaves)


@every
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("softplus", [True, False])
def test_selective_scan_gradcheck(backend, groups, softplus):
    tensors = selective_problem(channels=3, length=5, states=2, groups=groups)
    leaves = [x.requires_grad_() for x in tensors]
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, softplus, backend), leaves)


@pytest.mark.parametrize("length", LENGTHS)
def test_multi_scan_lengths(length):
    assert_accurate(multi_scan, multi_oracle, *multi_problem(length=length))


@pytest.mark.parametrize("length", LENGTHS)
def test_selective_scan_lengths(length):
    assert_accurate(selective_scan, selective_oracle, selective_problem(length=length), True)


@pytest.mark.parametrize("states", [1, 3, 4, 8, 16, 64])
@pytest.mark.parametrize("channels", [1, 16, 70])
def test_states_and_channels(states, channels):
    problem = multi_problem(batch=1, channels=channels, states=states, length=21, rank=0 if states == 3 else 5)
    assert_accurate(multi_scan, multi_oracle, *problem)
    tensors = selective_problem(batch=1, channels=channels, states=states, length=21)
    assert_accurate(selective_scan, selective_oracle, tensors, True)


@pytest.mark.parametrize("directions", [1, 2, 3, 4, 5, 6])
def test_numbers_of_directions(directions):
    problem = multi_problem(sources=tuple(k % 2 if directions > 1 else 0 for k in range(directions)), length=19)
    assert_accurate(multi_scan, multi_oracle, *problem)


def test_groups_of_b_and_c():
    tensors = selective_problem(channels=40, groups=4)
    assert_accurate(selective_scan, selective_oracle, tensors, True)


@pytest.mark.parametrize("shape", [(1, 200), (19, 20), (17, 100)])  # every width of a native task, slices of the batch
def test_batches(shape):
    problem = multi_problem(batch=shape[0], channels=shape[1], length=18)
    assert_accurate(multi_scan, multi_oracle, *problem)


@pytest.mark.parametrize("dt_bias", [30.0, 19.9, -20.7, -60.0])  # the identity, its edge, dt of 1e-9 and 1e-26
def test_extreme_step_sizes(dt_bias):
    problem = multi_problem(length=40, dt_bias=dt_bias, decay=0.1)
    assert_accurate(multi_scan, multi_oracle, *problem)
    tensors = selective_problem(length=40, dt_bias=dt_bias)
    assert_accurate(selective_scan, selective_oracle, tensors, True)


def test_slow_decays_accumulate_no_bias():
    problem = multi_problem(batch=1, sources=(0,), length=3000, channels=16, dt_bias=-6.0, decay=0.3)
    assert_accurate(multi_scan, multi_oracle, *problem)


@pytest.mark.parametrize("left_out", ["D", "bias", "both"])
@pytest.mark.parametrize("softplus", [True, False])
def test_without_skip_or_bias(left_out, softplus):
    tensors = selective_problem()
    tensors[1] = tensors[1].abs()
    if left_out != "bias":
        tensors[5] = None
    if left_out != "D":
        tensors[6] = None
    assert_accurate(selective_scan, selective_oracle, tensors, softplus)


@every
def test_three_dimensional_b_and_c(backend):
    tensors = selective_problem()
    flat = [x[:, 0] if x.ndim == 4 else x for x in tensors]
    y, grads = run(selective_scan, flat, True, backend=backend)
    truth, true_grads = run(selective_oracle, tensors, True)
    assert error(y, truth) < 1e-13
    assert grads[3].shape == flat[3].shape
    assert all(error(g, t.reshape(g.shape)) < 1e-12 for g, t in zip(grads, true_grads))


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_scan_in_float32(backend, dtype):
    tensors, orders, sources = multi_problem()
    rounded = [x.to(dtype) for x in tensors]
    y, grads = run(multi_scan, rounded, orders, sources, dtype=dtype, backend=backend)
    truth, _ = run(multi_oracle, [x.double() for x in rounded], orders, sources)
    assert y.dtype == dtype and all(g.dtype == dtype for g in grads)
    assert error(y, truth) < torch.finfo(dtype).eps  # the only rounding left is that of the result


@every
@pytest.mark.parametrize("empty", [{"batch": 0}, {"length": 0}])
def test_empty_inputs(backend, empty):
    problem = multi_problem(**empty)
    y, grads = run(multi_scan, *problem, backend=backend)
    assert y.shape == (empty.get("batch", 2), empty.get("length", 33), 20)
    assert [g.shape for g in grads] == [x.shape for x in problem[0]]
    assert all(not g.any() for g in grads)
    tensors = selective_problem(**empty)
    y, grads = run(selective_scan, tensors, True, backend=backend)
    assert y.shape == tensors[0].shape and all(not g.any() for g in grads)


def _strided(x):
    """The same values behind odd strides."""
    wide = torch.full((*x.shape[:-1], 2 * x.shape[-1] + 1), float("nan"), dtype=x.dtype)
    view = wide.transpose(0, -1).contiguous().transpose(0, -1)[..., 1::2]
    return view.copy_(x)


@fast
def test_non_contiguous_inputs(backend):
    tensors, orders, sources = multi_problem()
    strided = [_strided(x) for x in tensors]
    assert not any(x.is_contiguous() for x in strided)
    y, grads = run(multi_scan, tensors, orders, sources, backend=backend)
    leaves = [x.requires_grad_() for x in strided]
    out = multi_scan(*leaves, _strided(orders.double()).long().t().contiguous().t(), sources, backend=backend)
    assert error(out, y) < 1e-13
    out.sum().backward()  # an expanded, stride-0 gradient
    ones = [x.detach().clone().requires_grad_() for x in tensors]
    multi_oracle(*ones, orders, sources).sum().backward()
    assert all(error(x.grad, o.grad) < 1e-12 for x, o in zip(leaves, ones))
    flat = selective_problem()
    y, _ = run(selective_scan, flat, True, backend=backend)
    assert error(selective_scan(*map(_strided, flat), True, backend=backend), y) < 1e-13


@fast
def test_nan_stays_where_it_belongs(backend):
    tensors, orders, sources = multi_problem(batch=2, sources=(0,))
    tensors[0][0, 0, orders[0, 20], 3] = float("nan")
    y = multi_scan(*[x.float() for x in tensors], orders, sources, backend=backend)
    bad = y.isnan()
    assert bad[0, orders[0, 20:], 3].all()
    assert bad.sum() == len(orders[0, 20:])


def test_growing_states_match_the_oracle():
    tensors, orders, sources = multi_problem(length=17)
    tensors[4] = tensors[4].abs() / 8  # positive A: mamba-ssm's signature does not forbid it
    assert_accurate(multi_scan, multi_oracle, tensors, orders, sources)
