"""Everything that happens in one video, drawn from its seed before a pixel is painted.

Lengths in the image are pixels of the frame; times are in frames; `M` moments stand for an exposure, and the last
column of every per-moment array is its middle, where the labels are.
"""

import math
from dataclasses import dataclass

import numpy as np

from posescale.data.camera import look_at, rotation_matrix
from posescale.data.synthetic_video.figure import CROWN, HEAD, POINT_OF_JOINT, dot, points_of
from posescale.data.synthetic_video.looks import Look, colour, draw_look, shade
from posescale.data.synthetic_video.motion import RATE, between, draw_motion
from posescale.data.synthetic_video.scene import MARGIN, Thing, backdrop, stuff
from posescale.data.synthetic_video.settings import Settings, Slot

MOMENTS = 12
MIDDLE = MOMENTS  # column of the exposure's middle
EXTREMITIES = (6, 11, 0, 5, 7, 10, 1, 4, 8, 9, 13, 2, 3)  # POSETRACK joints, the ones worth hiding first


@dataclass(frozen=True)
class Actor:
    """One person: `pixels` (F, M+1, P, 2), `depth` (F, M+1, P) metres, `scale` (F, M+1, P) pixels per metre."""

    pixels: np.ndarray
    depth: np.ndarray
    scale: np.ndarray
    look: Look

    @property
    def joints(self) -> np.ndarray:
        """PoseTrack joints at the middle of each exposure, (F, 15, 2) pixels."""
        return self.pixels[:, MIDDLE][:, list(POINT_OF_JOINT)]

    @property
    def head_boxes(self) -> np.ndarray:
        """The head's box at the middle of each exposure, (F, 4) x, y, width, height."""
        frame = self.pixels[:, MIDDLE]
        radius = 0.105 * self.scale[:, MIDDLE, HEAD]
        low = np.minimum(frame[:, CROWN], frame[:, HEAD] - radius[:, None])
        high = np.maximum(frame[:, CROWN], frame[:, HEAD] + radius[:, None])
        return np.concatenate([low, high - low], 1)

    @property
    def head_size(self) -> np.ndarray:
        """(F,) pixels, as PoseTrack measures it: 0.6 of the head box's diagonal."""
        w, h = self.head_boxes[:, 2], self.head_boxes[:, 3]
        return 0.6 * np.sqrt(w * w + h * h)


@dataclass(frozen=True)
class Scenario:
    """One video.

    Attributes:
        actors: the people, the main one first.
        backdrop: image behind them, whose pixel p is seen at `zoom * p + offset`: (F, M+1) and (F, M+1, 2).
        behind, before: things that move behind the people, and those that hide them.
        shadows: per actor, (F, M+1, Q, 2) pixels of the joints' shadows on the floor.
        light: (2,) where light comes from in the image.
        defocus: (F,) standard deviation in pixels; coarse: (F,) factor of lost resolution; blank, repeated: (F,).
        noise: standard deviation of the sensor's noise in grey levels; gain: of the exposure in 1/256.
        quality: of the JPEG.
    """

    actors: list[Actor]
    backdrop: np.ndarray
    zoom: np.ndarray
    offset: np.ndarray
    behind: list[Thing]
    before: list[Thing]
    shadows: list[np.ndarray]
    light: np.ndarray
    defocus: np.ndarray
    coarse: np.ndarray
    blank: np.ndarray
    repeated: np.ndarray
    noise: float
    gain: int
    quality: int
    shutter: float


