from __future__ import annotations

import numpy as np
import pytest
import torch

from scantwin.learning.augmentation import margin, warp
from scantwin.learning.mirroring import averaged, mirror_inputs, mirrorings
from scantwin.learning.prepared import INPUTS
from scantwin.learning.recipe_parts import Sampling


@pytest.mark.parametrize("axes", mirrorings(("z", "y", "x")))
def test_mirroring_twice_changes_nothing(axes):
    inputs = torch.randn(2, len(INPUTS), 4, 6, 8)
    assert torch.equal(mirror_inputs(mirror_inputs(inputs, axes), axes), inputs)


def test_the_mirrored_patients_place_is_mirrored(bar_cohort):
    """The inputs of a window that is symmetric about the body's middle are those of the mirrored patient."""
    study = bar_cohort.training[0]
    box = study.boxes["whole-body"]
    start = tuple(s.start for s in box)
    size = tuple(s.stop - s.start for s in box)
    inputs = torch.from_numpy(study.inputs("whole-body", start, size))
    for axes in (("z",), ("y",), ("x",)):
        turned = mirror_inputs(inputs, axes)
        for name in INPUTS[3:]:  # the place channels depend on the box only, but for
            if name != "from-side":  # which is in the field of view
                channel = INPUTS.index(name)
                assert torch.allclose(turned[channel], inputs[channel], atol=1e-6), (axes, name)


def test_the_sides_of_the_field_of_view_are_as_far_from_left_as_from_right(bar_cohort):
    study = bar_cohort.training[0]
    inputs = torch.from_numpy(study.inputs("whole-body", (0, 0, 0), study.hu.shape))
    channel = INPUTS.index("from-side")
    for axes in (("y",), ("x",), ("z",)):
        assert torch.allclose(mirror_inputs(inputs, axes)[channel], inputs[channel], atol=1e-6)
    half_a_voxel = study.grid.spacing[2] / 2
    assert inputs[channel, 0, study.hu.shape[1] // 2, 0] == pytest.approx(half_a_voxel / 100.0)


def test_an_average_over_flips_is_the_same_for_the_mirrored_patient():
    network = torch.nn.Conv3d(len(INPUTS), 1, 3, padding=1)
    inputs = torch.randn(1, len(INPUTS), 6, 6, 6)
    with torch.no_grad():
        straight = averaged(network, inputs, ("y", "x"))
        turned = averaged(network, mirror_inputs(inputs, ("x",)), ("y", "x"))
    assert torch.allclose(turned.flip(-1), straight, atol=1e-5)


CUBES = (4.0, 4.0, 4.0)
"""Voxel size [mm]."""


def test_a_patch_that_is_not_turned_is_its_own_middle():
    rules = Sampling(patch=8, turn_deg=0.0, stretch=1e-9)
    around = margin(rules, CUBES)
    image = np.random.default_rng(0).normal(size=(2, *(8 + 2 * around,) * 3)).astype(np.float32)
    out, _ = warp(image, rules, CUBES, np.random.default_rng(1))
    middle = image[:, around:-around, around:-around, around:-around]
    assert np.allclose(out, middle, atol=1e-4)


def test_turned_patches_stay_inside_their_margin_and_keep_linear_images():
    rules = Sampling(patch=12, turn_deg=6.0, stretch=0.06)
    around = margin(rules, CUBES)
    wide = 12 + 2 * around
    z, y, x = np.meshgrid(*[np.arange(wide) - (wide - 1) / 2] * 3, indexing="ij")
    ramp = (0.3 * z + 0.5 * y - 0.2 * x).astype(np.float32)[None]
    steep = float(np.sqrt(0.3**2 + 0.5**2 + 0.2**2))
    for seed in range(20):
        out, _ = warp(ramp, rules, CUBES, np.random.default_rng(seed))
        assert out.shape == (1, 12, 12, 12)
        slopes = [np.diff(out[0], axis=a) for a in range(3)]
        # A ramp stays a ramp of the same steepness up to the stretch: no voxel came from beyond the border.
        assert all(np.ptp(slope) < 1e-3 for slope in slopes)
        length = float(np.sqrt(sum(float(s.mean()) ** 2 for s in slopes)))
        assert length == pytest.approx(steep, rel=2 * 0.06 + 1e-3)


def test_a_turned_patch_says_where_its_voxels_came_from():
    rules = Sampling(patch=12, turn_deg=6.0, stretch=0.06)
    wide = 12 + 2 * margin(rules, CUBES)
    own_places = np.indices((wide, wide, wide), np.float32)
    for seed in range(5):
        out, places = warp(own_places, rules, CUBES, np.random.default_rng(seed))
        assert np.allclose(out, places, atol=1e-3)


def test_voxels_that_are_no_cubes_are_turned_in_mm():
    """All of a patch lies as far apart as before, but for the scale: in indices it would be sheared."""
    rules, flat = Sampling(patch=12, turn_deg=15.0, stretch=0.05), (8.0, 2.0, 4.0)
    wide = 12 + 2 * margin(rules, flat)
    for seed in range(5):
        images = np.indices((wide, wide, wide), np.float32)
        out, places = warp(images, rules, flat, np.random.default_rng(seed))
        assert np.allclose(out, places, atol=2e-3), "no voxel came from beyond the border"
        mm = places * np.array(flat, np.float32)[:, None, None, None]
        steps = [np.diff(mm, axis=axis)[:, 0, 0, 0] / flat[axis - 1] for axis in (1, 2, 3)]
        metric = np.array([[a @ b for b in steps] for a in steps])
        assert np.allclose(metric, metric[0, 0] * np.eye(3), atol=1e-3)
        assert metric[0, 0] ** 0.5 == pytest.approx(1.0, abs=2 * 0.05 + 1e-3)


def test_a_trunk_is_not_mirrored_unless_a_recipe_says_so():
    assert Sampling().mirrored("legs", split=True) == ("x",)
    assert Sampling().mirrored("trunk", split=True) == Sampling().mirrored("whole-body", split=True) == ()
    assert Sampling().mirrored("whole-body", split=False) == ("x",), "a piece of a limb has no sides"
    assert Sampling(flip_trunk=("y",)).mirrored("trunk", split=True) == ("y",)


def test_a_scan_is_averaged_over_what_was_mirrored():
    rules = Sampling(average_flips=("x", "z"), flip=("x",), flip_trunk=(), flip_unsplit=("z",))
    assert rules.averaged_over("head") == ("x",)
    assert rules.averaged_over("trunk") == ()
    assert rules.averaged_over("whole-body") == ("z",)
    assert Sampling(average_flips=()).averaged_over("head") == ()
