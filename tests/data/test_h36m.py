"""Human3.6M's readers on small files of the real formats: what is right is read exactly."""

import copy
import json
import pickle

import numpy as np
import pytest
from h36m_files import FRAMES, cameras_json, metadata_xml, prepared, write_cpn, write_sh

from posescale.data import catalog
from posescale.data.camera import normalise_screen
from posescale.data.h36m.cameras import IDS, read_cameras
from posescale.data.h36m.cpn import KEPT
from posescale.data.prepared import PreparedData
from posescale.data.windows import ClipWindows
from posescale.errors import ConfigError, DataError, UnavailableError

CPN = {"family": "cpn"}


def test_the_pickle_is_read_as_it_is(tmp_path, sh):
    write_sh(tmp_path / "raw" / "h36m", sh)
    data = prepared(tmp_path)
    assert (data.index.protocol, data.index.space, data.index.fps) == ("h36m_sh_25d", "image", 50)
    assert [s.split for s in data.index.sequences] == ["train"] * 4 + ["test"] * 6
    first, whole = data.sequences("test")[0], sh["test"]
    assert (first.name, first.subject, first.action, first.length) == (
        "s_09_act_05_subact_01_ca_01", "S9", "Greeting", FRAMES,
    )  # fmt: skip
    assert first.performance == "s_09_act_05_subact_01"
    assert all(s.name.startswith(f"{s.performance}_ca_") for s in data.index.sequences)
    rows = slice(data.sequences("test")[0].start, None)
    assert (data.poses[rows] == whole["joint3d_image"]).all() and (data.factor[rows] == whole["2.5d_factor"]).all()
    assert (data.detections[rows, :, :2] == whole["joint_2d"]).all()
    assert (data.detections[rows, :, 2] == whole["confidence"]).all() and data.exact is None
    assert {(s.camera, s.height) for s in data.index.sequences} == {(IDS[0], 1002), (IDS[1], 1000)}


def test_labels_and_inputs_are_the_normalised_ones(tmp_path, sh):
    write_sh(tmp_path / "raw", sh)
    windows = ClipWindows(prepared(tmp_path), "test", 9, 9)
    inputs, targets = windows[0]
    image, pixels = sh["test"]["joint3d_image"][:9], sh["test"]["joint_2d"][:9]
    label = np.concatenate([normalise_screen(image[..., :2], 1000, 1002), image[..., 2:] * 2 / 1000], axis=-1)
    np.testing.assert_allclose(targets, label - label[:, :1], atol=2e-7)
    np.testing.assert_allclose(inputs[..., :2], normalise_screen(pixels, 1000, 1002), atol=2e-7)
    exact = ClipWindows(prepared(tmp_path), "test", 9, 9, input_2d="exact")[0][0]  # the label's own x and y
    np.testing.assert_allclose(exact[..., :2], label[..., :2], atol=2e-7)
    assert (exact[..., 2] == 1).all()


def test_validation_subjects_and_absent_confidence(tmp_path, sh):
    content = copy.deepcopy(sh)
    del content["train"]["confidence"], content["train"]["action"], content["train"]["2.5d_factor"]
    content["test"]["confidence"] = content["test"]["confidence"][..., None]
    write_sh(tmp_path / "raw", content)
    data = prepared(tmp_path, {"validation": ["S1"]})
    assert {s.split for s in data.index.sequences} == {"val", "test"}
    train, test = (data.sequences(split)[0] for split in ("val", "test"))
    assert train.action == "act_14" and (data.factor[train.rows] == 0).all()
    assert (data.detections[train.rows, :, 2] == 1).all() and (data.detections[test.rows, :, 2] < 1).all()


@pytest.mark.parametrize("xml", [True, False])
def test_the_npz_pair_becomes_camera_space(tmp_path, cpn, xml):
    write_cpn(tmp_path / "raw" / "h36m", cpn, xml)
    data = prepared(tmp_path, CPN)
    assert (data.index.protocol, data.index.space) == ("h36m_cpn_metric", "camera")
    assert data.index.settings["detections"] == "cpn_ft_h36m_dbb"
    assert [s.name for s in data.index.sequences][:5] == [
        *(f"S1 Walking 1.{id}" for id in IDS),
        f"S1 Directions.{IDS[0]}",
    ]
    for s in data.index.sequences:
        name = s.name.removeprefix(f"{s.subject} ").removesuffix(f".{s.camera}")
        assert s.performance == f"{s.subject} {name}"
        camera = cpn["rigs"][s.subject][IDS.index(s.camera)]
        world = cpn["poses"][s.subject][name][:, KEPT]
        np.testing.assert_allclose(data.poses[s.rows], camera.to_camera(world), atol=2e-6)
        np.testing.assert_allclose(data.exact[s.rows], camera.project(camera.to_camera(world)), atol=2e-3)
        track = cpn["tracks"][s.subject][name][IDS.index(s.camera)]
        assert (data.detections[s.rows, :, :2] == track[: s.length]).all() and len(track) == s.length + 1
        assert s.action == name.split(" ")[0]


