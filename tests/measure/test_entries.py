"""What is measured: models with names and arguments of their own, on clips of given shapes."""

import json

import pytest
import typer
from typer.testing import CliRunner

from posescale import records
from posescale.commands import cost as verb
from posescale.commands.cost import entries, shapes
from posescale.errors import ConfigError
from posescale.measure.latency import latency
from posescale.measure.memory import memory
from posescale.measure.plan import Entry, Shape


def test_models_are_read_with_labels_and_arguments():
    assert entries(["posemamba_s,motionbert_lite", "naive=glsformer_j_tiny:attention=naive:gsm=2"]) == [
        Entry("posemamba_s"),
        Entry("motionbert_lite"),
        Entry("glsformer_j_tiny", "naive", {"attention": "naive", "gsm": 2}),
    ]
    assert entries(['a=m:merging="sum"'])[0].overrides == {"merging": "sum"}  # as the workflow writes it


@pytest.mark.parametrize("word", ["=m", "a=", "a=m:paths", "a=m,a=k", "m m:paths=2"])
def test_what_names_no_model_is_refused(word):
    with pytest.raises(ConfigError):
        entries(word.split() if word.startswith("m ") else [word])


def test_shapes_are_read():
    assert shapes("27,81,27") == [Shape(27), Shape(81)]
    assert shapes("5x256x192") == [Shape(5, 256, 192)]
    assert Shape(5, 256, 192).size == {"height": 256, "width": 192} and str(Shape(5, 256, 192)) == "5x256x192"


@pytest.mark.parametrize("text", ["", "5x256", "0", "5x0x192", "5x256x192x3", "-1", "5.0", "5x256x192,"])
def test_other_shapes_are_refused(text):
    with pytest.raises(ConfigError, match="TxHxW"):
        shapes(text)


def test_cells_carry_label_and_size(tmp_path):
    app = typer.Typer()
    app.command()(verb.cost)
    arguments = ["vitpose_tiny", "small=vitpose_tiny:decoder=32", "--frames", "1x64x48,1x96x64", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--record", str(tmp_path / "r.jsonl")])
    assert done.exit_code == 0, done.output
    found = list(records.read(tmp_path / "r.jsonl"))
    assert [(r.label, r.resolution) for r in found] == [
        ("", (64, 48)), ("", (96, 64)), ("small", (64, 48)), ("small", (96, 64))
    ]  # fmt: skip
    assert found[2].options["overrides"] == {"decoder": 32, "height": 64, "width": 48}
    assert {row["size"] for row in json.loads(done.stdout)} == {"64x48", "96x64"}


def test_memory_that_runs_out_is_a_record_of_its_cell():
    naive = Entry("glsformer_j_tiny", "naive", {"attention": "naive"})
    found = memory(["vitpose_tiny", naive], [Shape(5, 256, 192)], memory_limit=1.5)
    assert [(r.label, r.status) for r in found] == [("", "ok"), ("naive", "oom")] and found[1].reason
    assert found[1].resolution == (256, 192) and found[1].options["overrides"]["attention"] == "naive"


def test_one_model_is_timed_beside_itself_with_other_arguments():
    pair = ["vitpose_tiny", Entry("vitpose_tiny", "narrow", {"decoder": 16})]
    found = latency(pair, [Shape(1, 64, 48)], rounds=1, seconds=0.01)
    assert [r.label for r in found] == ["", "narrow"]
    assert all(r.resolution == (64, 48) and r.frames == 1 for r in found)
    assert {r.status for r in found} <= {"ok", "unstable", "contaminated"}
