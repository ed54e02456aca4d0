"""Painting a scenario: sub-frame renders averaged over each exposure, then what lens, sensor and codec lose."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from posescale.data.synthetic_video.figure import (
    CROWN,
    HEAD,
    L_EYE,
    NOSE,
    NUMBER,
    PARTS,
    PARTS_OF_JOINT,
    POINT_OF_JOINT,
    R_EYE,
    TRUNK,
)  # fmt: skip
from posescale.data.synthetic_video.paint import ONE, capsules, fill, fill_plain, fixed, mark
from posescale.data.synthetic_video.scenario import MIDDLE, MOMENTS, Actor, Scenario
from posescale.data.synthetic_video.scene import seen
from posescale.data.video.skeletons import STATES

SHARP = 0.2  # share of the exposure that things before the people move for: what they hide is hidden throughout
STEP = 1.6  # pixels that the fastest point may move between two sub-frame renders
COVERED = 0.6  # share of the exposure from which on a joint counts as hidden
SMEARED, UNSHARP = 0.4, 0.12  # of the head's size: path during the exposure, standard deviation of the defocus
COARSE = 4  # factor of lost resolution from which on joints count as blurred
PER_ACTOR = 32  # ids of one actor's parts: actor * PER_ACTOR + part + 1

_A, _B = np.array([p.a for p in PARTS]), np.array([p.b for p in PARTS])
_RA, _RB = np.array([p.radius_a for p in PARTS]), np.array([p.radius_b for p in PARTS])
_TORSO = [(11, 0.06), (14, 0.06), (4, 0.09), (1, 0.09), (8, 0.05)]  # balls whose hull is the trunk
_BODY_STATES = {name: STATES.index(name) for name in STATES}


@dataclass(frozen=True)
class Painted:
    """One frame: image (H, W, 3) uint8 RGB, and states (A, 15) of every actor's joints."""

    image: np.ndarray
    states: np.ndarray


def paint(scenario: Scenario, width: int, height: int, rng: np.random.Generator) -> Iterator[Painted]:
    """The frames of a scenario, in order.

    Args:
        scenario: what happens.
        width, height: of the frames.
        rng: for the sensor's noise.
    """
    field = np.clip(np.rint(rng.standard_normal((height + 64, width + 64, 3)) * scenario.noise), -127, 127).astype(
        np.int16
    )
    last: Painted | None = None
    for frame in range(len(scenario.blank)):
        shift = rng.integers(0, 64, 2)
        if scenario.repeated[frame] and last is not None:
            yield last
            continue
        noise = field[shift[0] : shift[0] + height, shift[1] : shift[1] + width]
        image, ids = _exposed(scenario, frame, width, height)
        states = np.stack([_states(scenario, frame, n, ids) for n in range(len(scenario.actors))])
        last = Painted(_lost(scenario, frame, image, noise), states)
        yield last


