from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scantwin import systems
from scantwin.cli.train import cohort_of
from scantwin.errors import InputError, Rejection
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.study import DISTRICT_LABEL, Study, air_over
from scantwin.imaging.volume import Volume
from scantwin.learning.cohort import Cohort, load_prepared, save_prepared
from scantwin.learning.prepared import INPUTS, cut, prepare, prepare_ct
from scantwin.learning.recipe import Recipe
from scantwin.learning.training import train

SPACING = (8.0, 8.0, 8.0)


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("kind", "numbers"), [(np.uint16, (255, 256, 300)), (np.uint8, (1, 2, 255))])
def test_lesions_of_any_number_stay_from_the_file_to_the_patch(make_bar, tmp_path, kind, numbers):
    """256 as a byte is 0."""
    study = make_bar(3)
    labels = np.zeros(study.ct.shape, kind)
    for place, label in zip((8, 16, 24), numbers, strict=True):
        labels[place : place + 3, 10:13, 10:13] = label
    for name, volume in (("CT", study.ct), ("SUV", study.pet), ("SEG", study.ct.with_array(labels, "label"))):
        write_nifti(volume, tmp_path / "study" / f"{name}.nii.gz")
    (source,) = find_studies(tmp_path / "study")
    read = read_study(source)
    assert np.unique(read.lesions.array).tolist() == [0, *numbers]
    made = prepare(read, study.ct.spacing)
    assert made.lesions.sum() == (labels > 0).sum() and (made.pet_lesions > 0).sum() == (labels > 0).sum()


def test_the_side_of_the_field_of_view_is_the_cts_whether_there_is_a_pet_or_not(make_bar, tmp_path):
    study = make_bar(3)
    pet = study.pet
    wide = Volume(
        np.pad(pet.array, ((0, 0), (5, 5), (3, 9))), pet.spacing,
        tuple(pet.world((0, -5, -3))), pet.direction, pet.unit,
    )  # fmt: skip
    spacing = (8.0, 8.0, 8.0)
    alone, beside = prepare(replace(study, pet=None), spacing), prepare(replace(study, pet=wide), spacing)
    save_prepared(beside, tmp_path / "beside")
    channel = INPUTS.index("from-side")
    for with_pet in (beside, load_prepared(tmp_path / "beside")):
        start = np.rint(with_pet.grid.index(alone.grid.world((0, 0, 0)))).astype(int).tolist()
        shape = tuple(n - 2 for n in alone.hu.shape)
        seen, told = with_pet.inputs("trunk", tuple(start), shape), alone.inputs("trunk", (0, 0, 0), shape)
        # The two grids lie up to half a voxel apart.
        assert np.abs(seen[channel] - told[channel]).max() <= 0.5 * 8.0 / 100.0 + 1e-4
        assert told[channel].max() > 0.3


def head_only(bar: Study) -> Volume:
    """Districts as somebody drew them: the head alone, and a number that stands for none."""
    labels = np.zeros(bar.ct.shape, np.uint8)
    labels[30:], labels[:5] = DISTRICT_LABEL["head"], 9
    return bar.ct.with_array(labels, "label")


@pytest.mark.parametrize("way", ["pet", "ct"])
def test_what_brought_districts_leave_out_is_whole_body(make_bar, way):
    bar = make_bar(3)
    study = replace(bar, districts=head_only(bar))
    made = prepare(study, SPACING) if way == "pet" else prepare_ct(study, SPACING, districts=True)
    assert np.array_equal(made.labels > 0, made.body)
    assert set(np.unique(made.labels)) == {0, DISTRICT_LABEL["head"], DISTRICT_LABEL["whole-body"]}
    assert set(made.boxes) == {"head", "whole-body"} and made.split
    assert made.mask("whole-body").sum() == made.body.sum() > 2 * made.mask("head").sum() > 0


def test_brought_districts_that_name_nothing_leave_the_body_unsplit(make_bar):
    bar = make_bar(3)
    nothing = replace(bar, districts=bar.ct.with_array(np.zeros(bar.ct.shape, np.uint8), "label"))
    made = prepare(nothing, SPACING)
    assert set(made.boxes) == {"whole-body"} and not made.split


def test_a_pet_too_coarse_to_show_the_body_is_refused(make_bar):
    bar = make_bar(3)
    wide = Volume(np.ones((3, 3, 3), np.float32), (500.0,) * 3, (-200.0, -200.0, -200.0), unit="SUV")
    with pytest.raises(Rejection) as caught:
        prepare(replace(bar, pet=wide, lesions=None), SPACING)
    assert caught.value.code == "pair.far-apart" and "no voxel of the PET" in caught.value.message


def test_a_cached_study_comes_back(bar_cohort, tmp_path):
    study = bar_cohort.training[0]
    save_prepared(study, tmp_path / "s.safetensors")
    again = load_prepared(tmp_path / "s.safetensors")
    assert again.name == study.name and again.condition == "melanoma"
    for field in ("hu", "suv", "labels", "lesions", "body", "depth", "pet_lesions"):
        assert np.array_equal(getattr(again, field), getattr(study, field)), field
    assert again.pet.same_grid(study.pet) and again.grid.same_grid(study.grid)
    assert np.array_equal(again.pet.array, study.pet.array) and again.pet.array.dtype == np.float32


