"""`posescale average-splits`: one record from the records of all published splits."""

from pathlib import Path
from typing import Annotated

import typer

from posescale.commands.output import AsJson, show


def average_splits(
    files: Annotated[list[Path], typer.Argument(help="Records of `posescale evaluate`, one per split.")],
    record: Annotated[Path | None, typer.Option(help="Write the average's record to this .jsonl file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Average a model's scores over a dataset's published splits, as papers report JHMDB."""
    from posescale import records
    from posescale.metrics.splits import average_of_splits

    found = average_of_splits(list(records.read(files)))
    if record:
        records.write(record, [found])
    rows = [
        {"model": found.variant, "split": split, "pck": part["pck"], "status": part["status"], "record": part["record"]}
        for split, part in found.options["parts"].items()
    ]
    mean = next((v.value for v in found.values if (v.name, v.group) == ("pck", "")), None)
    rows.append({"model": found.variant, "split": "mean", "pck": mean, "status": found.status, "record": found.id})
    show(rows, as_json, title=f"{found.variant}, {found.dataset}, protocol {found.protocol} (pck in percent)")
