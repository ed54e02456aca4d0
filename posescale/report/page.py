"""What a page is made of: sections of notes, tables and figures."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from posescale.report.tables import Table


@dataclass(frozen=True)
class Note:
    """A paragraph. `tone` is "" or "warning"; `records` are the keys of the records its numbers come from."""

    text: str
    tone: str = ""
    records: tuple[str, ...] = ()
    kind: str = "note"


@dataclass(frozen=True)
class Heading:
    """A heading inside a section, with the conditions that hold for everything below it."""

    text: str
    conditions: str = ""
    kind: str = "heading"


@dataclass(frozen=True)
class Plot:
    """A figure. `name` is its files' stem, `alt` says in words what it shows."""

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    png: bytes
    kind: str = "plot"


@dataclass(frozen=True)
class Grid:
    """A table among a section's blocks."""

    table: Table
    kind: str = "table"


Block = Note | Heading | Plot | Grid


@dataclass(frozen=True)
class Section:
    """One section of the page."""

    anchor: str
    title: str
    lead: str
    blocks: tuple[Block, ...] = ()

    @property
    def tables(self) -> list[Table]:
        """Its tables."""
        return [block.table for block in self.blocks if isinstance(block, Grid)]

    @property
    def plots(self) -> list[Plot]:
        """Its figures."""
        return [block for block in self.blocks if isinstance(block, Plot)]


def slug(*parts: object) -> str:
    """A file's stem from any words."""
    words = "-".join(str(p) for p in parts if p not in (None, ""))
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:80] or "x"


def listing(words: Iterable[object], limit: int = 6) -> str:
    """Words as English: "a", "a and b", "a, b and 4 more"."""
    items = [str(w) for w in words]
    if len(items) > limit:
        items = [*items[: limit - 1], f"{len(items) - limit + 1} more"]
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]])) if items else "none"


def count(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it must be."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
