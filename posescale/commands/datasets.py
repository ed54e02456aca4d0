"""`posescale datasets`: what there is, what is missing on this machine, and how to get it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from posescale.commands.output import AsJson, show


def datasets(
    name: Annotated[str | None, typer.Argument(help="One dataset, with everything that is known of it.")] = None,
    source: Annotated[Path | None, typer.Option(help="Folder to look in, instead of POSESCALE_DATA.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the datasets: licence and whether it was accepted, size, what is missing here and the exact steps to it."""
    from posescale.data import catalog

    ids = [catalog.dataset_card(name).id] if name else catalog.datasets()
    rows = [_row(id, source) for id in ids]
    columns = None if name else ["dataset", "task", "licence", "size", "status"]
    show(rows, as_json, "Datasets", columns)
    if not as_json and not name:
        for row in rows:
            if row["status"] != "ready":
                typer.echo(f"{row['dataset']}: {row['next_step']}")


def _row(id: str, source: Path | None) -> dict[str, Any]:
    from posescale import consent
    from posescale.data import catalog

    card = catalog.dataset_card(id)
    agreed = consent.accepted(id, card.terms)
    lacking = catalog.missing(id, source)
    status = "; ".join(filter(None, [lacking, "" if agreed else "its licence is not accepted yet"]))
    fetchable = card.fetch is not None
    return {
        "dataset": id, "title": card.title, "task": card.task, "status": status or "ready",
        "next_step": _next_step(id, lacking, card.obtain) if status else "",
        "licence": card.licence, "licence_accepted": "not needed" if card.terms is None else agreed,
        "licence_at": card.terms.read_at if card.terms else "", "acknowledgement": card.acknowledgement,
        "obtain": card.obtain, "fetchable": fetchable,
        "download_gb": round(card.fetch.disk / 1e9, 3) if fetchable else None,
        "layout": card.layout, "size": card.size, "splits": card.splits, "protocols": ", ".join(card.protocols),
    }  # fmt: skip


def _next_step(id: str, lacking: str, obtain: str) -> str:
    if lacking:
        return " ".join(obtain.split())
    return f"read the licence, then `posescale data prepare {id} --out FOLDER --accept-licence`"
