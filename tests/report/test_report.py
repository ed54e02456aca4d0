"""The report as a whole: from records alone, the same bytes each time, nothing hidden."""

import csv
import json
import math
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from made_up_records import (
    CONTROLS,
    FINGERPRINT,
    MODELS,
    accuracy,
    cost,
    failed,
    latency,
    memory,
    training,
    value,
)  # fmt: skip

from posescale import records, stats
from posescale.errors import DataError
from posescale.report import build, site


class Page(HTMLParser):
    """Ids, table cells with the records they name, links, visible text, and tags left open."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.cells: list[tuple[str, list[str]]] = []
        self.stack: list[str] = []
        self.text = ""
        self.sources: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [v for k, v in attributes if k in {"src", "href", "xlink:href", "data"} and v]
        if tag == "td":
            self.cells.append(("", (found.get("data-records") or "").split()))
        if tag not in {"meta", "link", "br", "img", "input"}:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.ids += [v for k, v in attributes if k == "id"]

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.stack):
            self.text += data
        if "td" in self.stack:
            words, records = self.cells[-1]
            self.cells[-1] = (words + data, records)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def page(full, tmp_path_factory) -> Path:

    folder = tmp_path_factory.mktemp("full")
    records.write(folder / "results" / "all.jsonl", full)
    return build([folder / "results"], folder / "out", "A <title> & more")


def table(page: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(page.parent / "tables" / f"{name}.csv")


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


def test_the_verb(store, tmp_path, full):
    from typer import Typer
    from typer.testing import CliRunner

    from posescale.commands.report import report

    app = Typer()
    app.command()(report)
    options = [
        "--records",
        str(store(full[:3])),
        "--records",
        str(store(full[3:6], "b")),
        "--out",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(app, [*options, "--title", "Mine"])
    assert done.exit_code == 0, done.output
    assert "<h1>Mine</h1>" in (tmp_path / "out" / "index.html").read_text()
    assert len((tmp_path / "out" / "records.jsonl").read_text().splitlines()) == 6


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
