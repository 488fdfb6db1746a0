"""Options of the commands that run networks: how many CPU threads, and where."""

from __future__ import annotations

from typing import Annotated

import typer

Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads (default: all).")]
Device = Annotated[
    str | None,
    typer.Option(help="Where networks run: cpu, cuda, cuda:1 (default: SCANTWIN_DEVICE, else cpu)."),
]


def use_machine(threads: int | None, device: str | None) -> None:
    """Sets what networks use in this process. Raises `InputError` if this machine lacks the device."""
    from scantwin.learning.machine import use_device, use_threads

    use_threads(threads)
    use_device(device)
