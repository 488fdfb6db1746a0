from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from scantwin import systems
from scantwin.learning.prepared import FAT_SHARE, HU_SCALE, INPUTS, channel
from scantwin.translation.tissue_curve import TYPICAL, FromTissueCurve
from scantwin.units import FWHM_TO_SD

HU, SUV = (np.array(values) for values in zip(*TYPICAL, strict=True))
SPACING = (5.0, 4.0, 4.0)


def test_the_curve_is_a_straight_line_between_knots_and_flat_beyond():
    hu = np.concatenate([HU, np.linspace(-3000, 3000, 601)])
    said = FromTissueCurve(nn.Identity(), 10.0, SPACING).curve(torch.from_numpy(hu)).detach().numpy()
    assert said == pytest.approx(np.interp(hu, HU, SUV), abs=1e-5)


def test_the_camera_blurs_as_a_gaussian_of_its_width_and_keeps_what_is_there():
    suv = np.zeros((17, 17, 17), np.float32)
    suv[8, 8, 8] = 1.0
    seen = FromTissueCurve(nn.Identity(), 1.0, SPACING).seen_by_camera(torch.from_numpy(suv)[None, None])
    seen = seen[0, 0].detach().numpy()
    assert seen.sum() == pytest.approx(1.0, abs=1e-5)
    # An exact integral over each voxel: finer sampling by SciPy, summed to voxels, says the same.
    point = np.zeros(17 * 40)
    point[8 * 40 + 20] = 1.0
    fine = ndimage.gaussian_filter1d(point, 6.0 * FWHM_TO_SD / SPACING[0] * 40)
    assert seen.sum(axis=(1, 2)) == pytest.approx(fine.reshape(17, 40).sum(axis=1), abs=0.01)


def test_an_untrained_generator_says_the_curve_the_leanness_and_the_blur(tiny_recipe, bar_cohort):
    system = systems.build(tiny_recipe, seed=3)
    study = bar_cohort.training[0]
    inputs = torch.from_numpy(study.inputs("trunk", (20, 4, 6), (16, 16, 16)))[None]
    said = system.predict("trunk", inputs).pet.numpy()[0, 0]
    suv = np.interp(inputs[0, 0].numpy() * HU_SCALE, HU, SUV)
    # To first order in the share of fat, so that the body's mean is the same: lean 0.9, fat 0.35.
    more = float(channel(inputs, "fat").mean())
    factor = 1 + more * FAT_SHARE[1] * 0.55 / (0.9 - 0.55 * FAT_SHARE[0])
    sd = [6.0 * FWHM_TO_SD / s for s in tiny_recipe.spacing_mm]
    seen = ndimage.gaussian_filter(suv * factor, sd, mode="nearest")
    assert np.abs(said - seen).mean() < 0.05 * seen.mean()
    assert more == pytest.approx(min((study.fat_share - FAT_SHARE[0]) / FAT_SHARE[1], 2.0), abs=1e-5)


def test_the_lean_tissue_of_a_fat_patient_is_warmer():
    prior = FromTissueCurve(nn.Conv3d(len(INPUTS), 1, 1), 1.0, SPACING)
    nn.init.zeros_(prior.network.weight)
    nn.init.zeros_(prior.network.bias)
    patient = torch.full((2, len(INPUTS), 4, 4, 4), 60 / HU_SCALE)
    patient[0, -1], patient[1, -1] = -1.0, 1.0  # a fifth and a half of the body is fat
    slim, fat = prior(patient).detach().mean(dim=(1, 2, 3, 4))
    # SUV times what is lean is about the same in both (SUL): 0.8 and 0.5 of a body, fat having a third.
    assert float(fat / slim) == pytest.approx((0.8 + 0.2 * 0.39) / (0.5 + 0.5 * 0.39), rel=0.06)


def test_the_curve_is_learnt_within_some_tens_of_steps():
    """Fat at 0.2 and muscle at 1.2 instead of the textbook's: patients differ that much (sources.md, 1)."""
    torch.manual_seed(0)
    curve = FromTissueCurve(nn.Identity(), 1.0, SPACING)
    optimiser = torch.optim.Adam([curve.uptake], 1e-3)
    hu = torch.where(torch.rand(4000) < 0.5, -105.0, 60.0) + 8 * torch.randn(4000)
    true = torch.where(hu < -20, 0.2, 1.2)
    for _ in range(40):
        optimiser.zero_grad()
        (curve.curve(hu) - true).abs().mean().backward()
        optimiser.step()
    said = curve.curve(torch.tensor([-105.0, 60.0])).detach()
    assert said.numpy() == pytest.approx([0.2, 1.2], abs=0.05)
