"""Small files in Human3.6M's published formats, filled with synthetic motion."""

import json
import pickle
from dataclasses import replace

import numpy as np

from posescale.data import catalog
from posescale.data.camera import rig, rotation_matrix
from posescale.data.h36m.cameras import IDS, SIZES
from posescale.data.h36m.cpn import KEPT
from posescale.data.skeleton import LEFT, RIGHT
from posescale.data.synthetic_motion import reader as synthetic
from posescale.data.verify import verify

SUBJECTS = {"S1": 0, "S9": 1, "S11": 2}
TRIALS = {"S1": ["Walking 1", "Directions"], "S9": ["Greeting", "Walking"], "S11": ["Posing"]}
ACTS = {"Directions": 2, "Greeting": 5, "Posing": 7, "Walking": 14}
FRAMES = 64


def prepared(tmp_path, settings=None):
    """The files below `tmp_path/raw`, prepared and verified."""
    catalog.prepare("h36m", tmp_path / "out", tmp_path / "raw", settings)
    return verify(tmp_path / "out")


def trials():
    """World joints (F, 17, 3) in metres by subject and trial name."""
    settings = synthetic.Settings(seconds=FRAMES / 50, fps=50, subjects=3)
    return {
        subject: {
            name: synthetic.generate(settings, number, place).joints for place, name in enumerate(TRIALS[subject])
        }
        for subject, number in SUBJECTS.items()
    }


def cameras(world):
    """Four cameras for each subject; as in Human3.6M, a camera is the same for all subjects but for its place."""
    found = {}
    for subject, actions in world.items():
        points = np.concatenate(list(actions.values()))
        placed = rig(SUBJECTS[subject], points)
        found[subject] = [
            replace(camera, id=id, width=SIZES[id][0], height=SIZES[id][1], focal=(1145.0 + number, 1143.0 - number),
                    centre=(512.0 + number, 508.0), radial=(-0.2, 0.24, -0.002), tangential=(-0.0009, -0.0014))
            for number, (camera, id) in enumerate(zip(placed, IDS, strict=True))
        ]  # fmt: skip
    return found


def cameras_json(rigs):
    """`cameras.json`."""
    entry = {
        subject: [
            {
                "id": c.id, "res_w": c.width, "res_h": c.height, "focal_length": list(c.focal),
                "center": list(c.centre), "radial_distortion": list(c.radial),
                "tangential_distortion": list(c.tangential),
                "orientation": list(c.orientation), "translation": [1000 * v for v in c.position],
            }
            for c in placed
        ]
        for subject, placed in rigs.items()
    }  # fmt: skip
    return {"cameras": entry}


def metadata_xml(rigs):
    """`metadata.xml`: three angles and a place per camera and subject, then nine inner numbers per camera."""
    places, inner = np.zeros((4, 11, 6)), np.zeros((4, 9))
    for subject, placed in rigs.items():
        for number, c in enumerate(placed):
            turn = rotation_matrix(c.orientation).T  # world to camera
            angles = [np.arctan2(-turn[1, 2], turn[2, 2]), np.arcsin(turn[0, 2]), np.arctan2(-turn[0, 1], turn[0, 0])]
            places[number, int(subject[1:]) - 1] = [*angles, *(1000 * v for v in c.position)]
            inner[number] = [*c.focal, *c.centre, *c.radial, *c.tangential[::-1]]
    numbers = " ".join(repr(float(v)) for v in [*places.ravel(), *inner.ravel()])
    ids = "".join(f"<a>{id}</a>" for id in IDS)
    return f"<metadata><dbcameras><index2id>{ids}</index2id></dbcameras><w0>[{numbers}]</w0></metadata>"


def cpn_content(seed=0):
    """World poses, 2D tracks and their metadata, rigs: what the cpn family's files hold."""
    random = np.random.default_rng(seed)
    world = trials()
    rigs = cameras(world)
    poses, tracks = {}, {}
    for subject, actions in world.items():
        for action, joints in actions.items():
            full = np.zeros((len(joints), 32, 3), np.float32)
            full[:, KEPT] = joints
            poses.setdefault(subject, {})[action] = full
            seen = [c.project(c.to_camera(joints.astype(np.float32))) for c in rigs[subject]]
            longer = [np.concatenate([pixels, pixels[-1:]]) for pixels in seen]
            noisy = [(pixels + random.normal(scale=3, size=pixels.shape)).astype(np.float32) for pixels in longer]
            tracks.setdefault(subject, {})[action] = noisy
    metadata = {"layout_name": "h36m", "num_joints": 17, "keypoints_symmetry": [LEFT, RIGHT]}
    return {"poses": poses, "tracks": tracks, "metadata": metadata, "rigs": rigs}


def write_cpn(folder, content, xml=True, name="cpn_ft_h36m_dbb"):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "data_3d_h36m.npz", positions_3d=np.array(content["poses"], dtype=object))
    np.savez(
        folder / f"data_2d_h36m_{name}.npz", positions_2d=np.array(content["tracks"], dtype=object),
        metadata=np.array(content["metadata"], dtype=object),
    )  # fmt: skip
    if xml:
        (folder / "metadata.xml").write_text(metadata_xml(content["rigs"]))
    else:
        (folder / "cameras.json").write_text(json.dumps(cameras_json(content["rigs"])))
    return folder


def sh_content(seed=0):
    """The sh family's dictionary: two cameras of every trial."""
    random = np.random.default_rng(seed)
    world = trials()
    rigs = cameras(world)
    parts = {"train": [], "test": []}
    for subject, actions in world.items():
        for action, joints in actions.items():
            for number in (0, 1):
                word = action.split(" ")[0]
                source = f"s_{int(subject[1:]):02d}_act_{ACTS[word]:02d}_subact_01_ca_{number + 1:02d}"
                video = _video(rigs[subject][number], joints, source, word, random)
                parts["train" if subject == "S1" else "test"].append(video)
    return {
        part: {key: np.concatenate([video[key] for video in videos]) for key in videos[0]}
        for part, videos in parts.items()
    }


def _video(camera, joints, source, action, random):
    poses = camera.to_camera(joints)
    depth = poses[:, 0, 2] / np.mean(camera.focal)  # metres per pixel at the root
    image = np.empty_like(poses)
    image[..., :2] = camera.project(poses)
    image[..., 2] = (poses[..., 2] - poses[:, :1, 2]) / depth[:, None]
    frames = len(poses)
    noisy = image[..., :2] + random.normal(scale=3, size=(frames, 17, 2))
    return {
        "joint_2d": noisy.astype(np.float32), "confidence": random.uniform(0.3, 1, (frames, 17)).astype(np.float32),
        "joint3d_image": image.astype(np.float32), "camera_name": np.array([camera.id] * frames),
        "source": np.array([source] * frames), "action": np.array([action] * frames),
        "2.5d_factor": (1000 * depth).astype(np.float32),
        "joints_2.5d_image": (image * 1000 * depth[:, None, None]).astype(np.float32),
    }  # fmt: skip


def write_sh(folder, content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "h36m_sh_conf_cam_source_final.pkl").write_bytes(pickle.dumps(content))
    return folder
