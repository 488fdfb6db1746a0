from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from scantwin.errors import InputError
from scantwin.generation import painting
from scantwin.generation.hu_scale import to_hu, to_unit
from scantwin.generation.painting import _feather, regenerate
from scantwin.generation.regions import ellipsoid, with_ring
from scantwin.imaging.organs import ORGAN_LABEL
from scantwin.imaging.resampling import to_spacing
from scantwin.imaging.volume import Volume


@pytest.fixture(scope="module")
def region(scene):
    lesion = ellipsoid(scene.ct.shape, scene.ct.spacing, (12, 22, 34), (20, 30), np.random.default_rng(3))
    return with_ring(lesion, scene.ct.spacing, 5.0) & (scene.classes > 0)


@pytest.mark.parametrize("method", ["diffusion", "pix2pix"])
def test_outside_of_the_region_nothing_changes(painter, scene, region, method):
    made = regenerate(painter, scene.ct, region, scene.classes, method=method)
    assert made.array.dtype == scene.ct.array.dtype
    assert np.array_equal(made.array[~region], scene.ct.array[~region])
    assert (made.array[region] != scene.ct.array[region]).mean() > 0.5


def test_what_is_made_comes_in_gradually_from_the_border(painter, scene, region, monkeypatch):
    """A network that says everything is 200 HU denser must not leave a step of 200 HU around it."""
    monkeypatch.setattr(painter, "rules", painter.rules.model_copy(update={"feather_mm": 8.0}))
    monkeypatch.setattr(painting, "_made", lambda _, ct, *__: np.asarray(ct.array, np.float32) + 200.0)
    made = regenerate(painter, scene.ct, region, scene.classes)
    change = made.array.astype(float) - scene.ct.array
    depth = ndimage.distance_transform_edt(region, sampling=scene.ct.spacing)
    rim, inner = (depth > 0) & (depth <= max(scene.ct.spacing)), depth > 8.0 + max(scene.ct.spacing) / 2
    assert rim.any() and inner.any() and (change[inner] == 200).all()
    # A voxel of 4 or 5 mm in a border of 8: about half-way.
    assert (change[rim] > 0).all() and (change[rim] < 150).all() and (change[~region] == 0).all()


def test_the_same_seed_gives_the_same_ct_and_another_seed_another(painter, scene, region):
    one, two, other = (regenerate(painter, scene.ct, region, scene.classes, seed=s).array for s in (4, 4, 5))
    assert np.array_equal(one, two)
    assert not np.array_equal(one[region], other[region])


def test_what_is_asked_for_matters(painter, scene, region):
    as_tumour = np.where(region, ORGAN_LABEL["tumour"], scene.classes).astype(np.uint8)
    one = regenerate(painter, scene.ct, region, scene.classes)
    two = regenerate(painter, scene.ct, region, as_tumour)
    assert not np.array_equal(one.array, two.array)


def test_finer_voxels_than_the_networks_stay_as_they_are_outside(painter, scene, region):
    fine = to_spacing(scene.ct, (2.5, 2.0, 2.0), how="linear", outside=-1000.0)
    where = to_spacing(scene.ct.with_array(region.astype(np.uint8), "label"), fine.spacing, how="nearest")
    inside = where.array > 0
    classes = to_spacing(scene.ct.with_array(scene.classes, "label"), fine.spacing, how="nearest").array
    made = regenerate(painter, fine, inside, classes.astype(np.uint8))
    assert np.array_equal(made.array[~inside], fine.array[~inside])
    assert not np.array_equal(made.array[inside], fine.array[inside])


def test_regions_apart_are_made_apart_and_both(painter, scene):
    region = np.zeros(scene.ct.shape, bool)
    region[10:14, 20:24, 12:16] = region[10:14, 20:24, 32:36] = True
    region &= scene.classes > 0
    made = regenerate(painter, scene.ct, region, scene.classes).array
    for part in (region[..., :24], region[..., 24:]):
        assert part.any()
    changed = made != scene.ct.array
    assert changed[..., :24].any()
    assert changed[..., 24:].any()
    assert not changed[~region].any()


