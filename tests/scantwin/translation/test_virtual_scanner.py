from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scantwin import systems
from scantwin.errors import InputError
from scantwin.evaluation.held_out import measure
from scantwin.imaging.study import DISTRICT_LABEL, Study
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import prepare
from scantwin.learning.recipe import Recipe
from scantwin.learning.training import train
from scantwin.learning.weights import Model
from scantwin.systems import scanner_for
from scantwin.translation import windows
from scantwin.translation.noise import NoiseField
from scantwin.translation.uncertainty import (
    EDGES,
    key,
    ratio_counts,
    ratio_key,
    residual_sums,
    standard_deviation,
)
from scantwin.translation.virtual_scanner import Cancelled, VirtualScanner


def test_a_scan_is_warm_where_the_core_is(bar_model, new_bar):
    result = scanner_for(bar_model).scan(new_bar.ct)
    pet = result.pet.array
    assert result.pet.unit == "SUV" and pet.min() >= 0 and pet.max() <= 20
    assert (pet[~result.body] == 0).all()
    core, fat = result.body & (result.ct.array > 0), result.body & (result.ct.array < -50)
    assert pet[core].mean() > 2 * pet[fat].mean()
    assert np.isfinite(result.std.array).all() and (result.std.array[result.body] > 0).all()
    assert not result.warnings, "a CT that cannot be split has the error bar of the whole body's networks"


def test_one_district_that_was_never_measured_leaves_the_others_their_error_bar(bar_model, new_bar):
    study = prepare(new_bar, bar_model.recipe.spacing_mm)
    known = {name: sums for name, sums in bar_model.statistics.items() if not name.endswith("/legs")}
    _, std, warnings, _ = scanner_for(replace(bar_model, statistics=known)).synthesise(study)
    assert any("never measured" in warning for warning in warnings)
    assert np.isnan(std[study.mask("legs")]).all()
    # 40 mm from the border nothing of the legs' networks is left in what is said.
    z = np.arange(len(std))[:, None, None]
    far = study.mask("trunk") & (z > 20 + 5)
    assert far.any() and np.isfinite(std[far]).all() and (std[far] > 0).all()


def test_a_model_of_one_district_leaves_out_the_rest(bar_model, new_bar):
    recipe = bar_model.recipe.model_copy(update={"districts": ("trunk",)})
    own = {name: arrays for name, arrays in bar_model.components.items() if "/trunk/" in name}
    scanner = scanner_for(replace(bar_model, recipe=recipe, components=own))
    study = prepare(new_bar, recipe.spacing_mm)
    pet, std, warnings, _ = scanner.synthesise(study)
    trunk = study.mask("trunk")
    assert (pet[trunk] > 0).any() and np.isfinite(std[trunk]).all()
    assert (pet[study.mask("legs")] == 0).all() and np.isnan(std[study.mask("legs")]).all()
    assert any("only a part of the body" in warning for warning in warnings)
    with pytest.raises(InputError, match="cannot be split"):
        scanner.scan(new_bar.ct)


def test_a_model_that_makes_no_numbers_is_called_broken_and_not_the_patient(bar_model, new_bar):
    spoilt = {
        name: {key: value * np.float32(np.nan) for key, value in arrays.items()}
        for name, arrays in bar_model.components.items()
    }
    with pytest.raises(InputError, match="model is broken"):
        scanner_for(replace(bar_model, components=spoilt)).scan(new_bar.ct)


def test_a_district_of_a_single_voxel_is_scanned(bar_model, new_bar):
    study = prepare(new_bar, bar_model.recipe.spacing_mm)
    labels = np.where(study.body, DISTRICT_LABEL["trunk"], 0).astype(np.uint8)
    labels[tuple(np.argwhere(study.body)[0])] = DISTRICT_LABEL["legs"]
    pet = scanner_for(bar_model).synthesise(replace(study, labels=labels)).pet
    assert np.isfinite(pet).all()


def test_the_same_ct_gives_the_same_scan(bar_model, new_bar):
    one, two = (scanner_for(bar_model).scan(new_bar.ct) for _ in range(2))
    assert np.array_equal(one.pet.array, two.pet.array)


def test_districts_join_without_a_seam(bar_model, new_bar):
    """The jump across the border of two districts is no larger than the patient's own there."""
    study = prepare(new_bar, bar_model.recipe.spacing_mm)
    pet = scanner_for(bar_model).synthesise(study).pet
    both = (study.labels[:-1] > 0) & (study.labels[1:] > 0)
    jump = np.abs(np.diff(pet, axis=0))
    border = both & (study.labels[:-1] != study.labels[1:])
    true = np.abs(np.diff(study.suv, axis=0))
    assert border.any()
    # The bars jump from 1 to 3 at the border by construction: a model may not add to that.
    assert jump[border].mean() <= true[border].mean()
    assert jump[border].max() <= true[border].max() * 1.1


