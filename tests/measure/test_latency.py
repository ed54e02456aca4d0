import ast
import json
import math
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from posescale import records
from posescale.cards import ROOT
from posescale.errors import ConfigError, UnavailableError
from posescale.measure.latency import Limits, latency
from posescale.measure.memory import memory

ANYTHING = Limits(half_width=math.inf, samples=1, drift=math.inf, foreign=math.inf, waited=math.inf)


def value(record, name):
    return next(v for v in record.values if v.name == name)


@pytest.fixture(scope="module")
def timed(toys):
    """Two well-behaved models over two lengths, two rounds."""
    heard = []
    found = latency(["toy_mlp", "toy_frame"], [9, 27], batch=2, rounds=2, seconds=0.02, limits=ANYTHING, study="s",
                    progress=lambda share, what: heard.append(share))  # fmt: skip
    return found, heard


def test_every_cell_has_a_record_in_order(timed):
    found, _ = timed
    cells = [(r.variant, r.frames) for r in found]
    assert cells == [("toy_mlp", 9), ("toy_frame", 9), ("toy_mlp", 27), ("toy_frame", 27)]
    for record in found:
        assert (record.kind, record.status, record.component) == ("latency", "ok", "toy"), record.reason
        assert (record.batch, record.threads, record.device, record.dtype, record.mode) == (
            2,
            1,
            "cpu",
            "float32",
            "eager",
        )
        assert record.study == "s" and record.fingerprint["torch_threads"] == 1


def test_all_raw_samples_are_kept_with_their_round(timed):
    for record in timed[0]:
        samples, rounds = record.samples["latency"], record.samples["round"]
        assert len(samples) == len(rounds) == value(record, "samples").value >= 4
        assert sorted(rounds) == rounds and set(rounds) == {0, 1}
        assert min(samples) > 0


def test_median_and_interval(timed):
    for record in timed[0]:
        p50 = value(record, "latency")
        assert p50.unit == "ms" and p50.interval[0] <= p50.value <= p50.interval[1]
        assert value(record, "latency_min").value == min(record.samples["latency"])
        frames = 2 * (record.frames if record.variant == "toy_mlp" else 1)
        assert value(record, "latency_per_frame").value == pytest.approx(p50.value / frames)
        assert value(record, "throughput").value == pytest.approx(1e3 * frames / p50.value)


def test_percentiles_are_stated_only_with_enough_samples(timed):
    for record in timed[0]:
        names = {v.name for v in record.values}
        n = len(record.samples["latency"])
        assert [f"latency_p{p}" in names for p in (90, 95, 99)] == [n >= 64, n >= 130, n >= 662]


def test_conditions_are_recorded(timed):
    conditions = timed[0][0].options["conditions"]
    assert conditions.keys() == {"control_drift", "null_call_ms", "foreign_cores", "waited"}
    assert all(v >= 0 for v in conditions.values())


def test_progress_rises_to_the_end(timed):
    heard = timed[1]
    assert heard == sorted(heard) and heard[-1] == pytest.approx(1)


@pytest.fixture(scope="module")
def troubled(toys):
    """Everything that can go wrong, in one session beside a model that is well."""
    names = ["toy_mlp", "toy_refuses", "toy_raises", "toy_caches", "toy_hungry", "toy_dies", "toy_hangs", "toy_flags",
             "toy_prints"]  # fmt: skip
    found = latency(names, [27], rounds=1, seconds=0.02, limits=ANYTHING, memory_limit=2.0, timeout=8)
    return {r.variant: r for r in found}


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("toy_mlp", "ok", ""),
        ("toy_prints", "ok", ""),
        ("toy_refuses", "unsupported", "Toy takes at most 9 frames, found 27"),
        ("toy_raises", "crashed", "RuntimeError: a bug of its own"),
        ("toy_caches", "contaminated", "away from the eager float32 model's"),
        ("toy_hungry", "oom", "allocate"),
        ("toy_dies", "crashed", "SIGABRT"),
        ("toy_hangs", "timeout", "within 8 s; it was in _hangs (network.py:"),
        ("toy_flags", "contaminated", "cudnn.benchmark from False to True"),
    ],
)
def test_failures_are_records(troubled, name, status, reason):
    record = troubled[name]
    assert record.status == status, record.reason
    assert reason in record.reason
    assert bool(record.values) == bool(record.samples) == (status == "ok" or name == "toy_flags")


def test_a_wide_interval_or_few_calls_are_unstable(toys):
    strict = Limits(half_width=0.0, samples=10**6, drift=math.inf, foreign=math.inf, waited=math.inf)
    (record,) = latency(["toy_mlp"], [9], rounds=1, seconds=0.01, limits=strict)
    assert record.status == "unstable" and "1000000 are needed" in record.reason and record.samples["latency"]


