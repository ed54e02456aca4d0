"""What a report may not mix, and what it may replace."""

import json
import re
import time

import numpy as np
import pandas as pd
import pytest
from made_up_records import (
    FINGERPRINT,
    MODELS,
    accuracy,
    cost,
    failed,
    latency,
    memory,
    value,
)  # fmt: skip
from page_reader import Page, contents, table
from typer import Typer
from typer.testing import CliRunner

from posescale import records
from posescale.commands.report import report
from posescale.errors import DataError
from posescale.report import build, site

# What may not be mixed, what is replaced


def test_machines_precisions_and_batches_never_share_a_table(store, tmp_path):
    gpu = FINGERPRINT | {"gpu": "Example GPU"}
    found = [
        latency("posemamba_s", t, device="cuda", fingerprint=gpu, dtype=d)
        for t in (9, 27)
        for d in ("float32", "bfloat16")
    ]
    found += [latency("posemamba_s", t, batch=b) for t in (9, 27) for b in (1, 8)]
    build([store(found)], tmp_path / "out", "t")
    tables = [p for p in (tmp_path / "out" / "tables").glob("latency-*.csv") if re.search(r"b\d(-\d)?$", p.stem)]
    assert len(tables) == 4
    assert sorted(k for p in tables for k in pd.read_csv(p)["records"].str.split().sum()) == sorted(r.id for r in found)


def test_accuracy_of_other_data_protocol_or_selection_has_a_table_of_its_own(store, tmp_path):
    base = [accuracy("posemamba_s", 50, s) for s in range(2)]
    others = [
        accuracy("posemamba_s", 50, 0, **change)
        for change in (
            {"protocol": "p2"},
            {"data_digest": "zzz"},
            {"selection": "val-best"},
            {"frames": 81},
            {"options": {"split": "val"}},
        )
    ]
    build([store(base + others)], tmp_path / "out", "t")
    tables = [p for p in (tmp_path / "out" / "tables").glob("accuracy-*.csv") if not re.search("pairs|actions", p.stem)]
    assert sorted(len(pd.read_csv(p).loc[0, "records"].split()) for p in tables) == [1, 1, 1, 1, 1, 2]


def test_what_only_another_study_varies_is_in_no_name_and_the_newest_run_stands_first(store, tmp_path):
    earlier = {"study": "a", "started": "2025-12-31T00:00:00+00:00", "fingerprint": FINGERPRINT | {"commit": "0" * 40}}
    deep, plain = {"overrides": {"depth": 4}}, {"overrides": {"depth": 2}}
    found = [accuracy("posemamba_s", 50, s, study="b", options=plain) for s in range(2)]
    found += [accuracy("mixste_tiny", 60, s, study="c", options=plain) for s in range(2)]
    found += [accuracy("posemamba_s", 40, s, options=o, **earlier) for s in range(2) for o in (deep, plain)]
    build([store(found)], tmp_path / "out", "t")
    names = [list(table(tmp_path / "out" / "index.html", f"accuracy-{x}-t27-last")["model"]) for x in "abc"]
    assert names == [["posemamba_s (depth 2)", "posemamba_s (depth 4)"], ["posemamba_s"], ["mixste_tiny"]]
    page = (tmp_path / "out" / "index.html").read_text()
    places = [page.index(f"<h3>{x}, T = 27") for x in "bca"]
    assert places == sorted(places)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["accuracy"]
    assert list(metrics["b"]) == ["posemamba_s T=27 last"]


def test_a_newer_record_of_the_same_cell_counts_and_the_older_stays_listed(store, tmp_path):
    old = latency("posemamba_s", 27)
    new = latency(
        "posemamba_s",
        27,
        started="2026-02-01T00:00:00+00:00",
        values=[value("latency", 9.0, "ms", interval=(8.9, 9.1))],
    )
    page = build([store([new, old])], tmp_path / "out", "t")
    rows = pd.read_csv(next((tmp_path / "out" / "tables").glob("latency-*b1.csv")))
    assert rows.loc[0, "T27"] == 9.0 and rows.loc[0, "records"] == new.id
    text = Page(page).text
    assert f"superseded by {new.id}" in text and "1 timing made twice" in text


