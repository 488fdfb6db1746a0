from __future__ import annotations

from math import erf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scantwin.evaluation import image_metrics as im
from scantwin.evaluation.uptake import PEAK_RADIUS_MM, peak_kernel, suv_peak

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


@pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (4.0, 4.0, 4.0), (3.27, 5.47, 5.47)])
def test_suv_peak_of_one_hot_voxel_is_its_share_of_a_millilitre(spacing):
    suv = np.zeros((15, 15, 15), np.float32)
    suv[7, 7, 7] = 10.0
    assert suv_peak(suv, suv > 0, spacing) == pytest.approx(10 * np.prod(spacing) / 1000, rel=0.02)


@pytest.mark.parametrize(
    "spacing",
    [(s, s, s) for s in (1.0, 2.0, 3.0, 4.0, 5.0)]
    + [(3.0, 4.07, 4.07), (3.27, 5.47, 5.47), (1.0, 5.0, 5.0), (5.0, 1.0, 1.0), (5.0, 2.5, 2.5)],
)
def test_the_sphere_of_suv_peak_is_a_millilitre_on_any_voxels(spacing):
    kernel = peak_kernel(spacing)
    assert kernel.sum() * np.prod(spacing) == pytest.approx(1000, rel=0.02)
    for axis in range(3):  # no voxel that the surface cuts is left out: beyond the kernel's end there is none
        assert (kernel.shape[axis] / 2) * spacing[axis] >= PEAK_RADIUS_MM


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (1.0, 2.0, 2.0), (2.0, 1.0, 1.0)])
def test_suv_peak_of_a_gaussian_is_its_integral_over_the_sphere(spacing):
    sigma, radius = 6.0, PEAK_RADIUS_MM
    z, y, x = (np.arange(-20, 21) * step for step in spacing)
    squared = z[:, None, None] ** 2 + y[None, :, None] ** 2 + x[None, None, :] ** 2
    suv = 10 * np.exp(-squared / (2 * sigma**2)).astype(np.float32)
    # The integral of r^2 exp(-r^2 / 2 sigma^2) from 0 to the radius, over that of r^2.
    tail = -(sigma**2) * radius * np.exp(-(radius**2) / (2 * sigma**2))
    middle = sigma**3 * np.sqrt(np.pi / 2) * erf(radius / (sigma * np.sqrt(2)))
    wanted = 10 * 3 / radius**3 * (tail + middle)
    # Voxels of 2 mm smear it by sum(s^2) / 24 sigma^2, 1.4 %.
    assert suv_peak(suv, suv > 5, spacing) == pytest.approx(wanted, rel=0.015)