def block():
    """Larger than a window of 16 along every axis, in three districts that meet along z and along x."""
    labels = np.zeros((42, 28, 40), np.uint8)
    labels[4:20, 4:24, 4:36] = DISTRICT_LABEL["legs"]
    labels[20:38, 4:24, 4:20] = DISTRICT_LABEL["trunk"]
    labels[20:38, 4:24, 20:36] = DISTRICT_LABEL["arms"]
    return labels


def hips():
    """Two legs that meet at a hip, below a trunk: the legs' windows are low (`windows_over`)."""
    labels = np.zeros((74, 18, 112), np.uint8)
    labels[4:58, 4:14, 4:16] = labels[4:58, 4:14, 96:108] = DISTRICT_LABEL["legs"]
    labels[58:62, 4:14, 4:108] = DISTRICT_LABEL["legs"]
    labels[62:70, 4:14, 4:108] = DISTRICT_LABEL["trunk"]
    return labels


SEAMS = {"block": (block, 16, 8), "hips": (hips, 64, 8)}
"""Labels of a body's districts, window and overlap [voxels]."""


def uniform(labels, spacing_mm):
    """A body of one tissue in a CT without noise: nothing in it is a reason for a step."""
    hu = np.where(labels > 0, 55.0, -1000.0).astype(np.float32)
    place = {"spacing": spacing_mm, "origin": (0.0, 0.0, 0.0)}
    districts = Volume(labels, unit="label", **place)
    study = prepare(Study("uniform", ct=Volume(hu, unit="HU", **place), districts=districts), spacing_mm)
    assert np.array_equal(study.labels, labels)
    return study


def variant(recipe, name, **network):
    """`recipe` for the system `name` and for three districts, with other values for its networks."""
    values = recipe.model_dump(mode="json") | {"system": name, "districts": ["trunk", "arms", "legs"]}
    if name == "coarse-diffusion":
        del values["network"]["discriminator_channels"]
        values["diffusion"] = {
            "steps": 20, "channels": [8, 16], "time_features": 8, "start_step": 20, "sample_steps": 2,
            "samples": 2, "coarse_share": 0.3, "delivered": "sample", "predicts": "x0",
        }  # fmt: skip
    values["network"] |= network
    return Recipe.read(values, "test")


def scanned(system, study):
    record = {"patches": dict.fromkeys(system.components(), 1)}
    return VirtualScanner(Model(system.recipe, {}, record), system).synthesise(study).pet


def neighbours(mask, axis):
    """Where two neighbours along an axis are both in `mask`: as `np.diff` has them."""
    return np.take(mask, range(1, mask.shape[axis]), axis) & np.take(mask, range(mask.shape[axis] - 1), axis)


def borders(cut, shape, axis):
    """Where along an axis a window begins or has ended: as `np.diff` has the step to there."""
    at = np.zeros(shape, bool)
    for window in cut:
        for face in (window[axis].start, window[axis].stop):
            inside = [slice(max(side.start, 0), side.stop) for side in window]
            inside[axis] = slice(max(face, 0), max(face, 0) + 1)
            at[tuple(inside)] = True
    return np.take(at, range(1, shape[axis]), axis)


@pytest.fixture(scope="module", params=["pix2pix", "coarse-diffusion"])
def taught(request, tiny_recipe, bar_cohort):
    """A system whose districts have learnt, each from its own part of the bars."""
    torch.set_num_threads(1)
    system = systems.build(variant(tiny_recipe, request.param), seed=1)
    train(system, bar_cohort.training, steps=40, seed=1)
    return system


