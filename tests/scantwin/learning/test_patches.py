"""Training patches: what is drawn of a study that could not be split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import HU_SCALE, INPUTS
from scantwin.learning.recipe import Recipe


def test_only_a_study_that_could_not_be_split_is_turned_upside_down(bar_cohort, tiny_recipe):
    values = tiny_recipe.model_dump(mode="json")
    values["sampling"] |= {"flip": [], "flip_unsplit": ["z"]}
    recipe = Recipe.read(values, "test")
    whole = bar_cohort.training[0]
    one = np.uint8(DISTRICT_LABEL["whole-body"])
    piece = replace(whole, labels=np.where(whole.body, one, 0).astype(np.uint8))
    assert whole.split and not piece.split
    upright, either = (Sampler([study], recipe, "whole-body", seed=3) for study in (whole, piece))
    turned = []
    for step in range(12):
        # The first patch of a batch is drawn at the same place of both.
        straight, other = (sampler.batch(step).suv[0, 0].numpy() for sampler in (upright, either))
        turned.append(not np.allclose(straight, other))
        assert np.allclose(straight[::-1] if turned[-1] else straight, other)
    assert 1 <= sum(turned) <= 11  # the toss of a coin: all alike in 1 of 2000 runs


def with_lesions(study, uptake, reach=2):
    """The study with a lesion in its middle that takes up `uptake` [g/ml], `reach` voxels to every side."""
    lesions = np.zeros(study.hu.shape, np.uint8)
    centre = np.argwhere(study.body).mean(axis=0).astype(int)
    lesions[tuple(slice(c - reach, c + reach + 1) for c in centre)] = 1
    return replace(study, lesions=lesions, suv=np.where(lesions > 0, np.float32(uptake), study.suv))


def lesion_recipe(tiny_recipe, **sampling):
    values = tiny_recipe.model_dump(mode="json")
    values["sampling"] |= {"lesions": 1.0, "flip": [], "flip_unsplit": [], "hu_jitter": 0.0, **sampling}
    values["losses"]["lesions"] = 0.5
    return Recipe.read(values, "test")


def uptakes(studies, recipe):
    """Every uptake [g/ml] in lesions of twelve batches."""
    sampler = Sampler(studies, recipe, "whole-body", seed=1)
    batches = [sampler.batch(step) for step in range(12)]
    return {round(float(v), 3) for batch in batches for v in batch.suv[batch.lesions > 0].unique()}


def test_lesions_take_up_as_much_as_another_patients(bar_cohort, tiny_recipe):
    cold, hot = (with_lesions(s, u) for s, u in zip(bar_cohort.training[:2], (2.0, 6.0), strict=True))
    swapping = lesion_recipe(tiny_recipe, swap_uptake=1.0)
    assert uptakes([cold], lesion_recipe(tiny_recipe)) == {2.0}
    assert uptakes([cold], swapping) == {2.0}, "who is alone has nobody to swap with"
    # The hot patient is not drawn from here: what is 6 can only be the cold one's lesion, warmed.
    sampler = Sampler([cold], swapping, "whole-body", seed=1)
    sampler.__dict__["_lesion_uptake"] = {cold: 2.0, hot: 6.0}
    batches = [sampler.batch(step) for step in range(12)]
    warmed = {
        round(float(suv[lesions > 0].max()), 3)
        for batch in batches
        for suv, lesions in zip(batch.suv, batch.lesions, strict=True)
    }
    assert warmed == {2.0, 6.0}
    outside = max(float(batch.suv[batch.lesions == 0].max()) for batch in batches)
    assert outside <= float(cold.suv[cold.lesions == 0].max())


@pytest.mark.parametrize("names", [("one", "other"), ("the same", "the same")])
def test_the_mean_uptake_of_lesions_is_known_of_every_study(bar_cohort, tiny_recipe, names):
    studies = [with_lesions(s, u) for s, u in zip(bar_cohort.training[:2], (2.0, 6.0), strict=True)]
    studies = [replace(study, name=name) for study, name in zip(studies, names, strict=True)]
    found = Sampler(studies, lesion_recipe(tiny_recipe), "whole-body", seed=1)._lesion_uptake
    assert [found[study] for study in studies] == [2.0, 6.0]


@pytest.mark.parametrize("turned", [{}, {"turn_deg": 10.0, "stretch": 0.1}])
def test_lesions_weigh_as_the_recipe_says_however_a_patch_is_turned(bar_cohort, tiny_recipe, turned):
    study = with_lesions(bar_cohort.training[0], 4.0, reach=4)
    batch = Sampler([study], lesion_recipe(tiny_recipe, **turned), "whole-body", seed=1).batch(0)
    for weight, lesions in zip(batch.weight, batch.lesions, strict=True):
        more = (weight - 1.0)[lesions > 0].sum()
        assert float(more / (weight.sum() - more)) == pytest.approx(0.5, rel=0.02), "half of the rest"
        rest = weight[lesions == 0]
        assert float(rest.min()) > 0.04 and float(rest.max()) < 1.01, "air and body are as they were"


def test_a_node_does_not_outweigh_the_organs_around_it(bar_cohort, tiny_recipe):
    """What it takes up its CT hardly tells: with a hundred times their weight these were not learnt."""
    study = with_lesions(bar_cohort.training[0], 4.0, reach=1)
    batch = Sampler([study], lesion_recipe(tiny_recipe), "whole-body", seed=1).batch(0)
    assert bool(batch.lesions.any())
    assert float(batch.weight[batch.lesions > 0].max()) == pytest.approx(11.0), "its own and ten more"


def test_a_neighbours_lesion_is_no_lesion_of_the_district(bar_cohort, tiny_recipe):
    """Its voxels would weigh more than the district's own, and count as its body."""
    recipe = lesion_recipe(tiny_recipe)
    study = bar_cohort.training[0]  # its lesion is in the trunk
    batches = [Sampler([study], recipe, "legs", seed=1).batch(step) for step in range(30)]
    assert any(bool((batch.suv > 7.0).any()) for batch in batches), "some patches show it"
    for batch in batches:
        assert not batch.lesions.any()
        assert float(batch.weight.max()) == 1.0
        assert not (batch.body & (batch.suv > 7.0)).any()
    trunk = [Sampler([study], recipe, "trunk", seed=1).batch(step) for step in range(5)]
    assert all(bool(batch.lesions.any()) for batch in trunk)


@pytest.mark.parametrize("warped", [{}, {"turn_deg": 10.0, "stretch": 0.1}])
@pytest.mark.parametrize("district", ["trunk", "legs", "whole-body"])
def test_a_patchs_ct_and_pet_are_turned_alike(bar_cohort, tiny_recipe, district, warped):
    """A PET that is the CT on another scale, in the air too, stays that however both are turned."""
    values = tiny_recipe.model_dump(mode="json")
    every = {name: ["z", "y", "x"] for name in ("flip", "flip_trunk", "flip_unsplit")}
    values["sampling"] |= {**every, "hu_jitter": 0.0, **warped}
    bar = bar_cohort.training[0]
    hu = np.random.default_rng(5).uniform(-900.0, 1000.0, bar.hu.shape).astype(np.float32)
    study = replace(bar, hu=hu, suv=hu / 200 + 5)
    sampler = Sampler([study], Recipe.read(values, "test"), district, seed=3)
    for step in range(4):
        batch = sampler.batch(step)
        ct = batch.inputs[:, INPUTS.index("hu")] * HU_SCALE
        assert np.allclose(batch.suv[:, 0], ct / 200 + 5, atol=1e-3)
