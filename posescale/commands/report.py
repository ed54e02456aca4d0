"""`posescale report`: tables, figures and the page, from records alone."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    records: Annotated[
        list[Path], typer.Option("--records", help="Record file, or folder searched for *.jsonl; may be given again.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the report; replaced as a whole.")] = Path("reports/published"),
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "posescale: how video pose models scale",
) -> None:
    """Build tables (csv, md, tex), figures (svg, png) and one static page from records alone; no torch, no network."""
    from posescale.report import build

    typer.echo(build(records, out, title))