@pytest.mark.parametrize("body", SEAMS)
def test_windows_join_without_a_seam(taught, body, monkeypatch):
    """Across a border of windows the PET steps by no more than elsewhere deep in a uniform tissue."""
    labels, window, overlap = SEAMS[body]
    recipe = taught.recipe
    rules = recipe.sampling.model_copy(update={"window": window, "overlap": overlap})
    monkeypatch.setattr(taught, "recipe", recipe.model_copy(update={"sampling": rules}))
    cut, over, drawn = [], windows.windows_over, NoiseField.cut
    monkeypatch.setattr(windows, "windows_over", lambda *asked: cut.append(over(*asked)) or cut[-1])
    monkeypatch.setattr(NoiseField, "cut", lambda *asked: 0 * drawn(*asked))  # noise steps everywhere
    study = uniform(labels(), recipe.spacing_mm)
    pet = scanned(taught, study)
    every = [one for district in cut for one in district]
    assert (min(z.stop - z.start for z, _, _ in every) < window) == (body == "hips"), "low windows there"
    # Skin and what districts disagree about (the next test) are reasons for a step.
    shares = [windows.reach(study.mask(d), recipe.spacing_mm) for d in study.boxes if d != "whole-body"]
    deep = (study.depth > 24) & (np.max(shares, 0) > 0.999 * np.sum(shares, 0))
    there, elsewhere = [], []
    for axis in range(3):
        step, tissue = np.abs(np.diff(pet, axis=axis)), neighbours(deep, axis)
        border = borders(every, pet.shape, axis)
        assert (tissue & border).any() or body == "hips"
        there.append(step[tissue & border])
        elsewhere.append(step[tissue & ~border])
    # Windows disagree most at a face, for one of them sees nothing beyond it; but that one has a hundredth of
    # the say there. In a tissue without any noise that is a step of a thousandth of the uptake, 0.8 to 1.6
    # times the step elsewhere. With equal weights it would have half of the say: 3.7 to 20 times.
    assert 0 < np.concatenate(there).mean() < 2.5 * np.concatenate(elsewhere).mean()


def saying(recipe, said):
    """A system whose districts say one value each [g/ml]; its networks start at zero."""
    system = systems.build(recipe, seed=1)
    low, high = recipe.suv_range
    for component, network in system.components().items():
        _, district, part = component.split("/")
        if part in ("generator", "coarse"):
            torch.nn.init.constant_(network.head.bias, said[district] / ((high - low) / 2))
        elif part == "denoiser":
            torch.nn.init.constant_(network.body.head.weight, 1e-12)  # has learnt that nothing is left over
    return system


@pytest.mark.parametrize("spacing", [4.0, 2.0])
def test_what_all_districts_say_is_said_everywhere_in_the_body(spacing, tiny_recipe):
    """Where a district has hardly a share its networks are not asked; that is not a say of SUV 0."""
    recipe = variant(tiny_recipe, "pix2pix", start="zero")
    rules = recipe.sampling.model_copy(update={"window": 16, "overlap": 8})
    recipe = recipe.model_copy(update={"spacing_mm": (spacing,) * 3, "sampling": rules})
    system = saying(recipe, dict.fromkeys(recipe.districts, 3.0))
    # Held-out patients whose cold voxels were ten times as far off as these.
    predicted, off = (np.repeat(np.float32(values), 300) for values in ([0.1, 2.7, 3.2], [5.0, 0.5, 0.5]))
    statistics = {key(district): residual_sums(predicted, predicted - off) for district in recipe.districts}
    study = uniform(np.pad(block(), 20), (spacing,) * 3)
    # A voxel of the body by itself, which has a share of a thousandth at 2 mm, counts as much as any other.
    alone = (2, 2, 2)
    study.body[alone], study.labels[alone] = True, DISTRICT_LABEL["arms"]
    record = {"patches": dict.fromkeys(system.components(), 1)}
    made = VirtualScanner(Model(recipe, {}, record, statistics), system).synthesise(study)
    assert np.abs(made.pet[study.body] / 3.0 - 1).max() < 1e-5 and not made.pet[~study.body].any()
    assert np.abs(made.std[study.body] / 0.5 - 1).max() < 1e-5


@pytest.mark.parametrize("name", ["pix2pix", "coarse-diffusion"])
def test_what_districts_disagree_about_is_spread(name, tiny_recipe):
    """Districts that say one value each: between them the PET rises as gently as the blend does."""
    said = {"legs": 2.0, "trunk": 4.0, "arms": 3.0}  # [g/ml]
    spacing = 4.0
    recipe = variant(tiny_recipe, name, start="zero").model_copy(update={"spacing_mm": (spacing,) * 3})
    system = saying(recipe, said)
    labels = block()
    pet = scanned(system, uniform(labels, (spacing,) * 3))
    for district, value in said.items():
        assert np.abs(pet[labels == DISTRICT_LABEL[district]] - value).min() < 0.01, "the difference is there"
    steps = [np.abs(np.diff(pet, axis=axis))[neighbours(labels > 0, axis)].max() for axis in range(3)]
    # A step that is blurred with an SD of 10 mm is steepest in its middle, where it rises by 1 / sqrt(2 pi)
    # of itself in one SD: by 0.16 in a voxel. A tenth more, for the blur is cut off at three SDs.
    steepest = spacing / (10.0 * math.sqrt(2 * math.pi))
    assert 0.9 * steepest < max(steps) / 2.0 < 1.1 * steepest


