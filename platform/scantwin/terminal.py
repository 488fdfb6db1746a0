"""What every command shares: options taken apart, JSON for machines, tables and progress for people."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from scantwin.errors import Rejection

out = Console(soft_wrap=True)
"""Results go here (standard output)."""

err = Console(stderr=True, soft_wrap=True)
"""Progress, warnings and errors go here, so that standard output stays clean for pipes."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document for machines.")]
"""The option that every command has."""

LARGEST_SEED: Final = 2**32 - 1
"""For every --seed: the same as in the twin service, so that either can repeat what the other made."""


def finite(value: float | None) -> float | None:
    """A callback of float options that refuses `nan` and infinity: for click, `nan` is within any limits."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number to work with.")
    return value


class Advance(Protocol):
    """What long work calls to report its progress."""

    def __call__(self, done: float, total: float, text: str = "") -> None:
        """Reports `done` of `total`, and what is being done."""


def silent(done: float, total: float, text: str = "") -> None:
    """An `Advance` that says nothing."""


def emit(data: Any, as_json: bool, people: Callable[[], None]) -> None:
    """Prints `data` as JSON, or lets `people` print it for people."""
    if as_json:
        sys.stdout.write(json.dumps(data, indent=2, default=str, allow_nan=False) + "\n")
        sys.stdout.flush()
    else:
        people()


def say_rejection(rejection: Rejection) -> None:
    """Says on standard error which study is left out, and why."""
    err.print(f"[yellow]left out:[/yellow] {escape(rejection.message)}")


@contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Advance]:
    """A progress bar on standard error; silent when `quiet` or not on a terminal."""
    if quiet or not err.is_terminal:
        yield silent
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: float, total: float, text: str = "") -> None:
            bar.update(task, completed=done, total=total, description=f"{title} {text}".strip())

        yield advance
