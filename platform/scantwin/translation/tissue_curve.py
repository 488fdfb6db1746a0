"""What textbooks say of a voxel's uptake by its CT number alone: where a generator starts from.

A network that starts from zero spends its first hundreds of patches on learning that fat is cold and air
is empty. One that corrects the tissue curve starts about where the HU curve of the training data ends.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from scantwin.learning.prepared import HU_SCALE, INPUTS

KNOTS: Final = (
    (-1000.0, 0.0),  # air
    (-820.0, 0.5),  # lung
    (-500.0, 0.5),
    (-105.0, 0.3),  # fat: subcutaneous 0.25, visceral 0.4
    (-40.0, 0.5),
    (20.0, 0.7),
    (55.0, 0.85),  # muscle 0.7, by far the most of it, and what lies between organs
    (105.0, 1.8),  # enhanced organs and blood: 1.5 to 2.2
    (180.0, 1.7),  # marrow of vertebrae: 1.2 to 1.8
    (350.0, 1.2),
    (1200.0, 0.5),  # cortical bone
)
"""CT number [HU] and typical uptake [g/ml]: TISSUES.md, 1, central values; between them a straight line."""


def tissue_curve(hu: Tensor) -> Tensor:
    """Typical SUV [g/ml] of a CT number [HU], any shape."""
    suv = torch.full_like(hu, KNOTS[0][1])
    for (low, at_low), (high, at_high) in zip(KNOTS, KNOTS[1:], strict=False):
        suv = suv + (hu - low).clamp(0.0, high - low) * ((at_high - at_low) / (high - low))
    return suv


class FromTissueCurve(nn.Module):
    """A network that corrects the tissue curve; its output is in units of `suv_unit` [g/ml]."""

    def __init__(self, network: nn.Module, suv_unit: float) -> None:
        super().__init__()
        self.network = network
        self.suv_unit = suv_unit

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) -> (B, 1, D, H, W)."""
        hu = x[:, INPUTS.index("hu") : INPUTS.index("hu") + 1].float() * HU_SCALE
        return torch.as_tensor(self.network(x).float() + tissue_curve(hu) / self.suv_unit)
