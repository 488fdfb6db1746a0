"""`scantwin models`: lists the registry's models, and moves models into and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from scantwin import NOTICE
from scantwin.store.database import Database
from scantwin.store.models import ModelVersion
from scantwin.store.registry import Registry
from scantwin.terminal import Json, emit, out

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List, show, fetch and publish models of this machine's registry.",
)

Wanted = Annotated[
    str, typer.Argument(metavar="VERSION", help="A version id, or a name for its newest version.")
]


@app.command("list")
def list_versions(
    name: Annotated[str | None, typer.Option(help="Only versions first published under this name.")] = None,
    system: Annotated[str | None, typer.Option(help="Only versions of this system.")] = None,
    as_json: Json = False,
) -> None:
    """List the versions, newest first.

    \b
    scantwin models list --system pix2pix
    """
    versions = _registry().list(name=name, system=system)

    def people() -> None:
        if not versions and (name or system):
            out.print("No version in the registry matches.")
            return
        if not versions:
            out.print(
                "The registry is empty. Publish a model with `scantwin models publish DIR --name NAME`."
            )
            return
        # On a narrow terminal a version wraps, and is never cut.
        version, called, parent = (Column(one, overflow="fold") for one in ("version", "name", "parent"))
        table = Table(version, called, "published (UTC)", "MB", parent)
        for v in versions:
            size = f"{v.size_bytes / 1e6:.1f}"
            table.add_row(v.id, v.name, f"{v.created_at:%Y-%m-%d %H:%M}", size, v.parent or "")
        out.print(table)

    emit({"models": [_row(v) for v in versions], "notice": NOTICE}, as_json, people)


@app.command()
def show(version: Wanted, as_json: Json = False) -> None:
    """Show one version: recipe, training record and files.

    \b
    scantwin models show demo
    """
    found = _registry().find(version)

    def people() -> None:
        out.print(f"[bold]{found.id}[/bold]  {found.name}  {found.size_bytes / 1e6:.1f} MB  {NOTICE}")
        for title, part in (("recipe", found.recipe), ("record", found.record), ("files", found.files)):
            table = Table(title, "", title_justify="left")
            for key, value in part.items():
                table.add_row(escape(str(key)), escape(str(value)))
            out.print(table)

    whole = {**_row(found), "recipe": found.recipe, "record": found.record, "files": found.files}
    emit({**whole, "notice": NOTICE}, as_json, people)


@app.command()
def fetch(
    version: Wanted,
    into: Annotated[
        Path, typer.Option("--out", help="The folder in which the version's folder is made.")
    ] = Path(),
    as_json: Json = False,
) -> None:
    """Copy a version out of the registry and check its hashes.

    \b
    scantwin models fetch demo --out models
    """
    registry = _registry()
    folder = registry.fetch(version, into)
    data = {"version": folder.name, "folder": str(folder), "notice": NOTICE}
    emit(data, as_json, lambda: out.print(f"{folder.name} is in {folder}"))


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="A model's folder, as `scantwin train --out` writes it.")],
    name: Annotated[str, typer.Option(help="The name that then means this version.")],
    parent: Annotated[
        str | None, typer.Option(help="The version that training started from, or its name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put a model's folder into the registry. It must load and hold nothing but the model.

    \b
    scantwin models publish model --name demo
    """
    from scantwin.learning.weights import require_model_alone

    require_model_alone(folder)
    registry = _registry()
    came_from = None if parent is None else registry.find(parent).id
    version = registry.publish(folder, name=name, parent=came_from, actor="command line")
    # The version's own name is the one that it was first published under.
    data = {**_row(version), "name": name, "notice": NOTICE}
    emit(data, as_json, lambda: out.print(f"Published {version.id} as {name}"))


@app.command()
def starter(as_json: Json = False) -> None:
    """Show the starter models that come with ScanTwin; they were trained on phantoms only.

    \b
    scantwin models starter
    scantwin models publish FOLDER --name starter   # to serve one
    """
    from scantwin.translation.starter import about_starter, shipped

    rows = [about_starter(name) for name in shipped()]

    def people() -> None:
        table = Table("name", "MB", "learnt from", "folder")
        for row in rows:
            size = f"{row['size_bytes'] / 1e6:.1f}"
            table.add_row(row["name"], size, row["trained_on"], row["folder"])
        out.print(table)

    emit({"models": rows, "notice": NOTICE}, as_json, people)


def _registry() -> Registry:
    return Registry.from_settings(Database.from_settings().migrate())


def _row(version: ModelVersion) -> dict[str, Any]:
    return {
        "version": version.id, "name": version.name, "system": version.system, "parent": version.parent,
        "size_bytes": version.size_bytes, "created_at": version.created_at.isoformat(),
    }  # fmt: skip
