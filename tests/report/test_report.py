"""The report as a whole: from records alone, the same bytes each time, nothing hidden."""

import csv
import json
import math
import os
import re
import subprocess
import sys

import pandas as pd
import pytest
from made_up_records import (
    CONTROLS,
    MODELS,
    accuracy,
    cost,
    failed,
    latency,
    memory,
    training,
    value,
)  # fmt: skip
from page_reader import Page, contents, table

from posescale import records, stats
from posescale.errors import DataError
from posescale.report import build

# What is there


def test_every_file_the_page_links_to_exists(page):
    found = Page(page)
    assert not found.stack
    for link in found.links:
        assert link[1:] in found.ids if link.startswith("#") else (page.parent / link).exists(), link
    assert len(found.ids) == len(set(found.ids))


def test_the_page_needs_no_network(page):
    text = page.read_text()
    assert not [s for s in Page(page).sources if re.match(r"(https?:)?//", s)]
    assert "@import" not in text and "url(http" not in text


def test_every_number_in_a_table_names_records_that_are_on_the_page(page):
    found = Page(page)
    known = {i.removeprefix("r-") for i in found.ids if i.startswith("r-")}
    numbers = [(words, records) for words, records in found.cells if re.search(r"\d", words)]
    assert len(numbers) > 300
    assert [words for words, records in numbers if not records] == []
    assert {r for _, records in numbers for r in records} <= known
    assert known == {json.loads(line)["id"] for line in (page.parent / "records.jsonl").read_text().splitlines()}


def test_each_table_is_written_three_times_and_each_figure_twice(page):
    for folder, suffixes in (("tables", {".csv", ".md", ".tex"}), ("figures", {".svg", ".png"})):
        files = list((page.parent / folder).iterdir())
        stems = {p.stem for p in files}
        assert len(files) == len(stems) * len(suffixes) and stems
        assert {p.suffix for p in files} == suffixes


def test_means_and_intervals_are_those_of_the_seeds(page, full):
    rows = table(page, "accuracy-synthetic-t27-last").set_index("model")
    for name in MODELS:
        seeds = [
            v.value for r in full if r.kind == "accuracy" and r.variant == name and r.selection == "last"
            for v in r.values if v.name == "mpjpe" and not v.group
        ]  # fmt: skip
        estimate = stats.t_interval(seeds)
        assert rows.loc[name, ["mpjpe", "mpjpe_low", "mpjpe_high"]].tolist() == pytest.approx(list(estimate))
        assert rows.loc[name, "share"] == pytest.approx(100 * estimate.value / CONTROLS["mean_pose"])
    assert rows.loc["ground_truth", "mpjpe"] == 0 and list(rows.index[-3:]) == [
        "ground_truth",
        "copy_previous",
        "mean_pose",
    ]


def test_exponents_are_those_of_the_fit(page):
    rows = table(page, "cost-b1-macs").set_index("model")
    frames = [9, 27, 81, 243, 729]
    law = stats.power_law(frames, [t * 2.6e6 + 9e3 * t * t for t in frames])
    assert rows.loc["motionbert_tiny", "exponent"] == pytest.approx(law.exponent.value)
    assert rows.loc["posemamba_s", "exponent"] == pytest.approx(1)
    assert rows.loc["mixste_tiny", "T2187"] == "uncounted"


def test_rows_that_differ_in_an_option_stay_apart(page):
    rows = next((page.parent / "tables").glob("latency-*b1.csv"))
    names = list(pd.read_csv(rows)["model"])
    assert "motionbert_tiny" in names and "motionbert_tiny (attention naive)" in names
    assert "motionbert_lite" in names and len(names) == len(set(names)) == 6


def test_failures_are_shown_with_their_reasons(page):
    found = Page(page)
    for word in ("oom", "timeout", "unsupported", "uncounted", "unstable", "8.2 GiB asked for, 6.1 GiB free"):
        assert word in found.text
    latency_csv = next((page.parent / "tables").glob("latency-*b1.csv")).read_text()
    assert "oom" in latency_csv and "timeout" in latency_csv
    assert len(table(page, "failures")) == 6


def test_title_and_three_sentences_come_from_the_records(page):
    text = Page(page).text
    assert "A <title> & more" in text
    assert "5 models" in text and "3 controls" in text and "synthetic_motion" in text and "0123456789ab" in text


# The same bytes


def test_the_same_records_give_the_same_bytes_wherever_they_lie(full, store, tmp_path):

    one = build([store(full)], tmp_path / "one", "t")
    half = len(full) // 2
    records.write(tmp_path / "split" / "b" / "x.jsonl", reversed(full[:half]))
    records.write(tmp_path / "split" / "a.jsonl", [*reversed(full[half:]), full[0]])  # one record twice
    two = build([tmp_path / "split" / "b", tmp_path / "split" / "a.jsonl"], tmp_path / "two", "t")
    assert contents(one.parent) == contents(two.parent)


def test_another_process_gives_the_same_bytes_without_torch_or_changed_settings(store, tmp_path):
    folder = store([accuracy("posemamba_s", 50, 0), latency("posemamba_s", 27)])
    code = (
        "import sys, matplotlib as m; before = dict(m.rcParams);"
        "from posescale.report import build; from pathlib import Path;"
        f"build([Path({str(folder)!r})], Path({str(tmp_path / 'out')!r}), 't');"
        "changed = [k for k in before if before[k] != m.rcParams[k]];"
        "sys.exit(f'torch {changed}' if 'torch' in sys.modules or changed else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": "7"}
    )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "out") == contents(build([folder], tmp_path / "here", "t").parent)


