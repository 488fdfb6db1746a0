"""The same weights, used otherwise."""

from __future__ import annotations

import pytest
import torch

from scantwin import systems
from scantwin.errors import InputError
from scantwin.learning.prepared import INPUTS
from scantwin.learning.recipe import Recipe
from scantwin.learning.samplers import SAMPLERS
from scantwin.learning.schedules import cosine, descent, descent_by_snr
from scantwin.learning.weights import Model
from scantwin.translation.variants import as_asked, as_delivered, sampling_of, sampling_warning


@pytest.fixture
def model() -> Model:
    return Model(Recipe.load("coarse-diffusion"), {})


def test_only_what_is_asked_for_changes(model: Model) -> None:
    assert as_asked(model) is model
    used = as_asked(model, steps=2)
    own = model.recipe.diffusion.sample_steps
    assert as_delivered(used.recipe, sample_steps=own) == model.recipe
    assert used.components is model.components
    assert as_asked(model, samples=1).recipe.diffusion.sample_steps == own


def test_many_steps_start_where_they_have_room(model: Model) -> None:
    low = Model(as_delivered(model.recipe, start_step=10), {})
    assert as_asked(low, steps=8).recipe.diffusion.start_step == 10
    assert as_asked(low, steps=50).recipe.diffusion.start_step == 50


def test_a_warning_only_where_it_is_drawn_otherwise(model: Model) -> None:
    used = as_asked(model, steps=20, samples=1)
    assert sampling_of(used.recipe) == {"steps": 20, "samples": 1}
    assert "20 network evaluations a sample (samples: 1)" in (sampling_warning(model, used) or "")
    assert sampling_warning(model, as_asked(model, steps=model.recipe.diffusion.sample_steps)) is None


def test_what_draws_nothing_is_refused(model: Model) -> None:
    for name in ("pix2pix", "ct-inpainting"):
        with pytest.raises(InputError, match=f"A {name} model draws no samples"):
            as_asked(Model(Recipe.load(name), {}), samples=2)
    coarse = Model(as_delivered(model.recipe, delivered="coarse"), {})
    assert sampling_of(coarse.recipe) is None
    with pytest.raises(InputError, match="draws no samples"):
        as_asked(coarse, steps=2)
    with pytest.raises(InputError, match="delivered"):
        as_delivered(model.recipe, delivered="magic")


def test_noise_levels_lie_as_the_recipe_says_and_evenly_where_it_says_nothing(model, monkeypatch) -> None:
    asked: list[list[int]] = []
    sampler = model.recipe.diffusion.sampler
    monkeypatch.setitem(SAMPLERS, sampler, lambda _, x, steps, __: asked.append(steps) or torch.zeros_like(x))
    told = {**model.recipe.model_dump(mode="json"), "districts": ["trunk"], "shares": {}}
    silent = {**told, "diffusion": {k: v for k, v in told["diffusion"].items() if k != "spacing"}}
    for values in (told, silent):
        system = systems.build(Recipe.read(values, "test"), seed=0)
        _, denoiser = system.all_of("trunk")
        torch.nn.init.normal_(
            system.components()[denoiser].body.head.weight
        )  # one that never moved is silent
        system.predict("trunk", torch.zeros(1, len(INPUTS), 16, 16, 16), torch.zeros(1, 1, 16, 16, 16))
    rules = model.recipe.diffusion
    assert asked[0] == descent_by_snr(cosine(rules.steps), rules.start_step, rules.sample_steps)
    assert asked[1] == descent(rules.start_step, rules.sample_steps) != asked[0]
