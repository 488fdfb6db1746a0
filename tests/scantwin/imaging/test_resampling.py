"""Resampling: places stay, means stay, nothing is invented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from scantwin.errors import Rejection
from scantwin.imaging.blocks import block_means, blocks_within
from scantwin.imaging.resampling import grid_over, resample_like, to_spacing
from scantwin.imaging.study import Study
from scantwin.imaging.volume import Volume
from scantwin.imaging.world import axis_aligned

GRADIENT = np.array([2.0, -3.0, 1.5])
"""HU per mm along x, y, z."""


def ramp(shape=(12, 14, 16), spacing=(3.0, 2.0, 1.5), origin=(0.0, 0.0, 0.0), direction=None) -> Volume:
    """A volume whose values are linear in the world."""
    turn = {} if direction is None else {"direction": direction}
    empty = Volume(np.zeros(shape, np.float32), spacing, origin, unit="HU", **turn)
    index = np.argwhere(np.ones(shape, bool)).reshape(*shape, 3)
    return empty.with_array((empty.world(index) @ GRADIENT).astype(np.float32))


@example(angles=(0.0, 0.46875, 1.1e-308), spacing=(1.0, 1.0, 1.0), shift=(0.0, 0.0, 0.0), how="linear")
@given(
    angles=st.tuples(*[st.floats(-0.5, 0.5)] * 3),
    spacing=st.tuples(*[st.floats(0.8, 6.0)] * 3),
    shift=st.tuples(*[st.floats(-4.0, 4.0)] * 3),
    how=st.sampled_from(["linear", "area"]),
)
@settings(deadline=None, max_examples=40)
def test_a_linear_image_stays_linear_on_any_grid(angles, spacing, shift, how):
    volume = ramp(direction=Rotation.from_euler("xyz", angles).as_matrix() @ ramp().direction)
    grid = Volume(np.zeros((5, 5, 5), np.uint8), spacing, tuple(volume.world((4, 5, 5)) + shift))
    moved = resample_like(volume, grid, how=how, outside=-9999.0)
    index = np.argwhere(np.ones(grid.shape, bool))
    own = volume.index(grid.world(index))
    # Away from the rim, where the blur of `area` meets the edge.
    margin = 1.0 + (3.0 * max(spacing) / 1.5 if how == "area" else 0.0)
    inside = ((own > margin) & (own < np.array(volume.shape) - 1 - margin)).all(axis=1)
    found = moved.array[tuple(index[inside].T)]
    expected = grid.world(index[inside]) @ GRADIENT
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert moved.unit == "HU"


def test_outside_the_field_of_view_stands_what_was_asked_for():
    far = Volume(np.zeros((2, 2, 2), np.uint8), (1, 1, 1), (500, 500, 500))
    assert (resample_like(ramp(), far, outside=-1000.0).array == -1000.0).all()


@given(st.integers(2, 5), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_area_keeps_the_mean_and_does_not_alias(factor, seed):
    rng = np.random.default_rng(seed)
    volume = Volume(rng.normal(100, 50, (40, 40, 40)).astype(np.float32), (1, 1, 1), unit="SUV")
    coarse = to_spacing(volume, (float(factor),) * 3)
    inner = coarse.array[2:-2, 2:-2, 2:-2]
    noise = inner.std()
    # A box average of f^3 voxels leaves 50 / f^1.5; the Gaussian of the same variance a little more or less.
    assert noise < 1.3 * 50 / factor**1.5
    whole = volume.array[2 * factor : -2 * factor, 2 * factor : -2 * factor, 2 * factor : -2 * factor]
    assert abs(inner.mean() - whole.mean()) < 4 * 50 / np.sqrt(whole.size) + 0.6


@given(st.tuples(*[st.floats(0.7, 8.0)] * 3), st.tuples(*[st.floats(-0.8, 0.8)] * 3))
@settings(deadline=None, max_examples=40)
def test_the_grid_covers_the_whole_volume(spacing, angles):
    volume = ramp((4, 5, 6), direction=Rotation.from_euler("xyz", angles).as_matrix() @ ramp().direction)
    grid = grid_over(volume, spacing)
    assert grid.is_canonical
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in volume.shape], indexing="ij")).reshape(3, -1).T
    own = grid.index(volume.world(corners))
    # A thousandth of a voxel may be missing: rounding must not add a slice.
    assert (own >= -0.5 - 2e-3).all()
    assert (own <= np.array(grid.shape) - 0.5 + 2e-3).all()
    # And it is not a whole voxel larger than it need be.
    assert (own.max(axis=0) > np.array(grid.shape) - 1.5 - 2e-3).all()


@given(
    st.sampled_from(["linear", "nearest", "area"]), st.tuples(*[st.floats(0.7, 8.0)] * 3),
    st.tuples(*[st.integers(1, 9)] * 3),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_the_edge_may_go_on_where_a_grid_sticks_out(how, spacing, shape):
    volume = Volume(np.full(shape, 40, np.int16), (3.0, 2.0, 5.0), unit="HU")
    moved = resample_like(volume, grid_over(volume, spacing), how=how, outside=None)
    assert np.abs(np.asarray(moved.array, float) - 40.0).max() < 0.01


def test_labels_stay_labels():
    rng = np.random.default_rng(1)
    labels = Volume(rng.integers(0, 5, (9, 9, 9)).astype(np.uint8), (2, 2, 2), unit="label")
    moved = to_spacing(labels, (1.3, 1.7, 3.1), how="nearest")
    assert moved.array.dtype == np.uint8
    assert set(np.unique(moved.array)) <= set(range(5))
    mask = Volume(labels.array > 2, (2, 2, 2), unit="label")
    assert set(np.unique(to_spacing(mask, (3, 3, 3), how="nearest").array)) <= {0, 1}


def test_the_same_grid_gives_the_same_volume():
    volume = ramp()
    assert resample_like(volume, ramp()) is volume


def test_a_volume_with_two_axes_swapped_is_turned():
    volume = Volume(np.random.default_rng(0).random((4, 8, 8), np.float32), (3.0, 2.0, 2.0))
    swapped = Volume(volume.array, volume.spacing, direction=volume.direction[:, [0, 2, 1]])
    moved = resample_like(swapped, volume, how="nearest")
    np.testing.assert_array_equal(moved.array, volume.array.transpose(0, 2, 1))


def test_a_single_slice_can_be_resampled():
    volume = ramp((1, 8, 8))
    moved = to_spacing(volume, (3.0, 4.0, 3.0))
    assert np.isfinite(moved.array).all()
    assert moved.shape[0] == 1


@pytest.mark.parametrize("shape", [(2, 3, 9), (3, 9, 2)])
def test_thin_volumes_are_blurred_too(shape):
    moved = to_spacing(Volume(np.full(shape, 7.0, np.float32), (2, 2, 2), unit="SUV"), (5.0, 4.0, 6.0))
    np.testing.assert_allclose(moved.array[moved.array > 0], 7.0, rtol=1e-5)
    assert (moved.array > 0).any()


def test_the_box_around_an_oblique_image_is_checked_before_it_is_made():
    """Long thin voxels, turned: the box around 4 MiB of them is of 2.5 GiB, around 64 bytes of 1 PiB."""
    turn = Rotation.from_euler("xyz", (0.5, 0.4, 0.6)).as_matrix()
    thin = Volume(np.zeros((256, 64, 64), np.float32), (20.0, 1.0, 1.0), direction=turn @ ramp().direction)
    wide = Volume(np.zeros((4, 4, 4), np.uint8), (1e4, 1.0, 1e-6), direction=turn, unit="label")
    for volume in (thin, wide):
        with pytest.raises(Rejection) as caught:
            axis_aligned(volume)
        assert caught.value.code == "dicom.too-large"
    assert axis_aligned(ramp(direction=turn @ ramp().direction)).is_canonical


def test_a_study_brings_ct_and_lesions_onto_a_grid():
    lesions = ramp().with_array((ramp().array > 0).astype(np.uint8), "label")
    study = Study("s", ramp(), lesions=lesions)
    grid = Volume(np.zeros((4, 4, 4), np.uint8), (3, 3, 3), (-30, 3, 3))
    ct, marked = study.ct_on(grid), study.lesions_on(grid)
    assert ct.array[0, 0, 0] == -1000.0  # outside: air
    assert ct.unit == "HU"
    assert set(np.unique(marked.array)) <= {0, 1}
    assert Study("s", ramp()).lesions_on(grid) is None
    with pytest.raises(AttributeError):
        study.name = "other"  # type: ignore[misc]


@given(counts=st.tuples(*[st.integers(1, 4)] * 3))
@settings(deadline=None, max_examples=25)
def test_blocks_stay_where_they_were(counts):
    volume = ramp(shape=(13, 15, 18), direction=Rotation.from_euler("xyz", (0.2, -0.1, 0.3)).as_matrix())
    blocks = block_means(volume, counts)
    whole = tuple(slice(0, n // k) for n, k in zip(volume.shape, counts, strict=True))
    index = np.argwhere(np.ones(blocks.shape, bool)).reshape(*blocks.shape, 3)[whole]
    np.testing.assert_allclose(blocks.array[whole], blocks.world(index) @ GRADIENT, atol=1e-3)


def test_a_block_is_at_most_half_of_the_new_voxel():
    fine = Volume(np.zeros((4, 4, 4), np.int16), (3.0, 0.8, 0.5))
    assert blocks_within(fine, np.array([4.0, 4.0, 4.0])) == (1, 2, 4)
