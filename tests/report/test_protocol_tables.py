"""Predictions scored under several protocols stand in a table of their own, and nowhere else."""

import json

import pandas as pd
import pytest
from made_up_records import accuracy

from posescale.report import build

OTHER = "cmu_cam[flip_average=no]"


@pytest.fixture
def built(store, tmp_path):
    base = [accuracy("posemamba_s", 50, seed) for seed in range(2)]
    again = {"options": {"split": "test", "rescored_from": "cmu_cam"}}
    own = [accuracy("posemamba_s", 50, seed, **again) for seed in range(2)]
    other = [accuracy("posemamba_s", 53, seed, protocol=OTHER, **again) for seed in range(2)]
    build([store([*base, *own, *other])], tmp_path / "out", "t")
    return tmp_path / "out", base, own, other


def first(record):
    return next(v.value for v in record.values if v.name == "mpjpe" and not v.group)


def test_the_table_says_what_the_protocol_changes(built):
    out, _, own, other = built
    (path,) = (out / "tables").glob("protocols-*.csv")
    table = pd.read_csv(path)
    assert table["protocol"].tolist() == ["cmu_cam", OTHER] and table["seeds"].tolist() == [2, 2]
    assert table["change"].tolist() == pytest.approx([0, sum(map(first, other)) / 2 - sum(map(first, own)) / 2])
    assert sorted(" ".join(table["records"]).split()) == sorted(r.id for r in [*own, *other])


def test_no_other_table_nor_metric_knows_them(built):
    out, base, own, other = built
    cells = " ".join(p.read_text() for p in (out / "tables").glob("accuracy-*.csv"))
    assert all(r.id in cells for r in base) and not any(r.id in cells for r in [*own, *other])
    (study,) = json.loads((out / "metrics.json").read_text())["accuracy"].values()
    assert next(iter(study.values()))["mpjpe"] == pytest.approx(sum(map(first, base)) / 2)


def test_metrics_of_two_protocols_are_not_mixed(store, tmp_path):
    build([store([accuracy("posemamba_s", 50, 0), accuracy("posemamba_s", 60, 0, protocol="p2")])], tmp_path / "o", "t")
    assert set(json.loads((tmp_path / "o" / "metrics.json").read_text())["accuracy"]) == {
        "synthetic, cmu_cam", "synthetic, p2",
    }  # fmt: skip
