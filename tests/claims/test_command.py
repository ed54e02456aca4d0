"""`posescale claims`: choices, tables, JSON, and counts made on demand and kept."""

import json

import pytest
import typer
from typer.testing import CliRunner

from posescale import records as store
from posescale.claims import Cell
from posescale.commands import claims as verb
from posescale.errors import ConfigError, DataError
from posescale.records import Record, Value


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the verb in an empty folder; costs are counted by a stand-in that notes what it was asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    asked = []

    def counter(name, frames, batch=1, study="", **overrides):
        from posescale.cards import component

        asked.append(Cell(name, frames, json.dumps(overrides)))
        options = {"overrides": overrides} if overrides else {}
        value = Value(name="parameters", value=1_470_211, unit="parameters", convention="unique")
        return Record(
            kind="cost", component="c", variant=name, digest=component(name).digest, frames=frames, batch=batch,
            study=study, options=options, values=[value],
        )  # fmt: skip

    monkeypatch.setattr(verb, "_counter", lambda: counter)
    app = typer.Typer()
    app.command()(verb.claims)

    def call(*arguments):
        done = CliRunner().invoke(app, list(arguments))
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    call.asked = asked
    return call


def test_json_is_a_list_of_flat_rows_and_nothing_else_is_printed(run):
    rows = json.loads(run("--paper", "posemamba-retrainings", "--json").stdout)
    assert {r["paper"] for r in rows} == {"posemamba-retrainings"}
    small = next(r for r in rows if r["model"] == "PoseMamba-S" and r["quantity"] == "parameters")
    assert (small["published"], small["ours"], small["verdict"]) == (1_470_211, 1_470_211, "reproduced")
    assert small["records"] and small["url"].startswith("https://")


def test_counts_are_kept_and_not_made_twice(run, tmp_path):
    arguments = ("--paper", "posemamba-retrainings", "--quantity", "parameters", "--json")
    first = json.loads(run(*arguments).stdout)
    asked = len(run.asked)
    assert asked == len(set(run.asked)) == len(list((tmp_path / "results/claims").glob("*.jsonl"))) == 4
    assert json.loads(run(*arguments).stdout) == first and len(run.asked) == asked
    assert any(cell.overrides == {"channels": 3, "depth": 6, "mlp_ratio": 1} for cell in run.asked)


def test_no_count_leaves_untested(run, tmp_path):
    rows = json.loads(run("--paper", "posemamba", "--quantity", "macs", "--no-count", "--json").stdout)
    assert {r["verdict"] for r in rows} == {"untested"} and not run.asked
    assert not (tmp_path / "results").exists()


def test_choices_narrow_the_rows(run):
    rows = json.loads(run("--model", "posemamba_l", "--quantity", "mpjpe", "--json").stdout)
    assert rows and {r["component"] for r in rows} == {"posemamba_l"} and {r["quantity"] for r in rows} == {"mpjpe"}
    blocked = json.loads(run("--paper", "glsmamba", "--verdict", "blocked", "--json").stdout)
    assert blocked and all(r["verdict"] == "blocked" and r["reason"] for r in blocked)
    assert json.loads(run("--paper", "sapiens", "--verdict", "refuted", "--json").stdout) == []


def test_the_table_says_what_was_found_and_sums_up(run):
    text = run("--paper", "posemamba-retrainings").stdout
    assert "1,470,211" in text and "all parameters" in text and "reproduced" in text
    assert "14 published numbers, papers: 1." in text.replace("\n", " ") or "published numbers, papers: 1." in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--paper", "posemanba"), "posemamba"),
        (("--quantity", "mac"), "macs"),
        (("--verdict", "wrong"), "reproduced"),
        (("--model", "posemanba_s"), "no claim about 'posemanba_s'"),
    ],
)
def test_a_wrong_choice_is_answered_with_the_near_ones(run, arguments, words):
    with pytest.raises(ConfigError, match=words):
        run(*arguments)


def test_a_missing_folder_of_records_is_named(run):
    with pytest.raises(DataError, match="nowhere"):
        run("--records", "nowhere")


def test_out_writes_the_same_rows(run, tmp_path):
    shown = json.loads(run("--paper", "hgmamba", "--json", "--out", "deep/claims.json").stdout)
    assert json.loads((tmp_path / "deep/claims.json").read_text()) == shown
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["claims.json"]


def test_records_given_by_folder_count(run, tmp_path):
    run("--paper", "posemamba-retrainings", "--quantity", "parameters")
    (tmp_path / "results/claims").rename(tmp_path / "mine")
    before = len(run.asked)
    rows = json.loads(
        run("--records", "mine", "--paper", "posemamba-retrainings", "--quantity", "parameters", "--json").stdout
    )
    assert len(run.asked) == before and "reproduced" in {r["verdict"] for r in rows}


def test_prepared_data_below_the_records_is_seen(run, tmp_path):
    folder = tmp_path / "results/paper/data/study"
    folder.mkdir(parents=True)
    (folder / "index.json").write_text(json.dumps({"dataset": "h36m"}))
    (tmp_path / "results/index.json").write_text("[torn")
    from posescale.claims import look

    assert look([tmp_path / "results"]).prepared == {"h36m"}
    assert list(store.read([tmp_path / "results"])) == []