@dataclass(frozen=True)
class Lens:
    """A fixed pinhole camera whose image is then panned, zoomed and shaken (`moved`)."""

    position: np.ndarray
    axes: np.ndarray  # (3, 3): rows right, down, forward
    focal: float

    def image(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points to image-plane pixels `(..., 2)` about the axis, and depth `(...,)` in metres."""
        seen = points - self.position
        x, y, z = (dot(seen, axis) for axis in self.axes)
        z = np.maximum(z, 0.3)
        return np.stack([x / z * self.focal, y / z * self.focal], -1), z


def draw_scenario(slot: Slot, settings: Settings) -> Scenario:
    """All of one video but its pixels."""
    rng = slot.rng(settings.seed, "scenario")
    frames, fps = settings.frames, settings.fps
    shutter = rng.uniform(0.3, 0.8)
    moments = np.append(np.linspace(-0.5, 0.5, MOMENTS), 0.0) * shutter
    times = np.arange(frames)[:, None] + moments  # (F, M+1)
    span = (frames + 2) / fps
    world = [between(draw_motion(rng, slot.split, span, settings.seed, settings.source), (times + 1) / fps * RATE)]
    lens, height = _lens(rng, world[0], settings)
    if rng.random() < settings.second_person:
        runner = draw_motion(rng, slot.split, span, settings.seed, settings.source, "run")
        world.append(between(_crossing(rng, runner, lens), (times + 1) / fps * RATE))
    imaged = [lens.image(points_of(joints)) for joints in world]
    view = _Handheld(rng, imaged[0][0], times, height, settings)
    actors = []
    for plane, depth in imaged:
        scale = lens.focal / depth * view.zoom[..., None]
        actors.append(Actor(np.round(view.frame(plane), 3), np.round(depth, 4), scale, draw_look(rng)))
    before = _hiders(rng, actors[0], height, settings)
    far = lens.image(np.array([*(2.5 * lens.axes[2][:2]), 0.0]))[0][1]
    horizon = far + settings.height * MARGIN / 2 - view.middle[1]
    centre = np.array([settings.width, settings.height]) * MARGIN / 2 - view.middle
    losses = _losses(rng, settings, before, height)
    return Scenario(
        actors=actors, backdrop=backdrop(rng, settings.width, settings.height, horizon),
        zoom=view.zoom,
        offset=view.backdrop_offset(centre), behind=_passing(rng, settings), before=before,
        shadows=[_shadow(rng, joints, lens, view) for joints in world],
        light=np.array([rng.choice([-1.0, 1.0]) * 0.8, -0.6]), shutter=shutter, **losses,
    )  # fmt: skip


def _lens(rng: np.random.Generator, joints: np.ndarray, settings: Settings) -> tuple[Lens, float]:
    """A camera 3 to 8 m away that makes the person `height` pixels tall; behind the person in some videos."""
    middle = joints[:, MIDDLE, 0].mean(0)
    distance, high = rng.uniform(3.0, 8.0), rng.uniform(0.9, 2.0)
    left = (joints[:, MIDDLE, 4] - joints[:, MIDDLE, 1]).mean(0)
    heading = math.atan2(-left[0], left[1])
    azimuth = heading + math.pi + rng.uniform(-0.5, 0.5) if rng.random() < 0.25 else rng.uniform(0, 2 * math.pi)
    position = np.array([middle[0] + distance * math.cos(azimuth), middle[1] + distance * math.sin(azimuth), high])
    axes = np.round(rotation_matrix(look_at(position, [middle[0], middle[1], 0.85])).T, 6)
    height = rng.uniform(0.5, 0.75) * settings.height
    return Lens(np.round(position, 4), axes, round(height * distance / 1.75, 3)), height


def _crossing(rng: np.random.Generator, joints: np.ndarray, lens: Lens) -> np.ndarray:
    """A second person's motion `(S, 17, 3)`, turned and moved so that it passes the first one's place at a run.

    At about 2 m/s a passer-by hides a limb for a few frames.
    """
    across, away = lens.axes[0] * rng.choice([-1.0, 1.0]), lens.axes[2] * [1, 1, 0]
    path = joints[-1, 0] - joints[0, 0]
    length = math.hypot(path[0], path[1])
    if length > 0.3:
        cos = (path[0] * across[0] + path[1] * across[1]) / length
        sin = (path[0] * across[1] - path[1] * across[0]) / length
        x, y = joints[..., 0].copy(), joints[..., 1].copy()
        joints = np.stack([x * cos - y * sin, x * sin + y * cos, joints[..., 2]], -1)
    share = np.linspace(-1, 1, len(joints))[:, None, None]
    wanted = rng.uniform(1.6, 2.6) * len(joints) / RATE
    when, depth = rng.uniform(-0.3, 0.3), rng.uniform(0.6, 1.2) * rng.choice([-1, 1])
    return joints + across * (share - when) * max(wanted - length, 0) / 2 + away * depth


class _Handheld:
    """Pan that follows the main person, slow zoom, shake of the hand, and jerks that smear whole frames."""

    def __init__(
        self, rng: np.random.Generator, plane: np.ndarray, times: np.ndarray, height: float, settings: Settings
    ) -> None:
        frames = settings.frames
        hip = plane[:, MIDDLE, 0]
        width = int(rng.integers(9, 26))
        padded = np.concatenate([np.repeat(hip[:1], width, 0), hip, np.repeat(hip[-1:], width, 0)])
        smooth = np.stack([padded[n : n + 2 * width + 1].mean(0) for n in range(frames)])
        off = rng.uniform(-0.16, 0.16, 2) * [settings.width, settings.height * 0.35]
        pan = between(smooth, times) + off
        self.zoom = np.round(1 + rng.uniform(-0.12, 0.12) * (times / frames - 0.5), 5)
        shake = sum(
            amplitude * np.sin(2 * np.pi * rate * times[..., None] / settings.fps + phase)
            for amplitude, rate, phase in zip(
                rng.uniform(0.2, 2.2, 2), rng.uniform(0.6, 3.5, 2), rng.uniform(0, 6, (2, 2))
            )
        )
        offset = np.array([settings.width / 2, settings.height / 2]) + shake + _jerks(rng, times, height, settings)
        self.pan, self.offset = np.round(pan, 3), np.round(offset, 3)
        self.middle = np.round(smooth.mean(0), 1)

    def frame(self, plane: np.ndarray) -> np.ndarray:
        """Image-plane pixels `(F, M+1, P, 2)` to frame pixels."""
        return (plane - self.pan[:, :, None]) * self.zoom[..., None, None] + self.offset[:, :, None]

    def backdrop_offset(self, centre: np.ndarray) -> np.ndarray:
        """`(F, M+1, 2)` where the backdrop's pixel (0, 0) is seen; the camera's axis is at its pixel `centre`."""
        return self.offset - self.zoom[..., None] * (centre + self.pan)


def _jerks(rng: np.random.Generator, times: np.ndarray, height: float, settings: Settings) -> np.ndarray:
    """`(F, M+1, 2)` sweeps of single frames, centred on the exposure's middle; a fifth of a head to a head and more."""
    sweep = np.zeros((*times.shape, 2))
    share = np.append(np.linspace(-0.5, 0.5, MOMENTS), 0.0)
    for _ in range(rng.poisson(settings.jerks * settings.frames)):
        frame, angle = int(rng.integers(settings.frames)), rng.uniform(0, 2 * np.pi)
        reach = height * rng.uniform(0.08, 0.22)
        sweep[frame] = share[:, None] * reach * np.array([math.cos(angle), math.sin(angle)])
    return sweep


def _hiders(rng: np.random.Generator, actor: Actor, height: float, settings: Settings) -> list[Thing]:
    """Things that pass before the main person, each aimed at a joint that it covers for a drawn number of frames."""
    things = []
    joints = actor.joints
    count = rng.poisson(settings.hiders * settings.frames)
    for n in range(count):  # spread over the video, so that one seldom prolongs what another hides
        control = rng.random() < settings.long_share
        length = (
            rng.uniform(7, 12) if control else rng.choice([1, 2, 3, 4, 5, 6], p=[0.34, 0.3, 0.22, 0.12, 0.01, 0.01])
        )
        target = int(rng.choice(EXTREMITIES, p=_WEIGHTS))
        when = (n + rng.uniform(0.2, 0.8)) / count * (settings.frames - 1)
        where = joints[round(when), target] + rng.uniform(-0.02, 0.02, 2) * height
        along = height * rng.uniform(0.1, 0.17)
        across = height * (rng.uniform(0.09, 0.14) if control else rng.uniform(0.1, 0.3))
        angle = (
            rng.normal(0, 0.35) + (math.pi if rng.random() < 0.5 else 0) + (math.pi / 2 if rng.random() < 0.2 else 0)
        )
        heading = np.array([math.cos(angle), math.sin(angle)])
        shape = str(rng.choice(["panel", "ball", "limb"], p=[0.65, 0.2, 0.15]))
        if shape == "limb":
            along, across = along * 1.5, max(across * 0.5, height * 0.07)
            along = max(along, across)
        half = np.round([along, across], 3)
        texture = shade(colour(rng)) if shape == "limb" else stuff(rng)
        reach = (settings.width + 2 * height) / max(2 * along / length, 0.1)
        things.append(
            Thing(shape, half, round(heading[0], 6), round(heading[1], 6), np.round(where, 3), when,
                  np.round(heading * 2 * along / length, 4), texture, when - reach, when + reach)
        )  # fmt: skip
    return things


_WEIGHTS = np.array([0.14, 0.14, 0.11, 0.11, 0.09, 0.09, 0.08, 0.08, 0.03, 0.03, 0.04, 0.03, 0.03])


def _passing(rng: np.random.Generator, settings: Settings) -> list[Thing]:
    """Things and limb-like shapes that move behind the people all the time."""
    things = []
    for _ in range(int(rng.integers(1, 4))):
        shape = str(rng.choice(["panel", "ball", "limb", "limb"]))
        angle = rng.uniform(0, 2 * math.pi)
        half = np.sort(rng.uniform(0.02, 0.11, 2))[::-1] * settings.height
        velocity = np.array([rng.uniform(-4, 4), rng.uniform(-1, 1)])
        where = rng.uniform(0, 1, 2) * [settings.width, settings.height * 0.8]
        texture = shade(colour(rng)) if shape == "limb" else stuff(rng)
        things.append(
            Thing(shape, np.round(half, 3), round(math.cos(angle), 6), round(math.sin(angle), 6), np.round(where, 3),
                  settings.frames / 2, np.round(velocity, 4), texture, -10.0, settings.frames + 10.0)
        )  # fmt: skip
    return things


def _losses(rng: np.random.Generator, settings: Settings, before: list[Thing], height: float) -> dict:
    """Defocus, lost resolution, blank and repeated frames, noise, exposure, JPEG."""
    frames = settings.frames
    defocus, coarse = np.zeros(frames), np.ones(frames, dtype=int)
    for _ in range(rng.poisson(settings.defocus * frames)):
        start, length = int(rng.integers(frames)), int(rng.integers(1, 4))
        if rng.random() < 0.6:
            defocus[start : start + length] = round(height * rng.uniform(0.02, 0.045), 2)
        else:
            coarse[start : start + length] = int(rng.integers(4, 9))
    blank, repeated = rng.random((2, frames)) < settings.dropped
    repeated[0] = False
    dim = rng.random() < 0.25
    return {
        "defocus": defocus, "coarse": coarse, "blank": blank, "repeated": repeated & ~blank,
        "noise": rng.uniform(4, 9) if dim else rng.uniform(0.5, 4), "gain": int(rng.integers(110, 190) if dim else 256),
        "quality": int(rng.integers(22, 55) if rng.random() < 0.3 else rng.integers(75, 95)),
    }  # fmt: skip


def _shadow(rng: np.random.Generator, joints: np.ndarray, lens: Lens, view: _Handheld) -> np.ndarray:
    """Where the joints' shadows fall on the floor, (F, M+1, 17, 2) pixels."""
    slope = rng.uniform(-0.35, 0.35, 2)
    floor = np.concatenate([joints[..., :2] + joints[..., 2:] * slope, np.zeros_like(joints[..., :1])], -1)
    return view.frame(lens.image(floor)[0])