def test_a_scan_can_be_called_off(bar_model, new_bar):
    with pytest.raises(Cancelled):
        scanner_for(bar_model).scan(new_bar.ct, cancelled=lambda: True)


def test_air_is_refused(bar_model):
    air = Volume(np.full((20, 20, 20), -1000.0, np.float32), (8.0, 8.0, 8.0), unit="HU")
    with pytest.raises(InputError, match="no body"):
        scanner_for(bar_model).scan(air)


def test_what_was_never_learnt_is_said(bar_model, new_bar):
    study = prepare(new_bar, bar_model.recipe.spacing_mm)
    patches = {n: c for n, c in bar_model.record["patches"].items() if "/legs/" not in n}
    scanner = scanner_for(type(bar_model)(bar_model.recipe, bar_model.components, {"patches": patches}))
    _, std, warnings, _ = scanner.synthesise(study)
    assert any("never learnt the legs" in warning for warning in warnings)
    assert np.isnan(std[study.body]).all(), "nothing was measured: no error bar may be shown"
    nothing = scanner_for(type(bar_model)(bar_model.recipe, bar_model.components, {"patches": {}}))
    with pytest.raises(InputError, match="never learnt"):
        nothing.synthesise(study)
    assert DISTRICT_LABEL["legs"] in study.labels


def test_the_error_bar_is_the_root_mean_square_seen_at_that_uptake():
    random = np.random.default_rng(0)
    predicted = random.uniform(0.5, 4.0, 200_000).astype(np.float32)
    spread = 0.1 + 0.2 * predicted  # what the error bar has to find
    true = (predicted + spread * random.normal(size=predicted.size)).astype(np.float32)
    sums = {"residual/trunk": residual_sums(predicted, true)}
    asked = np.array([0.6, 1.2, 2.2, 3.4], np.float32)
    found = standard_deviation(asked, sums, "trunk")
    # Within a bin the spread itself changes by half the bin's width times 0.2.
    assert found == pytest.approx(0.1 + 0.2 * asked, abs=0.2 * np.diff(EDGES)[:9].max() / 2)
    assert standard_deviation(asked, sums, "head") is None


def drawing(tiny_recipe, **sampling):
    """A coarse-diffusion that looks at a voxel alone: 2 g/ml and what it makes of the noise there."""
    recipe = variant(tiny_recipe, "coarse-diffusion", start="zero")
    rules = recipe.diffusion.model_copy(update={"predicts": "v", "anchor": 0.0})
    cut = recipe.sampling.model_copy(update=sampling)
    recipe = recipe.model_copy(update={"diffusion": rules, "sampling": cut})
    return saying(recipe, dict.fromkeys(recipe.districts, 2.0))


def test_where_samples_disagree_the_error_bar_is_wider(tiny_recipe, bar_cohort):
    """Where it is measured and where it is stated: else intervals are calibrated for others than are told."""
    system, study = drawing(tiny_recipe), bar_cohort.held_out[0]
    statistics = measure(system, [study]).statistics
    record = {"patches": dict.fromkeys(system.components(), 1)}
    pet, std, _, spread = VirtualScanner(Model(system.recipe, {}, record, statistics), system).synthesise(
        study
    )
    for district, other in (("trunk", "legs"), ("legs", "trunk")):
        own = study.mask(district)
        counted = ratio_counts(pet[own], study.suv[own], spread[own])
        assert np.array_equal(statistics[ratio_key(district)], counted), "the same seed draws the same"
        own &= windows.reach(study.mask(other), system.recipe.spacing_mm) == 0  # where it alone has a say
        told, without = (standard_deviation(pet[own], statistics, district, s) for s in (spread[own], None))
        assert std[own] == pytest.approx(told, rel=1e-5)
        assert np.max(told / without) > 1.1, "samples do disagree"


def test_how_far_samples_differ_does_not_depend_on_the_windows_they_are_drawn_in(tiny_recipe):
    """All windows share the noise, so a voxel that lies in three of them differs as one that lies in one."""
    both = [drawing(tiny_recipe, window=window, overlap=8) for window in (16, 64)]
    study = uniform(block(), both[0].recipe.spacing_mm)
    record = {"patches": dict.fromkeys(both[0].components(), 1)}
    small, large = (VirtualScanner(Model(s.recipe, {}, record), s).synthesise(study, seed=4) for s in both)
    assert large.spread[study.body].min() > 0
    assert small.spread == pytest.approx(large.spread, rel=1e-3, abs=1e-6)
    assert small.pet == pytest.approx(large.pet, rel=1e-3, abs=1e-5)
