"""JHMDB's three splits as the field reports them: one mean, its parts named."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from posescale import records
from posescale.data import catalog
from posescale.errors import ConfigError
from posescale.metrics.splits import average_of_splits
from posescale.records import Record, Value


def part(split, pck=90.0, **fields):
    values = [Value(name="pck", value=pck, unit="%", better="higher"),
              Value(name="pck", value=pck - 10, unit="%", better="higher", group="Head"),
              Value(name="pck@0.1", value=pck / 2, unit="%", better="higher"),
              Value(name="joints_by_state", value=7, unit="joints")]  # fmt: skip
    options = {"task": "video", "split": "test", "condition": "as_is", "epoch": split,
               "settings": {"split": split, "subset": "sub"}}  # fmt: skip
    content = {
        "kind": "accuracy", "component": "c", "variant": "m", "digest": "d", "dataset": "jhmdb", "frames": 5,
        "protocol": "jhmdb_person", "data_digest": f"data{split}", "weights_digest": f"w{split}", "seed": 0,
        "selection": "last", "options": options, "values": values,
    }  # fmt: skip
    return Record(**(content | fields))


def test_every_split_counts_alike_and_is_named():
    parts = [part(2, 80.0), part(3, 97.0), part(1, 90.0)]
    found = average_of_splits(parts)
    table = {(v.name, v.group): v.value for v in found.values}
    assert table == pytest.approx({
        ("pck", ""): 89.0, ("pck", "Head"): 79.0, ("pck@0.1", ""): 44.5,
        ("pck_by_split", "1"): 90.0, ("pck_by_split", "2"): 80.0, ("pck_by_split", "3"): 97.0,
    })  # fmt: skip
    assert list(found.options["parts"]) == ["1", "2", "3"] and found.options["parts"]["1"]["record"] == parts[2].id
    assert found.options["parts"]["2"]["weights_digest"] == "w2" and found.weights_digest is None
    assert (found.protocol, found.status, found.options["settings"]) == ("jhmdb_person", "ok", {"subset": "sub"})


def test_a_failed_split_leaves_no_mean():
    bad = part(2, status="oom", reason="too small", values=[])
    found = average_of_splits([part(1), bad, part(3)])
    assert (found.status, found.reason, found.values) == ("oom", "split 2: too small", [])
    assert found.options["parts"]["2"]["pck"] is None


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([], "found none"),
        ([part(1), part(2)], r"found splits \[1, 2\]"),
        ([part(1), part(2), part(2)], r"found splits \[1, 2, 2\]"),
        ([part(1), part(2), part(3, protocol="jhmdb_torso")], "protocol: jhmdb_person, jhmdb_person, jhmdb_torso"),
        ([part(1), part(2), part(3, seed=1)], "seed"),
        ([part(1), part(2), part(3, variant="other")], "variant"),
        ([part(1), part(2), part(3, options={"settings": {"split": 3, "subset": "full"}})], "settings"),
        ([part(1), part(2), part(3, options={"split": "test"})], "does not say which split"),
        ([part(1), part(2), part(3, dataset="posetrack18")], "accuracy on posetrack18"),
        ([part(1), part(2), part(3, values=[])], "different values"),
    ],
)
def test_what_does_not_belong_together_is_refused(parts, words):
    with pytest.raises(ConfigError, match=words):
        average_of_splits(parts)


@pytest.mark.shared
def test_the_fixture_through_the_command(shared, tmp_path):
    """Original files, three splits prepared and scored, the average on disk and in the table."""
    from posescale.commands.average_splits import average_splits
    from posescale.train.video.evaluate import evaluate

    source, files = shared / "data" / "samples" / "jhmdb" / "fixture", []
    for split in (1, 2, 3):
        catalog.prepare("jhmdb", tmp_path / str(split), source, {"images": "optional", "split": split})
        files.append(tmp_path / f"{split}.jsonl")
        records.write(files[-1], [evaluate("copy_previous", tmp_path / str(split))])
    import typer

    app = typer.Typer()
    app.command()(average_splits)
    done = CliRunner().invoke(app, [*map(str, files), "--json", "--record", str(tmp_path / "mean.jsonl")])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["split"] for row in rows] == ["1", "2", "3", "mean"]
    assert rows[-1]["pck"] == pytest.approx(np.mean([row["pck"] for row in rows[:-1]]))
    (mean,) = records.read(tmp_path / "mean.jsonl")
    assert mean.protocol == "jhmdb_person" and {v.name for v in mean.values} >= {"pck", "pck@0.1", "pck@0.05", "pck_15"}
