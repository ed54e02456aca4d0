"""Tables as values: typed columns, cells that know their records, the same numbers as HTML, CSV, Markdown and LaTeX."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

NONE = "–"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: as printed, the same in HTML, Markdown and LaTeX.
        value: the number behind it, for CSV; the text when it is not a number.
        records: keys of the records it comes from; every number has some.
        note: smaller second line (an interval, a status).
        low, high: bounds of the 95 % interval, for CSV.
        tone: "" | "best" | "bad" | "quiet".
        detail: the reason, shown on hover.
    """

    text: str
    value: float | str | None = None
    records: tuple[str, ...] = ()
    note: str = ""
    low: float | None = None
    high: float | None = None
    tone: str = ""
    detail: str = ""

    @property
    def printed(self) -> str:
        """Text and note on one line."""
        return f"{self.text} {self.note}".strip() if self.note else self.text


@dataclass(frozen=True)
class Column:
    """One column: its key in CSV, its heading, and whether it holds numbers."""

    key: str
    title: str
    unit: str = ""
    numeric: bool = True

    @property
    def heading(self) -> str:
        """Title with unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True)
class Table:
    """A table of the report.

    `name` is its file's stem; `rows` map column keys to cells, absent ones print a dash. `conditions` say what holds
    for every number; the page prints them once above, the files carry them along.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[dict[str, Cell], ...]
    caption: str = ""
    collapsed: bool = False
    conditions: str = ""

    def again(self, index: int) -> bool:
        """Whether a row begins with the same words as the one above it."""
        first = self.columns[0]
        return index > 0 and self.cell(self.rows[index], first).text == self.cell(self.rows[index - 1], first).text

    def cell(self, row: dict[str, Cell], column: Column) -> Cell:
        """The cell of a row, or a dash."""
        return row.get(column.key) or Cell(NONE, tone="quiet")

    def frame(self) -> pd.DataFrame:
        """As printed: headings and texts."""
        texts = [[self.cell(row, c).printed for c in self.columns] for row in self.rows]
        return pd.DataFrame(texts, columns=[c.heading for c in self.columns], dtype=object)

    def data(self) -> pd.DataFrame:
        """For machines: unrounded values, bounds of intervals, and the record keys of each row."""
        return pd.DataFrame([self._data_row(row) for row in self.rows], columns=self._data_columns(), dtype=object)

    def _bounded(self, column: Column) -> bool:
        return any(self.cell(row, column).low is not None for row in self.rows)

    def _data_columns(self) -> list[str]:
        names = [
            n for c in self.columns for n in (c.key, *((f"{c.key}_low", f"{c.key}_high") if self._bounded(c) else ()))
        ]
        return [*names, "records"]

    def _data_row(self, row: dict[str, Cell]) -> dict[str, object]:
        values: dict[str, object] = {}
        for column in self.columns:
            cell = row.get(column.key, Cell("", value=""))
            values[column.key] = _plain(cell.text if cell.value is None else cell.value)
            values[f"{column.key}_low"], values[f"{column.key}_high"] = cell.low, cell.high
        keys = dict.fromkeys(key for cell in row.values() for key in cell.records)
        return values | {"records": " ".join(keys)}


def _plain(value: float | str) -> float | str:
    """NaN as a word: an empty CSV cell means that nothing was measured."""
    return "nan" if isinstance(value, float) and math.isnan(value) else value


def number(
    value: float | None,
    digits: int,
    records: Iterable[str],
    interval: tuple[float, float] | None = None,
    tone: str = "",
    detail: str = "",
) -> Cell:
    """A cell holding a number with fixed decimals, and its interval as a note.

    A value that is NaN or infinite is printed as such, in the tone of a failure: it is a result, not a gap.
    """
    keys = tuple(dict.fromkeys(records))
    if value is None:
        return Cell(NONE, value="", records=keys, tone="quiet", detail=detail)
    if not math.isfinite(value):
        return Cell(
            str(value), value=value, records=keys, tone="bad", detail=detail or "the record holds no finite number"
        )
    known = interval is not None and all(map(math.isfinite, interval))
    low, high = interval if known else (None, None)
    note = f"[{fixed(low, digits)}, {fixed(high, digits)}]" if known else ""
    return Cell(fixed(value, digits), value, keys, note, low, high, tone, detail)


def fixed(value: float, digits: int) -> str:
    """A number with fixed decimals, thousands separated, a true minus sign, and no negative zero."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", "" if float(text.replace(",", "")) == 0 else "−")


def significant(value: float, digits: int = 3) -> int:
    """Decimals that show `digits` significant digits of a value, at most six."""
    if not math.isfinite(value) or value == 0:
        return 1
    return min(6, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def text(value: object, records: Iterable[str] = (), note: str = "", tone: str = "", detail: str = "") -> Cell:
    """A cell of words."""
    return Cell(str(value), None, tuple(dict.fromkeys(records)), note, tone=tone, detail=detail)


def to_csv(table: Table) -> str:
    """The table for machines: full precision, NaN written as NaN, `\\n` line ends."""
    return table.data().to_csv(index=False, na_rep="", lineterminator="\n")


def to_markdown(table: Table) -> str:
    """The table as printed, in GitHub's Markdown."""
    frame = table.frame().map(_markdown)
    frame.columns = [_markdown(c) for c in frame.columns]
    align = ["right" if c.numeric else "left" for c in table.columns]
    body = frame.to_markdown(index=False, disable_numparse=True, colalign=align) if len(frame) else "(no rows)"
    below = [_markdown(text) for text in (table.caption, table.conditions) if text]
    return "\n\n".join([f"**{_markdown(table.title)}**", body, *below]) + "\n"


def to_latex(table: Table) -> str:
    """The table as printed, for LaTeX with booktabs."""
    frame = table.frame().map(_latex)
    frame.columns = [_latex(c) for c in frame.columns]
    layout = "".join("r" if c.numeric else "l" for c in table.columns)
    lines = ["\\toprule", _latex_row(frame.columns), "\\midrule", *map(_latex_row, frame.to_numpy().tolist())]
    body = "\n".join([*lines, "\\bottomrule"])
    caption = _latex(" ".join(filter(None, [f"{table.title}.", table.caption, table.conditions])))
    return (
        f"% needs \\usepackage{{booktabs}}\n\\begin{{table}}\n\\caption{{{caption}}}\n"
        f"\\begin{{tabular}}{{{layout}}}\n{body}\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _markdown(value: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(value).split()))


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$", "×": r"$\times$", "±": r"$\pm$",
    "<": r"\textless{}", ">": r"\textgreater{}", "²": r"\textsuperscript{2}",
}  # fmt: skip


def _latex(value: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(str(value).split()))