def test_what_lay_under_a_part_that_is_yet_to_be_made_is_not_seen(painter, scene):
    """Two tumours of one case: the class map calls both that already, where there is liver still."""
    region = np.zeros(scene.ct.shape, bool)
    region[10:14, 20:24, 18:22] = region[10:14, 20:24, 28:32] = True
    classes = np.where(region, ORGAN_LABEL["tumour"], scene.classes).astype(np.uint8)
    first, second = region.copy(), region.copy()
    first[..., 24:] = second[..., :24] = False
    other = np.array(scene.ct.array)
    other[second] = 900
    one, two = (
        regenerate(painter, scene.ct.with_array(array), region, classes).array
        for array in (scene.ct.array, other)
    )
    assert np.array_equal(one[first], two[first])
    assert not np.array_equal(one[first], scene.ct.array[first])


def test_an_empty_region_and_another_grid(painter, scene):
    nothing = np.zeros(scene.ct.shape, bool)
    assert np.array_equal(regenerate(painter, scene.ct, nothing, scene.classes).array, scene.ct.array)
    with pytest.raises(InputError, match="voxels"):
        regenerate(painter, scene.ct, nothing[1:], scene.classes)


def test_a_region_at_the_edge_of_the_ct(painter, scene):
    region = np.zeros(scene.ct.shape, bool)
    region[:3] = scene.classes[:3] > 0
    made = regenerate(painter, scene.ct, region, scene.classes).array
    assert np.array_equal(made[~region], scene.ct.array[~region])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("voxel_mm", [1.25, 2.0, 3.75, 6.5])
def test_what_is_made_in_the_last_slices_is_tissue(painter, axis, voxel_mm):
    """The network's voxels stick out beyond the CT there; as air they made a rim of -800 HU."""
    spacing, shape = [*painter.recipe.spacing_mm], [14, 14, 14]
    spacing[axis] = voxel_mm
    for length in range(16, 20):
        shape[axis] = length
        hu = np.rint(np.random.default_rng(length).normal(40, 12, shape)).astype(np.int16)
        inside = [slice(5, 9)] * 3
        inside[axis] = slice(-3, None)
        region = np.zeros(shape, bool)
        region[tuple(inside)] = True
        classes = np.full(shape, ORGAN_LABEL["soft-tissue"], np.uint8)
        made = regenerate(painter, Volume(hu, tuple(spacing), unit="HU"), region, classes, method="pix2pix")
        last = made.array.take(-1, axis)[region.take(-1, axis)]
        # A painter of seconds is tens of HU off; a tenth of air is a hundred.
        assert np.abs(last - 40.0).max() < 90


def test_the_bent_scale_comes_back_and_keeps_soft_tissue_apart():
    hu = np.linspace(-1024, 3071, 4096).astype(np.float32)
    assert np.abs(to_hu(to_unit(hu)) - hu).max() < 0.1
    # Liver and muscle 10 HU apart: at least a fiftieth of the scale's unit, five times a straight one's.
    assert to_unit(np.float32(60.0)) - to_unit(np.float32(50.0)) > 0.05
    assert np.abs(to_unit(hu)).max() < 3.0


def test_the_made_ct_fades_in_by_the_distance_to_the_border():
    random = np.random.default_rng(2)
    region = ndimage.gaussian_filter(random.normal(size=(9, 30, 24)), 2.0) > 0
    spacing = (3.0, 1.5, 1.0)
    depth = ndimage.distance_transform_edt(np.pad(region, 1, mode="edge"), sampling=spacing)
    share = np.clip(depth[1:-1, 1:-1, 1:-1] / 4.5, 0.0, 1.0)
    found = _feather(region, spacing, 4.0)
    assert found.dtype == np.float32
    assert found == pytest.approx(share * share * (3 - 2 * share), abs=1e-5)
    # Without a border there is nothing to fade from.
    assert (_feather(np.ones((3, 4, 5), bool), spacing, 4.0) == 1.0).all()


_FADING = """
import re, numpy as np
from scantwin.generation.painting import _feather
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
region = np.zeros((200, 200, 200), bool)
region[60:140, 60:140, 60:140] = True
_feather(region[:40, :40, :40], (1.0, 1.0, 1.0), 3.0)
before = peak()
_feather(region, (1.0, 1.0, 1.0), 3.0)
print((peak() - before) / region.size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is told by Linux")
def test_fading_in_takes_little_memory():
    said = subprocess.run([sys.executable, "-c", _FADING], capture_output=True, text=True, check=True)
    # [bytes a voxel]: SciPy's distances and what is made of them take 50, ITK's float32 ones 21.
    assert float(said.stdout) < 35
