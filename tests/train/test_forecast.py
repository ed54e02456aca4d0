"""The forecast: steps counted as training counts them, seconds measured, never carried between devices."""

import json

import pytest
import typer
import yaml
from swing import CLIPS, write_data
from typer.testing import CliRunner

from posescale import config, records
from posescale.commands.plan import plan
from posescale.errors import ConfigError
from posescale.records import Record, Value
from posescale.train import forecast
from posescale.train.fit import fit

STUDY = {
    "title": "t", "dataset": {"name": "synthetic_motion", "expected": {"sequences": 10, "frames": 1000}},
    "models": ["toy", "toy_frame"], "frames": [9], "seeds": [0, 1],
    "training": {"recipe": "small", "changes": {"steps_per_epoch": None, "batch": 6, "epochs": 2}},
}  # fmt: skip


def configuration(**changes):
    return config.parse({"name": "x", "title": "t", "studies": {"a": STUDY | changes}})


def cells(tmp_path, **changes):
    return list(forecast.cells(configuration(**changes), tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"windows": "chunks", "flip": "doubling"}, {"windows": "centred_valid", "accumulate": 3},
        {"steps_per_epoch": 3}, {"stride": 1, "batch_frames": 45},
    ],
)  # fmt: skip
def test_steps_are_those_that_training_takes(tmp_path, changes):
    write_data(tmp_path / "data" / "a", CLIPS)
    training = {"recipe": "small", "changes": STUDY["training"]["changes"] | changes}
    cell = cells(tmp_path, training=training)[0]
    study = configuration(training=training).studies["a"]
    record = fit("toy", tmp_path / "data" / "a", 9, 0, study.recipe("toy"), tmp_path / "out")
    assert cell.steps == next(v.value for v in record.values if v.name == "steps")
    assert cell.size_from == ("recipe" if "steps_per_epoch" in changes else "prepared")
    assert cell.clips == record.batch * changes.get("accumulate", 1)