# Little or broken input


def test_no_records_at_all(store, tmp_path):
    page = build([store([])], tmp_path / "out", "t")
    assert "No records were found" in Page(page).text
    assert (tmp_path / "out" / "records.jsonl").read_text() == ""


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        build([tmp_path / "nowhere"], tmp_path / "out", "t")


def test_failures_only(store, tmp_path):
    found = [
        failed(accuracy, "posemamba_s", 50, 0, status="crashed", reason="prediction holds NaN"),
        failed(training, "posemamba_s", 0, status="crashed", reason="diverged in epoch 3"),
        failed(cost, "posemamba_s", 27, status="uncounted", reason="nothing prices aten::x"),
        failed(latency, "posemamba_s", 27, status="oom", reason="1 GiB asked for"),
        failed(memory, "posemamba_s", 27, status="timeout", reason="120 s"),
    ]
    page = build([store(found)], tmp_path / "out", "t")
    text = Page(page).text
    for record in found:
        assert record.reason in text and record.status in text
    assert table(page, "accuracy-synthetic-t27-last").loc[0, "mpjpe"] == "crashed"
    assert not list((tmp_path / "out" / "figures").iterdir())


def test_one_seed_has_no_interval(store, tmp_path):
    page = build(
        [store([accuracy("posemamba_s", 50, 0), *(accuracy(n, e, None) for n, e in CONTROLS.items())])],
        tmp_path / "o",
        "t",
    )
    rows = table(page, "accuracy-synthetic-t27-last")
    assert "mpjpe_low" not in rows and rows.loc[0, "seeds"] == 1
    assert "One seed has no interval" in Page(page).text


def test_nan_is_printed_and_wins_nothing(store, tmp_path):
    bad = [value("mpjpe", math.nan, "mm"), value("p_mpjpe", math.inf, "mm")]
    found = [accuracy("posemamba_s", 50, s) for s in range(3)] + [accuracy("posemamba_s", 50, 3, values=bad)]
    found += [accuracy("mixste_tiny", 70, s) for s in range(3)] + [
        latency("mixste_tiny", 27, values=[value("latency", math.nan, "ms")])
    ]
    page = build([store(found)], tmp_path / "out", "t")
    rows = table(page, "accuracy-synthetic-t27-last").set_index("model")
    assert math.isnan(float(rows.loc["posemamba_s", "mpjpe"])) and rows.loc["posemamba_s", "p_mpjpe"] == math.inf
    assert re.search(r'class="model">\s*mixste_tiny', page.read_text())
    assert "nan" in next((tmp_path / "out" / "tables").glob("latency-*b1.csv")).read_text()


def test_torn_and_foreign_lines_are_listed_and_lose_nothing_else(full, store, tmp_path):
    folder = store(full[:5])
    with (folder / "all.jsonl").open("a") as stream:
        stream.write('{"kind": "accuracy", "compo\n{"hello": 1}\n')
    with pytest.warns(UserWarning, match="not a record"):
        page = build([folder], tmp_path / "out", "t")
    lines = list(csv.reader((tmp_path / "out" / "tables" / "unreadable.csv").read_text().splitlines()))[1:]
    assert [line[0].split(":")[:2] for line in lines] == [["all.jsonl", "6"], ["all.jsonl", "7"]]
    assert str(tmp_path) not in page.read_text()


@pytest.mark.parametrize(
    "wrong", [value("mpjpe", 0.05, "m"), value("mpjpe", -3, "mm"), value("mpjpe", 50, "mm", interval=(60, 40))]
)
def test_a_value_that_cannot_be_is_refused_in_sight(store, tmp_path, wrong):
    found = [accuracy("posemamba_s", 50, s) for s in range(2)] + [accuracy("posemamba_s", 50, 2, values=[wrong])]
    page = build([store(found)], tmp_path / "out", "t")
    assert table(page, "accuracy-synthetic-t27-last").loc[0, "seeds"] == 2
    assert table(page, "refused").loc[0, "record"] == found[2].id


def test_hostile_strings_stay_text(store, tmp_path):
    evil = "<script>alert(1)</script>\"'&$\\frac{}|_{{ 7*7 }}"
    found = (
        [accuracy("posemamba_s", 50, s, variant=evil, study=evil, dataset=evil, protocol=evil) for s in range(3)]
        + [cost("posemamba_s", t, variant=evil) for t in (9, 27)]
        + [latency("posemamba_s", t, variant=evil) for t in (9, 27)]
    )
    found += [training("posemamba_s", 0, variant=evil), failed(latency, "mixste_tiny", 9, status="oom", reason=evil)]
    page = build([store(found)], tmp_path / "out", evil)
    text = page.read_text()
    assert "<script>alert" not in text and "&lt;script&gt;" in text and evil in Page(page).text
    assert all(
        p.parent.parent == tmp_path / "out" or p.parent == tmp_path / "out" for p in (tmp_path / "out").rglob("*.*")
    )
    assert "<script>" not in "".join(p.read_text() for p in (tmp_path / "out" / "figures").glob("*.svg"))
