from __future__ import annotations

import numpy as np
import pytest

from scantwin.evaluation.borders import border_jump, slice_step


@pytest.fixture
def region():
    region = np.zeros((6, 20, 20), bool)
    region[1:5, 5:15, 5:15] = True
    return region


def test_a_step_at_the_border_is_its_height(region):
    assert border_jump(np.where(region, 70.0, 20.0), region) == pytest.approx(50.0)
    assert slice_step(np.where(region, 70.0, 20.0), region) == 0.0


def test_noise_jumps_as_much_at_a_border_as_anywhere(region):
    noise = np.random.default_rng(0).normal(0, 10, region.shape)
    # Differences of two draws of SD 10 have a mean absolute value of 2 * 10 / sqrt(pi).
    assert border_jump(noise, region) == pytest.approx(11.28, rel=0.1)
    assert slice_step(noise, region) == pytest.approx(11.28, rel=0.1)


def test_slices_that_differ_show(region):
    image = np.broadcast_to(np.arange(6.0)[:, None, None] * 3, region.shape)
    assert slice_step(image, region) == pytest.approx(3.0)
    assert border_jump(image, region) == 0.0


def test_no_border_is_no_figure(region):
    assert np.isnan(border_jump(np.zeros(region.shape), np.zeros_like(region)))
