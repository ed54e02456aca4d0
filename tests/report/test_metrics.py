"""The numbers compared between revisions are those of the records."""

import json

import pytest


def test_metrics_are_means_over_seeds(page, full):
    found = json.loads((page.parent / "metrics.json").read_text())
    scored = [r for r in full if r.kind == "accuracy" and r.variant == "posemamba_tiny" and r.selection == "last"]
    one = scored[0]
    cell = f"{one.variant} T={one.frames} {one.selection}"
    same = [r for r in scored if (r.study, r.frames) == (one.study, one.frames) and r.status == "ok"]
    mean = sum(v.value for r in same for v in r.values if v.name == "mpjpe" and not v.group) / len(same)
    assert found["accuracy"][one.study][cell]["mpjpe"] == pytest.approx(mean)
    assert found["macs"]
