"""Building the report: records in, a folder of page, tables, figures and records out, swapped in as a whole."""

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import jinja2
import markupsafe

from posescale import records as store
from posescale.cards import ROOT
from posescale.errors import DataError
from posescale.folders import swap_in
from posescale.report import (
    accuracy,
    cost,
    failures,
    kernels,
    ledger,
    overview,
    provenance,
    style,
    timing,
    tradeoff,
    training,
    video,
)
from posescale.report.evidence import Entry, Evidence, gather, table
from posescale.report.metrics import metrics
from posescale.report.page import Block, Grid, Plot, Section
from posescale.report.protocols import protocol_tables
from posescale.report.schemas import admit
from posescale.report.studies import studies as studies_of
from posescale.report.tables import to_csv, to_latex, to_markdown

TEMPLATES = ROOT / "reports" / "templates"
STYLE = ROOT / "reports" / "style"
_PARTS = {
    "index.html",
    "tables",
    "figures",
    "records.jsonl",
    "records.csv",
    "metrics.json",
}  # what a report folder holds, and nothing else


@dataclass(frozen=True)
class Content:
    """Everything the page shows."""

    evidence: Evidence
    summary: list[overview.Note]
    headlines: list[overview.Headline]
    sections: list[Section]


def build(records: list[Path], out: Path, title: str, studies: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Build the report from records alone and swap it in as a whole.

    The same records give the same bytes, wherever they lie and in whatever order.

    Args:
        records: record files and folders of them.
        out: folder of the report; an earlier report there is replaced, and survives a build that fails.
        title: heading of the page.
        studies: titles of studies by the ids that records carry; a study without one goes by its id.

    Returns:
        the page, `out/index.html`.

    Raises:
        DataError: a path does not exist, or `out` holds something that is not a report.
    """
    out = Path(out)
    _check_replaceable(out)
    content = compose(gather(records, studies))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _write(partial, content, title)
        swap_in(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out / "index.html"


def compose(evidence: Evidence) -> Content:
    """The sections of the page, from the evidence."""
    measured = ledger.without_counts(evidence)
    values, refused = admit(e for e in measured.entries if not e.superseded_by)
    looks = style.looks(measured.entries)
    studies = studies_of(measured, values)
    sections = [
        accuracy.section(studies, looks, protocol_tables(measured, values)),
        *video.sections(studies, looks),
        training.section(measured, looks),
        cost.section(measured, values, looks),
        timing.section(measured, values, looks),
        kernels.section(measured, values),
        tradeoff.section(measured, values, studies, looks),
        ledger.section(evidence),
        failures.section(evidence, refused),
        provenance.section(evidence),
    ]
    found = overview.headlines(studies, looks)
    return Content(evidence, overview.summary(measured), found, _unique_names(filter(None, sections)))


def _unique_names(sections: Iterable[Section]) -> list[Section]:
    """Tables and figures with a name already taken get a number, so that no file overwrites another."""
    taken: set[str] = set()

    def unique(name: str) -> str:
        number, free = 1, name
        while free in taken:
            number += 1
            free = f"{name}-{number}"
        taken.add(free)
        return free

    def renamed(block: Block) -> Block:
        if isinstance(block, Grid):
            return Grid(replace(block.table, name=unique(block.table.name)))
        return replace(block, name=unique(block.name)) if isinstance(block, Plot) else block

    return [replace(section, blocks=tuple(map(renamed, section.blocks))) for section in sections]


def _write(folder: Path, content: Content, title: str) -> None:
    (folder / "tables").mkdir()
    (folder / "figures").mkdir()
    for section in content.sections:
        for grid in section.tables:
            for suffix, writer in (("csv", to_csv), ("md", to_markdown), ("tex", to_latex)):
                (folder / "tables" / f"{grid.name}.{suffix}").write_text(writer(grid), encoding="utf-8")
        for plot in section.plots:
            (folder / "figures" / f"{plot.name}.svg").write_text(plot.svg, encoding="utf-8")
            (folder / "figures" / f"{plot.name}.png").write_bytes(plot.png)
    numbers = metrics(ledger.without_counts(content.evidence))
    (folder / "metrics.json").write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    entries = content.evidence.entries
    store.write(folder / "records.jsonl", (e.record for e in entries))
    (folder / "records.csv").write_text(table(entries).to_csv(index=False, lineterminator="\n"), encoding="utf-8")
    (folder / "index.html").write_text(render(content, title), encoding="utf-8")


def render(content: Content, title: str) -> str:
    """The page as one HTML text; every string from a record is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["inline"] = style.inline
    environment.filters["inline_color"] = style.variable
    environment.filters["raw_json"] = raw_json
    environment.filters["prose"] = prose
    css = (STYLE / "report.css").read_text(encoding="utf-8")
    return environment.get_template("index.html.j2").render(
        title=title, css=css, content=content, circumstances=failures.circumstances, meaning=failures.MEANING
    )


def prose(text: str) -> markupsafe.Markup:
    """Escaped text, in which words between backticks are code."""
    return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def raw_json(entry: Entry) -> str:
    """A record as indented JSON; long samples are counted here and complete in records.jsonl."""
    content = json.loads(entry.record.line())
    for field in ("samples", "labels"):
        short = {k: v if len(v) <= 8 else f"{len(v)} entries, see records.jsonl" for k, v in content[field].items()}
        content[field] = short
    return json.dumps({k: v for k, v in content.items() if v not in (None, {}, [], "")}, indent=1, ensure_ascii=False)


def _check_replaceable(out: Path) -> None:
    found = {p.name for p in out.iterdir()} if out.is_dir() else {out.name} if out.exists() else set()
    if foreign := sorted(found - _PARTS):
        raise DataError(
            f"{out}: the report replaces this folder as a whole, but {foreign[0]} in it is no part of a report; "
            "give another folder, or move that away first"
        )