def test_a_cell_that_was_blocked_gives_way_to_its_later_result(store, tmp_path):
    """A blocked record names neither data digest nor protocol, so that nothing but the cell says what it was of."""

    def cell(key):
        return {"study": "campaign", "options": {"campaign": {"cell": key}}}

    unknown = {"data_digest": None, "protocol": None, "selection": None}
    blocked = [
        failed(accuracy, name, 50, seed, status="blocked", reason="no raw files", **unknown, **cell(key))
        for name, seed, key in (("posemamba_s", 0, "aaa"), ("posemamba_s", 1, "bbb"))
    ]
    done = accuracy("posemamba_s", 50, 0, **cell("aaa"), started="2026-02-01T00:00:00+00:00")
    page = Page(build([store([done, *blocked])], tmp_path / "out", "t"))
    kept = {r.id: r for r in records.read(tmp_path / "out" / "records.jsonl")}
    assert set(kept) == {r.id for r in (done, *blocked)}
    tables = [pd.read_csv(p) for p in (tmp_path / "out" / "tables").glob("accuracy-*.csv") if "model" in p.read_text()]
    shown = {key for t in tables for keys in t["records"].dropna() for key in keys.split()}
    assert shown == {done.id, blocked[1].id}  # the other cell is blocked still
    assert f"superseded by {done.id}" in page.text


def test_uncommitted_changes_are_a_warning(store, tmp_path):
    page = build([store([cost("posemamba_s", 9, fingerprint=FINGERPRINT | {"dirty": True})])], tmp_path / "out", "t")
    assert re.search(r'class="warning">Made with uncommitted changes: 1 of 1 record', page.read_text())


# Replacing the folder


def test_an_old_report_survives_a_build_that_fails(store, tmp_path, monkeypatch):
    folder = store([accuracy("posemamba_s", 50, 0)])
    build([folder], tmp_path / "out", "first")
    before = contents(tmp_path / "out")
    monkeypatch.setattr(site, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build([folder], tmp_path / "out", "second")
    assert contents(tmp_path / "out") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "results"]


