"""`scantwin`: runs a command and turns whatever goes wrong into a sentence and an exit code.

Nothing heavy is imported here, so that Ctrl-C during the loading of the command line is a sentence, too.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from scantwin.cores import share_cores
from scantwin.interrupts import Ended, end_on_signals, signalled

if TYPE_CHECKING:
    from click import ClickException

    from scantwin.errors import ScanTwinError


def main() -> None:
    """Entry point. Exit codes: 0 success, 1 failure, 2 bad input, 128 + the signal that ended it."""
    end_on_signals()
    share_cores()
    _print_whatever_comes()
    try:
        code = _run("--json" in sys.argv)
    except Ended as ended:  # before the command had begun
        sys.stderr.write("Interrupted.\n")
        code = ended.exit_code
    if code:
        sys.exit(code)


def _print_whatever_comes() -> None:
    """Prints names that are not UTF-8 with escapes, as on standard error, instead of ending the command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(as_json: bool) -> int:
    """Runs the command in `sys.argv` and reports what it raises; returns its exit code."""
    import click

    from scantwin.cli.commands import cli, missing_extra
    from scantwin.errors import ScanTwinError, from_os_error, short_of_memory

    try:
        code = cli.main(standalone_mode=False)
    except ScanTwinError as error:
        return _say(error, as_json)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt) as interrupt:
        number = signalled()
        _say(_interrupted(interrupt), as_json)
        return 130 if number is None else 128 + number
    except click.ClickException as error:
        return _say_of_words(error, as_json)
    except ModuleNotFoundError as error:
        # Heavy parts are imported when they are needed, so a missing extra may show only here.
        if (error.name or "").startswith("scantwin"):
            raise
        command = next((w for w in sys.argv[1:] if not w.startswith("-")), "")
        return _say(missing_extra(command), as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if os.environ.get("SCANTWIN_DEBUG"):
            raise
        return _say(from_os_error(error), as_json)
    except (MemoryError, RuntimeError) as error:
        if not short_of_memory(error):
            raise
        hint = "Choose a smaller input, in training a smaller batch, or --device cpu instead of a GPU."
        return _say(ScanTwinError("There is not enough memory for this.", hint=hint), as_json)
    return code if isinstance(code, int) else 0  # a number comes from typer.Exit


def _say_of_words(error: ClickException, as_json: bool) -> int:
    """Reports a usage error; a command without arguments prints its help instead of an error."""
    from click.exceptions import NoArgsIsHelpError

    from scantwin.errors import InputError

    if isinstance(error, NoArgsIsHelpError):
        if text := error.format_message():  # empty if typer has printed its own help
            sys.stdout.write(f"{text}\n")
        return error.exit_code
    return _say(InputError(error.format_message(), hint="See --help."), as_json)


def _interrupted(interrupt: BaseException) -> ScanTwinError:
    """The error for an interrupted command; its hint is the command's own note, if there is one."""
    from scantwin.errors import ScanTwinError

    # click raises its own Abort from the original exception.
    notes = getattr(interrupt.__cause__ or interrupt, "__notes__", [])
    usual = "Nothing is half-written; the same command can be run again."
    return ScanTwinError("Interrupted.", hint=" ".join(notes) or usual, code="interrupted")


def _say(error: ScanTwinError, as_json: bool) -> int:
    from rich.markup import escape

    from scantwin import NOTICE
    from scantwin.terminal import emit, err

    def people() -> None:
        if error.code == "interrupted":
            err.print(f"[yellow]{error.message}[/yellow] {escape(error.hint)}")
            return
        err.print(f"[bold red]error:[/bold red] {escape(error.message)}")
        if error.hint:
            err.print(f"[bold]hint:[/bold]  {escape(error.hint)}")

    emit({"error": error.as_json(), "notice": NOTICE}, as_json, people)
    return error.exit_code
