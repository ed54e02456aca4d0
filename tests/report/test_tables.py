"""One table, four forms, the same numbers."""

import csv
import io
import math
import re

import pytest

from posescale.report.tables import Cell, Column, Table, fixed, number, significant, text, to_csv, to_latex, to_markdown


def sample(name: str = "posemamba_s") -> Table:
    columns = (Column("model", "model", numeric=False), Column("mpjpe", "MPJPE", "mm"), Column("share", "share", "%"))
    rows = (
        {
            "model": text(name, ["a"]),
            "mpjpe": number(50.24, 1, ["a", "b"], (49.1, 51.4)),
            "share": number(27.6, 0, ["a"]),
        },
        {"model": text("other", ["c"]), "mpjpe": text("oom", ["c"], tone="bad"), "share": number(math.nan, 0, ["c"])},
        {"model": text("gap", ["d"])},
    )
    return Table("t", "A table", columns, rows, caption="Why.", conditions="under these")


def cells(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|") and not set(line) <= set("|:- ")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_csv_markdown_and_latex_agree():
    table = sample()
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    printed = cells(to_markdown(table))
    assert printed[0] == ["model", "MPJPE (mm)", "share (%)"]
    assert rows[0]["mpjpe"] == "50.24" and printed[1][1].startswith(fixed(float(rows[0]["mpjpe"]), 1))
    assert (rows[0]["mpjpe_low"], rows[0]["mpjpe_high"]) == ("49.1", "51.4") and "[49.1, 51.4]" in printed[1][
        1
    ].replace("\\", "")
    assert rows[0]["records"] == "a b"
    body = to_latex(table).split("\\midrule")[1]
    for line, row in zip(printed[1:], body.strip().splitlines(), strict=False):
        latex = [c.strip() for c in row.removesuffix(r" \\").split(" & ")]
        plain = [c.replace("\\", "") for c in line]
        assert [c.replace("\\", "").replace("--", "–") for c in latex] == plain


def test_a_status_and_a_nan_are_words_not_gaps():
    rows = list(csv.DictReader(io.StringIO(to_csv(sample()))))
    assert rows[1]["mpjpe"] == "oom" and rows[1]["share"] == "nan"
    assert rows[2]["mpjpe"] == "" and rows[2]["share"] == ""
    assert "nan" in to_markdown(sample()) and "oom" in to_latex(sample())


def test_signs_of_markdown_and_latex_are_escaped():
    hostile = "a|b_c & d%e #1 {x} \\cmd $y$ ~ ^\nnew"
    assert len(cells(to_markdown(sample(hostile)))[1]) == 3
    latex = to_latex(sample(hostile))
    assert r"a|b\_c \& d\%e \#1 \{x\} \textbackslash{}cmd \$y\$ \textasciitilde{} \textasciicircum{} new" in latex
    assert next(csv.DictReader(io.StringIO(to_csv(sample(hostile)))))["model"] == hostile


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [(1234.56, 1, "1,234.6"), (-0.04, 1, "0.0"), (-1.26, 1, "−1.3"), (0.0, 2, "0.00"), (2.5, 0, "2")],
)
def test_fixed(value, digits, expected):
    assert fixed(value, digits) == expected


def test_significant_decimals():
    assert [significant(v) for v in (0.0123, 0.5, 5.0, 50.0, 512.0, 0.0, math.nan)] == [4, 3, 2, 1, 0, 1, 1]


def test_an_unbounded_interval_is_not_printed():
    cell = number(3.0, 1, ["a"], (-math.inf, math.inf))
    assert cell.note == "" and cell.low is None


def test_an_absent_cell_prints_a_dash():
    table = sample()
    assert table.cell(table.rows[2], table.columns[1]) == Cell("–", tone="quiet")
