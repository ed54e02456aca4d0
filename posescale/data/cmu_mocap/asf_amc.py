"""Acclaim skeletons (.asf) and motions (.amc), as CMU publishes them: parsing and forward kinematics.

For a bone with parent p: G = G_p C M C^-1 and end = end_p + G (direction * length). C is the rotation of the bone's
`axis`, M that of its angles in the order of `dof`; of both, the first named is applied first, about fixed axes. A
child starts where its parent ends.
"""

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posescale.errors import DataError

log = logging.getLogger(__name__)
METRES = (1 / 0.45) * 0.0254  # per length unit of CMU's files (CMU's FAQ)
ROOT = "root"
ROOT_CHANNELS = ("TX", "TY", "TZ", "RX", "RY", "RZ")


@dataclass(frozen=True)
class Bone:
    """One bone: `axis` in degrees about x, y, z; `dof` the angles an .amc gives for it, in order, as "x", "y", "z"."""

    name: str
    parent: str | None
    direction: np.ndarray
    length: float
    axis: tuple[float, float, float]
    dof: str


@dataclass(frozen=True)
class Skeleton:
    """A skeleton: bones by name, root first, every parent before its children."""

    path: Path
    bones: dict[str, Bone]

    @property
    def channels(self) -> dict[str, int]:
        """How many values an .amc gives for each bone that moves."""
        return {b.name: 6 if b.parent is None else len(b.dof) for b in self.bones.values() if b.parent is None or b.dof}


@dataclass(frozen=True)
class Motion:
    """Channel values over time: bone -> `(F, values)`, degrees (the root's first three are a position)."""

    path: Path
    frames: int
    values: dict[str, np.ndarray]


def _refuse(path: Path, line: int | None, expected: str, found: str) -> DataError:
    place = f"{path}:{line}" if line else str(path)
    return DataError(f"{place}: expected {expected}, found {found}; get the file again from its source")


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not text.strip():
        raise DataError(f"{path}: the file is empty; get the file again from its source")
    return text.splitlines()


def _numbers(path: Path, line: int, words: list[str], count: int, what: str) -> list[float]:
    """`count` finite numbers from the words of a line."""
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise _refuse(path, line, f"{count} numbers for {what}", repr(" ".join(words))) from error
    if len(numbers) != count:
        raise _refuse(path, line, f"{count} numbers for {what}", f"{len(numbers)}")
    if not all(math.isfinite(number) for number in numbers):
        raise _refuse(path, line, f"finite numbers for {what}", " ".join(words))
    return numbers


Sections = dict[str, list[tuple[int, list[str]]]]


def _sections(path: Path) -> Sections:
    """The file's sections: name -> (line number, words) of each line that is not empty or a comment."""
    sections: Sections = {}
    current: list[tuple[int, list[str]]] = []
    for number, text in enumerate(_lines(path), start=1):
        text = text.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith(":"):
            name, *rest = text[1:].split()
            current = sections.setdefault(name.lower(), [])
            text = " ".join(rest)
        if text:
            current.append((number, text.split()))
    for name in ("units", "root", "bonedata", "hierarchy"):
        if not sections.get(name):
            raise _refuse(path, None, f"a section :{name} with content", f"sections {', '.join(sections) or 'none'}")
    return sections


def read_asf(path: Path | str) -> Skeleton:
    """Read a skeleton.

    Raises:
        DataError: a section is missing or empty, units are not degrees, a length or name is missing or doubled, an
            order is not understood, or the hierarchy is no tree over all bones. Names file and line.
    """
    path = Path(path)
    sections = _sections(path)
    _check_units(path, sections["units"])
    _check_root(path, sections["root"])
    loose = _bone_data(path, sections["bonedata"])
    parents = _hierarchy(path, sections["hierarchy"], loose)
    bones = {ROOT: Bone(ROOT, None, np.zeros(3), 0.0, (0.0, 0.0, 0.0), "")}
    for name, parent in parents.items():
        bones[name] = Bone(name=name, parent=parent, **loose[name])
    return Skeleton(path, bones)


def _check_units(path: Path, lines: list[tuple[int, list[str]]]) -> None:
    units = {words[0]: (number, words[1:]) for number, words in lines}
    number, angle = units.get("angle", (lines[0][0], []))
    if angle != ["deg"]:
        raise _refuse(path, number, "`angle deg` in :units", f"angle {' '.join(angle) or 'missing'}")
    number, length = units.get("length", (lines[0][0], []))
    if _numbers(path, number, length, 1, "`length` in :units") != [0.45]:
        raise _refuse(path, number, "`length 0.45` in :units (CMU's scale)", f"length {' '.join(length)}")


