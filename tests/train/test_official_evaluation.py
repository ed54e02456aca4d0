"""From raw file to per-action table: the official evaluator's own numbers, on files in the published format."""

import json
import pickle
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from posescale.cli import VERBS
from posescale.data import catalog
from posescale.data.clips import Videos, cut
from posescale.data.plain_pickle import load_pickle
from posescale.data.prepared import PreparedData
from posescale.data.scored import questions
from posescale.data.units import to_mm
from posescale.data.windows import ClipWindows
from posescale.metrics.protocols import PROTOCOLS
from posescale.records import read

GOLDENS = Path(__file__).resolve().parents[1] / "goldens"
SH = PROTOCOLS["h36m_sh_25d"]

# Stand-in models: `protocol` is the one the golden numbers were made with; `fixture` equals in its flip average, to
# float32 rounding, the one of h36m_fixture.npz, of which that average is what is published.
BODIES = {
    "protocol": "torch.stack([0.95 * x + 0.01, 0.9 * y - 0.02, 0.3 * x * y + 0.05 * y], -1)",
    "fixture": "torch.stack([0.97 * (x - x[..., :1]), 0.97 * (y - y[..., :1]), -0.2 * (y - y[..., :1])"
    " + 0.3 * torch.cos(j) * x + 0.05 * torch.sin(j)], -1)",
}
NETWORK = """
import torch
from torch import nn


class Standin(nn.Module):
    def __init__(self, frames: int = 9):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, clip):
        x, y, j = clip[..., 0], clip[..., 1], torch.arange(17.0)
        return self.one * {body}
"""
CARD = """
id: {name}
title: Stand-in
task: lifting
summary: A formula.
network: Standin
protocols: {{h36m: h36m_sh_25d}}
variants: {{{name}: {{}}}}
"""


