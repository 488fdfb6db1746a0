"""CycleGAN: what its critics are told, and what must come back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scantwin import systems
from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import INPUTS
from scantwin.learning.weights import system_arrays

pytestmark = pytest.mark.parametrize("recipe", ["cyclegan"], indirect=True)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_unpaired_batches_hold_two_patients(bar_cohort, recipe):
    sampler = Sampler(bar_cohort.training, recipe, "trunk", 0)
    for step in range(5):
        batch = sampler.batch(step)
        assert batch.place is not None
        assert (batch.place[:, :2] == 0).all(), "the CT of the PET's patient is not seen"
        place = slice(INPUTS.index("below-top"), None)
        assert not torch.equal(batch.place[:, place], batch.inputs[:, place])
        # Hot PETs beside CTs of anywhere would teach a critic that tissue is hot.
        assert (batch.anywhere == 1).all(), "PETs are drawn as evenly as CTs"


def test_a_critic_is_told_where_an_image_is_and_not_whose(bar_cohort, recipe):
    batch = Sampler(bar_cohort.training, recipe, "trunk", 0).batch(0)

    def critic_after(**moved):
        """The PETs' critic after a step in which these channels of the PETs' places are larger."""
        place = batch.place.clone()
        for name, more in moved.items():
            place[:, INPUTS.index(name)] *= 1 + more
        system = systems.build(recipe, seed=1)
        torch.manual_seed(0)
        system.training_step("trunk", replace(batch, place=place))
        critic = system_arrays(system)["cyclegan/trunk/discriminator-pet"]
        return {key: value.tobytes() for key, value in critic.items()}

    same = critic_after()
    taller = {"below-top": 1.0, "above-bottom": 1.0}  # twice is exact
    assert critic_after(**taller) == same, "where in the district is the same"
    assert critic_after(**{"fat": 0.5, "from-side": 0.5}) == same
    for moved in ("skin-depth", "below-top", "above-bottom", "back", "left"):
        assert critic_after(**{moved: 0.5}) != same, moved


def test_a_ct_comes_back_from_its_pet_as_far_as_the_recipe_says(bar_cohort, recipe):
    batch = Sampler(bar_cohort.training, recipe, "trunk", 0).batch(0)
    cycle = []
    for share in (0.0, 0.5, 1.0):
        rules = recipe.unpaired.model_copy(update={"ct_again": share})
        network = recipe.network.model_copy(update={"dropout": 0.0})  # it would leave out others each time
        system = systems.build(recipe.model_copy(update={"unpaired": rules, "network": network}), seed=1)
        cycle.append(system.training_step("trunk", batch)["cycle"])
    assert cycle[2] > cycle[0] > 0, "the PET's own way is always there"
    assert cycle[1] == pytest.approx((cycle[0] + cycle[2]) / 2, rel=1e-4)
