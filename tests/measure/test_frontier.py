"""The largest size that fits: doubling, bisection, and what ended it."""

import math

import pytest

from posescale.errors import ConfigError
from posescale.measure import climb
from posescale.measure.frontier import frontier


def value(record, name):
    return next(v.value for v in record.values if v.name == name)


CELL = {"name": "toy", "frames": 9, "batch": 1, "overrides": {}, "preferences": {}}


def climbed(monkeypatch, fits, along="frames", start=10, most=10_000, step=1, ms=1.0, seconds=1.0, status="oom"):
    tried = []

    def attempt(cell, device, dtype, failure):
        size = cell["overrides"]["height"] if along == "resolution" else cell[along]
        tried.append(size)
        good = {"status": "ok", "ms": ms * size, "peak": size, "frames_out": 1}
        return good if size <= fits else {"status": status, "reason": "too large"}

    monkeypatch.setattr(climb, "_attempt", attempt)
    ways = {"along": along, "start": start, "most": most, "step": step, "seconds": seconds}
    found = list(climb.tries(CELL, ways, "cpu", "float32", lambda error: {}))
    assert [t["size"] for t in found] == tried
    return tried


@pytest.mark.parametrize("fits", [10, 11, 100, 777, 1279, 1280, 5000])
def test_the_frontier_is_found_to_a_sixteenth(monkeypatch, fits):
    tried = climbed(monkeypatch, fits, ms=0.0)
    good, bad = max(t for t in tried if t <= fits), min(t for t in tried if t > fits)
    assert tried[:2] == [10, 20] and bad - good <= max(1, good / 16)
    assert len(tried) == len(set(tried)) <= 16


def test_sizes_are_multiples_of_the_step(monkeypatch):
    tried = climbed(monkeypatch, 900, along="resolution", start=256, step=64, ms=0.0)
    assert all(size % 64 == 0 for size in tried) and max(t for t in tried if t <= 900) == 896


def test_a_slow_size_is_the_last(monkeypatch):
    assert climbed(monkeypatch, 10**6, ms=10.0, seconds=1.0) == [10, 20, 40, 80, 160]


def test_the_first_size_may_fail_and_the_last_may_fit(monkeypatch):
    assert climbed(monkeypatch, 5) == [10]
    assert climbed(monkeypatch, 10**6, most=50, ms=0.0) == [10, 20, 40]


def test_a_refusal_is_not_bisected(monkeypatch):
    assert climbed(monkeypatch, 30, status="unsupported", ms=0.0) == [10, 20, 40]


def test_memory_ends_it(toys):
    """The toy holds 24 MiB per frame: with 480 MiB some 20 frames fit."""
    record = frontier("toy_bulky", "frames", 1, 1000, device="cpu", memory_limit=0.47, seconds=60.0)
    assert (record.kind, record.status) == ("memory", "ok") and record.frames is None
    assert record.options["frontier"]["by"] == "oom" and "allocate" in record.options["frontier"]["reason"]
    largest = value(record, "largest_frames")
    sizes, fits = record.samples["size"], record.samples["fits"]
    assert 8 <= largest <= 20 and largest == max(s for s, f in zip(sizes, fits) if f)
    assert value(record, "bytes_per_size") == pytest.approx(24 * 2**20, rel=0.2)
    assert all(math.isnan(ms) != bool(f) for ms, f in zip(record.samples["ms"], fits))


def test_the_fastest_batch(toys):
    record = frontier("toy_mlp", "batch", 1, 8, frames=9, device="cpu", seconds=60.0)
    assert record.options["frontier"]["by"] == "limit" and record.batch is None
    assert value(record, "largest_batch") == 8 and value(record, "best_batch") in (1, 2, 4, 8)
    rates = [9e3 * s / ms for s, ms in zip(record.samples["size"], record.samples["ms"])]
    assert value(record, "best_throughput") == pytest.approx(max(rates))


def test_a_refusal_and_a_death(toys):
    record = frontier("toy_refuses", "frames", 27, 100, device="cpu")
    assert record.status == "unsupported" and "at most 9 frames" in record.reason
    record = frontier("toy_dies", "frames", 9, 100, device="cpu")
    assert record.status == "crashed" and "SIGABRT" in record.reason


def test_wrong_settings(toys):
    with pytest.raises(ConfigError):
        frontier("toy_mlp", "frames", 0, 10, device="cpu")
