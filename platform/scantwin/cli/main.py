"""`scantwin`: collects the sub-commands of the roles that are installed and turns errors into sentences."""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
import typer
from rich.markup import escape

from scantwin import NOTICE, __version__
from scantwin.errors import InputError, MissingExtra, ScanTwinError, from_os_error
from scantwin.terminal import emit, err

_ORDER = (
    "demo", "doctor", "suv", "dicom", "phantom", "train", "evaluate", "adapt", "scan", "generate", "models",
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
    return command


def _missing_extra(command: str) -> MissingExtra:
    extras = [
        extra for point in entry_points(group="scantwin.commands", name=command) for extra in point.extras
    ]
    return MissingExtra(f"scantwin {command}", extras[0] if extras else "all")


def _missing(point: EntryPoint) -> click.Command:
    error = _missing_extra(point.name)

    def refuse() -> None:
        raise error

    # Any argument is taken, so that the answer is always what to install.
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

    \b
    scantwin demo                     three sites train, one patient is scanned
    scantwin suv SERIES               SUV factors of PET series and how they were derived
    scantwin scan ct.nii.gz --model DIR --out DIR
    """


def main() -> None:
    """Entry point. Exit codes: 0 well, 1 failure, 2 bad input, 130 interrupted."""
    as_json = "--json" in sys.argv
    try:
        code = cli.main(standalone_mode=False)
        if isinstance(code, int) and code:  # what typer.Exit said
            sys.exit(code)
    except ScanTwinError as error:
        _fail(error, as_json)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        err.print("[yellow]Interrupted.[/yellow] Nothing is half-written; run the same command to go on.")
        sys.exit(130)
    except click.ClickException as error:
        _fail(InputError(error.format_message(), hint="See --help."), as_json)
    except ModuleNotFoundError as error:
        # Heavy parts are imported when they are needed, so a missing extra may show as late as here.
        if (error.name or "").startswith("scantwin"):
            raise
        _fail(_missing_extra(next((w for w in sys.argv[1:] if not w.startswith("-")), "")), as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if os.environ.get("SCANTWIN_DEBUG"):
            raise
        _fail(from_os_error(error), as_json)
    except MemoryError:
        _fail(ScanTwinError("There is not enough memory for this.", hint="Choose a smaller input."), as_json)


def _fail(error: ScanTwinError, as_json: bool) -> None:
    def people() -> None:
        err.print(f"[bold red]error:[/bold red] {escape(error.message)}")
        if error.hint:
            err.print(f"[bold]hint:[/bold]  {escape(error.hint)}")

    emit({"error": error.as_json(), "notice": NOTICE}, as_json, people)
    sys.exit(error.exit_code)