def test_metadata_and_json_give_the_same_cameras(tmp_path, cpn):
    (tmp_path / "metadata.xml").write_text(metadata_xml(cpn["rigs"]))
    (tmp_path / "cameras.json").write_text(json.dumps(cameras_json(cpn["rigs"])))
    xml, words = (read_cameras(tmp_path / name) for name in ("metadata.xml", "cameras.json"))
    assert sorted(xml) == sorted(words) == sorted(cpn["rigs"])
    points = np.random.default_rng(0).normal(size=(20, 3))
    for subject, cameras in xml.items():
        for a, b, true in zip(cameras, words[subject], cpn["rigs"][subject], strict=True):
            assert a.id == b.id == true.id and (a.width, a.height) == (true.width, true.height)
            assert a.tangential == b.tangential == true.tangential
            for found in (a, b):
                np.testing.assert_allclose(found.to_camera(points), true.to_camera(points), atol=1e-9)
                np.testing.assert_allclose([*found.focal, *found.centre, *found.radial],
                                           [*true.focal, *true.centre, *true.radial])  # fmt: skip


def test_ground_truth_2d_needs_no_2d_file(tmp_path, cpn):
    write_cpn(tmp_path / "raw", cpn)
    (tmp_path / "raw" / "data_2d_h36m_cpn_ft_h36m_dbb.npz").unlink()
    data = prepared(tmp_path, CPN | {"detections": "gt"})
    assert data.index.protocol == "h36m_cpn_metric_gt2d" and data.detections is None
    assert (ClipWindows(data, "train", 9)[0][0][..., 2] == 1).all()
    with pytest.raises(DataError, match="has no detections 2D"):
        ClipWindows(data, "train", 9, input_2d="detections")


def test_clips_alone_train_but_have_no_millimetres(tmp_path, sh):
    part = sh["train"]
    for split in ("train", "test"):
        folder = tmp_path / "raw" / "MB3D_f9s9" / "H36M-SH" / split
        folder.mkdir(parents=True)
        for n in range(3):
            rows = slice(9 * n, 9 * n + 9)
            image = part["joint3d_image"][rows]
            label = np.concatenate([normalise_screen(image[..., :2], 1000, 1002), image[..., 2:] / 500], axis=-1)
            pixels = normalise_screen(part["joint_2d"][rows], 1000, 1002)
            clip = {
                "data_input": np.concatenate([pixels, part["confidence"][rows][..., None]], -1),
                "data_label": label,
            }
            (folder / f"{n:08d}.pkl").write_bytes(pickle.dumps({k: v.astype(np.float32) for k, v in clip.items()}))
    data = prepared(tmp_path)
    inputs, targets = ClipWindows(data, "train", 9)[2]
    np.testing.assert_allclose(inputs, clip["data_input"], atol=3e-7)
    np.testing.assert_allclose(targets, clip["data_label"] - clip["data_label"][:, :1], atol=3e-7)
    (folder / "00000001.pkl").unlink()
    with pytest.raises(DataError, match=r"00000001\.pkl is missing"):
        prepared(tmp_path)


def test_what_is_missing_is_said(tmp_path, sh):
    (tmp_path / "raw").mkdir()
    with pytest.raises(UnavailableError, match=r"family sh lacks h36m_sh.*family cpn lacks data_3d.*metadata\.xml"):
        prepared(tmp_path)
    write_sh(tmp_path / "raw", sh)
    with pytest.raises(UnavailableError, match="family cpn.*lacks data_3d_h36m"):
        prepared(tmp_path, CPN)
    with pytest.raises(ConfigError, match="family cpn only"):
        prepared(tmp_path, {"detections": "gt"})
    assert not (tmp_path / "out").exists()


@pytest.mark.shared
def test_the_gt_file_of_the_sample_is_our_projection(tmp_path, shared):
    folder = shared / "data" / "samples"
    catalog.prepare("h36m", tmp_path / "out", folder, CPN)
    data = PreparedData(tmp_path / "out")
    from posescale.data.plain_pickle import load_npz

    published = load_npz(folder / "h36m" / "data_2d_h36m_gt.npz", "positions_2d")
    for s in data.index.sequences:
        name = s.name.removeprefix(f"{s.subject} ").removesuffix(f".{s.camera}")
        assert np.abs(data.exact[s.rows] - published[s.subject][name][IDS.index(s.camera)]).max() < 2e-3
