"""`scantwin train`: one model on one machine's studies."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scantwin import NOTICE
from scantwin.cli.durations import seconds_of
from scantwin.cli.machine_options import Device, Threads, use_machine
from scantwin.errors import InputError
from scantwin.files import at_work, require_ours
from scantwin.terminal import LARGEST_SEED, Json, emit, finite, out, progress_bar, say_rejection

if TYPE_CHECKING:
    from scantwin.learning.cohort import Cohort
    from scantwin.learning.recipe import Recipe

_MANY_STEPS = 100_000
"""More than any budget of minutes allows; for a longer training give --steps."""


def train(
    data: Annotated[Path, typer.Option(help="Folder of studies (DICOM or NIfTI).")],
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder of the model; self-contained, an earlier one is replaced.")
    ],
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or a TOML file.")] = "pix2pix",
    budget: Annotated[str | None, typer.Option(help="Stop training after this long: 90s, 5m, 1h.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Training steps (default 2000, or what the budget allows).")
    ] = None,
    held_out: Annotated[
        float,
        typer.Option(min=0, max=0.9, callback=finite, help="Share of patients kept for the error bar."),
    ] = 0.2,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=LARGEST_SEED,
            help="Seed of everything random: on one processor the same seed, studies, --steps and --threads "
            "give the same model. With --budget no two runs are the same, since schedules follow the clock.",
        ),
    ] = 0,
    threads: Threads = None,
    device: Device = None,
    pictures: Annotated[
        str,
        typer.Option(help="How often to write a picture of the training beside --out: 30s, 5m; 0: never."),
    ] = "1m",
    as_json: Json = False,
) -> None:
    """Train a model on the studies of one folder. Run it again after an interruption and it resumes.

    Ctrl-C and SIGTERM lose no work; a hard kill loses a minute at most. A resumed training may have other
    --steps or another --budget (its schedules then span the new whole), but not another seed, recipe, set of
    studies or held-out patients.

    Held-out patients choose the step whose weights are kept, and calibrate the error bar. A model may leave
    the hospital; patients may not. Pictures of a held-out patient (NAME-training) and the prepared studies
    (.NAME-cache) are therefore beside the model, not in it: delete both when you are done.

    Recipes that make CT (ct-inpainting, low-resource-3d) need no PET and choose no step.

    \b
    scantwin train --recipe pix2pix --data studies/ --out model/ --budget 5m
    scantwin train --recipe ct-inpainting --data studies/ --out model/ --budget 4m
    """
    from scantwin.learning.recipe import Recipe

    require_ours(out_dir, "model.json", data)
    plan = Recipe.load(recipe)
    asked = _Asked(
        data, out_dir, plan, None if budget is None else seconds_of(budget), steps, held_out, seed,
        0.0 if pictures.strip("0smh. ") == "" else seconds_of(pictures), as_json,
    )  # fmt: skip
    use_machine(threads, device)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with at_work(out_dir, asked.beside("lock")):
        said = _trained(asked)
    emit(
        said,
        as_json,
        lambda: out.print(f"[bold]{out_dir}[/bold]: {said['steps']} steps in {said['seconds']:.0f} s"),
    )


@dataclass(frozen=True)
class _Asked:
    """The command's options, parsed."""

    data: Path
    out: Path
    recipe: Recipe
    budget_s: float | None
    steps: int | None
    held_out: float
    seed: int
    pictures_every_s: float
    quiet: bool

    def beside(self, what: str) -> Path:
        """The hidden path, beside the model's folder, of what stays on this machine when the model leaves."""
        return self.out.parent / f".{self.out.name}-{what}"


def _trained(asked: _Asked) -> dict[str, Any]:
    """Trains, measures and writes the model; returns the dict of the JSON contract."""
    from scantwin import systems
    from scantwin.evaluation.measuring import measure, time_to_measure, training_statistics, watch
    from scantwin.federation.merging import merge
    from scantwin.learning.training import train as run
    from scantwin.learning.weights import Model, system_arrays

    plan, limit, seed = asked.recipe, asked.budget_s, asked.seed
    cohort = cohort_of(asked.data, plan, asked.beside("cache"), asked.held_out, quiet=asked.quiet)
    began = time.monotonic()
    system = systems.build(plan, seed=seed)
    state = asked.beside("training.safetensors")
    training = training_statistics(system, cohort.training)
    if limit:
        # Measuring is part of the budget; one patient tells how long it will take.
        reserve = time_to_measure(systems.build(plan, seed=seed), cohort.held_out)
        limit = max(0.3 * limit, limit - reserve - (time.monotonic() - began))
    pictures = asked.out.parent / f"{asked.out.name}-training" if asked.pictures_every_s else None
    watcher = watch(
        system, cohort, training, budget_s=limit, pictures=pictures, pictures_every_s=asked.pictures_every_s
    )
    with progress_bar("training", quiet=asked.quiet) as advance:
        result = run(
            system, cohort.training, steps=asked.steps or (_MANY_STEPS if limit else 2000), seed=seed,
            budget_s=limit, resume=state, advance=advance, watcher=watcher, held_out=cohort.held_out,
        )  # fmt: skip
    with progress_bar("measuring the error bar", quiet=asked.quiet) as advance:
        measured = measure(system, cohort.held_out, trained=result.patches, advance=advance)
    record: dict[str, Any] = {
        "trained_on": f"{len(cohort.training)} studies of one machine", "patches": result.patches,
        "steps": result.steps, "seed": seed, "losses": result.losses, "held_out": len(cohort.held_out),
        "metrics": merge([measured.metrics]),
        "seconds": result.seconds, "chosen_step": result.chosen_step,
        "scores": {str(step): scores for step, scores in watcher.scores.items()},
    }  # fmt: skip
    statistics = {**training, **(measured.statistics if cohort.held_out else {})}
    Model(plan, system_arrays(system), record, statistics).save(asked.out)
    state.unlink(missing_ok=True)
    return {
        "notice": NOTICE, "model": str(asked.out), "steps": result.steps,
        "seconds": round(result.seconds, 1), "losses": result.losses, "patches": result.patches,
        "chosen_step": result.chosen_step,
        "studies": {"training": len(cohort.training), "held_out": len(cohort.held_out)},
    }  # fmt: skip


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
