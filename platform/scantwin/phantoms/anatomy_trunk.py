"""The spaces that hold the organs (rib cage, diaphragm, belly, pelvis), and the line of the spine."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.phantoms.frame import Frame
from scantwin.phantoms.shapes import Array, Points, Shape, everywhere, stack

# Inside of the rib cage and the belly: height fraction, half-width, front, back [mm]; assumed.
_CAVITY: Final = np.array([
    (0.492, 52, 48, 62), (0.505, 66, 60, 72), (0.53, 84, 72, 78), (0.56, 108, 76, 70), (0.59, 118, 76, 62),
    (0.62, 119, 78, 60), (0.65, 121, 82, 64), (0.68, 129, 89, 73), (0.71, 136, 92, 81), (0.74, 139, 91, 85),
    (0.77, 134, 80, 84), (0.79, 122, 68, 80), (0.81, 98, 48, 72), (0.826, 70, 26, 60), (0.842, 38, 4, 47),
])  # fmt: skip

# Centre of the vertebral bodies: height fraction, y [mm]; lordosis, kyphosis, lordosis; assumed.
_SPINE: Final = np.array([
    (0.50, 82), (0.52, 90), (0.55, 78), (0.575, 55), (0.60, 40), (0.63, 40), (0.66, 50), (0.70, 62),
    (0.75, 68),
    (0.79, 62), (0.82, 46), (0.845, 32), (0.87, 26), (0.90, 28), (0.915, 26),
])  # fmt: skip


def spine_y(f: Frame, fraction: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """y [mm] of the centre of the vertebral bodies at a height fraction."""
    from scipy.interpolate import PchipInterpolator

    return np.asarray(PchipInterpolator(_SPINE[:, 0], _SPINE[:, 1])(fraction) * f.s, float)


def cavity(f: Frame, shrink: float = 0.0) -> Shape:
    """Everything inside the ribs, the belly wall and the pelvis."""
    t = _CAVITY.copy()
    if f.female:
        t[:, 1] *= np.interp(t[:, 0], (0.5, 0.56, 0.62, 0.74, 0.84), (1.06, 1.0, 0.91, 0.905, 0.91))
        t[:, 2:4] *= 0.95
    t[:, 1:4] *= f.s
    belly = np.exp(-(((t[:, 0] - 0.615) / 0.05) ** 2))
    t[:, 2] += belly * f.visceral
    t[:, 1] += belly * f.visceral * 0.55
    rows = np.stack(
        [t[:, 0] * f.height, 0 * t[:, 0], t[:, 1] - shrink, -t[:, 2] + shrink, t[:, 3] - shrink,
         np.full(len(t), 2.3), 0 * t[:, 0]], 1,
    )  # fmt: skip
    return stack(rows)


def diaphragm(f: Frame) -> Shape:
    """Everything above the diaphragm: two domes, the right one higher."""
    wob = f.wobble("diaphragm", 3)
    low, s = f.z(0.655), f.s
    right_top, left_top = (0.726 + 0.005 * wob[0]) * f.height, (0.716 + 0.005 * wob[1]) * f.height
    width, depth = 92 * s * (0.9 if f.female else 1.0), 118 * s

    def distance(p: Points) -> Array:
        heights = []
        for centre, top in ((-66 * s, right_top), (62 * s, left_top)):
            q = 1 - ((p.x - np.float32(centre)) / width) ** 2 - ((p.y + np.float32(14 * s)) / depth) ** 2
            heights.append(low + (top - low) * np.sqrt(np.maximum(q, 0)))
        middle = np.float32(f.z(0.695)) + 0 * p.x
        floor = np.maximum(
            np.maximum(heights[0], heights[1]),
            np.minimum(middle, np.float32(right_top)) * (np.abs(p.x) < 40 * s),
        )
        return np.asarray((floor - p.z) * np.float32(0.8), np.float32)

    return everywhere(distance)
