from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from scantwin.learning.places import Places

masks = arrays(np.bool_, array_shapes(min_dims=3, max_dims=3, max_side=6))


@given(masks)
def test_they_are_as_many_as_the_mask_has(mask):
    assert len(Places.of(lambda z: mask[z], slice(0, len(mask)))) == mask.sum()


@given(masks.filter(np.any), st.integers(0, 2**32))
def test_one_is_drawn_as_from_a_list_of_all(mask, seed):
    """The same seed drew the same voxel when there was a list: trainings are what they were."""
    one, other = np.random.default_rng(seed), np.random.default_rng(seed)
    places, listed = Places.of(lambda z: mask[z], slice(0, len(mask))), np.flatnonzero(mask)
    for _ in range(5):
        assert places.draw(one) == np.unravel_index(int(other.choice(listed)), mask.shape)
    assert one.random() == other.random()


def test_every_voxel_comes_up_and_no_other():
    mask = np.zeros((4, 3, 5), bool)
    mask[0, 0, 0] = mask[2, 1, 3:] = mask[3, 2, 4] = True  # the first, the last, an empty slice between
    random = np.random.default_rng(3)
    places = Places.of(lambda z: mask[z], slice(0, len(mask)))
    assert {places.draw(random) for _ in range(200)} == {tuple(map(int, at)) for at in np.argwhere(mask)}


def test_slices_beyond_those_said_are_not_looked_at():
    def on_slice(z):
        assert z in (2, 3)
        return np.eye(4, dtype=bool)

    places = Places.of(on_slice, slice(2, 4))
    assert len(places) == 8
    assert {places.draw(np.random.default_rng(seed))[0] for seed in range(20)} == {2, 3}
