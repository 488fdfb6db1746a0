from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from scantwin import systems
from scantwin.evaluation.held_out import case_of
from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.imaging.volume import Volume
from scantwin.learning.cohort import Cohort, load_prepared, save_prepared
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe, shipped_recipes

STATUS = Path("/proc/self/status")


@pytest.fixture
def bars(make_bar):
    return [(f"bar-{k}", lambda k=k: make_bar(k)) for k in range(2)]


def test_a_training_outlives_its_cache(bars, tiny_recipe, tmp_path, make_bar):
    cohort = Cohort.prepare(bars, tiny_recipe, tmp_path)
    for cached in tmp_path.iterdir():
        cached.unlink()
    for study in (*cohort.training, *cohort.held_out):
        true = make_bar(int(study.name[-1]))
        assert study.pet.same_grid(true.pet) and np.array_equal(study.pet.array, true.pet.array)
        assert np.array_equal(study.pet_lesions, true.lesions.array)
        assert case_of(study).lesions.any()


@pytest.mark.parametrize("damage", [lambda b: b[:900], lambda b: b"", lambda b: b[:8] + b"?" + b[9:]])
def test_a_damaged_file_of_the_cache_is_made_again(bars, tiny_recipe, tmp_path, damage):
    before = {s.name: np.array(s.hu) for s in Cohort.prepare(bars, tiny_recipe, tmp_path).training}
    for path in tmp_path.iterdir():
        path.write_bytes(damage(path.read_bytes()))
    after = {s.name: s.hu for s in Cohort.prepare(bars, tiny_recipe, tmp_path).training}
    assert before.keys() == after.keys() and all(np.array_equal(before[n], after[n]) for n in before)


def test_what_an_older_version_prepared_does_not_stay(bars, tiny_recipe, tmp_path):
    older = tmp_path / "0123456789abcdef01234567.safetensors"
    older.write_bytes(b"a patient's images")
    Cohort.prepare(bars, tiny_recipe, tmp_path)
    assert not older.exists() and len(list(tmp_path.iterdir())) == len(bars)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    Cohort.prepare(bars, tiny_recipe, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == kept


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not say what is in memory (Linux does)")
@pytest.mark.parametrize("name", shipped_recipes())
def test_a_cohort_may_be_larger_than_memory(name, tmp_path):
    """Neither its images nor the voxels to draw patches around are held: docs/translation.md, "Memory"."""
    recipe = Recipe.load(name)
    edge, path = 208, tmp_path / "study.safetensors"  # an image is 36 MB: what malloc never keeps for later
    save_prepared(everything(edge, recipe.spacing_mm, makes_ct=recipe.makes_ct), path)
    drawn_from(load_prepared(path), recipe)  # what a first batch makes once is made
    before = own_memory()
    study = load_prepared(path)
    sampler = drawn_from(study, recipe)
    images = [value for value in vars(study).values() if isinstance(value, np.ndarray)]
    assert sampler and all(np.isfinite(image.sum(dtype=np.float64)) for image in images)
    assert own_memory() - before < edge**3 * 4 / 2, "more than half of one image"


def drawn_from(study, recipe):
    """What draws patches of `study`, and has drawn some."""
    sampler = systems.build(recipe, seed=0).sampler([study], "whole-body", 0)
    batch = sampler.batch(0)
    assert getattr(batch, "patches", batch)  # volumes' are cut when they are asked for
    return sampler


def own_memory() -> int:
    """Bytes of this process that no file stands behind."""
    gc.collect()
    return next(
        int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith("RssAnon:")
    )


def everything(edge: int, spacing_mm: tuple[float, float, float], *, makes_ct: bool) -> PreparedStudy:
    """A study with all that a training reads, body wherever it looks."""
    shape = (edge,) * 3
    image = np.random.default_rng(5).uniform(0.0, 9.0, shape).astype(np.float32)
    marked = np.ones(shape, np.uint8)
    return PreparedStudy(
        name="large", condition="negative", grid=Volume(np.broadcast_to(np.uint8(0), shape), spacing_mm),
        hu=image, body=marked.astype(bool), labels=marked * np.uint8(DISTRICT_LABEL["whole-body"]),
        depth=image, organs=marked if makes_ct else None, lesions=marked,
        suv=None if makes_ct else image, pet=None if makes_ct else Volume(image, spacing_mm, unit="SUV"),
    )  # fmt: skip


def test_who_was_held_out_is_not_learnt_from_while_a_pet_is_missing(make_bar, tiny_recipe, tmp_path):
    """It may come later, and the patient is measured on then."""
    unpaired = Recipe.load("cyclegan").model_copy(
        update={"districts": tiny_recipe.districts, "spacing_mm": tiny_recipe.spacing_mm}
    )

    def cohort(without_pet):
        named = [(f"bar-{k}", lambda k=k: make_bar(k, with_pet=k != without_pet)) for k in range(4)]
        version = str(without_pet)
        return Cohort.prepare(
            named, unpaired, tmp_path / "cache", assigned=tmp_path / "held-out.json",
            version_of=lambda _: version,
        )  # fmt: skip

    (held_out,) = cohort(None).held_out
    number = int(held_out.name[-1])
    later = cohort(number)
    assert held_out.name not in {study.name for study in (*later.training, *later.held_out)}
    assert [study.name for study in cohort(None).held_out] == [held_out.name]


@pytest.mark.parametrize("before", [None, 0o755])
def test_prepared_patients_are_for_their_owner_only(bars, tiny_recipe, tmp_path, before):
    cache = tmp_path / "cache"
    if before:
        cache.mkdir(mode=before)
    Cohort.prepare(bars, tiny_recipe, cache)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in cache.iterdir()} == {0o600}


def test_recipes_of_other_voxels_share_no_prepared_study(bars, tiny_recipe, tmp_path):
    """A site's cache outlives a training: the next model may have other voxels."""
    finer = tiny_recipe.model_copy(update={"spacing_mm": (8.0, 4.0, 4.0)})
    for recipe in (tiny_recipe, finer, tiny_recipe):
        cohort = Cohort.prepare(bars, recipe, tmp_path)
        for study in (*cohort.training, *cohort.held_out):
            assert study.grid.spacing == recipe.spacing_mm and study.hu.shape == study.grid.shape
