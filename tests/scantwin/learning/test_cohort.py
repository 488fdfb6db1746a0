from __future__ import annotations

import weakref

import numpy as np
import pytest

from scantwin import systems
from scantwin.evaluation.held_out import case_of
from scantwin.evaluation.measuring import training_statistics
from scantwin.learning import cohort as cohorts
from scantwin.learning.cohort import Cohort
from scantwin.learning.recipe import Recipe
from scantwin.learning.training import train


@pytest.fixture
def bars(make_bar):
    return [(f"bar-{k}", lambda k=k: make_bar(k)) for k in range(2)]


def bytes_held(study):
    """Of a study's arrays in memory; one that repeats a value takes none."""
    return sum(a.nbytes for a in vars(study).values() if isinstance(a, np.ndarray) and any(a.strides))


def test_no_training_reads_a_pet_on_its_own_grid(bars, tiny_recipe, tmp_path, monkeypatch):
    def never(part):
        raise AssertionError("read")

    monkeypatch.setattr(cohorts, "_whole", never)
    studies = Cohort.prepare(bars, tiny_recipe, tmp_path).training
    system = systems.build(tiny_recipe, seed=1)
    assert train(system, studies, steps=3, seed=2).steps == 3 and training_statistics(system, studies)
    with pytest.raises(AssertionError, match="read"):
        case_of(studies[0])


def test_whoever_measures_reads_it_and_nobody_keeps_it(bars, tiny_recipe, tmp_path, make_bar):
    cohort = Cohort.prepare(bars, tiny_recipe, tmp_path)
    for cached in tmp_path.iterdir():
        cached.unlink()  # a training outlives its cache
    for study in (*cohort.training, *cohort.held_out):
        true = make_bar(int(study.name[-1]))
        assert study.pet.same_grid(true.pet) and np.array_equal(study.pet.array, true.pet.array)
        assert np.array_equal(study.pet_lesions, true.lesions.array)
        assert case_of(study).lesions.any()
        kept = [weakref.ref(study.pet), weakref.ref(study.pet_lesions)]
        assert [ref() for ref in kept] == [None, None]


def test_a_study_costs_what_the_documentation_says(bars, tiny_recipe, tmp_path):
    """docs/translation.md, "Memory"."""
    study = Cohort.prepare(bars, tiny_recipe, tmp_path).training[0]
    assert bytes_held(study) == 15 * study.hu.size
    makes_ct = Recipe.read(
        {"system": "ct-inpainting", "districts": ["whole-body"], "spacing_mm": tiny_recipe.spacing_mm}, "test"
    )
    study = Cohort.prepare(bars, makes_ct, tmp_path).training[0]
    assert bytes_held(study) == 8 * study.hu.size