def test_a_disturbed_session_is_contaminated(toys):
    quiet = Limits(half_width=math.inf, samples=1, drift=-1, foreign=math.inf, waited=math.inf)
    (record,) = latency(["toy_mlp"], [9], rounds=1, seconds=0.01, limits=quiet)
    assert record.status == "contaminated" and "drifted" in record.reason and record.values


def test_a_session_that_runs_out_of_time_keeps_its_rounds(toys):
    asked = []
    (record,) = latency(["toy_mlp"], [9], rounds=3, seconds=0.02, limits=ANYTHING, proceed=lambda: asked.append(1))
    assert asked == [1] and {*record.samples["round"]} == {0.0}
    assert record.status == "unstable" and "1 of 3 rounds were made" in record.reason


def test_a_mode_the_device_has_not_is_unsupported(toys):
    (record,) = latency(["toy_mlp"], [9], rounds=1, seconds=0.01, mode="graph")
    assert record.status == "unsupported" and "CUDA graph" in record.reason


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_the_machine_has_not_is_unsupported(toys):
    found = [*latency(["toy_mlp"], [9], device="cuda"), *memory(["toy_mlp"], [9], device="cuda")]
    assert [(r.kind, r.status) for r in found] == [("latency", "unsupported"), ("memory", "unsupported")]
    assert "sees no GPU" in found[0].reason


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_types(toys, dtype):
    (record,) = latency(["toy_attending"], [9], rounds=1, seconds=0.01, dtype=dtype, attention="naive", limits=ANYTHING)
    assert (record.status, record.dtype) == ("ok", dtype), record.reason
    assert record.options["preferences"] == {"attention": "naive"}


def test_wrong_settings_are_the_callers_errors(toys):
    with pytest.raises(UnavailableError, match="no model is called"):
        latency(["toy_mpl"], [9])
    for wrong in (
        {"rounds": 0},
        {"seconds": 0},
        {"batch": 0},
        {"frames": [0]},
        {"frames": []},
        {"dtype": "int8"},
        {"device": "tpu"},
    ):
        with pytest.raises(ConfigError):
            latency(**({"names": ["toy_mlp"], "frames": [9]} | wrong))


def test_memory(toys):
    found = {(r.variant, r.frames): r for r in memory(["toy_bulky"], [1, 3], memory_limit=1.0)}
    found |= {(r.variant, r.frames): r for r in memory(["toy_hungry"], [9], memory_limit=1.0)}
    small, large = (value(found["toy_bulky", t], "peak_rss_delta") for t in (1, 3))
    assert small.unit == "MiB" and 23 <= small.value < 32 and 70 <= large.value < 80
    assert value(found["toy_bulky", 1], "weights").value == pytest.approx(211 * 4 / 2**20)
    assert found["toy_hungry", 9].status == "oom" and found["toy_hungry", 9].kind == "memory"


CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.perf_counter",
    "time.perf_counter_ns",
    "time.process_time",
    "time.thread_time",
}


def test_no_other_file_has_a_clock():
    """Whole steps may be logged by `time.monotonic`; models are timed by the timer module alone."""

    def clocks(path: Path):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS:
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                yield from (f"{path}:{node.lineno}" for alias in node.names if f"time.{alias.name}" in CLOCKS)
            if isinstance(node, ast.Import) and any(alias.name == "timeit" for alias in node.names):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: timeit"

    files = [p for folder in ("posescale", "models", "baselines") for p in (ROOT / folder).rglob("*.py")]
    found = [use for path in files if path != ROOT / "posescale/measure/timer.py" for use in clocks(path)]
    assert found == []


def test_command_line(toys, tmp_path):
    import typer

    from posescale.commands.latency import latency as verb

    app = typer.Typer()
    app.command()(verb)
    path = tmp_path / "latency.jsonl"
    done = CliRunner().invoke(app, ["toy_mlp", "toy_frame,toy_refuses", "--frames", "27", "--rounds", "2", "--seconds",
                                    "0.01", "--record", str(path), "--json"])  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = {row["model"]: row for row in json.loads(done.stdout)}
    assert rows["toy_refuses"]["status"] == rows["toy_refuses"]["memory_status"] == "unsupported"
    assert rows["toy_mlp"]["ratio"] is None
    assert rows["toy_frame"]["ratio_low"] <= rows["toy_frame"]["ratio"] <= rows["toy_frame"]["ratio_high"]
    assert rows["toy_frame"]["verdict"] in ("FASTER", "SLOWER", "SAME", "AMBIGUOUS")
    kinds = [(r.kind, r.variant) for r in records.read(path)]
    assert kinds == [(k, n) for k in ("latency", "memory") for n in ("toy_mlp", "toy_frame", "toy_refuses")]
