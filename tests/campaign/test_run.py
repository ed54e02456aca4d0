"""Minutes, forecasts, resuming and being killed, with cells that do as they are told."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posescale import records
from posescale.campaign import run as runner
from posescale.campaign.plan import Cell
from posescale.errors import ConfigError

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def fake_cells(monkeypatch):
    monkeypatch.setattr(runner, "MODULE", "fake_cell")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *filter(None, sys.path)]))


def cell(number, forecast=1.0, resumable=False, blocked="", part="right", **settings):
    run = "" if blocked else "fake"
    return Cell(part, f"cell {number}", run, blocked, {"number": number, **settings}, forecast, resumable)


def minutes(seconds):
    return (seconds + runner.RESERVE) / 60


def go(cells, out, seconds=60.0, **more):
    return runner.run(cells, out, "cpu", minutes(seconds), **more)


def kept(out):
    return list(records.read(out / runner.RECORDS)) if (out / runner.RECORDS).exists() else []


def test_cells_run_in_order_and_are_marked(tmp_path):
    outcomes = go([cell(0, records=2), cell(1)], tmp_path, study="s")
    assert [o.state for o in outcomes] == ["done", "done"]
    found = kept(tmp_path)
    assert [r.options["campaign"]["label"] for r in found] == ["cell 0", "cell 0", "cell 1"]
    assert [r.options["number"] for r in found] == [0, 0, 1] and found[0].study == "s"
    assert found[0].options["campaign"]["cell"] == cell(0, records=2).key("cpu")
    assert len({r.id for r in found}) == 3


def test_a_second_call_does_only_what_is_left(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    go([cell(0), cell(1)], first)
    outcomes = go([cell(0), cell(1), cell(2)], second, earlier=first)
    assert [o.state for o in outcomes] == ["earlier", "earlier", "done"]
    assert [r.options["number"] for r in kept(second)] == [0, 1, 2]
    assert [r.options["number"] for r in kept(first)] == [0, 1]
    assert [o.state for o in go([cell(0), cell(1), cell(2)], second)] == ["earlier"] * 3
    assert len(kept(second)) == 3


def test_another_device_or_another_setting_is_other_work(tmp_path):
    go([cell(0)], tmp_path)
    assert [o.state for o in go([cell(0, records=1)], tmp_path)] == ["done"]
    assert cell(0).key("cpu") != cell(0).key("cuda")


def test_what_does_not_fit_is_left_and_what_fits_still_runs(tmp_path):
    outcomes = go([cell(0), cell(1, forecast=60.0), cell(2)], tmp_path, seconds=20)
    assert [o.state for o in outcomes] == ["done", "left", "done"]
    assert go([cell(1, forecast=60.0)], tmp_path, seconds=300)[0].state == "done"


def test_a_cell_that_outlasts_the_minutes_is_stopped_and_not_kept(tmp_path):
    begun = time.monotonic()
    (outcome,) = go([cell(0, sleep=60)], tmp_path, seconds=3)
    assert time.monotonic() - begun < 3 + runner.RESERVE
    assert outcome.state == "cut" and kept(tmp_path) == []
    # The next call knows that it takes longer than that.
    assert [o.state for o in go([cell(0, sleep=60), cell(1)], tmp_path, seconds=3.2)] == ["left", "done"]


def test_a_resumable_cell_uses_what_time_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "LEAST", 2.0)
    training = cell(0, forecast=1000.0, resumable=True, sleep=60)
    (outcome,) = go([training], tmp_path, seconds=runner.LEAST + 1.5)  # less than its forecast, more than too little
    assert outcome.state == "cut"
    assert go([training], tmp_path, seconds=runner.LEAST - 1)[0].state == "left"


@pytest.mark.parametrize(
    ("settings", "status", "reason"),
    [
        ({"die": True}, "crashed", "SIGKILL"),
        ({"fail": True}, "oom", "memory"),
        ({"records": 0}, "crashed", "no record"),
    ],
)
def test_failures_are_records_and_the_campaign_goes_on(tmp_path, settings, status, reason):
    outcomes = go([cell(0, **settings), cell(1)], tmp_path)
    assert [o.state for o in outcomes] == ["done", "done"]
    *before, failed = outcomes[0].records
    assert (failed.status, failed.kind) == (status, "check") and reason in failed.reason
    assert len(before) == settings.get("records", 1)


def test_a_cell_that_takes_far_too_long_is_a_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "PATIENCE", 1.0)
    monkeypatch.setattr(runner, "SHORTEST_LIMIT", 8.0)
    outcomes = go([cell(0, then=60), cell(1)], tmp_path)
    assert [r.status for r in outcomes[0].records] == ["ok", "timeout"] and outcomes[1].state == "done"


def test_blocked_work_is_a_record_and_costs_no_time(tmp_path):
    (outcome,) = go([cell(0, blocked="no code", part="video", model="glsmamba_tiny")], tmp_path)
    (record,) = kept(tmp_path)
    assert (record.status, record.reason, record.variant, record.kind) == (
        "blocked", "no code", "glsmamba_tiny", "accuracy",
    )  # fmt: skip


def test_what_the_plan_blocks_is_noted_once(tmp_path):
    planned = cell(0, blocked="no code", part="video", model="glsmamba_tiny")
    assert [go([planned], tmp_path)[0].state for _ in range(2)] == ["done", "earlier"]
    assert len(kept(tmp_path)) == 1


def test_a_blocked_cell_is_tried_again_and_its_records_stay(tmp_path):
    data, out = tmp_path / "data", tmp_path / "out"
    work = [cell(0, needs=str(data)), cell(1)]
    for states in (["done", "done"], ["done", "earlier"]):  # blocked again for the same reason: the same record
        assert [o.state for o in go(work, out)] == states
        assert [r.status for r in kept(out)] == ["blocked", "ok"]
    data.touch()
    (unblocked, _) = go(work, out)
    assert [r.status for r in unblocked.records] == ["ok"]
    assert [(r.status, r.options["number"]) for r in kept(out)] == [("blocked", 0), ("ok", 1), ("ok", 0)]
    (again, _) = go(work, out)
    assert again.state == "earlier" and [r.status for r in again.records] == ["ok"]
    assert len(kept(out)) == 3


def test_a_blocked_cell_teaches_no_forecast(tmp_path):
    (outcome,) = go([cell(0, forecast=100.0, needs=str(tmp_path / "absent"))], tmp_path, seconds=150)
    assert [r.status for r in outcome.records] == ["blocked"]
    assert go([cell(1, forecast=100.0)], tmp_path, seconds=60)[0].state == "left"


def test_forecasts_are_learnt(tmp_path):
    assert go([cell(1, forecast=100.0)], tmp_path, seconds=60)[0].state == "left"
    go([cell(0, forecast=100.0)], tmp_path, seconds=150)  # took a hundredth of its forecast
    assert go([cell(1, forecast=100.0)], tmp_path, seconds=60)[0].state == "done"


def test_torn_lines_lose_nothing_else(tmp_path):
    go([cell(0)], tmp_path)
    for name in (runner.RECORDS, runner.LOG):
        with (tmp_path / name).open("a") as stream:
            stream.write('{"kind": "che')
    with pytest.warns(UserWarning, match="not a record"):
        assert [o.state for o in go([cell(0), cell(1)], tmp_path)] == ["earlier", "done"]
    with pytest.warns(UserWarning):
        assert len(kept(tmp_path)) == 2


def test_wrong_arguments(tmp_path):
    with pytest.raises(ConfigError, match="minutes"):
        runner.run([], tmp_path, "cpu", 0)
    with pytest.raises(ConfigError, match="no folder"):
        go([], tmp_path / "out", earlier=tmp_path / "absent")


_DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from posescale.campaign import run as runner
from posescale.campaign.plan import Cell
runner.MODULE = "fake_cell"
cells = [Cell("right", f"cell {n}", "fake", "", {"number": n, "records": 3, "then": t}, 1.0, False)
         for n, t in enumerate([0, 0, 60])]
runner.run(cells, Path(sys.argv[1]), "cpu", 5.0)
"""


def test_a_kill_loses_at_most_the_running_cell(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", _DRIVER, str(tmp_path), str(HERE)])
    deadline = time.monotonic() + 60
    while len(kept(tmp_path)) < 6 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)  # the third cell is running and has told its records
    children = _children(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [r.options["number"] for r in kept(tmp_path)] == [0, 0, 0, 1, 1, 1]
    assert children and all(_gone(pid) for pid in children)
    again = [cell(n, records=3, then=0 if n < 2 else 60) for n in range(3)]
    assert [o.state for o in go(again, tmp_path, seconds=2)] == ["earlier", "earlier", "cut"]


def _children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _gone(pid, patience=20.0):
    deadline = time.monotonic() + patience
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
            return True
        time.sleep(0.1)
    return not Path(f"/proc/{pid}").exists()


def test_the_log_says_what_every_cell_took(tmp_path):
    go([cell(0)], tmp_path)
    (line,) = [json.loads(text) for text in (tmp_path / runner.LOG).read_text().splitlines() if text]
    assert (line["label"], line["state"], line["planned"]) == ("cell 0", "done", 1.0) and line["seconds"] > 0
