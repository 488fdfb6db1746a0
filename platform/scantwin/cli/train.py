"""`scantwin train`: one model on one machine's studies."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scantwin import NOTICE
from scantwin.cli.durations import seconds_of
from scantwin.cli.machine_options import Device, Threads, use_machine
from scantwin.errors import InputError
from scantwin.files import require_ours
from scantwin.terminal import Json, emit, out, progress_bar, say_rejection

if TYPE_CHECKING:
    from scantwin.learning.cohort import Cohort
    from scantwin.learning.recipe import Recipe

_MANY_STEPS = 100_000
"""More than any budget of minutes allows; a longer training says --steps."""


def train(
    data: Annotated[Path, typer.Option(help="Folder of studies (DICOM or NIfTI).")],
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder of the model; complete in itself, replaced whole.")
    ],
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or a TOML file.")] = "pix2pix",
    budget: Annotated[str | None, typer.Option(help="Stop training after this long: 90s, 5m, 1h.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps (default 2000, or what the budget allows).")
    ] = None,
    held_out: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of patients kept for the error bar.")
    ] = 0.2,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Fixes what is drawn by chance: on one processor the same seed, studies, --steps and "
            "--threads give the same model. With --budget no two are the same: schedules follow the clock.",
        ),
    ] = 0,
    threads: Threads = None,
    device: Device = None,
    pictures: Annotated[
        str, typer.Option(help="A picture of the training this often, beside --out: 30s, 5m; 0 for none.")
    ] = "1m",
    as_json: Json = False,
) -> None:
    """Train a model on the studies of one folder. Run again after it was killed, it goes on where it was.

    The held-out patients choose the step whose weights are kept, and give the error bar. A model may leave
    the house, a patient may not: beside the model, not in it, are pictures of a held-out patient
    (NAME-training) and the prepared studies (.NAME-cache). Delete both when you are done.

    Recipes that make CT (ct-inpainting, low-resource-3d) need no PET and choose no step.

    \b
    scantwin train --recipe pix2pix --data studies/ --out model/ --budget 5m
    scantwin train --recipe ct-inpainting --data studies/ --out model/ --budget 4m
    """
    from scantwin import systems
    from scantwin.evaluation.measuring import measure, time_to_measure, training_statistics, watch
    from scantwin.federation.merging import merge
    from scantwin.learning.recipe import Recipe
    from scantwin.learning.training import train as run
    from scantwin.learning.weights import Model, system_arrays

    require_ours(out_dir, "model.json", data)
    plan = Recipe.load(recipe)
    limit = None if budget is None else seconds_of(budget)
    often = 0.0 if pictures.strip("0smh. ") == "" else seconds_of(pictures)
    planned = steps or (_MANY_STEPS if limit else 2000)
    use_machine(threads, device)
    cohort = cohort_of(data, plan, out_dir.parent / f".{out_dir.name}-cache", held_out, quiet=as_json)
    began = time.monotonic()
    system = systems.build(plan, seed=seed)
    state = out_dir.parent / f".{out_dir.name}-training.safetensors"
    training = training_statistics(system, cohort.training)
    if limit:
        # Measuring is part of the budget: what it will take is known from one patient.
        reserve = time_to_measure(systems.build(plan, seed=seed), cohort.held_out)
        limit = max(0.3 * limit, limit - reserve - (time.monotonic() - began))
    watcher = watch(
        system, cohort, training, budget_s=limit,
        pictures=out_dir.parent / f"{out_dir.name}-training" if often else None, pictures_every_s=often,
    )  # fmt: skip
    with progress_bar("training", quiet=as_json) as advance:
        result = run(
            system, cohort.training, steps=planned, seed=seed, budget_s=limit, resume=state, advance=advance,
            watcher=watcher,
        )  # fmt: skip
    with progress_bar("measuring the error bar", quiet=as_json) as advance:
        measured = measure(system, cohort.held_out, trained=result.patches, advance=advance)
    record: dict[str, Any] = {
        "trained_on": f"{len(cohort.training)} studies of one machine", "patches": result.patches,
        "steps": result.steps, "seed": seed, "losses": result.losses, "held_out": len(cohort.held_out),
        "metrics": merge([measured.metrics]),
        "seconds": result.seconds, "chosen_step": result.chosen_step,
        "scores": {str(step): scores for step, scores in watcher.scores.items()},
    }  # fmt: skip
    statistics = {**training, **(measured.statistics if cohort.held_out else {})}
    Model(plan, system_arrays(system), record, statistics).save(out_dir)
    state.unlink(missing_ok=True)
    said = {
        "notice": NOTICE, "model": str(out_dir), "steps": result.steps, "seconds": round(result.seconds, 1),
        "losses": result.losses, "patches": result.patches,
        "chosen_step": result.chosen_step,
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

    sources = find_studies(data, pets_alone=recipe.unpaired is not None)
    if not sources:
        raise InputError(f"There is no study in {data}.", hint="A study is a folder with CT and PET.")
    patients = {source.key: source.patient for source in sources}
    versions = {source.key: source.fingerprint() for source in sources}
    named = [(source.key, partial(read_study, source, with_pet=not recipe.makes_ct)) for source in sources]
    with progress_bar("preparing", quiet=quiet) as advance:
        return Cohort.prepare(
            named, recipe, cache, held_out=held_out, advance=advance, refused=say_rejection,
            patient_of=lambda name: patients.get(name) or name, version_of=versions.__getitem__,
        )  # fmt: skip
