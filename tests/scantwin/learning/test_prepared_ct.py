from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scantwin.errors import InputError
from scantwin.imaging.organs import ORGAN_LABEL
from scantwin.learning.cohort import Cohort
from scantwin.learning.prepared import prepare_ct
from scantwin.learning.recipe import Recipe

FINE = (8.0, 4.0, 4.0)


@pytest.fixture
def inpainting():
    return Recipe.read({"system": "ct-inpainting", "districts": ["whole-body"], "spacing_mm": FINE}, "test")


def test_a_ct_is_cropped_to_the_body_and_has_classes(make_bar):
    study = make_bar(1, with_pet=False)
    found = prepare_ct(study, FINE, districts=False)
    assert found.suv is None
    assert found.hu.shape == found.organs.shape == found.body.shape
    assert found.hu.size < study.ct.array.size * 4 * 0.8  # air around the bar is gone
    assert ((found.organs > 0) == found.body).all()
    lesion = found.lesions > 0
    assert lesion.any()
    assert set(np.unique(found.organs[lesion])) == {ORGAN_LABEL["tumour"]}
    assert {ORGAN_LABEL["fat"], ORGAN_LABEL["soft-tissue"]} <= set(np.unique(found.organs))
    middle = np.array(found.hu.shape) // 2
    there = study.ct.index(found.grid.world(middle)).round().astype(int)
    assert abs(found.hu[tuple(middle)] - study.ct.array[tuple(there)]) < 40  # the same place in the world


def test_cts_without_pet_make_a_cohort_and_come_back_from_the_cache(make_bar, inpainting, tmp_path):
    named = [(f"bar-{k}", lambda k=k: make_bar(k, with_pet=k == 0)) for k in range(4)]
    first = Cohort.prepare(named, inpainting, tmp_path, held_out=0.5)
    assert (len(first.training), len(first.held_out)) == (2, 2)

    def never():
        raise AssertionError("read again")

    again = Cohort.prepare([(name, never) for name, _ in named], inpainting, tmp_path, held_out=0.5)
    for one, two in zip(first.training, again.training, strict=True):
        assert one.name == two.name
        assert np.array_equal(one.organs, two.organs)
        assert np.array_equal(one.hu, two.hu)
        assert not two.depth.any()


def test_pet_recipes_and_ct_recipes_share_a_cache_folder(make_bar, inpainting, tiny_recipe, tmp_path):
    named = [(f"bar-{k}", lambda k=k: make_bar(k)) for k in range(2)]
    makes_ct = Cohort.prepare(named, inpainting.model_copy(update={"spacing_mm": (8.0, 8.0, 8.0)}), tmp_path)
    makes_pet = Cohort.prepare(named, tiny_recipe, tmp_path)
    assert makes_ct.training[0].organs is not None
    assert makes_pet.training[0].organs is None
    assert makes_pet.training[0].suv is not None


def test_no_ct_is_one_sentence(inpainting, make_bar, tmp_path):
    study = make_bar(0)
    alone = replace(study, has_ct=False)
    with pytest.raises(InputError, match="CT"):
        Cohort.prepare([("alone", lambda: alone)], inpainting, tmp_path)
