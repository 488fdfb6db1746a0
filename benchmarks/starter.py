"""Trains the starter models that ship with the package: `python -m benchmarks.starter`, about half an hour.

Phantoms only, at 5 mm, with small networks and weights of half precision: a few megabytes that make
`scantwin scan ct.nii.gz` work after installation. What they are worth is measured on phantoms that they
have not seen, beside the simple references, and stands in their model.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from scantwin.cores import share_cores
from scantwin.learning.machine import use_threads
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import Components, Model, load_arrays, system_arrays
from scantwin.settings import load_settings
from scantwin.terminal import Advance, err, progress_bar
from scantwin.translation.starter import PHANTOMS_ONLY, STARTERS

_SHIPPED: Final = Path(__file__).resolve().parents[1] / "platform" / "scantwin" / "starter"

_WORKERS: Final = 2
_STEPS: Final = {"pix2pix": 8000, "coarse-diffusion": 13_000}
"""As many of the coarse predictor as of Pix2Pix; its denoiser learns in the rest. Steps, not minutes: other
programs that run beside it take nothing away."""
_DEFAULT: Final = ", ".join(f"{steps} of {system}" for system, steps in _STEPS.items())

_CHANGES: Final[dict[str, dict[str, Any]]] = {
    "pix2pix": {"network": {"channels": [8, 16, 32, 48], "discriminator_channels": [8, 16, 32]}},
    "coarse-diffusion": {
        "network": {"channels": [8, 16, 32, 48]},
        "diffusion": {"channels": [8, 16, 32], "samples": 2, "sample_steps": 5},
    },
}
"""What is smaller than in the shipped recipe: the package must stay light, a first scan quick."""

_SHARES: Final = {"trunk": 2.5, "head": 1.0, "arms": 0.3, "legs": 0.3, "whole-body": 3.0}
"""Short fields of view often cannot be split, so the whole body's part matters here; limbs are little more
than their CT numbers, which the untrained generator knows."""


def starter_recipe(system: str) -> Recipe:
    """The recipe of a starter: the shipped one of its system, coarser and smaller."""
    values = Recipe.load(system).model_dump(mode="json")
    for section, changes in _CHANGES[system].items():
        values[section] |= changes
    # Few minutes: many small steps learn more than few large ones.
    values["optimisation"] |= {"batch": 2, "warm_up": 0.2}
    values["network"]["dropout"] = 0.0  # of phantoms there are enough
    return Recipe.read(
        {**values, "name": f"starter-{system}", "spacing_mm": [5.0] * 3, "shares": _SHARES}, "the starter's"
    )


def halved(components: Components) -> Components:
    """The same weights as float16: a rounding of a thousandth, far below what a step moves."""
    return {
        name: {key: value.astype(np.float16) for key, value in arrays.items()}
        for name, arrays in components.items()
    }


def make(
    system: str, training: list[PreparedStudy], held_out: list[PreparedStudy], steps: int, advance: Advance,
    *, seed: int = 2026,
) -> Model:  # fmt: skip
    """Trains and measures one starter model."""
    from scantwin import systems
    from scantwin.evaluation.held_out import measure
    from scantwin.evaluation.references import training_statistics
    from scantwin.federation.merging import merge
    from scantwin.learning.system import Translator
    from scantwin.learning.training import train

    recipe = starter_recipe(system)
    learner = systems.build(recipe, seed=seed)
    assert isinstance(learner, Translator)
    result = train(learner, training, steps=steps, seed=seed, advance=advance)
    weights = halved(system_arrays(learner))
    load_arrays(learner, weights)  # what is measured is what is shipped
    statistics = training_statistics(training)
    measured = measure(learner, held_out, statistics, trained=result.patches, advance=advance)
    record = {
        PHANTOMS_ONLY: True,
        "trained_on": f"{len(training)} scans of phantoms, no patient", "steps": result.steps, "seed": seed,
        "seconds": round(result.seconds, 1), "losses": result.losses, "patches": result.patches,
        "held_out": len(held_out), "measured_on_phantoms": merge([measured.metrics]),
    }  # fmt: skip
    return Model(recipe, weights, record, {**statistics, **measured.statistics})


def starter(
    only: Annotated[str | None, typer.Option(help="One of: " + ", ".join(STARTERS))] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help=f"Steps of each training (default: {_DEFAULT}).")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder of the phantoms (default: scantwin's home / starter).")
    ] = None,
    out_dir: Annotated[Path, typer.Option("--out", help="Where the models go.")] = _SHIPPED,
) -> None:
    """Make the starter models again."""
    from benchmarks.starter_patients import patients

    share_cores()
    cache = work or load_settings().home / "starter"
    chosen = list(STARTERS.values()) if only is None else [STARTERS[only]]
    with progress_bar("phantoms") as advance:
        training, held_out = (
            patients(role, starter_recipe("pix2pix"), cache, workers=_WORKERS, advance=advance)
            for role in ("training", "held-out")
        )
    use_threads()
    for system in chosen:
        with progress_bar(system) as advance:
            model = make(system, training, held_out, steps or _STEPS[system], advance)
        folder = model.save(out_dir / system)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        err.print(f"{folder}: {size / 1e6:.1f} MB after {model.record['steps']} steps")
        for who, regions in model.record["measured_on_phantoms"].items():
            said = {
                region: f"{v['mae']['mean']:.3f} ({v['bias']['mean']:+.3f})" for region, v in regions.items()
            }
            err.print(f"  {who}: MAE (bias) {said}")


if __name__ == "__main__":
    typer.run(starter)
