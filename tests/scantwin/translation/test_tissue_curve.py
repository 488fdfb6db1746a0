from __future__ import annotations

import numpy as np
import pytest
import torch
from scantwin import systems
from scantwin.translation.tissue_curve import KNOTS, tissue_curve


def test_the_curve_goes_through_its_knots_and_is_flat_beyond():
    hu = torch.tensor([knot[0] for knot in KNOTS] + [-3000.0, 3000.0])
    wanted = [knot[1] for knot in KNOTS] + [KNOTS[0][1], KNOTS[-1][1]]
    assert tissue_curve(hu).numpy() == pytest.approx(wanted, abs=1e-5)


def test_between_knots_it_is_a_straight_line():
    hu = np.linspace(-1000, 1200, 441)
    wanted = np.interp(hu, [k[0] for k in KNOTS], [k[1] for k in KNOTS])
    assert tissue_curve(torch.from_numpy(hu)).numpy() == pytest.approx(wanted, abs=1e-9)


def test_an_untrained_generator_says_the_curve(tiny_recipe, bar_cohort):
    system = systems.build(tiny_recipe, seed=3)
    study = bar_cohort.training[0]
    inputs = torch.from_numpy(study.inputs("trunk", (20, 4, 6), (16, 16, 16)))[None]
    hu = inputs[:, :1] * 1500.0
    said = system.predict("trunk", inputs).pet
    assert torch.allclose(said, tissue_curve(hu).clamp(0, 20), atol=1e-4)
