"""The sub-commands of the roles that are installed here, each loaded on demand."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
import typer
from typer.rich_utils import rich_format_help

from scantwin import __version__
from scantwin.errors import MissingExtra

_ORDER = (
    "demo", "doctor", "suv", "dicom", "phantom", "train", "evaluate", "scan", "generate", "models",
    "consortium", "site", "twin", "dashboard",
)  # fmt: skip


class _Commands(click.Group):
    """Loads a command's module only when it is asked for: `--help` stays instant and needs no torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        names = {point.name for point in entry_points(group="scantwin.commands")}
        return [n for n in _ORDER if n in names] + sorted(names - set(_ORDER))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        found = list(entry_points(group="scantwin.commands", name=cmd_name))
        return _load(found[0]) if found else None

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Formats the help as typer does for every command below."""
        rich_format_help(obj=self, ctx=ctx, markup_mode="rich")


def _load(point: EntryPoint) -> click.Command:
    try:
        target: Any = point.load()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("scantwin"):
            raise
        return _missing(point)
    app = target
    if not isinstance(target, typer.Typer):
        app = typer.Typer(add_completion=False)
        app.command(point.name)(target)
    command = typer.main.get_command(app)
    command.name = point.name
    _reflow(command)
    return command


def _reflow(command: click.Command) -> None:
    """Joins each paragraph of the help into one line, which the terminal wraps at its own width: typer keeps
    the line breaks of the source. Lines after a \\b are examples and stay as they are."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    command.help = "\n\n".join(
        part.removeprefix("\b\n") if part.startswith("\b\n") else " ".join(part.split())
        for part in paragraphs
    )
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _reflow(below)


def missing_extra(command: str) -> MissingExtra:
    """The error that says what to install for a command."""
    extras = [
        extra for point in entry_points(group="scantwin.commands", name=command) for extra in point.extras
    ]
    return MissingExtra(f"scantwin {command}", extras[0] if extras else "all")


def _missing(point: EntryPoint) -> click.Command:
    error = missing_extra(point.name)

    def refuse() -> None:
        raise error

    # Any argument is accepted, so that the answer is always what to install.
    return click.Command(
        point.name,
        callback=refuse,
        help=f"Not installed here: {error.hint}",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="scantwin")
def cli() -> None:
    """A virtual PET scanner that hospitals train together. SYNTHETIC, NOT FOR DIAGNOSIS.

    scantwin demo             # three sites train, one patient is scanned
    scantwin suv SERIES       # SUV factors of PET series, derived step by step
    scantwin scan ct.nii.gz --out scan/
    """
