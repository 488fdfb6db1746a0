"""Who judges learns to tell what is real from what is made; who makes learns to be taken for real."""

from __future__ import annotations

import pytest
import torch

from scantwin import systems
from scantwin.learning.recipe import Recipe
from scantwin.translation.cyclegan import _at, _strangers_place
from scantwin.translation.scaling import critic_view, scaled

pytestmark = pytest.mark.parametrize("recipe", ["pix2pix", "cyclegan"], indirect=True)
STANDS_STILL = 1e-9
STEPS = 30


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@torch.no_grad()
def judged(system, batch) -> tuple[float, float]:
    """Mean score of a batch's PETs, and of those that are made of its CTs."""
    pet = scaled(batch.suv, system.recipe)
    if system.recipe.system == "pix2pix":
        critic, made = "pix2pix/trunk/discriminator", system._say("pix2pix/trunk/generator", batch.inputs)
        scores = (system._judge(critic, batch.inputs, image) for image in (pet, made))
    else:
        seen = (pet, _strangers_place(batch)), (system._pet("trunk", batch.inputs), batch.inputs)
        images = (_at(critic_view(image), where) for image, where in seen)
        scores = (system._run("cyclegan/trunk/discriminator-pet", image) for image in images)
    real, fake = (float(score.mean()) for score in scores)
    return real, fake


def before_and_after(recipe, cohort, losses, **rates):
    """What is judged before and after some steps on one batch."""
    values = recipe.model_dump(mode="json")
    values["optimisation"] |= rates
    values["losses"] |= losses
    values["network"]["dropout"] = 0.0
    system = systems.build(Recipe.read(values, "test"), seed=1)
    batch = system.sampler(cohort.training, "trunk", 5).batch(0)
    before = judged(system, batch)
    for _ in range(STEPS):
        system.training_step("trunk", batch, progress=0.1)
    return before, judged(system, batch)


def test_a_critic_learns_which_pets_are_real(bar_cohort, recipe):
    rates = {"learning_rate": STANDS_STILL, "discriminator_rate": 3e-3}
    _, (real, fake) = before_and_after(recipe, bar_cohort, {}, **rates)
    assert real > fake


def test_a_generator_learns_to_be_taken_for_real(bar_cohort, recipe):
    """Where nothing else is asked, and the critic stands still: real is 1, an untrained one says about 0."""
    others = ("l1", "lesions") if recipe.system == "pix2pix" else ("cycle", "identity", "held")
    rates = {"learning_rate": 1e-3, "discriminator_rate": STANDS_STILL}
    (_, before), (_, now) = before_and_after(recipe, bar_cohort, dict.fromkeys(others, 0.0), **rates)
    assert now > before + 0.1
