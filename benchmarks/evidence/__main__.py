"""The command: runs the requested experiments and writes the report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from scantwin.cores import share_cores
from scantwin.errors import ScanTwinError
from scantwin.interrupts import end_on_signals
from scantwin.learning.machine import use_threads
from scantwin.settings import load_settings
from scantwin.terminal import Json, emit, err, out

_REPO = Path(__file__).resolve().parents[2]


def evidence(
    quick: Annotated[
        bool, typer.Option(help="Small phantoms, short trainings: some 18 minutes on 2 cores.")
    ] = False,
    out_dir: Annotated[Path, typer.Option("--out", help="Where the report goes.")] = _REPO / "docs",
    only: Annotated[str | None, typer.Option(help="Run these again, others stay: NAME,NAME.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Phantoms, models, findings (default: scantwin's home / evidence).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train and measure every system on phantoms and on real patients; write evidence.md and evidence.json.

    After an interruption it continues where it was; rounds and the plain U-Net start again. Experiments that
    are not run keep their chapters.

    \b
    python -m benchmarks.evidence --quick
    python -m benchmarks.evidence --only sarcoma,districts
    """
    share_cores()
    from benchmarks.evidence import report
    from benchmarks.evidence.experiments import EXPERIMENTS, chosen, missing
    from benchmarks.evidence.settings import FULL, QUICK
    from benchmarks.evidence.side_by_side import Order, run_all

    use_threads()
    folder = work or load_settings().home / "evidence"
    order = Order(QUICK if quick else FULL, folder, out_dir / report.PICTURES, again=only is not None)
    kept = report.read_kept(out_dir)
    for name, found in run_all(chosen(only), order, quiet=as_json):
        if found is None:
            err.print(f"[yellow]{name}[/yellow]: its experiment is not in this checkout.")
            continue
        kept[name], aims = found, found.findings.aims
        # After every experiment, so that an interrupted run leaves a report of what there is.
        report.write(out_dir, kept, missing(list(EXPERIMENTS)))
        err.print(f"{name}: {found.seconds:.0f} s, {sum(a.met for a in aims)} of {len(aims)} aims met")
    data = report.write(out_dir, kept, missing(list(EXPERIMENTS)))
    emit(
        data,
        as_json,
        lambda: out.print(f"{out_dir / 'evidence.md'}: {data['aims_met']} of {data['aims_of']} aims met"),
    )


def main() -> None:
    """Entry point; an error is a sentence and an exit code."""
    end_on_signals()  # otherwise `kill` would leave a training on patients running
    try:
        typer.run(evidence)
    except ScanTwinError as error:
        err.print(f"[red]{error.message}[/red] {error.hint}")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
