"""CycleGAN: what its critics are told, and what must come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scantwin import systems
from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import INPUTS
from scantwin.learning.training import train
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


def changed(recipe, *, by_place, **losses):
    """The recipe with no adversary or way back but what `losses` say."""
    none = {"cycle": 0.0, "identity": 0.0, "adversarial": 0.0, "held": 0.0}
    return recipe.model_copy(
        update={
            "losses": recipe.losses.model_copy(update=none | losses),
            "unpaired": recipe.unpaired.model_copy(update={"by_place": by_place}),
            "network": recipe.network.model_copy(update={"dropout": 0.0}),
            "sampling": recipe.sampling.model_copy(update={"average_flips": ()}),
        }
    )


def said(system, study):
    """Uptake [g/ml] in the middle of a bar."""
    inputs = torch.from_numpy(study.inputs("trunk", (20, 4, 6), (16, 16, 16)))[None]
    return system.predict("trunk", inputs).pet


def trained(recipe, studies, steps):
    system = systems.build(recipe, seed=1)
    sampler = Sampler(studies, recipe, "trunk", 0)
    torch.manual_seed(0)
    for step in range(steps):
        system.training_step("trunk", sampler.batch(step))
    return system


def test_pets_of_others_tell_how_hot_a_place_is(bar_cohort, recipe):
    hotter = [replace(study, suv=study.suv * 3) for study in bar_cohort.training]
    means = []
    for studies in (bar_cohort.training, hotter):
        system = trained(changed(recipe, by_place=True), studies, 240)
        means.append(said(system, bar_cohort.held_out[0]).mean())
    assert means[1] / means[0] == pytest.approx(3.0, rel=0.2)


def test_what_is_made_is_held_to_what_is_usual(bar_cohort, recipe):
    off = []
    for held in (0.0, 50.0):
        rules = changed(recipe, by_place=False, adversarial=1.0, held=held)
        before = said(systems.build(rules, seed=1), bar_cohort.held_out[0])
        after = said(trained(rules, bar_cohort.training, 20), bar_cohort.held_out[0])
        off.append(float((after - before).abs().mean()))
    assert off[1] < off[0] / 2


def test_what_comes_back_teaches_the_way_there(bar_cohort, recipe):
    """The CT made of a PET must be one of which that PET is made: from the first step on, by the curve."""
    system = systems.build(changed(recipe, by_place=True, cycle=1.0), seed=1)
    system.training_step("trunk", Sampler(bar_cohort.training, recipe, "trunk", 0).batch(0))
    learnt = system.components()["cyclegan/trunk/generator-ct"].parameters()
    assert sum(float(p.grad.abs().sum()) for p in learnt if p.grad is not None) > 0


def test_the_curve_stands_still_and_what_is_usual_is_moved_by_nothing_else(bar_cohort, recipe):
    without = changed(recipe, by_place=True)
    every = changed(recipe, by_place=True, cycle=5.0, identity=1.0, adversarial=1.0, held=1.0)
    arrays = [system_arrays(trained(rules, bar_cohort.training, 3)) for rules in (without, every)]
    for name, array in arrays[0]["cyclegan/trunk/usual"].items():
        assert (array == arrays[1]["cyclegan/trunk/usual"][name]).all(), name
    untrained = system_arrays(systems.build(every, seed=1))["cyclegan/trunk/generator-pet"]
    for name in ("uptake", "per_fat", "blur"):
        assert (arrays[1]["cyclegan/trunk/generator-pet"][name] == untrained[name]).all(), name


def test_a_pet_without_a_ct_is_mirrored_as_a_body_that_could_be_split(bar_cohort, recipe):
    one = np.uint8(DISTRICT_LABEL["whole-body"])
    whole, other = bar_cohort.training[:2]
    alone = replace(other, has_ct=False, labels=np.where(other.body, one, 0).astype(np.uint8))
    assert not alone.split
    drawn = []
    for axes in ((), ("x",)):
        rules = recipe.sampling.model_copy(update={"flip_trunk": (), "flip_unsplit": axes})
        sampler = Sampler([whole, alone], recipe.model_copy(update={"sampling": rules}), "whole-body", 3)
        drawn.append([sampler.batch(step).suv for step in range(6)])
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))


def test_critics_that_judge_nothing_have_not_learnt(bar_cohort, recipe):
    values = recipe.model_dump(mode="json")
    values["losses"]["adversarial"] = 0.0
    without = type(recipe).read(values, "test")
    system = systems.build(without, seed=1)
    result = train(system, bar_cohort.training, steps=4, seed=1)
    taught = {name.rpartition("/")[2] for name, count in result.patches.items() if count}
    assert "generator-pet" in taught and not any(part.startswith("discriminator") for part in taught)
    assert not system.memory, "no pool is kept for them"
