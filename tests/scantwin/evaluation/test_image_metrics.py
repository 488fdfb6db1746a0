from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scantwin.evaluation import image_metrics as im
from scantwin.evaluation.uptake import PEAK_RADIUS_MM, suv_peak

RANDOM = np.random.default_rng(4)
TRUE = RANDOM.uniform(0, 6, (16, 17, 18)).astype(np.float32)
MASK = np.zeros(TRUE.shape, bool)
MASK[4:12, 4:13, 4:14] = True


@given(shift=st.floats(0.01, 3.0))
@settings(max_examples=25, deadline=None)
def test_a_constant_shift_has_known_figures(shift):
    moved = TRUE + np.float32(shift)
    assert im.mae(moved, TRUE, MASK) == pytest.approx(shift, rel=1e-4)
    assert im.bias(moved, TRUE, MASK) == pytest.approx(shift, rel=1e-4)
    assert im.psnr(moved, TRUE, MASK) == pytest.approx(20 * np.log10(20 / shift), abs=1e-3)


def test_what_lies_outside_the_mask_does_not_count():
    spoilt = np.where(MASK, TRUE, 19.0).astype(np.float32)
    assert im.mae(spoilt, TRUE, MASK) == 0.0
    assert im.psnr(spoilt, TRUE, MASK) == 100.0
    assert im.ssim(spoilt, TRUE, MASK) == pytest.approx(1.0)


def test_psnr_clips_to_the_declared_range():
    hot = TRUE.copy()
    hot[6, 6, 6] = 50.0
    hotter = hot.copy()
    hotter[6, 6, 6] = 90.0
    assert im.psnr(hot, hotter, MASK) == 100.0


@pytest.mark.parametrize("where", [(8, 8, 8), (11, 12, 13), MASK])
def test_one_voxel_or_all_that_are_not_numbers_give_no_figure(where):
    spoilt = TRUE.copy()
    spoilt[where] = np.nan
    assert all(np.isnan(of(spoilt, TRUE, MASK)) for of in (im.mae, im.bias, im.psnr, im.ssim))
    outside = np.where(MASK, TRUE, np.nan).astype(np.float32)
    assert im.psnr(outside, TRUE, MASK) == 100.0 and im.ssim(outside, TRUE, MASK) == pytest.approx(1.0)


def test_ssim_is_the_textbook_formula():
    """Against a plain loop over windows (Wang 2004, eq. 13; sample covariance as in scikit-image)."""
    other = (TRUE + RANDOM.normal(0, 0.7, TRUE.shape)).astype(np.float32)
    body = np.ones(TRUE.shape, bool)
    at = (8, 9, 7)
    part = tuple(slice(c - 3, c + 4) for c in at)
    x, y = (np.clip(a[part], 0, 20).astype(float).ravel() for a in (other, TRUE))
    c1, c2 = (0.01 * 20) ** 2, (0.03 * 20) ** 2
    covariance = np.cov(x, y)
    wanted = ((2 * x.mean() * y.mean() + c1) * (2 * covariance[0, 1] + c2)) / (
        (x.mean() ** 2 + y.mean() ** 2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
    )
    assert im.Likeness(TRUE, body).map(other)[at] == pytest.approx(wanted, abs=1e-6)


def test_ssim_border_is_cropped():
    values = im.Likeness(TRUE, np.ones(TRUE.shape, bool)).map(TRUE)
    assert np.isnan(values[:3]).all() and np.isfinite(values[3:-3, 3:-3, 3:-3]).all()


def test_suv_peak_of_a_large_uniform_ball_is_its_value():
    z, y, x = np.ogrid[:21, :21, :21]
    ball = (z - 10) ** 2 + (y - 10) ** 2 + (x - 10) ** 2 < 8**2
    suv = np.where(ball, 7.0, 1.0).astype(np.float32)
    assert suv_peak(suv, ball, (2.0, 2.0, 2.0)) == pytest.approx(7.0, abs=1e-3)


def test_suv_peak_of_one_hot_voxel_is_its_share_of_a_millilitre():
    suv = np.zeros((15, 15, 15), np.float32)
    suv[7, 7, 7] = 10.0
    share = 8.0 / (4 / 3 * np.pi * PEAK_RADIUS_MM**3)
    # A sphere on a 2 mm grid has its volume to a few per cent.
    assert suv_peak(suv, suv > 0, (2.0, 2.0, 2.0)) == pytest.approx(10 * share, rel=0.05)
