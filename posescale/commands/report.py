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
    study: Annotated[
        list[str] | None, typer.Option(help="ID=TITLE: what the page calls a study of the records; may be given again.")
    ] = None,
) -> None:
    """Build tables (csv, md, tex), figures (svg, png) and one static page from records alone; no torch, no network."""
    from posescale.report import build

    named = [text.partition("=") for text in study or ()]
    if wrong := [name for name, sign, words in named if not (name and sign and words)]:
        raise typer.BadParameter(f"--study {wrong[0]}: expected ID=TITLE")
    typer.echo(build(records, out, title, {name: words for name, _, words in named}))
