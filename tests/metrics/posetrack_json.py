"""Small PoseTrack17 and PoseTrack18 files, and a slow twin of their scoring."""

import json

import numpy as np

IDS = [
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "head_bottom", "nose", "head_top",
]  # fmt: skip
KEYPOINTS = [
    "nose", "head_bottom", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
]  # fmt: skip


def person(xy, head=(0, 0, 30, 40), present=None, scores=None):
    """A person: (15, 2) in the order of `IDS`, head box x, y, w, h, which joints are there, (15,) scores or None."""
    return {"xy": np.asarray(xy, float), "head": head, "scores": scores,
            "present": np.ones(15, bool) if present is None else np.asarray(present)}  # fmt: skip


def video(*frames, regions=()):
    """A video: a list of people per frame; the same regions in all frames."""
    return {"frames": frames, "regions": [np.asarray(r, float).tolist() for r in regions]}


def write_18(path, content, prediction=False, start=0):
    images, annotations = [], []
    for number, people in enumerate(content["frames"], start=start):
        key = 10_000_010_000 + number
        regions = {} if prediction else {
            "ignore_regions_x": [[x for x, _ in r] for r in content["regions"]],
            "ignore_regions_y": [[y for _, y in r] for r in content["regions"]],
        }  # fmt: skip
        images.append({"file_name": f"images/val/000001_mpii_test/{number:06d}.jpg", "id": key, "frame_id": key,
                       "vid_id": "000001", "is_labeled": bool(people)} | regions)  # fmt: skip
        for p in people:
            points, scores = np.zeros((17, 3)), np.zeros(17)
            for joint in np.flatnonzero(p["present"]):
                points[KEYPOINTS.index(IDS[joint])] = *p["xy"][joint], 1
                if p["scores"] is not None:
                    scores[KEYPOINTS.index(IDS[joint])] = p["scores"][joint]
            entry = {"id": len(annotations), "image_id": key, "track_id": 0, "category_id": 1,
                     "keypoints": points.ravel().tolist()}  # fmt: skip
            entry |= {"scores": scores.tolist()} if p["scores"] is not None else {}
            annotations.append(entry if prediction else entry | {"bbox_head": list(p["head"])})
    category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": KEYPOINTS}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))


def write_17(path, content, prediction=False):
    annolist = []
    for number, people in enumerate(content["frames"], start=1):
        rects = []
        for p in people:
            points = [
                {"id": [int(j)], "x": [p["xy"][j, 0]], "y": [p["xy"][j, 1]]}
                | ({"score": [p["scores"][j]]} if p["scores"] is not None else {})
                for j in np.flatnonzero(p["present"])
            ]
            x, y, w, h = p["head"]
            rects.append({"x1": [x], "y1": [y], "x2": [x + w], "y2": [y + h], "track_id": [0],
                          "annopoints": [{"point": points}] if points else []})  # fmt: skip
        regions = [{"point": [{"x": [x], "y": [y]} for x, y in r]} for r in content["regions"]]
        annolist.append({"image": [{"name": f"images/bonn/000001_bonn/{number:08d}.jpg"}], "imgnum": [number],
                         "annorect": rects} | ({} if prediction else {"ignore_regions": regions}))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"annolist": annolist}))


def random_video(rng, frames=6, people=3, size=400.0):
    """Ground truth and predictions: some joints missing, some people unseen, some seen twice, one empty frame."""
    truth, found = [], []
    for number in range(frames):
        here = [
            person(rng.uniform(50, size, (15, 2)), (10, 10, *rng.uniform(20, 60, 2)), rng.random(15) < 0.8)
            for _ in range(rng.integers(1, people + 1))
        ]
        truth.append([] if number == 2 else here)
        seen = [h for h in here for _ in range(rng.integers(0, 3))]
        found.append([
            person(h["xy"] + rng.normal(0, 12, (15, 2)), h["head"], rng.random(15) < 0.9, rng.random(15)) for h in seen
        ])  # fmt: skip
    return truth, found


def slow_ap(truths, founds):
    """AP by joint for lists of videos (lists of frames of people), one joint at a time; no regions."""
    entries, annotated = [[] for _ in range(15)], np.zeros(15)
    for truth, found in ((t, f) for ts, fs in zip(truths, founds) for t, f in zip(ts, fs) if t):
        share = np.zeros((len(found), len(truth)))
        near = np.zeros((len(found), len(truth), 15), bool)
        for i, f in enumerate(found):
            for k, t in enumerate(truth):
                limit = 0.5 * 0.6 * np.hypot(*t["head"][2:])
                for j in range(15):
                    both = f["present"][j] and t["present"][j]
                    near[i, k, j] = both and np.hypot(*(f["xy"][j] - t["xy"][j])) <= limit
                share[i, k] = near[i, k].sum() / max(t["present"].sum(), 1)
        owner = {}
        for k in range(len(truth)):
            rivals = [i for i in range(len(found)) if share[i].argmax() == k and share[i, k] > 0]
            if rivals:
                owner[max(rivals, key=lambda i: share[i, k])] = k
        for i, f in enumerate(found):
            for j in np.flatnonzero(f["present"]):
                score = -9999.0 if f["scores"] is None else f["scores"][j]
                entries[j].append((score, bool(i in owner and near[i, owner[i], j])))
        annotated += sum(t["present"].astype(int) for t in truth)
    return [_slow_area(sorted(e, key=lambda pair: -pair[0]), n) for e, n in zip(entries, annotated)]


def _slow_area(entries, annotated):
    points, hits = [], 0
    for rank, (_, hit) in enumerate(entries, start=1):
        hits += hit
        points.append((hits / annotated, hits / rank))
    area, before = 0.0, 0.0
    for recall, _ in points:
        area += (recall - before) * max(p for r, p in points if r >= recall)
        before = recall
    return 100 * area
