"""`posescale claims`: the ledger of published numbers."""

import difflib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from posescale import records as store
from posescale.claims import WORDS, Cell, Claim, ledger_rows, load_claims, look, sort, summary, to_count
from posescale.claims.printed import parse
from posescale.commands.output import AsJson, show
from posescale.errors import ConfigError
from posescale.files import write_whole
from posescale.records import Record

log = logging.getLogger(__name__)
RESULTS = Path("results")
COUNTED = RESULTS / "claims"
COLUMNS = ["published", "ours", "verdict", "reason"]


def claims(
    model: Annotated[str | None, typer.Option(help="Only models or components whose name contains this.")] = None,
    paper: Annotated[str | None, typer.Option(help="Only this paper, by its id (posemamba, motionbert ...).")] = None,
    quantity: Annotated[str | None, typer.Option(help="Only this quantity (parameters, macs, mpjpe ...).")] = None,
    verdict: Annotated[str | None, typer.Option(help=f"Only this verdict: {', '.join(WORDS)}.")] = None,
    records: Annotated[
        list[Path] | None, typer.Option(help="Folder or file of records; repeat for more. All of results/ if unset.")
    ] = None,
    count: Annotated[
        bool, typer.Option(help="Count what no record holds yet; kept in results/claims, delete that to count again.")
    ] = True,
    record: Annotated[
        Path | None, typer.Option(help="Keep the counts made now in this .jsonl file, not in results/claims.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the rows to this JSON file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show every published number with our value, the verdict and its reason."""
    chosen = _chosen(load_claims(), model, paper, quantity)
    _check("--verdict", verdict, WORDS)
    places = [*(records or ([RESULTS] if RESULTS.exists() else []))]
    if record is None and COUNTED.exists():
        places.append(COUNTED)
    found, means = list(store.read(places)), look(map(Path, places))
    if count:
        found += count_missing(to_count(chosen, sort(found, means)), record)
    rows = [r for r in ledger_rows(found, chosen, means) if verdict in (None, r["verdict"])]
    if out is not None:
        write_whole(out, json.dumps(rows, indent=1, allow_nan=False) + "\n")
    if as_json:
        show(rows, as_json=True)
        return
    for group in dict.fromkeys(r["paper"] for r in rows):
        _print([r for r in rows if r["paper"] == group])
    typer.echo(summary(rows))


def _chosen(all_claims: Sequence[Claim], model: str | None, paper: str | None, quantity: str | None) -> list[Claim]:
    _check("--paper", paper, sorted({c.paper for c in all_claims}))
    _check("--quantity", quantity, sorted({c.quantity for c in all_claims}))
    found = [c for c in all_claims if paper in (None, c.paper) and quantity in (None, c.quantity)]
    named = [c for c in found if model is None or any(model.lower() in n.lower() for n in (c.model, c.component or ""))]
    if not named:
        names = sorted({c.component or c.model for c in found})
        near = difflib.get_close_matches(model or "", names, n=3) or names[:10]
        raise ConfigError(f"no claim about {model!r} with this choice; there are claims about {', '.join(near)}")
    return named


def _check(option: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        near = difflib.get_close_matches(value, known, n=3) or known
        raise ConfigError(f"{option}: nothing is called {value!r}; did you mean {', '.join(near)}?")


def _counter() -> Callable[..., Record]:
    from posescale.measure.cost import cost

    return cost


def count_missing(cells: Sequence[Cell], record: Path | None = None) -> list[Record]:
    """Count the cost of cells and keep the records: all in the file `record`, or each in one of results/claims."""
    counter = _counter() if cells else None
    if cells:
        log.info("counting %d configurations of models; kept in %s, so only once", len(cells), record or COUNTED)
    made = []
    for cell in _progress(cells):
        made.append(counter(cell.variant, cell.frames, study="claims", **cell.overrides))
        if record is None:
            store.write(COUNTED / _file(cell), made[-1:])
    if record is not None:
        store.write(record, made)
    return made


def _progress(cells: Sequence[Cell]) -> Iterable[Cell]:
    from rich.console import Console
    from rich.progress import track

    return track(cells, description="counting", console=Console(stderr=True), transient=True)


def _file(cell: Cell) -> str:
    suffix = f"-{sha256(cell.changes.encode()).hexdigest()[:8]}" if cell.overrides else ""
    return f"{cell.variant}-T{cell.frames}{suffix}.jsonl"


def _print(rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    where = " ".join(str(first[key]) for key in ("venue", "year", "url") if first[key])
    title = f"{first['paper']}: {first['title']}" + (f" ({where})" if where else "")
    show([_line(r) for r in rows], as_json=False, title=title, columns=COLUMNS)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """A row for people: few and wide columns, so that reasons stay readable on a narrow terminal."""
    unit = "" if row["unit"] in ("parameters", "MAC", "FLOP", "%", "x") else f" {row['unit']}"
    clip = f", T={row['frames']}" if row["frames"] else ""
    published = f"{row['model']}{clip}\n{row['quantity']} {row['printed']}{unit}\n{row['table']}"
    ours = "" if row["ours"] is None else parse(row["printed"]).like(row["ours"], more=1)
    reason = f"{row['reason']}. {row['note']}" if row["note"] else row["reason"]
    return {"published": published, "ours": ours, "verdict": row["verdict"], "reason": reason}
