"""Whether a regenerated region shows: the jump across its border, the step from slice to slice."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Axis = Literal[0, 1, 2]


def border_jump(image: NDArray[np.generic], region: NDArray[np.bool_]) -> float:
    """Mean absolute difference across the border of `region`, both (z, y, x), over neighbours within a slice.

    In the image's unit, [HU] for a CT. NaN if the region has no border.
    """
    pairs = [_pairs(np.asarray(image, np.float64), region, axis) for axis in (1, 2)]
    jumps = np.concatenate([difference[across] for difference, across, _ in pairs])
    return float(jumps.mean()) if jumps.size else float("nan")


def slice_step(image: NDArray[np.generic], region: NDArray[np.bool_]) -> float:
    """Mean absolute difference of neighbouring slices inside `region`, in the image's unit."""
    difference, _, both = _pairs(np.asarray(image, np.float64), region, 0)
    return float(difference[both].mean()) if both.any() else float("nan")


def _pairs(
    image: NDArray[np.float64], region: NDArray[np.bool_], axis: Axis
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Differences of neighbours along an axis, where they lie across the border, where both are inside."""
    count = image.shape[axis]
    low, high = ((slice(None),) * axis + (side,) for side in (slice(0, count - 1), slice(1, count)))
    return np.abs(image[high] - image[low]), region[high] ^ region[low], region[high] & region[low]
