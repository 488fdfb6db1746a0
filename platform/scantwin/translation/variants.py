"""A model used other than as its recipe says, in values of [diffusion] that its weights do not depend on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scantwin.errors import InputError
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_parts import Diffusion
from scantwin.learning.weights import Model


def as_delivered(recipe: Recipe, **changes: Any) -> Recipe:
    """`recipe` with other values of [diffusion]. Raises `InputError` if it has no such section."""
    rules = _rules(recipe)
    values = {**recipe.model_dump(mode="json"), "diffusion": {**rules.model_dump(), **changes}}
    return Recipe.read(values, "of a variant")


def as_asked(model: Model, *, steps: int | None = None, samples: int | None = None) -> Model:
    """`model` drawing `samples` samples of `steps` network evaluations each; None leaves a value as it is.

    Raises `InputError` for a model that draws nothing, and for more steps than it knows noise levels.
    """
    if steps is None and samples is None:
        return model
    rules = _rules(model.recipe)
    if rules.delivered == "coarse":
        raise InputError(
            "This model delivers its coarse prediction and draws no samples.",
            hint="Leave out --steps and --samples.",
        )
    count = steps or rules.sample_steps
    if count > rules.steps:
        raise InputError(f"This model knows {rules.steps} noise levels.", hint="Give fewer --steps.")
    recipe = as_delivered(
        model.recipe, sample_steps=count, samples=samples or rules.samples,
        start_step=max(count, rules.start_step),
    )  # fmt: skip
    return replace(model, recipe=recipe)


def sampling_of(recipe: Recipe) -> dict[str, int] | None:
    """Network evaluations per sample, and samples per scan; None if nothing is drawn."""
    rules = recipe.diffusion
    if rules is None or rules.delivered == "coarse":
        return None
    return {"steps": rules.sample_steps, "samples": rules.samples}


def sampling_warning(model: Model, used: Model) -> str | None:
    """What must be said about the error bar, measured with `model`, if `used` draws otherwise."""
    own, now = sampling_of(model.recipe), sampling_of(used.recipe)
    if own is None or now is None or own == now:
        return None
    return (
        f"Drawn with {now['steps']} network evaluations a sample (samples: {now['samples']}); the error bar "
        f"was measured with {own['steps']} (samples: {own['samples']})."
    )


def _rules(recipe: Recipe) -> Diffusion:
    if recipe.diffusion is None:
        raise InputError(
            f"A {recipe.system} model draws no samples of a PET.",
            hint="Leave out --steps and --samples, or choose a coarse-diffusion model.",
        )
    return recipe.diffusion