def test_expected_sizes_stand_in_for_data_and_nothing_does_for_them(tmp_path):
    cell = cells(tmp_path)[0]
    windows = 10 * ((100 - 9) // 3 + 1)
    assert (cell.steps, cell.size_from) == (2 * -(-windows // 6), "expected")
    unknown = cells(tmp_path, dataset={"name": "synthetic_motion"})[0]
    assert (unknown.steps, unknown.size_from) == (None, "unknown")
    rows = forecast.forecast([unknown], {"d": {("toy", 9, 6): forecast.StepTime(1.0, None, None, "b")}})
    assert rows[0]["hours"] is None and rows[1]["hours"] == 0


def test_hours_are_steps_times_seconds_times_seeds(tmp_path):
    wanted = cells(tmp_path)
    times = {"A": {("toy", 9, 6): forecast.StepTime(2.0, 1.0, 4.0, "timed")}, "B": {}}
    rows = forecast.forecast(wanted, times)
    first, second, total, *other = rows
    assert first["hours"] == pytest.approx(wanted[0].steps * 2 * 2.0 / 3600)
    assert (first["hours_low"], first["hours_high"]) == (first["hours"] / 2, first["hours"] * 2)
    assert second["hours"] is None and second["basis"] == "no measurement on this device"
    assert total["study"] == "total" and total["hours"] == first["hours"]
    assert total["basis"] == "1 of 2 rows; 1 not measured on this device"
    assert [row["hours"] for row in other] == [None, None, 0]


def training_record(variant="toy", batch=6, seconds=10.0, dtype="float32", gpu="NVIDIA X", **fields):
    values = [Value(name="steps", value=20, unit="steps"), Value(name="seconds", value=seconds, unit="s")]
    return Record(
        kind="training", component="toy", digest="d", variant=variant, frames=9, batch=batch, dtype=dtype,
        device="cuda", fingerprint={"gpu": gpu, "cpu": "C"}, values=values, **fields,
    )  # fmt: skip


def test_records_speak_for_their_own_device_cell_and_precision_only(tmp_path):
    wanted = cells(tmp_path)
    found = forecast.recorded(
        [
            training_record(), training_record(seconds=14.0), training_record(gpu="NVIDIA Y", seconds=2.0),
            training_record(batch=12), training_record(dtype="bfloat16"), training_record(variant="other"),
            training_record(status="crashed", reason="x"),
            training_record(batch=3, seconds=6.0, options={"recipe": {"accumulate": 2}}),
        ],
        wanted,
    )  # fmt: skip
    assert list(found) == ["NVIDIA X", "NVIDIA Y"]
    step = found["NVIDIA X"]["toy", 9, 6]
    assert (step.seconds, step.low, step.high) == (0.5, 0.3, 0.7) and "3 training records" in step.basis
    assert found["NVIDIA Y"]["toy", 9, 6] == forecast.StepTime(
        0.1, None, None, "1 training record, validation included"
    )


def test_measuring_times_every_cell_and_says_what_it_multiplied(tmp_path):
    steps = []
    found = forecast.measure(cells(tmp_path), 3, progress=lambda: steps.append(1))
    assert set(found) == {("toy", 9, 6), ("toy_frame", 9, 6)} and len(steps) == 6
    for step in found.values():
        assert 0 < step.low <= step.seconds <= step.high and "2 clips timed, times 3" in step.basis
    assert "times" not in forecast.measure(cells(tmp_path), 1, clips=6)["toy", 9, 6].basis


def test_the_verb_prints_rows_for_every_device(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(yaml.dump({"name": "x", "title": "t", "studies": {"a": STUDY}}))
    records.write(tmp_path / "published" / "r.jsonl", [training_record()])
    app = typer.Typer()
    app.command()(plan)
    arguments = ["--configfile", "c.yaml", "--records", "published"]
    done = CliRunner().invoke(app, [*arguments, "--rounds", "1", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert len({row["device"] for row in rows}) == 2 and len(rows) == 6
    assert {row["device"]: row["hours"] is not None for row in rows if row["model"] == "toy_frame"}["NVIDIA X"] is False
    done = CliRunner().invoke(app, [*arguments, "--rounds", "0"])
    assert done.exit_code == 0 and "NVIDIA X" in done.stdout and "measurement" in done.stdout


def test_controls_are_not_planned(tmp_path):
    video = config.parse({"name": "x", "title": "t", "studies": {"a": STUDY}})
    (cell, _) = forecast.cells(video, tmp_path)
    with pytest.raises(ConfigError, match="only lifting"):
        forecast.check([forecast.Cell(**vars(cell) | {"variant": "mean_pose"})])


def test_video_is_planned_by_the_names_and_sizes_of_its_study(tmp_path):
    study = {
        "title": "t", "dataset": {"name": "synthetic_video", "expected": {"sequences": 10, "frames": 100}},
        "models": ["vitpose_tiny", "unified"], "frames": [3], "size": [64, 48], "seeds": [0, 1],
        "training": {"recipe": "small", "changes": {"epochs": 2, "batch": 8, "steps_per_epoch": None}},
        "per_model": {
            "vitpose_tiny": {"frames": [1]}, "unified": {"model": "glsmamba_tiny", "overrides": {"paths": 2}},
        },
    }  # fmt: skip
    values = {"name": "x", "title": "t", "studies": {"v": study}}
    wanted = list(forecast.cells(config.parse(values), tmp_path))
    forecast.check(wanted)
    assert [(c.model, c.variant, c.frames, c.steps) for c in wanted] == [
        ("vitpose_tiny", "vitpose_tiny", 1, 26), ("unified", "glsmamba_tiny", 3, 26)
    ]  # fmt: skip
    assert wanted[1].arguments == {"paths": 2, "height": 64, "width": 48}
    times = forecast.measure(wanted, 1)
    assert set(times) == {("vitpose_tiny", 1, 8), ("unified", 3, 8)}
    assert all(t.seconds > 0 for t in times.values())


def test_a_configuration_that_trains_nothing_has_no_forecast(tmp_path):
    study = {"title": "t", "latency": {"models": ["glsmamba_tiny"], "frames": [5]}}
    wanted = forecast.cells(config.parse({"name": "x", "title": "t", "studies": {"a": study}}), tmp_path)
    with pytest.raises(ConfigError, match="trains nothing"):
        forecast.check(list(wanted))