def test_other_images_of_the_same_name_are_read_again(tiny_recipe, tmp_path, make_bar):
    folder, cache = tmp_path / "studies" / "case-0000", tmp_path / "cache"
    folder.mkdir(parents=True)

    def prepared_of(number: int) -> np.ndarray:
        bar = make_bar(number)
        write_nifti(bar.ct, folder / "CT.nii.gz")
        write_nifti(bar.pet, folder / "SUV.nii.gz")
        return cohort_of(folder.parent, tiny_recipe, cache, 0.0, quiet=True).training[0].suv

    first, second = prepared_of(1), prepared_of(2)
    assert first.shape != second.shape or not np.array_equal(first, second)
    files = sorted(cache.iterdir())
    cohort_of(folder.parent, tiny_recipe, cache, 0.0, quiet=True)
    assert sorted(cache.iterdir()) == files, "what did not change is not prepared again"


def test_a_patient_is_taught_from_or_held_out_never_both(bar_cohort):
    taught, kept = ({s.name for s in part} for part in (bar_cohort.training, bar_cohort.held_out))
    assert len(kept) == 1 and len(taught) == 3 and not taught & kept


def without_ct(bar: Study, **more: object) -> Study:
    """The PET of a bar, as it is read where there is no CT."""
    return replace(bar, **{"ct": air_over(bar.pet), "districts": None, "has_ct": False} | more)


def cyclegan(recipe: Recipe, *districts: str) -> Recipe:
    values = recipe.model_dump(mode="json") | {"system": "cyclegan", "districts": districts}
    return Recipe.read(values, "test")


def test_unpaired_training_takes_cts_and_pets_of_different_patients(tiny_recipe, tmp_path, make_bar):
    unpaired = cyclegan(tiny_recipe, "whole-body")
    cts = [(f"ct-{k}", lambda k=k: make_bar(k, with_pet=False)) for k in range(2)]
    pets = [(f"pet-{k}", lambda k=k: without_ct(make_bar(k))) for k in range(2, 4)]
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


def test_pets_alone_teach_the_whole_body_only_and_are_told_so(tiny_recipe, tmp_path, make_bar):
    cts = [(f"ct-{k}", lambda k=k: make_bar(k, with_pet=False)) for k in range(2)]
    pets = [(f"pet-{k}", lambda k=k: without_ct(make_bar(k))) for k in range(2, 4)]
    every = cyclegan(tiny_recipe, "head", "trunk", "arms", "legs", "whole-body")
    studies = Cohort.prepare([*cts, *pets], every, tmp_path).training
    result = train(systems.build(every, seed=1), studies, steps=2, seed=2)
    assert {name.split("/")[1] for name, count in result.patches.items() if count} == {"whole-body"}

    def refused(named, recipe) -> str:
        with pytest.raises(InputError) as caught:
            Cohort.prepare(named, recipe, tmp_path)
        return f"{caught.value.message} {caught.value.hint}"

    split = cyclegan(tiny_recipe, "trunk", "legs")
    assert "whole-body" in refused([*cts, *pets], split)
    assert "No study with a PET" in refused(cts, every) and "No study with a CT" in refused(pets, every)
    labelled = [("pet-9", lambda: without_ct(make_bar(9), districts=make_bar(9).districts))]
    prepared = Cohort.prepare([*cts, *labelled], split, tmp_path).training[-1]
    assert not prepared.has_ct and set(prepared.boxes) == {"trunk", "legs", "whole-body"}


def test_a_pet_without_a_patient_is_refused_as_one(make_bar):
    bar = make_bar(1)
    empty = replace(bar, pet=bar.pet.with_array(np.full(bar.pet.shape, 0.01, np.float32)))
    with pytest.raises(Rejection) as caught:
        prepare(without_ct(empty), (8.0, 8.0, 8.0))
    assert caught.value.code == "pet.implausible"


def test_whoever_is_held_out_is_measured_on_studies_with_both(tiny_recipe, tmp_path, make_bar):
    named = [(f"both-{k}", lambda k=k: make_bar(k)) for k in range(2)]
    named += [(f"pet-{k}", lambda k=k: without_ct(make_bar(10 + k))) for k in range(2)]
    cohort = Cohort.prepare(
        named, cyclegan(tiny_recipe, "whole-body"), tmp_path, held_out=0.5, patient_of=lambda name: name[-1]
    )
    # Of each patient there is a pair and a PET alone; nothing of the one who is held out teaches.
    assert [s.has_ct for s in cohort.held_out] == [True]
    assert sorted(s.has_ct for s in cohort.training) == [False, True]


def test_studies_of_one_patient_in_nested_folders_are_on_one_side(tiny_recipe, tmp_path, make_bar):
    for number in range(8):
        folder = tmp_path / "data" / f"PETCT_{number % 4}" / f"scan-{number}"
        folder.mkdir(parents=True)
        bar = make_bar(number)
        write_nifti(bar.ct, folder / "CT.nii.gz")
        write_nifti(bar.pet, folder / "SUV.nii.gz")
    cohort = cohort_of(tmp_path / "data", tiny_recipe, tmp_path / "cache", 0.5, quiet=True)
    sides = [{int(s.name.split("-")[1]) % 4 for s in side} for side in (cohort.training, cohort.held_out)]
    assert len(cohort.held_out) == 4 and not sides[0] & sides[1]
