"""`scantwin train`: one model on one machine's studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scantwin import NOTICE
from scantwin.cli.durations import seconds_of
from scantwin.errors import InputError
from scantwin.terminal import Json, emit, out, progress_bar

if TYPE_CHECKING:
    from scantwin.learning.cohort import Cohort
    from scantwin.learning.recipe import Recipe


def train(
    data: Annotated[Path, typer.Option(help="Folder of studies with CT and PET (DICOM or NIfTI).")],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the model; complete in itself.")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or a TOML file.")] = "pix2pix",
    budget: Annotated[str | None, typer.Option(help="Stop training after this long: 90s, 5m, 1h.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps (default 2000, or what the budget allows).")
    ] = None,
    held_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of patients kept for the error bar.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads (default: all).")] = None,
    as_json: Json = False,
) -> None:
    """Train a CT -> PET model on the studies of one folder. Killed, it goes on where it was.

    \b
    scantwin train --recipe pix2pix --data studies/ --out model/ --budget 5m
    """
    from scantwin import systems
    from scantwin.evaluation.held_out import measure
    from scantwin.evaluation.references import training_statistics
    from scantwin.learning.machine import use_threads
    from scantwin.learning.recipe import Recipe
    from scantwin.learning.training import train as run
    from scantwin.learning.weights import Model, system_arrays

    plan = Recipe.load(recipe)
    limit = None if budget is None else seconds_of(budget)
    planned = steps or (1_000_000 if limit else 2000)
    use_threads(threads)
    cohort = cohort_of(data, plan, out_dir.parent / f".{out_dir.name}-cache", held_out, quiet=as_json)
    system = systems.build(plan, seed=seed)
    state = out_dir.parent / f".{out_dir.name}-training.safetensors"
    with progress_bar("training", quiet=as_json) as advance:
        result = run(
            system, cohort.training, steps=planned, seed=seed, budget_s=limit, resume=state, advance=advance
        )
    with progress_bar("measuring the error bar", quiet=as_json) as advance:
        measured = measure(system, cohort.held_out, trained=result.patches, advance=advance)
    record: dict[str, Any] = {
        "trained_on": f"{len(cohort.training)} studies of one machine", "patches": result.patches,
        "steps": result.steps, "seed": seed, "losses": result.losses, "held_out": len(cohort.held_out),
        "seconds": result.seconds,
    }  # fmt: skip
    statistics = {**training_statistics(cohort.training), **(measured.statistics if cohort.held_out else {})}
    Model(plan, system_arrays(system), record, statistics).save(out_dir)
    state.unlink(missing_ok=True)
    said = {
        "notice": NOTICE, "model": str(out_dir), "steps": result.steps, "seconds": round(result.seconds, 1),
        "losses": result.losses, "patches": result.patches,
        "studies": {"training": len(cohort.training), "held_out": len(cohort.held_out)},
    }  # fmt: skip
    emit(
        said,
        as_json,
        lambda: out.print(f"[bold]{out_dir}[/bold]: {result.steps} steps in {result.seconds:.0f} s"),
    )


def cohort_of(data: Path, recipe: Recipe, cache: Path, held_out: float, *, quiet: bool) -> Cohort:
    """The studies of a folder, prepared. Studies that cannot be read are skipped with a warning."""
    from scantwin.imaging.reading import find_studies, read_study
    from scantwin.learning.cohort import Cohort

    sources = find_studies(data)
    if not sources:
        raise InputError(f"There is no study in {data}.", hint="A study is a folder with CT and PET.")
    named = [(source.key, lambda source=source: read_study(source)) for source in sources]
    with progress_bar("preparing", quiet=quiet) as advance:
        return Cohort.prepare(named, recipe, cache, held_out=held_out, advance=advance)