def _check_root(path: Path, lines: list[tuple[int, list[str]]]) -> None:
    """CMU's root has one form; any other would need formulas that nothing here has tested."""
    for key, expected in {"order": list(ROOT_CHANNELS), "axis": ["XYZ"]}.items():
        number, words = next(((n, w) for n, w in lines if w[0] == key), (lines[0][0], [key, "missing"]))
        if [word.upper() for word in words[1:]] != expected:
            raise _refuse(path, number, f"`{key} {' '.join(expected)}` for the root", " ".join(words))
    for key in ("position", "orientation"):
        for number, words in lines:
            if words[0] == key and any(_numbers(path, number, words[1:], 3, key)):
                raise _refuse(path, number, f"`{key} 0 0 0` for the root", " ".join(words))


def _bone_data(path: Path, lines: list[tuple[int, list[str]]]) -> dict[str, dict]:
    """The bones between `begin` and `end`, by name: direction, length, axis and dof."""
    bones: dict[str, dict] = {}
    block: dict[str, tuple[int, list[str]]] | None = None
    for number, words in lines:
        if words == ["begin"] and block is None:
            block = {}
        elif words == ["end"] and block is not None:
            name, fields = _bone(path, number, block)
            if name in bones or name == ROOT:
                raise _refuse(path, number, "every bone once", f"a second {name}")
            bones[name] = fields
            block = None
        elif block is None or words[0] in ("begin", "end"):
            raise _refuse(path, number, "`begin` ... `end` around each bone", " ".join(words))
        else:
            block[words[0]] = (number, words[1:])
    if block is not None:
        raise _refuse(path, lines[-1][0], "`end` of the last bone", "the end of the section; is the file cut off?")
    return bones


def _bone(path: Path, end: int, block: dict[str, tuple[int, list[str]]]) -> tuple[str, dict]:
    for key in ("name", "direction", "length", "axis"):
        if key not in block or not block[key][1]:
            raise _refuse(path, end, f"a line `{key}` in the bone that ends here", "none")
    name = block["name"][1][0]
    direction = np.array(_numbers(path, block["direction"][0], block["direction"][1], 3, f"direction of {name}"))
    length = _numbers(path, block["length"][0], block["length"][1], 1, f"length of {name}")[0]
    number, (*axis, order) = block["axis"]
    if order.upper() != "XYZ":
        raise _refuse(path, number, f"axis order XYZ of {name}", order)
    axis = _numbers(path, number, axis, 3, f"axis of {name}")
    number, dof = block.get("dof", (end, []))
    if any(word.lower() not in ("rx", "ry", "rz") for word in dof) or len(set(dof)) != len(dof):
        raise _refuse(path, number, f"angles rx, ry, rz of {name}, each at most once", " ".join(dof))
    if length < 0:
        raise _refuse(path, block["length"][0], f"a length of {name} that is not negative", f"{length}")
    norm = float(np.sqrt((direction**2).sum()))
    if length > 0 and abs(norm - 1) > 1e-3:
        raise _refuse(path, block["direction"][0], f"a direction of {name} of length 1", f"length {norm:.4g}")
    return name, {
        "direction": direction, "length": length, "axis": tuple(axis), "dof": "".join(word[1].lower() for word in dof),
    }  # fmt: skip


def _hierarchy(path: Path, lines: list[tuple[int, list[str]]], bones: dict[str, dict]) -> dict[str, str]:
    """Parent of each bone, in an order that has parents first."""
    parents: dict[str, str] = {}
    for number, words in lines:
        if words in (["begin"], ["end"]):
            continue
        parent, *children = words
        for name in words:
            if name != ROOT and name not in bones:
                raise _refuse(path, number, "bones that :bonedata describes", name)
        if parent != ROOT and parent not in parents:
            raise _refuse(path, number, "a parent that an earlier line attaches", parent)
        for child in children:
            if child in parents or child == ROOT:
                raise _refuse(path, number, "one parent for each bone", f"another for {child}")
            parents[child] = parent
    loose = [name for name in bones if name not in parents]
    if loose:
        raise _refuse(path, lines[-1][0], "every bone in the hierarchy", f"no parent of {', '.join(loose)}")
    return parents


_INTEGER = re.compile(r"[+-]?\d+")
Block = list[tuple[int, list[str]]]  # the lines of one frame: line number, words


def read_amc(path: Path | str, skeleton: Skeleton) -> Motion:
    """Read a motion made for `skeleton`. If the file ends within its last frame, that frame is dropped with a warning.

    Raises:
        DataError: any other damage: a missing header, bones that the skeleton does not have or that are missing or
            doubled in a frame, a wrong count of values, values that are not finite numbers, frame numbers that do not
            go up by one. Names file and line.
    """
    path = Path(path)
    lines = _lines(path)
    blocks = _frames(path, lines)
    channels = skeleton.channels
    if len(blocks) > 1 and _torn(blocks[-1][1], [words[0] for _, words in blocks[0][1]], channels, _closed(path)):
        number = blocks.pop()[0]
        log.warning("%s:%d: the file ends within the frame that begins here; it is dropped, %d frames remain",
                    path, number, len(blocks))  # fmt: skip
    frames = [_frame(path, number, block, channels, skeleton.path) for number, block in blocks]
    values = {name: np.array([frame[name] for frame in frames]) for name in channels}
    return Motion(path, len(frames), values)


