"""What a person sees of the demo: the stages as a checklist, with times, and the rounds as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from scantwin import NOTICE
from scantwin.calibration.measure import EARL_BIAS
from scantwin.terminal import err


class Story:
    """A checklist that fills up. Plain lines where there is no terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self.seconds: dict[str, float] = {}
        self._done: list[tuple[str, float, str]] = []
        self._now: tuple[str, float] | None = None
        self._detail = ""
        self._rounds: dict[int, dict[str, dict[str, float]]] = {}
        self._spinner = Spinner("dots")
        self._quiet = quiet
        self._live = Live(console=err, get_renderable=self._draw, refresh_per_second=8, transient=False)

    def __enter__(self) -> Story:
        if err.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """One stage; its time is kept under `name`."""
        began = time.monotonic()
        self._now, self._detail = (title, began), ""
        if not err.is_terminal and not self._quiet:
            err.print(f"- {title}")
        try:
            yield
            self._done.append((title, time.monotonic() - began, self._detail))
        finally:
            self.seconds[name] = round(time.monotonic() - began, 2)
            self._now = None

    def say(self, detail: str) -> None:
        """Says what the stage is doing."""
        if detail != self._detail and not err.is_terminal and not self._quiet:
            err.print(f"    {detail}")
        self._detail = detail

    def round(self, number: int, held_out: dict[str, dict[str, float]]) -> None:
        """Shows a round's error on held-out patients."""
        if number not in self._rounds and held_out and not err.is_terminal and not self._quiet:
            maes = ", ".join(f"{district} {values['mae']:.3f}" for district, values in held_out.items())
            err.print(f"    round {number}: MAE [SUV] {maes}")
        if held_out:
            self._rounds[number] = held_out

    def _draw(self) -> RenderableType:
        steps = Table.grid(padding=(0, 1))
        for title, seconds, detail in self._done:
            steps.add_row("[green]✔[/green]", title, f"[dim]{seconds:.0f} s[/dim]", f"[dim]{detail}[/dim]")
        if self._now:
            title, began = self._now
            steps.add_row(
                self._spinner, f"[bold]{title}[/bold]", f"{time.monotonic() - began:.0f} s", self._detail
            )
        parts: list[RenderableType] = [steps]
        if self._rounds:
            parts += [Text(), rounds_table(self._rounds)]
        return Panel(
            Group(*parts), title="ScanTwin demo", subtitle=f"[red]{NOTICE}[/red]", border_style="cyan"
        )


def rounds_table(rounds: dict[int, dict[str, dict[str, float]]]) -> Table:
    """Mean absolute error [SUV] on held-out patients: one row per round, one column per district."""
    districts = list(next(iter(rounds.values())))
    table = Table(
        "after round", *districts, title="Mean absolute error on held-out patients [SUV]", title_style=""
    )
    for number, held_out in sorted(rounds.items()):
        table.add_row(str(number), *(f"{held_out[d]['mae']:.3f}" if d in held_out else "" for d in districts))
    return table


def closing_tables(result: dict[str, Any]) -> Group:
    """The last round beside the simple references and, if it was measured, the sites' SUV calibration."""
    calibration = result["calibration"]
    return Group(_errors(result), *([_calibration(calibration)] if calibration else []))


def _errors(result: dict[str, Any]) -> Table:
    last = result["rounds"][-1]["held_out"]
    table = Table("", *last, title="Held-out MAE [SUV]", title_style="")
    table.add_row("[bold]model[/bold]", *(f"[bold]{last[d]['mae']:.3f}[/bold]" for d in last))
    for name, figures in result["baselines"].items():
        table.add_row(name, *(f"{figures[d]['mae']:.3f}" if d in figures else "" for d in last))
    return table


def _calibration(sites: dict[str, dict[str, float]]) -> Table:
    table = Table("", "measured", "true", "", title="SUV bias of each site's newest cylinder", title_style="")
    for name, bias in sites.items():
        off = abs(bias["measured_bias"]) > EARL_BIAS
        verdict = f"[yellow]beyond EARL's {100 * EARL_BIAS:.0f} %: recalibrate[/yellow]" if off else ""
        measured, true = (f"{100 * bias[kind]:+.1f} %" for kind in ("measured_bias", "true_bias"))
        table.add_row(name, measured, true, verdict)
    return table
