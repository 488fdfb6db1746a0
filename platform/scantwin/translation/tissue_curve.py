"""What is known of a PET before training: where a generator starts from, and what it learns first.

A network that starts from zero spends its first hundreds of patches on learning that fat is cold and air is
empty, and in limbs, which are little more than their CT numbers, it never does better than that. Here it
corrects a prior of three parts, each with few parameters that are learnt beside it: a curve of uptake by CT
number; how fat the patient is (SUV is normalised by the whole weight and fat takes up little, so lean tissue
has more where there is more fat); and the blur of the camera. Leaving out one of 15 phantom patients at a
time, the HU curve alone had a MAE of 0.121 SUV in arms and 0.131 in legs; with blur 0.120 and 0.128; with
both 0.112 and 0.120.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from scantwin.learning.prepared import FAT_SHARE, HU_SCALE, channel
from scantwin.units import FWHM_TO_SD

TYPICAL: Final = (
    (-1000.0, 0.0),  # air
    (-820.0, 0.5),  # lung
    (-500.0, 0.5),
    (-150.0, 0.4),
    (-105.0, 0.45),  # fat and what lies between it; alone, subcutaneous 0.25, visceral 0.4
    (-60.0, 0.6),
    (-20.0, 0.8),
    (20.0, 0.9),
    (60.0, 0.95),  # mostly muscle, 0.7 to 0.9, and what is warmer beside it
    (100.0, 1.2),  # enhanced organs and blood: 1.5 to 2.2, and the edges of bones
    (180.0, 1.1),  # marrow: 1.2 to 1.8, and the edges of bones
    (350.0, 0.9),
    (700.0, 0.75),
    (1200.0, 0.6),  # cortical bone
)
"""CT number [HU] and uptake [g/ml] of a typical PET voxel there: sources.md, 1, with the values that
close the body's mean (muscle 0.8, fat 0.4) and a PET's blur between tissues; linear in between."""

_QUICKER: Final = 8.0
"""How much faster the curve moves than a weight: at a rate of 0.001 by 0.008 SUV per step, so that some tens
of steps cross the spread of patients (20-25 % of SUV 1-2; sources.md, 1). With 30 it followed whichever
patient was drawn last."""

_NETWORK_UNIT: Final = 3.0
"""SUV [g/ml] that an output of 1 means: the size of a correction in an organ. With 10, limbs of phantoms
wandered from round to round; with 1, hot spots are far away."""

_LEAN_SUV, _FAT_SUV = 0.9, 0.35
"""Uptake [g/ml] of lean tissue and of fat in a typical patient: sources.md, 1, closed to the body's mean."""

_BLUR_MM: Final = 6.0
"""FWHM of a PET [mm], between the 5 of images of today and the 6.5 to 8 of older ones (sources.md, 4)."""
_BLUR_MM_RANGE: Final = (2.0, 12.0)
_LEANNESS: Final = (0.7, 1.4)
"""Limits of the factor of leanness: in a scan of part of a body, the share of fat may be anything."""
_REACH_MM: Final = 10.0
"""How far the blur reaches [mm]: beyond it a Gaussian of 8 mm FWHM has 0.3 % of its mass."""


class FromTissueCurve(nn.Module):
    """A network that corrects a tissue curve, learnt with it; predicts PET in units of `suv_unit` [g/ml].

    `spacing_mm` (z, y, x) is the size of a voxel [mm].
    """

    knots: Tensor

    def __init__(self, network: nn.Module, suv_unit: float, spacing_mm: tuple[float, float, float]) -> None:
        super().__init__()
        self.network = network
        self.suv_unit = suv_unit
        self.spacing_mm = spacing_mm
        self.register_buffer("knots", torch.tensor([hu for hu, _ in TYPICAL]), persistent=False)
        self.uptake = nn.Parameter(torch.tensor([suv for _, suv in TYPICAL]) / _QUICKER)
        # Closure: lean * lean's SUV + fat * fat's SUV = the body's mean, whatever the share of fat is.
        mean = _LEAN_SUV + FAT_SHARE[0] * (_FAT_SUV - _LEAN_SUV)
        self.per_fat = nn.Parameter(torch.tensor(FAT_SHARE[1] * (_LEAN_SUV - _FAT_SUV) / mean))
        self.blur = nn.Parameter(torch.tensor(_BLUR_MM / _QUICKER))

    def curve(self, hu: Tensor) -> Tensor:
        """SUV [g/ml] of CT numbers [HU] of any shape; constant beyond the ends."""
        at = self.uptake * _QUICKER
        slopes = at.diff() / self.knots.diff()
        suv = at[0].expand_as(hu)
        for low, width, slope in zip(self.knots[:-1], self.knots.diff(), slopes, strict=True):
            suv = suv + (hu - low).clamp(min=0.0).minimum(width) * slope
        return suv

    def seen_by_camera(self, suv: Tensor) -> Tensor:
        """SUV [g/ml] (B, 1, D, H, W) blurred by a Gaussian of the camera's FWHM; edge values are repeated."""
        sd = (self.blur * _QUICKER).clamp(*_BLUR_MM_RANGE) * FWHM_TO_SD
        for axis, spacing in zip((-3, -2, -1), self.spacing_mm, strict=True):
            reach = max(1, round(_REACH_MM / spacing))
            edges = (torch.arange(-reach, reach + 2, device=suv.device) - 0.5) * spacing
            weights = torch.erf(edges / (sd * 2**0.5)).diff()
            weights = weights / weights.sum()
            # Sums of shifted copies: a convolution would run in bfloat16, too coarse for a level.
            ends = [(0, 0)] * 3
            ends[axis] = (reach, reach)
            wide = nn.functional.pad(suv, [n for pair in reversed(ends) for n in pair], mode="replicate")
            size = suv.shape[axis]
            suv = wide.narrow(axis, 0, size) * weights[0]
            for k in range(1, len(weights)):
                suv = suv + wide.narrow(axis, k, size) * weights[k]
        return suv

    def prior(self, x: Tensor) -> Tensor:
        """PET [g/ml] (B, 1, D, H, W) from inputs (B, inputs, D, H, W) by the curve as it is now."""
        hu = channel(x, "hu").float() * HU_SCALE
        fat = channel(x, "fat").float()
        return self.seen_by_camera(self.curve(hu) * (1.0 + self.per_fat * fat).clamp(*_LEANNESS))

    def corrected(self, prior: Tensor, x: Tensor) -> Tensor:
        """`prior` [g/ml] corrected by the network; (B, 1, D, H, W) in units of `suv_unit`."""
        return torch.as_tensor((_NETWORK_UNIT * self.network(x).float() + prior) / self.suv_unit)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, D, H, W) -> (B, 1, D, H, W)."""
        return self.corrected(self.prior(x), x)
