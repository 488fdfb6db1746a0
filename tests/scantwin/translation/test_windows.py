from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scantwin.translation.windows import Sums, blend_weight, reach, windows_over


@given(seed=st.integers(0, 10_000), largest=st.sampled_from([8, 12, 32]), overlap=st.integers(0, 6))
@settings(max_examples=60, deadline=None)
def test_every_voxel_is_covered_and_edges_divide(seed, largest, overlap):
    random = np.random.default_rng(seed)
    mask = np.zeros((26, 19, 23), bool)
    for _ in range(3):
        corner = random.integers(0, 16, 3)
        size = random.integers(1, 12, 3)
        mask[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = True
    seen = np.zeros(mask.shape, bool)
    for window in windows_over(mask, largest, overlap, 4):
        assert all(0 < (w.stop - w.start) <= largest and (w.stop - w.start) % 4 == 0 for w in window)
        seen[tuple(slice(max(w.start, 0), max(w.stop, 0)) for w in window)] = True
    assert seen[mask].all()


def test_nothing_is_computed_for_nothing():
    assert windows_over(np.zeros((8, 8, 8), bool), 8, 2, 4) == []


def test_two_arms_are_two_windows_not_the_air_between():
    mask = np.zeros((10, 10, 100), bool)
    mask[:, :, :8] = mask[:, :, -8:] = True
    windows = windows_over(mask, 160, 16, 4)
    assert len(windows) == 2
    assert sum((w[2].stop - w[2].start) for w in windows) == 16


def test_two_legs_are_two_rows_of_windows_though_they_meet_at_the_hip():
    mask = np.zeros((150, 10, 100), bool)
    mask[:, :, :8] = mask[:, :, -8:] = mask[140:] = True
    windows = windows_over(mask, 160, 16, 4)
    above_the_hip = [window for window in windows if window[0].stop <= 140]
    assert above_the_hip and all(x.stop - x.start == 8 for _, _, x in above_the_hip)
    seen = np.zeros(mask.shape, np.uint8)
    for window in windows:
        seen[tuple(slice(max(w.start, 0), max(w.stop, 0)) for w in window)] += 1
    assert seen[mask].min() == 1
    # Where one window begins, the one before it still has half of its overlap to say.
    beginnings = sorted({window[0].start for window in windows})
    assert all((seen[at + 1 : at + 8, :, 4] == 2).all() for at in beginnings[1:])


def test_weights_fall_towards_the_faces_but_never_to_zero():
    weight = blend_weight((8, 12, 16))
    assert weight.min() > 0 and weight[4, 6, 8] > 10 * weight[0, 6, 8]


def test_what_is_said_holds_in_the_very_corner_of_a_window():
    weight = blend_weight((160, 160, 160))
    assert np.allclose(Sums(weight, 4.0 * weight, None).mean(4.0 * weight), 4.0, rtol=1e-3)


def test_reach_is_one_inside_and_fades_outside():
    mask = np.zeros((30, 30, 30), bool)
    mask[10:20, 10:20, 10:20] = True
    share = reach(mask, (8.0, 8.0, 8.0))
    assert share[15, 15, 15] > 0.99 and 0.3 < share[9, 15, 15] < 0.5 and share[0, 0, 0] == 0
