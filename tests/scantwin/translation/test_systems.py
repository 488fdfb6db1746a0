"""One contract for every system that translates CT to PET."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scantwin import systems
from scantwin.evaluation.held_out import measure
from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import INPUTS
from scantwin.learning.training import train
from scantwin.learning.weights import Model, system_arrays


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_components_are_named_by_system_district_and_part(recipe):
    system = systems.build(recipe, seed=1)
    named = [name for district in recipe.districts for name in system.components_of(district)]
    assert sorted(named) == sorted(system.components())
    assert all(name.split("/")[0] == recipe.system and name.count("/") == 2 for name in named)
    for district in recipe.districts:
        assert set(system.optimisers(district)) == set(system.components_of(district))
        assert all(system.optimisers(district)[n] is o for n, o in system.optimisers(district).items())


def test_the_same_seed_gives_the_same_model_and_a_saved_one_the_same_scan(recipe, bar_cohort, tmp_path):
    one, two = (systems.build(recipe, seed=1) for _ in range(2))
    for system in (one, two):
        result = train(system, bar_cohort.training, steps=8, seed=2)
    arrays, others = system_arrays(one), system_arrays(two)
    assert all(np.array_equal(v, others[n][k]) for n, a in arrays.items() for k, v in a.items())
    assert all(np.isfinite(v).all() for a in arrays.values() for v in a.values())
    assert all(np.isfinite(v) for v in result.losses.values())
    model = Model(recipe, arrays, {"patches": result.patches}, measure(one, bar_cohort.held_out).statistics)
    model.save(tmp_path / "model")
    study = bar_cohort.held_out[0]
    first = systems.scanner_for(Model.load(tmp_path / "model")).synthesise(study, seed=5)
    again = systems.scanner_for(model).synthesise(study, seed=5)
    assert np.array_equal(first.pet, again.pet) and np.array_equal(first.std, again.std)
    assert first.pet.min() >= 0 and first.pet.max() <= 20 and (first.pet[~study.body] == 0).all()
    assert np.isfinite(first.std).all() and (first.std[study.body] > 0).all()
    other = systems.scanner_for(model).synthesise(study, seed=6)
    assert (first.spread is not None) == (one.samples > 0)
    if one.samples:
        assert not np.array_equal(first.spread, other.spread), "another seed draws other samples"


def test_a_killed_training_goes_on_to_the_same_weights(recipe, bar_cohort, tmp_path, monkeypatch):
    from scantwin.learning import training

    whole = systems.build(recipe, seed=1)
    train(whole, bar_cohort.training, steps=9, seed=3)
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY_S", 0.0)

    def kill(step):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(systems.build(recipe, seed=1), bar_cohort.training, steps=9, seed=3,
              resume=tmp_path / "state", after_step=kill)  # fmt: skip
    resumed = systems.build(recipe, seed=9)
    train(resumed, bar_cohort.training, steps=9, seed=3, resume=tmp_path / "state")
    wanted, got = system_arrays(whole), system_arrays(resumed)
    assert all(np.array_equal(v, got[n][k]) for n, a in wanted.items() for k, v in a.items())


def test_accumulated_gradients_are_those_of_the_large_batch(recipe, bar_cohort):
    """Weights after one step are the same, whether a batch comes whole or in two parts."""
    if recipe.system != "pix2pix":
        pytest.skip("the others draw noise or a pool by part")
    after = []
    for batch, accumulate in ((4, 1), (2, 2)):
        rules = recipe.optimisation.model_copy(update={"batch": batch, "accumulate": accumulate})
        variant = recipe.model_copy(
            update={"optimisation": rules, "losses": recipe.losses.model_copy(update={"air": 1.0})}
        )
        system = systems.build(variant, seed=1)
        drawn = Sampler(bar_cohort.training, variant, "trunk", 0).batch(0)
        assert len(drawn.inputs) == 4
        system.training_step("trunk", drawn)
        after.append(system_arrays(system))
    for name, arrays in after[0].items():
        for key, value in arrays.items():
            # Adam's first step is the sign of a gradient: those near zero may differ by one rate.
            assert np.mean(np.abs(value - after[1][name][key]) < 1e-5) > 0.9, (name, key)


def test_unpaired_batches_hold_two_patients(bar_cohort, recipe):
    if recipe.system != "cyclegan":
        pytest.skip("only a CycleGAN is trained unpaired")
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
    if recipe.system != "cyclegan":
        pytest.skip("only a CycleGAN is trained unpaired")
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
    if recipe.system != "cyclegan":
        pytest.skip("only a CycleGAN goes back")
    batch = Sampler(bar_cohort.training, recipe, "trunk", 0).batch(0)
    cycle = []
    for share in (0.0, 0.5, 1.0):
        rules = recipe.unpaired.model_copy(update={"ct_again": share})
        network = recipe.network.model_copy(update={"dropout": 0.0})  # it would leave out others each time
        system = systems.build(recipe.model_copy(update={"unpaired": rules, "network": network}), seed=1)
        cycle.append(system.training_step("trunk", batch)["cycle"])
    assert cycle[2] > cycle[0] > 0, "the PET's own way is always there"
    assert cycle[1] == pytest.approx((cycle[0] + cycle[2]) / 2, rel=1e-4)
