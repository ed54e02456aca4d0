"""What sweeps run over: clips of more and more frames, or frames of more and more pixels at one clip length."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

PIXELS = 16  # per token: heat maps, and the tokens of a model at full size, stand at a quarter of height and width


@dataclass(frozen=True)
class Axis:
    """The horizontal axis of a sweep.

    Attributes:
        key: of its column in files.
        symbol: the letter in headings, and what exponents are of.
        label: below figures.
        notes: what else a column says, by place.
    """

    key: str = "frames"
    symbol: str = "T"
    label: str = "clip length T (frames)"
    notes: tuple[tuple[int, str], ...] = ()

    def heading(self, place: int) -> str:
        """A column's heading."""
        note = dict(self.notes).get(place)
        return f"{self.symbol} = {place:,}" + (f" ({note})" if note else "")


FRAMES = Axis()
Where = TypeVar("Where", bound=NamedTuple)  # conditions with a field `resolution`
Rows = dict[str, dict[int, Any]]


def tokens_axis(sizes: Mapping[int, str]) -> Axis:
    """The axis of a resolution sweep; `sizes` says which height and width each number of tokens is."""
    return Axis("tokens", "L", "tokens L = T H W / 16", tuple(sorted(sizes.items())))


def swept(found: Mapping[Where, Rows]) -> list[tuple[Where, Rows, Axis]]:
    """Sweeps over T, one for each set of conditions, and over the resolution, one for each T measured at several.

    Conditions of one T whose resolution is part of a sweep stand there alone. In a resolution sweep's conditions, the
    field `resolution` says T.
    """
    sizes: dict[tuple[Where, int], dict[str, Rows]] = {}
    for where, rows in found.items():
        for row, points in rows.items() if where.resolution else ():
            for t, point in points.items():
                own = sizes.setdefault((where._replace(resolution=""), t), {}).setdefault(where.resolution, {})
                own.setdefault(row, {})[_tokens(t, where.resolution)] = point
    ladders = {key: own for key, own in sizes.items() if len(own) > 1}
    made = [
        (where, rows, FRAMES)
        for where, rows in sorted(found.items())
        if len(lengths := _lengths(rows)) != 1 or (where._replace(resolution=""), lengths[0]) not in ladders
    ]
    for (where, t), own in sorted(ladders.items()):
        axis = tokens_axis({_tokens(t, size): size for size in own})
        made.append((where._replace(resolution=f"T = {t}"), _merged(own), axis))
    return made


def _lengths(rows: Rows) -> list[int]:
    return sorted({t for points in rows.values() for t in points})


def _tokens(frames: int, resolution: str) -> int:
    height, _, width = resolution.partition(" × ")
    return frames * int(height) * int(width) // PIXELS


def _merged(parts: Mapping[str, Rows]) -> Rows:
    merged: Rows = {}
    for rows in parts.values():
        for row, points in rows.items():
            merged.setdefault(row, {}).update(points)
    return merged