def test_an_old_report_is_replaced_as_a_whole(store, tmp_path, full):
    build([store(full[:40])], tmp_path / "out", "first")
    (tmp_path / "out" / "index.html").unlink()  # as Snakemake does before a rule runs
    build([store([cost("posemamba_s", 9)], "less")], tmp_path / "out", "second")
    assert not list((tmp_path / "out" / "tables").glob("accuracy-*"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["less", "out", "results"]


def test_a_folder_that_is_no_report_is_left_alone(store, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        build([store([])], tmp_path / "out", "t")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_thousands_of_records(store, tmp_path):
    """Time grows with the records, not with their square: ten times as many may take twenty times as long."""

    def seconds(seeds: int) -> float:
        found = [accuracy(n, e[1], s, selection=f"rule{s % 7}") for n, e in MODELS.items() for s in range(seeds)]
        folder = store(found, f"r{seeds}")
        start = time.process_time()
        build([folder], tmp_path / f"out{seeds}", "t")
        return time.process_time() - start

    few, many = seconds(60), seconds(600)
    assert len((tmp_path / "out600" / "records.jsonl").read_text().splitlines()) == 3000
    assert many < 20 * few


@pytest.fixture
def verb():
    """`posescale report` with some options."""
    app = Typer()
    app.command()(report)
    return lambda *options: CliRunner().invoke(app, [str(option) for option in options])


def test_the_verb(store, tmp_path, full, verb):
    out = tmp_path / "out"
    done = verb("--records", store(full[:3]), "--records", store(full[3:6], "b"), "--out", out, "--title", "Mine")
    assert done.exit_code == 0, done.output
    assert "<h1>Mine</h1>" in (out / "index.html").read_text()
    assert len((out / "records.jsonl").read_text().splitlines()) == 6


def test_studies_go_by_the_titles_they_are_given(store, tmp_path, verb):
    root = store([accuracy("posemamba_s", 50, s, study=x) for s in range(2) for x in ("one", "two")])
    out = tmp_path / "out"
    told = verb("--records", root, "--out", out, "--study", "one=A <b> title")
    assert told.exit_code == 0, told.output
    page = (out / "index.html").read_text()
    assert "<h3>A &lt;b&gt; title, T = 27, last weights</h3>" in page and "study one · synthetic_motion" in page
    assert "<h3>two, T = 27, last weights</h3>" in page
    assert (out / "tables" / "accuracy-one-t27-last.csv").exists()
    wrong = verb("--records", root, "--out", out, "--study", "one")
    assert wrong.exit_code == 2 and "expected ID=TITLE" in wrong.output


def test_error_against_frames_is_drawn_where_a_study_has_several(store, tmp_path):
    found = [
        accuracy(n, e, s, frames=t)
        for n, e in (("posemamba_s", 50), ("mixste_tiny", 70))
        for s in range(2)
        for t in (9, 27)
    ]
    build([store(found)], tmp_path / "out", "t")
    svg = (tmp_path / "out" / "figures" / "accuracy-synthetic-last-weights-by-frames.svg").read_text()
    assert all(word in svg for word in ("posemamba_s", "mixste_tiny", "MPJPE (mm)", ">27<"))


def test_contaminated_timings_are_shown_and_marked_but_fitted_nowhere(store, tmp_path):
    noisy = {"status": "contaminated", "reason": "other processes kept 2.00 cores busy"}
    found = [latency("posemamba_s", t, **noisy) for t in (9, 27, 81)] + [cost("posemamba_s", t) for t in (9, 27, 81)]
    build([store([*found, *(accuracy("posemamba_s", 50, s) for s in range(2))])], tmp_path / "out", "t")
    path = next((tmp_path / "out" / "tables").glob("latency-*b1.csv"))
    row = pd.read_csv(path).loc[0]
    assert row["T27"] == pytest.approx(found[1].values[0].value) and pd.isna(row["exponent"])
    assert path.with_suffix(".md").read_text().count("contaminated") == 3
    assert list((tmp_path / "out" / "figures").glob("latency-*.svg"))
    assert not list((tmp_path / "out" / "figures").glob("tradeoff-*latency*"))


def test_seeds_that_failed_are_named_and_stay_out_of_the_mean(store, tmp_path):
    found = [accuracy("posemamba_s", 50, s) for s in range(3)]
    found += [failed(accuracy, "posemamba_s", 50, 3, status="crashed", reason="the prediction holds NaN")]
    page = build([store(found)], tmp_path / "out", "t")
    assert "posemamba_s: 1 of 4 seeds ended crashed; not in the mean." in Page(page).text
    assert table(page, "accuracy-synthetic-t27-last").loc[0, "seeds"] == 3


def test_metrics_of_other_tasks_have_their_own_columns_and_direction(store, tmp_path):
    def scored(name: str, pck: float, seed: int):
        values = [records.Value(name="pck", value=pck + seed, unit="%", better="higher")]
        return accuracy(name, 50, seed, values=values, samples={}, labels={}, resolution=(256, 192))

    build(
        [store([scored(n, p, s) for n, p in (("posemamba_s", 80), ("mixste_tiny", 90)) for s in range(2)])],
        tmp_path / "o",
        "t",
    )
    rows = table(tmp_path / "o" / "index.html", "accuracy-synthetic-t27-last").set_index("model")
    assert rows.loc["mixste_tiny", "pck"] == 90.5 and "mpjpe" not in rows
    assert re.search(r'<td class="num best"[^>]*>[^<]*<a[^>]*>90.50<', (tmp_path / "o" / "index.html").read_text())


def test_memory_that_ran_out_on_a_gpu_is_no_cpu_row(store, tmp_path):
    gpu = FINGERPRINT | {"gpu": "Example GPU"}
    build(
        [store([failed(memory, "posemamba_s", 9, status="oom", reason="r", device="cuda", fingerprint=gpu)])],
        tmp_path / "o",
        "t",
    )
    assert [p.stem.split("-example")[0] for p in (tmp_path / "o" / "tables").glob("peak-*.csv")] == ["peak-allocated"]


# Cameras of one performance

PAIR = [("posemamba_s", 50), ("motionbert_lite", 52)]


def seen_by(cameras, name, level, noted=True):
    """A scored model on ten performances; all cameras see the same of one."""
    hardness = 1 + 0.3 * np.random.default_rng(len(name)).standard_normal(10)
    names = [f"p{n // cameras}.{n % cameras}" for n in range(10 * cameras)]
    labels = {"mpjpe_by_sequence": names} | ({"performances": [n.split(".")[0] for n in names]} if noted else {})
    return accuracy(name, level, 0, samples={"mpjpe_by_sequence": list(level * np.repeat(hardness, cameras))},
                    labels=labels)  # fmt: skip


def compared(store, out, found):
    build([store(found)], out, "t")
    (path,) = (out / "tables").glob("accuracy-*pairs.csv")
    return pd.read_csv(path).iloc[0], (out / "index.html").read_text()


def test_more_cameras_do_not_make_a_comparison_surer(store, tmp_path):
    rows = {}
    for cameras in (1, 4):
        row, page = compared(store, tmp_path / str(cameras), [seen_by(cameras, *model) for model in PAIR])
        assert (row["sequences"], row["performances"]) == (10 * cameras, 10) and "rather too narrow" not in page
        rows[cameras] = row.drop(["sequences", "records"])
    pd.testing.assert_series_equal(rows[1], rows[4])


def test_records_that_do_not_name_performances_are_said_to_be_too_sure(store, tmp_path):
    row, page = compared(store, tmp_path / "out", [seen_by(4, *model, noted=False) for model in PAIR])
    assert row["sequences"] == 40 and pd.isna(row["performances"]) and "rather too narrow" in page


def test_one_performance_is_no_comparison(store, tmp_path):
    few = [seen_by(4, *model) for model in PAIR]
    few = [r.model_copy(update={"samples": {k: v[:4] for k, v in r.samples.items()},
                                "labels": {k: v[:4] for k, v in r.labels.items()}}) for r in few]  # fmt: skip
    build([store(few)], tmp_path / "out", "t")
    assert not list((tmp_path / "out" / "tables").glob("accuracy-*pairs.csv"))
