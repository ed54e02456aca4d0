"""Records: nothing is lost, nothing foreign is believed."""

import multiprocessing
import os
import stat

import pytest
from pydantic import ValidationError

from posescale import records
from posescale.errors import DataError
from posescale.records import Record, Value


def _record(seed=0, **fields):
    defaults = {"kind": "accuracy", "component": "posemamba", "variant": "posemamba_tiny", "digest": "abc"}
    return Record(**(defaults | {"seed": seed} | fields))


def test_round_trip_keeps_every_field(tmp_path):
    value = Value(name="mpjpe", value=41.8, unit="mm", better="lower", interval=(41.0, 42.5), group="walk")
    sent = _record(values=[value], samples={"s": [1.0, 2.5]}, labels={"s": ["a", "b"]}, options={"lr": 1e-3})
    records.write(tmp_path / "a.jsonl", [sent])
    assert list(records.read(tmp_path)) == [sent]


def test_nan_survives(tmp_path):
    records.write(tmp_path / "a.jsonl", [_record(values=[Value(name="x", value=float("nan"), unit="mm")])])
    (got,) = records.read(tmp_path)
    assert got.values[0].value != got.values[0].value


def test_id_ignores_machine_and_clock_but_not_the_number():
    first = _record(values=[Value(name="x", value=1, unit="mm")], started="2020", fingerprint={"cpu": "a"})
    again = _record(values=[Value(name="x", value=1, unit="mm")], started="2021", fingerprint={"cpu": "b"})
    other = _record(values=[Value(name="x", value=2, unit="mm")])
    assert first.id == again.id != other.id


def test_failure_needs_a_reason():
    with pytest.raises(ValidationError, match="needs a reason"):
        _record(status="oom")


def test_unknown_field_is_refused():
    with pytest.raises(ValidationError):
        _record(sped=3)


def test_torn_and_foreign_lines_are_named_and_nothing_else_is_lost(tmp_path):
    path = tmp_path / "a.jsonl"
    good = [_record(seed=s) for s in range(3)]
    path.write_text(good[0].line() + '{"kind": "acc\n' + good[1].line() + '{"hello": 1}\n' + good[2].line()[:40])
    with pytest.warns(UserWarning) as caught:
        got = list(records.read(path))
    assert got == good[:2]
    assert [str(w.message).split(": ")[0] for w in caught] == [f"{path}:{n}" for n in (2, 4, 5)]


def test_append_after_a_torn_line_starts_a_fresh_one(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(_record(0).line() + '{"torn')
    records.append(path, _record(1))
    with pytest.warns(UserWarning, match=":2:"):
        assert [r.seed for r in records.read(path)] == [0, 1]


def _append_many(path, start):
    for seed in range(start, start + 50):
        records.append(path, _record(seed))


def test_two_writers_append_whole_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append_many, args=(path, start)) for start in (0, 1000)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len({r.seed for r in records.read(path)}) == 100


def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.jsonl"
    records.write(path, [_record(0)])

    def broken():
        yield _record(1)
        raise OSError("no space left on device")

    with pytest.raises(OSError):
        records.write(path, broken())
    assert [r.seed for r in records.read(path)] == [0]
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_written_file_has_ordinary_permissions(tmp_path):
    records.write(tmp_path / "a.jsonl", [_record()])
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a.jsonl").stat().st_mode) == 0o666 & ~mask


def test_load_gives_one_row_per_value_and_one_for_a_failure(tmp_path):
    values = [Value(name="mpjpe", value=1, unit="mm", interval=(0, 2)), Value(name="mpjve", value=2, unit="mm/frame")]
    records.write(tmp_path / "a.jsonl", [_record(values=values), _record(1, status="oom", reason="needs 3 GiB")])
    table = records.load(tmp_path)
    assert list(table["name"].fillna("")) == ["mpjpe", "mpjve", ""]
    assert table["low"][0] == 0 and table["status"][2] == "oom"
    assert records.load([tmp_path / "a.jsonl"]).equals(table)


def test_load_of_nothing_has_the_columns(tmp_path):
    assert {"variant", "value", "status"} <= set(records.load(tmp_path).columns)


def test_missing_path_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        list(records.read(tmp_path / "nowhere"))
