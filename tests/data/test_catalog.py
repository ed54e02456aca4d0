import json

import pytest
import typer
from typer.testing import CliRunner

from posescale.commands import data as data_command
from posescale.commands.datasets import datasets as datasets_command
from posescale.data import catalog
from posescale.errors import ConfigError, DataError, UnavailableError
from posescale.metrics.protocols import PROTOCOLS
from posescale.metrics.video_protocols import VIDEO_PROTOCOLS


def _run(app, *arguments):
    return CliRunner().invoke(app, list(arguments))


def _listing():
    app = typer.Typer()
    app.command()(datasets_command)
    return app


def test_every_card_is_whole():
    assert {"cmu_mocap", "synthetic_motion"} <= set(catalog.datasets())
    for id in catalog.datasets():
        card = catalog.dataset_card(id)
        module = catalog.reader(id)
        known = VIDEO_PROTOCOLS if card.task == "video" else PROTOCOLS
        assert card.protocols and set(card.protocols) <= set(known)
        assert card.obtain and card.licence and module.Settings.model_config["extra"] == "forbid"


def test_unknown_names_get_the_nearest():
    with pytest.raises(UnavailableError, match="cmu_mocap"):
        catalog.dataset_card("cmu_mocup")


def test_the_table_says_what_is_missing_and_how_to_get_it(monkeypatch):
    monkeypatch.delenv("POSESCALE_DATA", raising=False)
    rows = {row["dataset"]: row for row in json.loads(_run(_listing(), "--json").stdout)}
    assert rows["synthetic_motion"]["status"] == "ready"
    assert "POSESCALE_DATA" in rows["cmu_mocap"]["status"] and "mocap.cs.cmu.edu" in rows["cmu_mocap"]["obtain"]
    assert "mocap.cs.cmu.edu" in _run(_listing()).stdout


def test_prepare_and_verify_from_the_command_line(tmp_path):
    out = str(tmp_path / "d")
    words = ["prepare", "synthetic_motion", "--out", out, "--json"]
    for pair in ("subjects=3", "trials=1", "seconds=1.5", "cameras=1"):
        words += ["--set", pair]
    done = _run(data_command.app, *words)
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [(r["split"], r["sequences"], r["frames"]) for r in rows] == [
        ("train", 1, 45),
        ("val", 1, 45),
        ("test", 1, 45),
    ]
    assert json.loads(_run(data_command.app, "verify", out, "--json").stdout) == rows
    (tmp_path / "d" / "poses.npy").write_bytes(b"")
    assert isinstance(_run(data_command.app, "verify", out).exception, DataError)


@pytest.mark.parametrize("pair", ["subjects", "=3", "subjects=[", "tempo=3", "subjects=many"])
def test_wrong_settings_on_the_command_line_are_refused(tmp_path, pair):
    done = _run(data_command.app, "prepare", "synthetic_motion", "--out", str(tmp_path / "d"), "--set", pair)
    assert isinstance(done.exception, ConfigError) and not (tmp_path / "d").exists()


def test_a_setting_given_twice_is_refused():
    with pytest.raises(ConfigError, match="once"):
        data_command.parse_settings(["a=1", "a=2"])


def test_nothing_but_windows_imports_torch():
    import subprocess
    import sys

    code = (
        "import sys, posescale.data.catalog as c, posescale.data.verify; [c.reader(i) for i in c.datasets()];"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
