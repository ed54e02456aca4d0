"""Operators as contenders: rows, rates, and the comparison with the truth."""

import math

import pytest
import torch

from posescale.measure import scan_subject
from posescale.measure.contender import Contender
from posescale.measure.latency import Limits, _verdict, default_limits, latency_of
from posescale.measure.plan import Plan
from posescale.measure.scan_subject import ScanShape, ScanSubject, scan_cell
from posescale.measure.timer import Lap
from posescale.stats import Estimate

SHAPE = ScanShape(batch=2, length=34, channels=6, states=3, rank=2)
ANYTHING = Limits(half_width=math.inf, samples=1, drift=math.inf, foreign=math.inf, waited=math.inf)


def plan(**changed):
    settings = {"threads": 1, "device": "cpu", "dtype": "float32", "mode": "eager", "seconds": 0.01, "timeout": 60.0,
                "memory_limit": None, "seed": 0, "study": "s"}  # fmt: skip
    return Plan(**(settings | changed))


def value(record, name):
    return next(v.value for v in record.values if v.name == name)


@pytest.fixture(scope="module")
def timed():
    cells = [scan_cell(SHAPE, backend, passes, cache, "toy") for backend in ("torch", "mamba_ssm")
             for passes in ("forward", "forward+backward") for cache in ("warm", "cold")]  # fmt: skip
    return latency_of(cells, plan(), rounds=1, limits=ANYTHING)


def test_rows(timed):
    for record in timed[:4]:
        assert (record.kind, record.status, record.component) == ("operator", "ok", "ops"), record.reason
        assert record.backends == {"multi_scan": "torch"} and record.batch == 2
        rate = value(record, "bytes") / value(record, "latency") / 1e6
        assert value(record, "bandwidth") == pytest.approx(rate)
        assert value(record, "bandwidth_share") == pytest.approx(rate / value(record, "copy_bandwidth"))
    forward, both = timed[0], timed[2]
    assert value(both, "bytes") > 2 * value(forward, "bytes")
    assert [r.options["cache"] for r in timed[:2]] == ["warm", "cold"]
    assert timed[1].options["calls_per_sample"] == 1  # a cold call is timed alone


def test_a_back_end_that_is_not_here(timed):
    assert {r.status for r in timed[4:]} == {"unsupported"} and "mamba_ssm" in timed[4].reason


def test_short_calls_are_timed_several_at_once():
    contender = Contender(ScanSubject(SHAPE.__dict__, "native"), "cpu", "float32", "eager", 0)
    laps = iter([30.0, 0.1, 4.0])  # the first call, a warm one, and one that something disturbed
    by_clock, contender.time = contender.time, lambda call: Lap(call(), ms := next(laps), ms)
    facts = contender.warm(0.004)
    assert facts["calls_per_sample"] == 5 and facts["first_call"] == 0.03

    contender.time = by_clock
    assert max(contender.timed(0.02, 1)["device_ms"]) > 0
    assert contender.disagreement(1.0) == ""


@pytest.mark.parametrize("passes", ["forward", "forward+backward"])
def test_a_wrong_operator_gets_no_time(monkeypatch, passes):
    true = scan_subject.multi_scan

    def wrong(u, proj, *rest, backend):
        y = true(u, proj, *rest, backend=backend)
        if backend == "reference":  # wrong in its gradient alone, where there is one
            y = y + (0.1 * (u - u.detach()).sum(1) if passes == "forward+backward" else 0.01)
        return y

    monkeypatch.setattr(scan_subject, "multi_scan", wrong)
    contender = Contender(ScanSubject(SHAPE.__dict__, "reference", passes), "cpu", "float32", "eager", 0)
    contender.warm(0.01)
    contender.timed(0.01, 2)
    assert "away from" in contender.disagreement(1.0)


def test_bytes_and_flops_by_hand():
    q = ScanShape(batch=1, length=10, channels=4, states=2, rank=1, directions=2, sources=1)
    u, proj, y, orders = 10 * 4, 10 * 2 * (1 + 4), 10 * 4, 2 * 10
    weights = 2 * 4 * (1 + 1 + 2 + 1)  # dt_weight, dt_bias, A, D
    assert q.bytes("forward") == 4 * (u + proj + y + weights + orders)
    assert q.bytes("forward+backward") - q.bytes("forward") == 4 * (2 * u + 2 * proj + y + 2 * weights + orders)
    assert q.flops() == 2 * 10 * 4 * (9 * 2 + 1) + 2 * 2 * 10 * 4 * 1


# ---- what a GPU's records must say, with made-up sessions ----


class _Session:
    rounds = 3

    def __init__(self, cycles_error=0.001, drift=0.001, made=3, **monitoring):
        self.plan, self.drift, self.cycles_error, self.made = plan(device="cuda"), drift, cycles_error, made
        self.monitoring = {"missing": "", "foreign": []} | monitoring


def verdict(session, discarded=0, milliseconds=20.0, calls=600, half_width=0.001):
    cell = scan_cell(SHAPE, "triton", "forward", "warm", "toy")
    cell.device_ms = cell.host_ms = [[milliseconds] * calls]
    cell.discarded, cell.facts = discarded, {"changed_flags": "", "calls_per_sample": 1}
    median = Estimate(1.0, 1 - half_width, 1 + half_width)
    return _verdict(cell, session, default_limits("cuda"), median)


def test_a_clean_row_is_ok():
    assert verdict(_Session()) == {"status": "ok"}
    assert verdict(_Session(), discarded=20) == {"status": "ok"}
    assert verdict(_Session(cycles_error=None)) == {"status": "ok"}


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        (_Session(missing="nvml: no library"), "clocks and heat could not be read \\(nvml"),
        (_Session(foreign=[77]), "other processes were on the GPU: \\[77\\]"),
        (_Session(cycles_error=0.03), "known cycles was off by 3.0%"),
        (_Session(drift=0.03), "drifted by 3.0%"),
    ],
)
def test_disturbed_sessions_are_contaminated(session, reason):
    found = verdict(session)
    assert found["status"] == "contaminated"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found["reason"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"discarded": 60}, "slowed down during 60 of 660"),
        ({"calls": 400}, "8.0 s were accumulated, 10 s are needed"),
        ({"calls": 60, "milliseconds": 200.0}, "60 calls were timed, 100"),
        ({"half_width": 0.01}, "1.0% wide"),
    ],
)
def test_shaky_rows_are_unstable(changes, reason):
    found = verdict(_Session(), **changes)
    assert found["status"] == "unstable" and reason in found["reason"]


def test_a_session_cut_short_is_unstable():
    assert "2 of 3 rounds" in verdict(_Session(made=2))["reason"]


def test_calls_during_a_slowdown_are_discarded(monkeypatch):
    from posescale.measure import contender as module

    monkeypatch.setattr(module.timer, "pause", lambda seconds: None)

    class Monitor(module.Monitor):
        calls = 0

        def slowed(self):
            self.calls += 1
            return self.calls % 2 == 0

    contender = Contender(ScanSubject(SHAPE.__dict__, "torch"), "cpu", "float32", "eager", 0, Monitor())
    contender.warm(0.001)
    timed = contender.timed(0.0, 10)
    assert len(timed["device_ms"]) == timed["discarded"] == 5


def test_scan_inputs_are_distinct_and_never_zero():
    subject = ScanSubject(SHAPE.__dict__, "torch")
    a, b = subject.inputs(0, "cpu"), subject.inputs(1, "cpu")
    assert sum(x.numel() for x in a) == subject.elements()
    assert all(x.abs().min() > 0 and not torch.equal(x, y) for x, y in zip(a, b))
