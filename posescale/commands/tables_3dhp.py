"""`posescale tables-3dhp`: the official tables of MPI-INF-3DHP from stored predictions."""

from pathlib import Path
from typing import Annotated

import typer

from posescale.commands.output import AsJson, show

GROUPS = ("head", "neck", "shoulder", "elbow", "wrist", "hip", "knee", "ankle", "total")


def tables_3dhp(
    predictions: Annotated[Path, typer.Argument(help="Stored by `posescale evaluate --predictions`.")],
    data: Annotated[Path | None, typer.Option(help="The prepared data, where they have moved since.")] = None,
    as_json: AsJson = False,
) -> None:
    """Print MPJPE by joint, PCK and AUC by joint group, for each sequence, setting and activity of MPI-INF-3DHP.

    Activities need data prepared from the original .mat files; the npz hold none.
    """
    from posescale.train.threedhp import official_tables

    rows = official_tables(predictions, data)
    if as_json:
        show(rows, True)
        return
    joints = [key for key in rows[0] if key.startswith("mpjpe_")]
    for title, columns in (
        ("MPJPE by joint, mm", joints),
        ("PCK below 150 mm, %", [f"pck_{group}" for group in GROUPS]),
        ("AUC over 0, 5, ... 150 mm, %", [f"auc_{group}" for group in GROUPS]),
    ):
        show(rows, False, title, ["row", "frames", *columns])
