"""How runs and sites are shown: as JSON, as a live table, as a few lines at the end."""

from __future__ import annotations

from typing import Any, Self

from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table

from scantwin import NOTICE
from scantwin.store.models import Round, Run, Update
from scantwin.terminal import err, out

_USE_OF_CT_MODELS = {"ct-inpainting": "generate lesions CTS", "low-resource-3d": "generate volumes"}
"""The command that uses a model that makes CT; the others scan."""

_COLOURS = {"accepted": "green", "refused": "red", "missing": "yellow"}


def run_as_json(run: Run) -> dict[str, Any]:
    """A run with its rounds and what became of each site in them."""
    return {
        "run": run.id, "name": run.name, "system": run.system, "status": run.status,
        "rounds_planned": run.rounds_planned, "seed": run.seed, "base_version": run.base_version,
        "final_version": run.final_version, "flower_run_id": run.flower_run_id, "error": run.error,
        "started_at": _time(run.started_at), "finished_at": _time(run.finished_at),
        "rounds": [_round_as_json(one) for one in run.rounds], "notice": NOTICE,
    }  # fmt: skip


class LiveRun:
    """A table of a run that grows during the training, on standard error; nothing when quiet."""

    def __init__(self, rounds: int, *, quiet: bool) -> None:
        self._rounds = rounds
        self._live = None if quiet else Live(console=err, auto_refresh=False)
        self._seen: dict[int, str] = {}

    def __enter__(self) -> Self:
        """Begins to draw."""
        if self._live is not None and err.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the last table on the screen."""
        if self._live is not None and self._live.is_started:
            self._live.stop()

    def show(self, run: Run) -> None:
        """Draws the run; without a terminal, one line for each round that changed."""
        if self._live is None:
            return
        if self._live.is_started:
            self._live.update(_table(run, self._rounds), refresh=True)
            return
        for one in run.rounds:
            if self._seen.get(one.number) != one.status:
                self._seen[one.number] = one.status
                err.print(f"round {one.number} of {self._rounds}: {one.status}")


def say_end(run: Run) -> None:
    """Prints how a run ended, for people."""
    if run.status == "finished":
        out.print(f"[green]Finished.[/green] {run.name} is now the version {run.final_version}.")
        if run.error:
            out.print(f"[yellow]{escape(run.error)}[/yellow]")
        use = _USE_OF_CT_MODELS.get(run.system, "scan CT")
        out.print(f"Next: scantwin {use} --model {run.name} --out DIR")
    else:
        out.print(f"[red]The run {run.status}[/red]: {escape(run.error or 'no reason is known')}")


def say_status(data: dict[str, Any]) -> None:
    """Prints the consortium's sites and runs, for people."""
    out.print(
        f"[bold]{data['name']}[/bold] {'runs' if data['running'] else 'does not run'} at {data['superlink']}"
    )
    sites = Table(_whole("site"), "kind", "status", "link")
    for one in data["sites"]:
        sites.add_row(one["site"], one["kind"], one["status"], one["link"])
    out.print(sites)
    runs = Table(_whole("run"), _whole("name"), "status", "rounds", _whole("final version"))
    for run in data["runs"]:
        rounds = f"{len(run['rounds'])} of {run['rounds_planned']}"
        runs.add_row(run["run"], run["name"], run["status"], rounds, run["final_version"] or "")
    out.print(runs)


def _whole(title: str) -> Column:
    """A column of text that people copy: on a narrow terminal it wraps, and is never cut."""
    return Column(title, overflow="fold")


def _table(run: Run, rounds: int) -> Table:
    table = Table(
        "round", "status", "site", "update", "patches", "loss", "s", title=f"{run.name}: {run.status}"
    )
    for one in run.rounds:
        measured = _mae(one, "HU" if run.system in _USE_OF_CT_MODELS else "SUV")
        label = f"{one.number} of {rounds}"
        status = f"{one.status} {measured}".strip()
        if not one.updates:
            table.add_row(label, status, "", "", "", "", "")
        for update in one.updates:
            table.add_row(
                label,
                status,
                update.site.name,
                _update(update),
                _patches(update),
                _loss(update),
                f"{update.seconds:.0f}",
            )
            label = status = ""
    return table


def _round_as_json(one: Round) -> dict[str, Any]:
    return {
        "round": one.number, "status": one.status, "model_version": one.model_version,
        "started_at": _time(one.started_at), "finished_at": _time(one.finished_at),
        "sites": {
            update.site.name: {
                "status": update.status, "reason": update.reason, "patches": dict(update.patches),
                "metrics": dict(update.metrics), "bytes_in": update.bytes_in, "bytes_out": update.bytes_out,
                "seconds": update.seconds,
            }
            for update in one.updates
        },
        "held_out": dict(one.held_out or {}), "references": dict(one.references or {}),
    }  # fmt: skip


def _update(update: Update) -> str:
    return f"[{_COLOURS[update.status]}]{update.status}[/] {escape(update.reason)}".strip()


def _patches(update: Update) -> str:
    return str(max(update.patches.values(), default=0)) if update.patches else ""


def _loss(update: Update) -> str:
    losses = update.metrics.get("losses", {})
    values = [value for name, value in losses.items() if name.endswith("/l1")]
    return f"{sum(values) / len(values):.3f}" if values else ""


def _mae(one: Round, unit: str) -> str:
    mae = (one.held_out or {}).get("whole-body", {}).get("mae", {}).get("mean")
    return "" if mae is None else f"MAE {mae:.2f} {unit}"


def _time(moment: Any) -> str | None:
    return None if moment is None else moment.isoformat()
