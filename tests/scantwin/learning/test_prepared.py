from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scantwin import systems
from scantwin.errors import Rejection
from scantwin.imaging.study import Study
from scantwin.learning.cohort import Cohort, load_prepared, save_prepared
from scantwin.learning.prepared import INPUTS, cut, pet_alone
from scantwin.learning.recipe import Recipe
from scantwin.learning.training import train


@given(
    start=st.tuples(*[st.integers(-9, 9)] * 3),
    shape=st.tuples(*[st.integers(1, 8)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_cut_is_padding_then_slicing(start, shape):
    array = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    padded = np.pad(array, 20, constant_values=-5.0)
    wanted = padded[tuple(slice(a + 20, a + 20 + n) for a, n in zip(start, shape, strict=True))]
    assert np.array_equal(cut(array, start, shape, -5.0), wanted)


def test_inputs_are_bounded_and_tell_the_place(bar_cohort):
    study = bar_cohort.training[0]
    window = study.inputs("trunk", (20, 4, 6), (16, 16, 16))
    assert window.shape == (len(INPUTS), 16, 16, 16)
    assert np.isfinite(window).all() and np.abs(window).max() <= 3.0
    above = window[INPUTS.index("above-bottom")]
    assert (np.diff(above[:, 0, 0]) > 0).all(), "higher slices are further above the district's bottom"
    left = window[INPUTS.index("left")]
    assert (np.diff(left[0, 0, :]) > 0).all()


def test_a_cached_study_comes_back(bar_cohort, tmp_path):
    study = bar_cohort.training[0]
    save_prepared(study, tmp_path / "s.safetensors")
    again = load_prepared(tmp_path / "s.safetensors")
    assert again.name == study.name and again.condition == "melanoma"
    for field in ("hu", "suv", "labels", "lesions", "body", "depth", "pet_lesions"):
        assert np.array_equal(getattr(again, field), getattr(study, field)), field
    assert again.pet.same_grid(study.pet) and again.grid.same_grid(study.grid)


def test_a_patient_is_taught_from_or_held_out_never_both(bar_cohort):
    taught, kept = ({s.name for s in part} for part in (bar_cohort.training, bar_cohort.held_out))
    assert len(kept) == 1 and len(taught) == 3 and not taught & kept
    assert set(bar_cohort.patches_available) == {"trunk", "legs", "whole-body"}


def test_unpaired_training_takes_cts_and_pets_of_different_patients(tiny_recipe, tmp_path, make_bar):
    values = tiny_recipe.model_dump(mode="json") | {"system": "cyclegan", "districts": ["whole-body"]}
    unpaired = Recipe.read(values, "test")
    cts = [(f"ct-{k}", lambda k=k: make_bar(k, with_pet=False)) for k in range(2)]
    pets = [(f"pet-{k}", lambda k=k: pet_alone(f"bar-{k}", make_bar(k).pet)) for k in range(2, 4)]
    cohort = Cohort.prepare([*cts, *pets], unpaired, tmp_path / "unpaired", held_out=0.5)
    assert len(cohort.training) == 4 and not cohort.held_out, "nobody has both: nobody can be measured on"
    bars = {s.name: s for s in cohort.training}
    assert not bars["bar-2"].has_ct and bars["bar-0"].suv is None
    # A PET shows its patient about as well as a CT does: the two outlines are of one shape.
    outlines = [bars[name].body.mean() for name in ("bar-0", "bar-2")]
    assert outlines[1] == pytest.approx(outlines[0], rel=0.25)
    system = systems.build(unpaired, seed=1)
    result = train(system, cohort.training, steps=3, seed=2)
    assert set(result.patches) == set(system.components())
    paired = Cohort.prepare(
        [*cts, *pets, ("both", lambda: make_bar(9))], tiny_recipe, tmp_path / "paired", held_out=0
    )
    assert [study.name for study in paired.training] == ["bar-9"]


def test_all_studies_of_a_patient_are_on_one_side(tiny_recipe, tmp_path, make_bar):
    names = [f"{patient}-{study}" for patient in "abcd" for study in (1, 2)]
    named = [(name, lambda k=k, name=name: replace(make_bar(k), name=name)) for k, name in enumerate(names)]
    cohort = Cohort.prepare(named, tiny_recipe, tmp_path, patient_of=lambda name: name.partition("-")[0])
    assert len(cohort.held_out) == 2 and len(cohort.training) == 6
    assert len({study.name[0] for study in cohort.held_out}) == 1


def test_a_study_that_cannot_be_read_is_left_out_and_told(tiny_recipe, tmp_path, make_bar):
    def broken() -> Study:
        raise Rejection("It is broken.")

    told: list[Rejection] = []
    named = [("good", lambda: make_bar(1)), ("bad", broken), ("fine", lambda: make_bar(2))]
    cohort = Cohort.prepare(named, tiny_recipe, tmp_path, refused=told.append)
    assert len(cohort.training) + len(cohort.held_out) == 2 and [r.message for r in told] == ["It is broken."]
    with pytest.raises(Rejection):
        Cohort.prepare(named, tiny_recipe, tmp_path / "other")
