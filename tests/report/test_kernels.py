"""Records of scans, of searches for the largest size and of checks: each in a table of its own, none lost."""

import pytest
from made_up_records import FINGERPRINT, STARTED, failed, memory, value
from page_reader import Page, table

from posescale import records
from posescale.records import Record
from posescale.report import build

SHAPE = {"length": 4131, "batch": 1, "channels": 128, "states": 16, "rank": 4, "directions": 4, "sources": 2}
ON_GPU = {"device": "cuda", "study": "campaign", "dtype": "float32", "started": STARTED,
          "fingerprint": FINGERPRINT | {"gpu": "Example GPU"}}  # fmt: skip


def scan(backend, ms, length=4131, passes="forward", **fields):
    options = {"backend": backend, "passes": passes, "cache": "warm", "label": "PoseMamba-S",
               "shape": SHAPE | {"length": length}}  # fmt: skip
    values = [value("latency", ms, "ms", interval=(0.9 * ms, 1.1 * ms))] if ms else []
    return Record(kind="operator", component="ops", variant="multi_scan", digest="d", batch=1, mode="graph",
                  options=options, values=values, **ON_GPU, **fields)  # fmt: skip


def search(along="frames", **fields):
    frontier = {"by": "time", "reason": "a call took 2.1 s, more than 2 s"}
    content = {
        "values": [value("largest_frames", 248832, "frames"), value("peak", 19427, "MiB")],
        "options": {"scenario": "frontier", "along": along, "frontier": frontier},
    }
    return memory("posemamba_s", 27, **(ON_GPU | content | fields)).model_copy(update={"frames": None})


def check(length, error, backend="triton", **fields):
    options = {"backend": backend, "shape": SHAPE | {"length": length}, "bounds": {"y": 1e-6, "du": 4e-6}}
    values = [value("error", error, "", group="y"), value("error", 1e-9, "", group="du")]
    return Record(kind="check", component="ops", variant="multi_scan", digest="d", batch=2, mode="eager",
                  options=options, values=values, **ON_GPU, **fields)  # fmt: skip


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    hung = {"status": "timeout", "reason": "nothing came back within 30 s; it was in join (threading.py:1)"}
    wrong = {"status": "crashed", "reason": "y is off by 2e-06 (bound 1e-06)"}
    found = [
        scan("triton", 0.1), scan("mamba_ssm", 0.6), scan("triton", 0.9, 37179), scan("mamba_ssm", None, 37179, **hung),
        scan("triton", 0.4, passes="forward+backward"),
        search(), failed(search, along="batch", status="oom", reason="nothing fits"),
        memory("posemamba_s", 27), check(17, 1e-7), check(243, 5e-7), check(17, 2e-6, "torch", **wrong),
    ]  # fmt: skip
    records.write(folder / "results" / "all.jsonl", found)
    return build([folder / "results"], folder / "out", "Kernels")


def test_back_ends_stand_side_by_side_at_every_shape(kernels):
    forward = table(kernels, "scan-forward-example-gpu-float32-graph-warm")
    assert forward["length"].tolist() == [4131, 37179] and forward["directions"].tolist() == [4, 4]
    assert forward["triton"].tolist() == [0.1, 0.9]
    assert forward["mamba_ssm"].tolist() == ["0.6", "timeout"]
    assert table(kernels, "scan-forward-backward-example-gpu-float32-graph-warm")["triton"].tolist() == [0.4]


def test_the_largest_that_fits_is_no_cell_of_the_memory_tables(kernels):
    largest = table(kernels, "largest-that-fits").set_index("along")
    assert largest["largest"].to_dict() == {"frames of a clip": "248832.0", "clips of a batch": "oom"}
    assert largest.loc["frames of a clip", "ended"] == "time"
    (memories,) = [p for p in (kernels.parent / "tables").glob("peak-*.csv") if "spread" not in p.name]
    assert [c for c in table(kernels, memories.stem).columns if c.startswith("T")] == ["T27"]


def test_checks_are_counted_and_the_worst_is_shown(kernels):
    checks = table(kernels, "checks").set_index("how")
    assert checks["cases"].to_dict() == {"triton": 2, "torch": 1}
    assert checks["held"].to_dict() == {"torch": 0, "triton": 2}
    assert checks["worst"].to_dict() == {"triton": 0.5, "torch": 2.0}


def test_no_record_is_taken_for_a_newer_one_of_another(kernels):
    assert "in no table" not in Page(kernels).text


def test_a_page_without_such_records_has_no_such_section(page):
    assert "kernels" not in Page(page).ids