def _closed(path: Path) -> bool:
    """Whether the file's last line is complete, that is, ends with a line feed."""
    with path.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read() == b"\n"


def _frames(path: Path, lines: list[str]) -> list[tuple[int, Block]]:
    """The frames: line of the frame number, lines of bones. The file's last line may be a frame number cut short."""
    header: list[str] = []
    blocks: list[tuple[int, Block]] = []
    previous = None
    for number, text in enumerate(lines, start=1):
        words = text.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0].startswith(":"):
            if blocks:
                raise _refuse(path, number, "a frame or a bone", text.strip())
            header.append(words[0].lower())
        elif len(words) == 1 and _INTEGER.fullmatch(words[0]):
            _check_header(path, number, header)
            frame = int(words[0])
            cut = number == len(lines) and str((previous or 0) + 1).startswith(words[0])
            if previous is not None and frame != previous + 1 and not cut:
                raise _refuse(path, number, f"frame number {previous + 1}", words[0])
            previous = frame
            blocks.append((number, []))
        elif not blocks:
            raise _refuse(path, number, "the first frame number", text.strip())
        else:
            blocks[-1][1].append((number, words))
    if not blocks:
        raise _refuse(path, len(lines), "at least one frame", "none")
    return blocks


def _check_header(path: Path, line: int, header: list[str]) -> None:
    if ":radians" in header:
        raise _refuse(path, line, ":DEGREES before the first frame", ":RADIANS")
    for needed in (":fully-specified", ":degrees"):
        if needed not in header:
            raise _refuse(path, line, f"{needed.upper()} before the first frame", " ".join(header).upper() or "nothing")


def _torn(block: Block, order: list[str], channels: dict[str, int], closed: bool) -> bool:
    """Whether a last frame is whole up to where the file ends, and its bones are not all there.

    Args:
        block: its lines.
        order: the bones of the first frame, which every frame repeats.
        channels: values per bone.
        closed: whether the file's last line is complete; otherwise it may end anywhere, in a name or in a value.
    """
    if block and not closed:
        *block, (_, last) = block
        place = len(block)
        if place >= len(order) or len(last) - 1 > channels.get(last[0], 0):
            return False
        name_fits = order[place] == last[0] or (len(last) == 1 and order[place].startswith(last[0]))
        if not name_fits or (place == len(order) - 1 and len(last) - 1 == channels.get(last[0])):
            return False  # a strange name, or the very last value: the frame is complete
    elif len(block) >= len(order):
        return False
    names = [words[0] for _, words in block]
    return names == order[: len(names)] and all(len(words) - 1 == channels.get(words[0]) for _, words in block)


def _frame(path: Path, line: int, block: Block, channels: dict[str, int], asf: Path) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for number, (name, *words) in block:
        if name not in channels:
            raise _refuse(path, number, f"a bone that moves in {asf.name}", name)
        if name in values:
            raise _refuse(path, number, "each bone once in a frame", f"{name} again")
        values[name] = _numbers(path, number, words, channels[name], name)
    missing = [name for name in channels if name not in values]
    if missing:
        raise _refuse(path, line, "every bone in each frame", f"a frame without {', '.join(missing)}")
    return values


def _rotation(order: str, degrees: np.ndarray) -> np.ndarray:
    """Rotations `(..., 3, 3)` about fixed axes; `degrees` (..., len(order)), the first named applied first."""
    total = np.broadcast_to(np.eye(3), (*degrees.shape[:-1], 3, 3))
    for column, name in enumerate(order):
        axis = "xyz".index(name)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        cosine, sine = np.cos(np.radians(degrees[..., column])), np.sin(np.radians(degrees[..., column]))
        turn = np.zeros((*degrees.shape[:-1], 3, 3))
        turn[..., axis, axis] = 1
        turn[..., i, i], turn[..., i, j], turn[..., j, i], turn[..., j, j] = cosine, -sine, sine, cosine
        total = turn @ total
    return total


def bone_ends(skeleton: Skeleton, motion: Motion) -> dict[str, np.ndarray]:
    """Forward kinematics: the end of every bone, `(F, 3)` metres in CMU's axes (y up); the root's is its position."""
    root = motion.values[ROOT]
    turned = {ROOT: _rotation("xyz", root[:, 3:])}
    ends = {ROOT: root[:, :3]}
    for bone in list(skeleton.bones.values())[1:]:
        turned[bone.name] = turned[bone.parent]
        if bone.dof:
            axis = _rotation("xyz", np.array(bone.axis))
            turned[bone.name] = turned[bone.parent] @ axis @ _rotation(bone.dof, motion.values[bone.name]) @ axis.T
        ends[bone.name] = ends[bone.parent] + turned[bone.name] @ (bone.direction * bone.length)
    return {name: end * METRES for name, end in ends.items()}
