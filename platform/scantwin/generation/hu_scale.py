"""CT numbers as the networks see them: absolute, never scaled by the volume, with room for soft tissue.

On a linear scale from air to bone the noise of a liver (15 HU) is a hundredth of the range, and a denoiser
would have to be right to a thousandth. This scale bends like asinh: linear within some 100 HU around soft
tissue, logarithmic towards air and bone.
"""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

CENTRE_HU: Final = 40.0
"""CT number that maps to 0: between muscle and organs, without and with contrast (sources.md, 1)."""
BEND_HU: Final = 100.0
"""Distance from the centre [HU] at which the scale begins to bend: fat and enhanced vessels."""
_SPREAD: Final = 1.5
"""Divides the scale so that a slice of a body has about unit variance."""
LOWEST_HU: Final = -1024.0
HIGHEST_HU: Final = 3071.0
"""The range of twelve bits."""

_Array = TypeVar("_Array", NDArray[np.float32], Tensor)


def to_unit(hu: _Array) -> _Array:
    """CT numbers [HU] on the bent scale: air about -2, soft tissue about 0, bone about 2."""
    if isinstance(hu, Tensor):
        return ((hu - CENTRE_HU) / BEND_HU).asinh() / _SPREAD
    return np.asarray(np.arcsinh((hu - CENTRE_HU) / BEND_HU) / _SPREAD, np.float32)


def to_hu(unit: _Array) -> _Array:
    """CT numbers [HU] of values on the bent scale, clipped to twelve bits."""
    if isinstance(unit, Tensor):
        # Clipped first: the sinh of a network's wildest guess would overflow.
        return ((unit.clamp(-4.0, 4.0) * _SPREAD).sinh() * BEND_HU + CENTRE_HU).clamp(LOWEST_HU, HIGHEST_HU)
    made = np.sinh(np.clip(unit, -4.0, 4.0) * _SPREAD) * BEND_HU + CENTRE_HU
    return np.asarray(np.clip(made, LOWEST_HU, HIGHEST_HU), np.float32)
