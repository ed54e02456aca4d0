"""MPI-INF-3DHP from raw file to table: protocols, PCK, AUC, the width defect, the official tables."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

sys.path.append(str(Path(__file__).resolve().parents[1] / "data"))  # the writers of files in the real formats
import threedhp_files as files

from posescale.checkpoints import save_weights
from posescale.commands.tables_3dhp import tables_3dhp
from posescale.data import catalog
from posescale.data.prepared import PreparedData
from posescale.errors import ConfigError, DataError
from posescale.metrics import mpjpe, threedhp_tables
from posescale.metrics.protocols import PROTOCOLS
from posescale.models import create_model
from posescale.train.evaluate import evaluate
from posescale.train.rescore import rescore
from posescale.train.threedhp import official_tables

T = 9


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motion")
    settings = {"subjects": 3, "trials": 2, "seconds": 2.0, "cameras": 2}
    catalog.prepare("synthetic_motion", folder / "p", settings=settings)
    return files.content(PreparedData(folder / "p"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory, content):
    """The same data, prepared from .mat and from npz."""
    root = tmp_path_factory.mktemp("threedhp")
    files.write_mats(root / "mat_files", *content)
    files.write_npz(root / "npz_files", *content)
    for kind in ("mat", "npz"):
        catalog.prepare("mpi_inf_3dhp", root / kind, root / f"{kind}_files")
    return {kind: root / kind for kind in ("mat", "npz")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import torch

    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    model = create_model("motionagformer_tiny", frames=T)
    with torch.no_grad():  # small answers in label units: errors of a few hundred mm, so that PCK is neither 0 nor 1
        model.head.weight.mul_(0.3)
    save_weights(path, model, {"variant": "motionagformer_tiny", "parameters": {"frames": T}, "frames": T})
    return path


def values(record):
    return {(v.name, v.group): v.value for v in record.values}


def by_hand(content, model, unit):
    """Prediction and truth in mm of each valid frame, one window at a time; (sequence -> pred, true)."""
    import torch

    found = {}
    for name, entry in content[1].items():
        width, height = (1920, 1080) if name == "TS5" else (2048, 2048)
        xy = entry["data_2d"].astype(np.float32) * 2 / width - np.array([1, height / width], np.float32)
        inputs = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1)
        frames = np.flatnonzero(entry["valid"])
        rows = np.clip(frames[:, None] + np.arange(T) - T // 2, 0, len(xy) - 1)
        order = list(range(17))
        for a, b in zip([5, 6, 7, 11, 12, 13], [2, 3, 4, 8, 9, 10]):
            order[a], order[b] = b, a
        clips = torch.from_numpy(inputs[rows])
        mirrored = clips[..., order, :] * torch.tensor([-1.0, 1, 1])
        with torch.inference_mode():
            plain = model(clips)[:, T // 2].double().numpy()
            back = model(mirrored)[:, T // 2].double().numpy()[:, order] * [-1, 1, 1]
        pred = (plain + back) / 2
        pred[:, 14] = 0
        true = entry["data_3d"][frames]
        found[name] = pred * unit(width), true - true[:, [14]]
    return found


@pytest.mark.parametrize("kind", ["mat", "npz"])
@pytest.mark.parametrize(
    ("protocol", "unit"),
    [("3dhp_univ", lambda w: w / 2), ("3dhp_univ_1024", lambda w: 1024), ("3dhp_univ_mm", lambda w: 1)],
)
def test_from_raw_file_to_table(folders, content, weights, kind, protocol, unit):
    record = evaluate("motionagformer_tiny", folders[kind], T, weights, protocol, batch=16)
    model = create_model("motionagformer_tiny", frames=T).eval()
    from posescale.checkpoints import load_checkpoint

    load_checkpoint(model, weights)
    sequences = by_hand(content, model, unit)
    names = [name for name, (pred, _) in sequences.items() for _ in pred]
    pred, true = (np.concatenate(parts) for parts in zip(*sequences.values()))
    tables, got = threedhp_tables(pred, true, names), values(record)
    for group, table in {"": tables["all"], "TS1": tables["TS1"], "TS5": tables["TS5"]}.items():
        assert got["mpjpe", group] == pytest.approx(table.mpjpe["average"], rel=1e-5)
        assert got["pck", group] == pytest.approx(100 * table.pck["total"], abs=0.2)
        assert got["auc", group] == pytest.approx(100 * table.auc["total"], abs=0.1)
    assert got["mpjpe", ""] == pytest.approx(mpjpe(pred, true).mean(), rel=1e-5)
    assert record.samples["frames_by_sequence"] == [45.0, 45.0] and record.protocol == protocol
    assert {v.name: (v.unit, v.better) for v in record.values}["pck"] == ("%", "higher")
    if protocol == "3dhp_univ":
        assert 0 < got["pck", ""] < 100


def test_mat_and_npz_score_the_same_to_the_bit(folders, weights):
    of = [values(evaluate("motionagformer_tiny", folders[kind], T, weights)) for kind in ("mat", "npz")]
    assert of[0] == of[1]


def test_the_width_defect_touches_the_outdoor_sequences_only(folders, weights, tmp_path):
    """Predictions of TS5 and TS6 shrink to 960/1024; stored ones tell both without asking the model again."""
    made = evaluate("motionagformer_tiny", folders["mat"], T, weights, predictions=tmp_path / "p.npz")
    other = rescore(tmp_path / "p.npz", "3dhp_univ_1024")
    assert values(made)["mpjpe", "TS1"] == values(other)["mpjpe", "TS1"]
    assert values(made)["mpjpe", "TS5"] != values(other)["mpjpe", "TS5"]
    assert values(evaluate("motionagformer_tiny", folders["mat"], T, weights, "3dhp_univ_1024")) == values(other)


def test_ground_truth_is_exact_and_finds_every_joint(folders):
    got = values(evaluate("ground_truth", folders["npz"]))
    assert got["mpjpe", ""] == 0 and got["pck", ""] == 100
    assert got["auc", ""] == pytest.approx(100 * 30 / 31)  # no error is strictly below the threshold 0


def test_official_tables_agree_with_the_record(folders, weights, tmp_path):
    record = evaluate("motionagformer_tiny", folders["mat"], T, weights, predictions=tmp_path / "p.npz")
    rows = official_tables(tmp_path / "p.npz")
    got, by_row = values(record), {row["row"]: row for row in rows}
    assert [r["row"] for r in rows if r["table"] == "sequence"] == ["TS1", "TS5"]
    assert [r["row"] for r in rows if r["table"] == "setting"] == ["Green screen", "Outdoor"]
    assert by_row["Sitting"]["table"] == "activity" and rows[-1]["row"] == "All"
    for group, row in {"": "All", "TS1": "TS1", "TS5": "Outdoor"}.items():
        assert by_row[row]["mpjpe_average"] == pytest.approx(got["mpjpe", group], rel=1e-12)
        assert by_row[row]["pck_total"] == pytest.approx(got["pck", group], rel=1e-12)
        assert by_row[row]["auc_total"] == pytest.approx(got["auc", group], rel=1e-12)
    activities = [row for row in rows if row["table"] == "activity"]
    assert sum(row["frames"] for row in activities) == by_row["All"]["frames"] == 90
    weighted = np.average([r["pck_elbow"] for r in activities], weights=[r["frames"] for r in activities])
    assert weighted == pytest.approx(by_row["All"]["pck_elbow"])
    evaluate("motionagformer_tiny", folders["npz"], T, weights, predictions=tmp_path / "q.npz")
    assert {row["table"] for row in official_tables(tmp_path / "q.npz")} == {"sequence", "setting", "all"}


def test_the_tables_are_printed(folders, weights, tmp_path):
    evaluate("motionagformer_tiny", folders["mat"], T, weights, predictions=tmp_path / "p.npz")
    app = typer.Typer()
    app.command()(tables_3dhp)
    shown = CliRunner().invoke(app, [str(tmp_path / "p.npz")], env={"COLUMNS": "300"}).stdout
    assert "PCK below 150 mm" in shown and "No green screen" not in shown and "Green screen" in shown
    assert json.loads(CliRunner().invoke(app, [str(tmp_path / "p.npz"), "--json"]).stdout)[0]["row"] == "TS1"


def test_what_does_not_belong_together_is_refused(folders, weights, tmp_path):
    with pytest.raises(ConfigError, match="belongs to h36m"):
        evaluate("motionagformer_tiny", folders["mat"], T, weights, "h36m_sh_25d")
    with pytest.raises(DataError, match="no sequence in split 'val'"):
        evaluate("motionagformer_tiny", folders["mat"], T, weights, split="val")
    evaluate("motionagformer_tiny", folders["mat"], T, weights, split="train", predictions=tmp_path / "p.npz")
    with pytest.raises(ConfigError, match="no test sequence"):
        official_tables(tmp_path / "p.npz")
    evaluate("motionagformer_tiny", folders["mat"], T, weights, predictions=tmp_path / "p.npz")
    with pytest.raises(DataError, match="digest"):
        official_tables(tmp_path / "p.npz", folders["npz"])


def test_every_protocol_of_the_dataset_reports_pck():
    own = [p for p in PROTOCOLS.values() if p.dataset == "mpi_inf_3dhp"]
    assert len(own) >= 3 and all(p.measures == "3dhp" and p.root == 14 and p.input_2d == "exact" for p in own)
