"""One contract for every system that translates CT to PET."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scantwin import systems
from scantwin.evaluation.held_out import measure
from scantwin.learning.patches import Sampler
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
    """Whether a batch comes whole or in two parts."""
    if recipe.system != "pix2pix":
        pytest.skip("the others draw noise or a pool by part")
    gradients: list[dict[str, torch.Tensor]] = []
    for batch, accumulate in ((4, 1), (2, 2)):
        rules = recipe.optimisation.model_copy(update={"batch": batch, "accumulate": accumulate})
        # Each part weighs the same, and nothing is left out by chance.
        even = recipe.losses.model_copy(update={"air": 1.0, "neighbour": 1.0, "lesions": 0.0})
        network = recipe.network.model_copy(update={"dropout": 0.0})
        variant = recipe.model_copy(update={"optimisation": rules, "losses": even, "network": network})
        system = systems.build(variant, seed=1)
        drawn = Sampler(bar_cohort.training, variant, "trunk", 0).batch(0)
        assert len(drawn.inputs) == 4
        system.training_step("trunk", drawn)
        gradients.append({
            name: torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None])
            for name, part in system.components().items() if "trunk" in name
        })  # fmt: skip
    assert len(gradients[0]) == 2
    for name, whole in gradients[0].items():
        # Sums in another order; were they not averaged, the discriminator's would be twice as large.
        assert float(whole.norm()) > 0, name
        assert float((gradients[1][name] - whole).norm()) < 1e-4 * float(whole.norm()), name
