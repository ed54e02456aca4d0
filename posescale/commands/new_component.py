"""`posescale new-component`: a folder that passes the contract tests before anything was changed in it."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from posescale.cards import ROOT, components
from posescale.errors import ConfigError

SCAFFOLD = ROOT / "posescale" / "scaffold"


def new_component(
    name: Annotated[str, typer.Argument(help="Id: lower-case letters, digits and underscores.")],
    family: Annotated[Literal["models", "baselines"], typer.Option(help="Folder it is put into.")] = "baselines",
    into: Annotated[
        Path | None, typer.Option(help="Another parent folder; name it in POSESCALE_COMPONENTS to use it.")
    ] = None,
) -> None:
    """Write a new component: network, card and README of a small working lifting model to start from."""
    folder = (into or ROOT / family) / name
    _refuse_clashes(name, folder)
    class_name = "".join(part.capitalize() for part in name.split("_"))
    environment = Environment(
        loader=FileSystemLoader(SCAFFOLD / "lifting"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    texts = {
        template.removesuffix(".j2"): environment.get_template(template).render(
            name=name, title=class_name, class_name=class_name
        )
        for template in environment.list_templates()
    }
    folder.mkdir(parents=True)
    for file, text in {"__init__.py": "", **texts}.items():
        (folder / file).write_text(text, encoding="utf-8")
    typer.echo(f"{folder}: written. Next: pytest tests/models -k {name}; posescale cost {name}_tiny --frames 27")


def _refuse_clashes(name: str, folder: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"{name!r}: a component id is lower-case letters, digits and underscores, a letter first")
    taken = next((c for c in components().values() if c.card.id == name or c.variant == f"{name}_tiny"), None)
    if taken or folder.exists():
        raise ConfigError(f"{name!r} is taken by {taken.folder if taken else folder}; choose another id")
