"""A voxel's uptake by its CT number alone: where a generator starts from, and what it learns first.

A network that starts from zero spends its first hundreds of patches on learning that fat is cold and air
is empty. One that corrects a tissue curve starts about where the HU curve of the training data ends, and
because the curve is learnt with it, at a rate of its own, it fits the site's scanners within a few steps.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from scantwin.learning.prepared import HU_SCALE, INPUTS

TYPICAL: Final = (
    (-1000.0, 0.0),  # air
    (-820.0, 0.5),  # lung
    (-500.0, 0.5),
    (-150.0, 0.4),
    (-105.0, 0.45),  # fat with what lies between it; subcutaneous 0.25, visceral 0.4 by itself
    (-60.0, 0.6),
    (-20.0, 0.8),
    (20.0, 0.9),
    (60.0, 0.95),  # muscle, by far the most of it: 0.7 to 0.9, and what is warmer beside it
    (100.0, 1.2),  # enhanced organs and blood: 1.5 to 2.2, and the edges of bones
    (180.0, 1.1),  # marrow: 1.2 to 1.8, and the edges of bones
    (350.0, 0.9),
    (700.0, 0.75),
    (1200.0, 0.6),  # cortical bone
)
"""CT number [HU] and uptake [g/ml] of a typical PET voxel there: TISSUES.md, 1, with the values that
close the body's mean (muscle 0.8, fat 0.4) and a PET's blur between tissues; a straight line in between."""

_QUICKER: Final = 30.0
"""How much faster the curve moves than a weight: at a rate of 0.001 by 0.03 SUV a step, so that some tens of
steps cross the spread of patients (20-25 % of SUV 1-2; TISSUES.md, 1)."""

_NETWORK_UNIT: Final = 3.0
"""SUV [g/ml] that the network means by 1: the size of a correction in an organ. With 10, limbs of phantoms
wandered from round to round; with 1, hot spots are far."""


class FromTissueCurve(nn.Module):
    """A network that corrects a tissue curve, learnt with it; says PET in units of `suv_unit` [g/ml]."""

    knots: Tensor

    def __init__(self, network: nn.Module, suv_unit: float) -> None:
        super().__init__()
        self.network = network
        self.suv_unit = suv_unit
        self.register_buffer("knots", torch.tensor([hu for hu, _ in TYPICAL]), persistent=False)
        self.uptake = nn.Parameter(torch.tensor([suv for _, suv in TYPICAL]) / _QUICKER)

    def curve(self, hu: Tensor) -> Tensor:
        """SUV [g/ml] of a CT number [HU], any shape; flat beyond the ends."""
        at = self.uptake * _QUICKER
        slopes = at.diff() / self.knots.diff()
        suv = at[0].expand_as(hu)
        for low, width, slope in zip(self.knots[:-1], self.knots.diff(), slopes, strict=True):
            suv = suv + (hu - low).clamp(min=0.0).minimum(width) * slope
        return suv

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) -> (B, 1, D, H, W)."""
        channel = INPUTS.index("hu")
        hu = x[:, channel : channel + 1].float() * HU_SCALE
        return torch.as_tensor((_NETWORK_UNIT * self.network(x).float() + self.curve(hu)) / self.suv_unit)