@pytest.fixture
def standin(tmp_path, monkeypatch):
    """Weights of the stand-ins, which are components now; the cache is empty."""
    for name, body in BODIES.items():
        folder = tmp_path / "components" / f"standin_{name}"
        folder.mkdir(parents=True)
        (folder / "card.yaml").write_text(textwrap.dedent(CARD).format(name=f"standin_{name}"))
        (folder / "network.py").write_text(NETWORK.format(body=body))
    torch.save({"model_pos": {"module.one": torch.ones(())}}, tmp_path / "standin.bin")
    monkeypatch.setenv("POSESCALE_COMPONENTS", str(tmp_path / "components"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "standin.bin"


@pytest.fixture
def run():
    from importlib import import_module

    app = typer.Typer()
    for verb in ("evaluate", "rescore"):
        app.command(verb)(getattr(import_module(f"posescale.commands.{VERBS[verb]}"), verb))

    def call(*arguments):
        done = CliRunner().invoke(app, [str(a) for a in arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return json.loads(done.stdout)

    return call


@pytest.fixture
def made_up(tmp_path):
    """The golden's made-up test set as the published pickle; its numbers are no people's."""
    golden = np.load(GOLDENS / "posemamba_protocol.npz")
    arrays = ("joint_2d", "confidence", "joint3d_image", "2.5d_factor", "joints_2.5d_image")
    test = {key: golden[f"ev_{key}"] for key in arrays}
    videos = json.loads(str(golden["ev_videos"]))
    for place, key in enumerate(("source", "camera_name", "action")):
        test[key] = np.repeat([video[place] for video in videos], [video[3] for video in videos])
    train = {key: value[:60] for key, value in test.items()}
    train["source"] = np.array(["s_01_act_02_subact_01_ca_01"] * 60)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "h36m_sh_conf_cam_source_final.pkl").write_bytes(pickle.dumps({"train": train, "test": test}))
    return golden, raw


def test_the_golden_evaluation_with_and_without_flip(run, standin, made_up, tmp_path):
    golden, raw = made_up
    score = ["evaluate", "standin_protocol", "--dataset", "h36m", "--source", raw, "--set", "plausible=false"]
    score += ["--frames", 27, "--checkpoint", standin, "--json"]
    kept = ["--predictions", tmp_path / "said.npz", "--record", tmp_path / "score.jsonl"]
    for extra, key in ((kept, "ev_P1_P2"), (["--change", "flip_average=false"], "ev_P1_P2_noflip")):
        rows = run(*score, *extra)
        assert [rows[-1]["mpjpe"], rows[-1]["p_mpjpe"]] == pytest.approx(golden[key], rel=2e-7)
        assert [row["action"] for row in rows] == ["Direction", "Walk", "mean over actions"]
        assert rows[-1]["frames_scored"] == 4 * 27  # whole clips of the three videos that count
    again = run("rescore", tmp_path / "said.npz", "--protocol", SH.id, "--change", "flip_average=no", "--json")
    assert [again[-1]["mpjpe"], again[-1]["p_mpjpe"]] == pytest.approx(golden["ev_P1_P2_noflip"], rel=2e-7)
    (record,) = read(tmp_path / "score.jsonl")
    assert record.protocol == SH.id and record.labels["actions"] == ["Direction", "Walk", "Direction"]
    low, high = record.values[0].interval
    assert low <= record.values[0].value <= high


def test_the_golden_clips_and_the_way_to_millimetres(made_up, tmp_path):
    golden, raw = made_up
    catalog.prepare("h36m", tmp_path / "data", raw, {"plausible": False})
    data = PreparedData(tmp_path / "data")
    asked = questions(data, "test", SH, 27, "seq2seq")
    starts = np.array([s.start for s in data.sequences("test")]) - data.sequences("test")[0].start
    rows = np.concatenate([q.rows + start for q, start in zip(asked, starts)])
    assert np.array_equal(rows, golden["ev_split_test"])
    windows = ClipWindows(data, "test", 27, rule="official_clips")
    inputs, targets = windows.__getitems__(list(range(len(windows))))
    np.testing.assert_allclose(inputs, golden["ev_test_input"], atol=3e-7)
    label = golden["ev_test_label"]
    np.testing.assert_allclose(targets, label - label[:, :, :1], atol=6e-7)
    x, y = inputs[0, ..., 0].double(), inputs[0, ..., 1].double()  # the golden keeps the flip average
    pred = torch.stack([0.95 * x, 0.9 * y - 0.02, 0.05 * y], -1).numpy()
    pred[:, 0] = 0
    mm = pred * to_mm(data, data.sequences("test")[0], SH)[:27, None, None]
    published = golden["ev_denorm_pred_clip0"]
    np.testing.assert_allclose(mm, published - published[:, :1], atol=2e-3)


@pytest.mark.shared
def test_the_sample_from_pickle_to_table(run, standin, shared):
    golden = np.load(GOLDENS / "h36m_fixture.npz")
    rows = run("evaluate", "standin_fixture", "--dataset", "h36m", "--source", shared / "data" / "samples",
               "--frames", 243, "--checkpoint", standin, "--json")  # fmt: skip
    assert rows[-1]["mpjpe"] == pytest.approx(float(golden["P1"]), abs=1e-5)
    assert rows[-1]["p_mpjpe"] == pytest.approx(float(golden["P2"]), abs=1e-5)
    assert [(row["action"], row["frames_scored"]) for row in rows[:-1]] == [
        ("Greet", 486), ("Pose", 486), ("Sitting", 486), ("Walk", 486),
    ]  # fmt: skip


@pytest.mark.shared
def test_the_samples_clips_are_the_official_ones(shared, tmp_path):
    golden = np.load(GOLDENS / "h36m_fixture.npz")
    catalog.prepare("h36m", tmp_path / "data", shared / "data" / "samples")
    data = PreparedData(tmp_path / "data")
    published = shared / "data" / "samples" / "h36m" / "MB3D_f243s81" / "H36M-SH"
    for split, stride in (("train", 81), ("test", 243)):
        windows = ClipWindows(data, split, 243, stride, rule="official_clips")
        lengths = np.array([s.length for s in windows.sequences])
        offsets = np.array([s.start for s in windows.sequences]) - windows.sequences[0].start
        rows = windows.windows.rows(np.arange(len(windows)), lengths) + offsets[windows.sequence][:, None]
        assert np.array_equal(rows, golden[f"{split}_split"])  # the random rows of short videos too
        files = sorted((published / split).glob("*.pkl"))
        assert len(files) == len(windows)
        for number, file in enumerate(files):
            clip = load_pickle(file)
            inputs, targets = windows[number]
            np.testing.assert_allclose(inputs, clip["data_input"], atol=3e-7)
            np.testing.assert_allclose(targets, clip["data_label"] - clip["data_label"][:, :1], atol=6e-7)
    np.testing.assert_allclose(windows[0][0], golden["test_input_first"], atol=3e-7)


def test_test_clips_of_the_real_size():
    """2,228 whole clips of 243 frames are what the paper scores; any split of videos loses tails alike."""
    lengths = [1000, 243, 242, 5000, 100]
    windows = cut("official_clips", Videos(lengths), 243)
    assert np.bincount(windows.sequence, minlength=5).tolist() == [4, 1, 1, 20, 0]


def test_a_licence_is_accepted_where_a_dataset_is_named(run, standin, made_up, tmp_path, monkeypatch):
    monkeypatch.setenv("POSESCALE_CONFIG", str(tmp_path / "nobody"))
    golden, raw = made_up
    score = ["evaluate", "standin_protocol", "--dataset", "h36m", "--source", raw, "--set", "plausible=false"]
    score += ["--frames", 27, "--checkpoint", standin, "--json"]
    with pytest.raises(AssertionError, match="ConsentError.*under its licence only"):
        run(*score)
    first = run(*score, "--accept-licence")
    (folder,) = (tmp_path / "cache" / "posescale" / "prepared").iterdir()
    made = (folder / "index.json").stat().st_mtime_ns
    assert run(*score) == first and (folder / "index.json").stat().st_mtime_ns == made  # prepared once
    run(*score, "--set", "validation=[S1]")
    assert len(list(folder.parent.iterdir())) == 2  # other settings are other data


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give --data"),
        (["--data", "d", "--dataset", "h36m"], "one of them"),
        (["--data", "d", "--set", "plausible=false"], "go with --dataset"),
        (["--dataset", "h36m", "--protocol", "cmu_cam2"], "no protocol is called"),
        (["--dataset", "h36m", "--protocol", "3dhp_univ"], "belongs to mpi_inf_3dhp, not to h36m"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, standin, words, message):
    with pytest.raises(AssertionError, match=message):
        run("evaluate", "standin_protocol", *words)
