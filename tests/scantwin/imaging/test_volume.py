"""`Volume`: places survive every change of form."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from scantwin.imaging.volume import CANONICAL, Volume

from .sitk_volumes import from_sitk


@st.composite
def volumes(draw, *, oblique: bool = True) -> Volume:
    """Small volumes of distinct values in any right-angled position, left-handed ones too."""
    shape = draw(st.tuples(*[st.integers(1, 5)] * 3))
    order = draw(st.permutations([0, 1, 2]))
    signs = np.array(draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3)))
    direction = CANONICAL[:, order] * signs
    if oblique:
        angles = draw(st.tuples(*[st.floats(-0.6, 0.6)] * 3))
        direction = Rotation.from_euler("xyz", angles).as_matrix() @ direction
    spacing = draw(st.tuples(*[st.floats(0.3, 9.0)] * 3))
    origin = draw(st.tuples(*[st.floats(-900.0, 900.0)] * 3))
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return Volume(array, spacing, origin, direction, "HU")


def by_value(volume: Volume) -> np.ndarray:
    """World points (value, xyz) of all voxels, in the order of their values."""
    index = np.argwhere(np.ones(volume.shape, bool))
    return volume.world(index)[np.argsort(volume.array[tuple(index.T)], kind="stable")]


@given(volumes())
def test_canonical_moves_no_voxel(volume):
    turned = volume.canonical()
    np.testing.assert_allclose(by_value(turned), by_value(volume), atol=1e-8)
    # Each array axis runs most along its own world axis, upwards.
    along = np.diag(CANONICAL.T @ turned.direction)
    assert (along > 0).all()
    assert turned.canonical().same_grid(turned)


@given(volumes(oblique=False))
def test_right_angled_volumes_become_canonical(volume):
    assert volume.canonical().is_canonical


@given(volumes(), st.data())
def test_index_and_world_are_each_others_inverse(volume, data):
    index = np.array(data.draw(st.lists(st.tuples(*[st.floats(-20, 20)] * 3), min_size=1, max_size=5)))
    np.testing.assert_allclose(volume.index(volume.world(index)), index, atol=1e-6)


@given(volumes(), st.data())
def test_a_crop_stays_in_its_place(volume, data):
    start = tuple(data.draw(st.integers(0, n - 1)) for n in volume.shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, volume.shape, strict=True))
    part = volume.crop(start, stop)
    assert part.shape == tuple(b - a for a, b in zip(start, stop, strict=True))
    np.testing.assert_allclose(part.world((0, 0, 0)), volume.world(start), atol=1e-8)
    assert part.array.flat[0] == volume.array[start]


@given(volumes())
def test_simpleitk_agrees_about_every_place(volume):
    image = volume.to_sitk()
    for index in ((0, 0, 0), tuple(n - 1 for n in volume.shape)):
        theirs = image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]])
        np.testing.assert_allclose(volume.world(index), theirs, atol=1e-6)
        assert image.GetPixel([int(i) for i in index[::-1]]) == volume.array[index]
    again = from_sitk(image, "HU")
    assert again.same_grid(volume)
    np.testing.assert_array_equal(again.array, volume.array)


def test_booleans_go_through_simpleitk_as_bytes():
    volume = Volume(np.eye(3, dtype=bool)[None], (1, 1, 1), unit="label")
    assert volume.to_sitk().GetPixelID() == sitk.sitkUInt8


@given(volumes())
def test_same_grid_is_about_place_not_values(volume):
    assert volume.same_grid(volume.with_array(volume.array * 0, "SUV"))
    shifted = Volume(
        volume.array,
        volume.spacing,
        tuple(np.add(volume.origin, 0.05 * min(volume.spacing))),
        volume.direction,
    )
    assert not volume.same_grid(shifted)


def test_two_swapped_axes_are_another_grid():
    """The first and the last voxel lie where they did; of the eight corners, four do not."""
    volume = Volume(np.zeros((4, 8, 8)), (3, 2, 2))
    swapped = Volume(volume.array, volume.spacing, direction=CANONICAL[:, [0, 2, 1]])
    assert not volume.same_grid(swapped)
    assert volume.same_grid(swapped.canonical())


def test_what_cannot_be_a_volume_is_refused():
    with pytest.raises(ValueError, match="three axes"):
        Volume(np.zeros((2, 2)), (1, 1, 1))
    for spacing in ((0, 1, 1), (1, -1, 1), (1, 1, float("nan"))):
        with pytest.raises(ValueError, match="positive"):
            Volume(np.zeros((2, 2, 2)), spacing)
    with pytest.raises(ValueError, match="shape"):
        Volume(np.zeros((2, 2, 2)), (1, 1, 1)).with_array(np.zeros((2, 2, 3)))


def test_sizes_are_in_the_units_they_say():
    volume = Volume(np.zeros((2, 3, 4), np.float32), (5.0, 2.0, 1.0), unit="SUV")
    assert volume.voxel_ml == pytest.approx(0.01)
    assert volume.extent_mm == (10.0, 6.0, 4.0)
    assert "2 x 3 x 4 zyx, 5 x 2 x 1 mm, SUV, float32" in repr(volume)
