"""`posescale datasets`: what there is, and what is missing on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from posescale.commands.output import AsJson, show


def datasets(
    source: Annotated[Path | None, typer.Option(help="Folder to look in, instead of POSESCALE_DATA.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the datasets: task, licence, size, protocols, what is missing here and how to get it."""
    from posescale.data import catalog

    rows = []
    for id in catalog.datasets():
        card = catalog.dataset_card(id)
        lacking = catalog.missing(id, source)
        rows.append({"dataset": id, "status": lacking or "ready", **card.model_dump(exclude={"id", "protocols"}),
                     "protocols": ", ".join(card.protocols)})  # fmt: skip
    show(rows, as_json, "Datasets", ["dataset", "task", "licence", "size", "status"])
    if not as_json:
        for row in rows:
            if row["status"] != "ready":
                typer.echo(f"{row['dataset']}: {row['obtain']}")