def _exposed(scenario: Scenario, frame: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the exposure, and which part each pixel shows at its middle."""
    moving = [a.pixels[frame, :MOMENTS] for a in scenario.actors]
    reach = max(float(np.abs(p[-1] - p[0]).max()) for p in moving)
    count = int(np.clip(np.ceil(reach / STEP), 2, MOMENTS))
    total = np.zeros((height, width, 3), np.uint16)
    for moment in np.rint(np.linspace(0, MOMENTS - 1, count)).astype(int):
        total += _instant(scenario, frame, int(moment), width, height)
    ids = np.zeros((height, width), np.uint8)
    for number in _far_to_near(scenario, frame, MIDDLE):
        _mark_actor(ids, scenario.actors[number], frame, number * PER_ACTOR + 1)
    return ((total + count // 2) // count).astype(np.uint8), ids


def _instant(scenario: Scenario, frame: int, moment: int, width: int, height: int) -> np.ndarray:
    offset = scenario.shutter * (moment / (MOMENTS - 1) - 0.5)
    image = seen(scenario.backdrop, scenario.zoom[frame, moment], scenario.offset[frame, moment], width, height)
    for thing in scenario.behind:
        thing.draw(image, frame + offset)
    for shadow in scenario.shadows:
        fill_plain(image, cv2.convexHull(fixed(shadow[frame, moment]))[:, 0], np.zeros(3), 0.35)
    for number in _far_to_near(scenario, frame, moment):
        _draw_actor(image, scenario.actors[number], frame, moment, scenario.light)
    for thing in scenario.before:
        thing.draw(image, frame + SHARP * offset)
    return image


def _far_to_near(scenario: Scenario, frame: int, moment: int) -> list[int]:
    depth = [float(a.depth[frame, moment, 0]) for a in scenario.actors]
    return sorted(range(len(depth)), key=lambda n: -depth[n])


def _outlines(actor: Actor, frame: int, moment: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Outlines of all parts, and the order to draw them in: far ones first."""
    pixels, scale, depth = actor.pixels[frame, moment], actor.scale[frame, moment], actor.depth[frame, moment]
    outlines = list(capsules(pixels[_A], pixels[_B], _RA * scale[_A], _RB * scale[_B]))
    balls = [capsules(pixels[[p]], pixels[[p]], r * scale[[p]], r * scale[[p]])[0] for p, r in _TORSO]
    outlines[NUMBER["torso"]] = cv2.convexHull(np.concatenate(balls))[:, 0]
    nearness = (depth[_A] + depth[_B]) / 2
    nearness[NUMBER["torso"]] = (depth[8] + depth[0]) / 2
    nearness[NUMBER["pelvis"]] = nearness[NUMBER["torso"]] + 0.02  # the shirt hangs over the trousers
    nearness[[NUMBER["l_thigh"], NUMBER["r_thigh"]]] += 0.07
    return outlines, np.argsort(-nearness, kind="stable")


def _mark_actor(ids: np.ndarray, actor: Actor, frame: int, first: int) -> None:
    outlines, order = _outlines(actor, frame, MIDDLE)
    for part in order:
        mark(ids, outlines[part], first + int(part))


def _draw_actor(image: np.ndarray, actor: Actor, frame: int, moment: int, light: np.ndarray) -> None:
    outlines, order = _outlines(actor, frame, moment)
    pixels, scale = actor.pixels[frame, moment], actor.scale[frame, moment]
    for number in order:
        part = PARTS[number]
        a, b = _torso_axis(pixels) if part.name == "torso" else (pixels[part.a], pixels[part.b])
        half = 0.19 * scale[0] if part.name == "torso" else max(part.radius_a, part.radius_b) * scale[part.a]
        corners = _corners(a, b, half, light)
        fill(image, outlines[number], actor.look.texture(part.name, part.garment), corners)
        if part.name == "head":
            _draw_face(image, actor, frame, moment)


def _torso_axis(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (pixels[11] + pixels[14]) / 2, (pixels[1] + pixels[4]) / 2


def _corners(a: np.ndarray, b: np.ndarray, half: float, light: np.ndarray) -> np.ndarray:
    """Where a texture's corners go so that its lit side faces the light."""
    axis = b - a
    length = float(np.sqrt(axis[0] ** 2 + axis[1] ** 2))
    axis = axis / length if length > 1e-6 else np.array([0.0, 1.0])
    normal = np.array([-axis[1], axis[0]]) * half
    if normal[0] * light[0] + normal[1] * light[1] < 0:
        normal = -normal
    start, end = a - axis * half, b + axis * half
    return np.stack([start - normal, start + normal, end - normal])


def _draw_face(image: np.ndarray, actor: Actor, frame: int, moment: int) -> None:
    """Face, eyes and nose, as far as the head is turned towards the camera."""
    pixels, depth, scale = actor.pixels[frame, moment], actor.depth[frame, moment], actor.scale[frame, moment, HEAD]
    towards = float(depth[HEAD] - depth[NOSE]) / 0.105  # 1 looks into the camera, -1 away
    if towards < -0.3:
        return
    skin = np.array(actor.look.skin)
    if not actor.look.mask:
        centre = pixels[HEAD] + (pixels[NOSE] - pixels[HEAD]) * 0.42 + (pixels[HEAD] - pixels[CROWN]) * 0.12
        up = pixels[CROWN] - pixels[HEAD]
        up = up / max(float(np.sqrt(up[0] ** 2 + up[1] ** 2)), 1e-6)
        wide = np.array([-up[1], up[0]])
        half = np.array([0.05 + 0.024 * max(towards, 0), 0.085]) * scale
        fill_plain(
            image, fixed(centre + _ROUND[:, :1] * half[0] * wide + _ROUND[:, 1:] * half[1] * up), skin * 15 // 16
        )
    for eye in (L_EYE, R_EYE):
        if depth[eye] < depth[HEAD] + 0.01:
            _dot(image, pixels[eye], 0.014 * scale, np.array([28, 22, 20]))
    if depth[NOSE] < depth[HEAD] + 0.03:
        _dot(image, pixels[NOSE], 0.019 * scale, skin * 11 // 16)


_ROUND = np.round(np.stack([np.cos(np.arange(16) * np.pi / 8), np.sin(np.arange(16) * np.pi / 8)], 1), 6)


def _dot(image: np.ndarray, centre: np.ndarray, radius: float, colour: np.ndarray) -> None:
    fill_plain(image, fixed(centre + _ROUND * radius), colour)


def _lost(scenario: Scenario, frame: int, image: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Defocus, lost resolution, exposure and noise; or nothing at all in a blank frame."""
    if scenario.blank[frame]:
        image = np.full_like(image, 24)
    sigma, factor = float(scenario.defocus[frame]), int(scenario.coarse[frame])
    if sigma:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    if factor > 1:
        height, width = image.shape[:2]
        small = cv2.resize(image, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    exposed = image.astype(np.int16) if scenario.gain == 256 else (image.astype(np.int32) * scenario.gain >> 8)
    return np.clip(exposed + noise, 0, 255).astype(np.uint8)


def _states(scenario: Scenario, frame: int, number: int, ids: np.ndarray) -> np.ndarray:
    """(15,) what can be seen of one actor's joints in one frame: indices into STATES."""
    actor = scenario.actors[number]
    height, width = ids.shape
    joints = actor.joints[frame]
    states = np.full(len(joints), _BODY_STATES["visible"])
    head = float(actor.head_size[frame])
    path = actor.pixels[frame, :MOMENTS][:, list(POINT_OF_JOINT)]
    reach = path[-1] - path[0]
    smear = np.sqrt((reach**2).sum(-1))
    unclear = smear > SMEARED * head
    if scenario.defocus[frame] > UNSHARP * head or scenario.coarse[frame] >= COARSE:
        unclear[:] = True
    states[unclear] = _BODY_STATES["blurred"]
    hidden = _hidden_behind_people(actor, frame, number, ids)
    states[hidden == 1] = _BODY_STATES["self_occluded"]
    states[hidden == 2] = _BODY_STATES["occluder"]
    states[_hidden_share(scenario, frame, path, joints) >= COVERED] = _BODY_STATES["occluder"]
    if scenario.blank[frame]:
        states[:] = _BODY_STATES["occluder"]
    inside = (joints >= 0).all(1) & (joints[:, 0] <= width - 1) & (joints[:, 1] <= height - 1)
    states[~inside] = _BODY_STATES["out_of_frame"]
    return states


def _hidden_share(scenario: Scenario, frame: int, path: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """(15,) share of the exposure during which something passes before each joint."""
    share = np.zeros(len(joints))
    for moment in range(MOMENTS):
        time = frame + SHARP * scenario.shutter * (moment / (MOMENTS - 1) - 0.5)
        covered = np.zeros(len(joints), dtype=bool)
        for thing in scenario.before:
            covered |= thing.covers(path[moment], time)
        share += covered
    return share / MOMENTS


_OFFSETS = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])


def _hidden_behind_people(actor: Actor, frame: int, number: int, ids: np.ndarray) -> np.ndarray:
    """(15,) 0 where a joint shows, 1 where the own body hides it, 2 where somebody else's does."""
    height, width = ids.shape
    depth, hidden = actor.depth[frame, MIDDLE], np.zeros(len(PARTS_OF_JOINT), dtype=int)
    trunk_depth = (depth[8] + depth[0]) / 2
    trunk = {NUMBER[name] for name in TRUNK}
    for k, parts in enumerate(PARTS_OF_JOINT):
        spots = np.rint(actor.joints[frame, k]).astype(int) + _OFFSETS
        spots = np.clip(spots, 0, [width - 1, height - 1])
        votes = np.zeros(3, dtype=int)
        for id in ids[spots[:, 1], spots[:, 0]]:
            owner, part = divmod(int(id) - 1, PER_ACTOR)
            if id == 0 or (
                owner == number and part in parts and not (part in trunk and _beyond(k, depth, trunk_depth))
            ):
                votes[0] += 1
            else:
                votes[1 if owner == number else 2] += 1
        hidden[k] = int(votes.argmax())
    if depth[NOSE] >= depth[HEAD] + 0.03 and hidden[_NOSE] == 0:
        hidden[_NOSE] = 1
    return hidden


_NOSE = POINT_OF_JOINT.index(NOSE)
_PAIRED = {POINT_OF_JOINT[k] for k, parts in enumerate(PARTS_OF_JOINT) if len(parts & {NUMBER["torso"]})} - {8}


def _beyond(joint: int, depth: np.ndarray, trunk_depth: float) -> bool:
    """Whether a hip or shoulder lies on the far side of the trunk."""
    point = POINT_OF_JOINT[joint]
    return point in _PAIRED and bool(depth[point] > trunk_depth + 0.07)


assert len(PARTS) < PER_ACTOR and ONE == 16
