from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scantwin import systems
from scantwin.learning.prepared import HU_SCALE
from scantwin.translation.tissue_curve import TYPICAL, FromTissueCurve

HU, SUV = (np.array(values) for values in zip(*TYPICAL, strict=True))


def test_the_curve_is_a_straight_line_between_knots_and_flat_beyond():
    hu = np.concatenate([HU, np.linspace(-3000, 3000, 601)])
    said = FromTissueCurve(nn.Identity(), 10.0).curve(torch.from_numpy(hu)).detach().numpy()
    assert said == pytest.approx(np.interp(hu, HU, SUV), abs=1e-5)


def test_an_untrained_generator_says_the_curve(tiny_recipe, bar_cohort):
    system = systems.build(tiny_recipe, seed=3)
    study = bar_cohort.training[0]
    inputs = torch.from_numpy(study.inputs("trunk", (20, 4, 6), (16, 16, 16)))[None]
    said = system.predict("trunk", inputs).pet.numpy()
    assert said == pytest.approx(np.interp(inputs[:, :1].numpy() * HU_SCALE, HU, SUV), abs=1e-4)


def test_the_curve_is_learnt_within_some_tens_of_steps():
    """Fat at 0.2 and muscle at 1.2 instead of the textbook's: patients differ that much (TISSUES.md, 1)."""
    torch.manual_seed(0)
    curve = FromTissueCurve(nn.Identity(), 1.0)
    optimiser = torch.optim.Adam([curve.uptake], 1e-3)
    hu = torch.where(torch.rand(4000) < 0.5, -105.0, 60.0) + 8 * torch.randn(4000)
    true = torch.where(hu < -20, 0.2, 1.2)
    for _ in range(40):
        optimiser.zero_grad()
        (curve.curve(hu) - true).abs().mean().backward()
        optimiser.step()
    said = curve.curve(torch.tensor([-105.0, 60.0])).detach()
    assert said.numpy() == pytest.approx([0.2, 1.2], abs=0.05)
