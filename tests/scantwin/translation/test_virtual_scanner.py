from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scantwin.errors import InputError
from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import prepare
from scantwin.systems import scanner_for
from scantwin.translation.uncertainty import EDGES, residual_sums, standard_deviation
from scantwin.translation.virtual_scanner import Cancelled


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
