"""Where an arm begins: distal of the shoulder joint, at the level of the axillary fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.district_landmarks import Mask, Scene

FIT_MM: Final = 120.0
"""Length [mm] of the free arm, next to the shoulder, that gives its direction."""
DOWN_START_MM: Final = 118.0
"""From the skin on top of the shoulder down the humerus to the axillary fold [mm]: 56 to the centre of the
humeral head, 62 further on (assumed, as in docs/phantoms.md)."""
UP_START_MM: Final = 20.0
"""Of a raised arm, from where it comes free of the neck to the axillary fold [mm] (assumed)."""
WIDER: Final = 0.0015
"""An upper arm gains this share of its radius per mm towards the shoulder (47 against 35 mm in 317 mm)."""


@dataclass(frozen=True, eq=False)
class Line:
    """The straight line of an arm, in slices: y and x [mm] as functions of z [mm]."""

    slope: NDArray[np.float64]
    """(y, x) per z."""
    at: NDArray[np.float64]
    """(y, x) [mm] at z = 0."""
    radius: float
    """Radius of the free arm next to the shoulder [mm]."""

    def point(self, z: float) -> NDArray[np.float64]:
        """(y, x) [mm] at z [mm]."""
        return self.at + self.slope * z


def arms_from_shoulder(scene: Scene, arms: Mask, free: Mask, level: int | None) -> Mask:
    """The arms from the axillary fold on. `level` is the slice of the shoulders, where it is known."""
    found = np.zeros_like(arms)
    for side in (-1, 1):
        half = np.broadcast_to(np.sign(scene.lateral) == side, arms.shape)
        arm, loose = arms & half, free & half
        slices = np.flatnonzero(loose.any(axis=(1, 2)))
        if len(slices) < 4:
            found |= arm
            continue
        raised = level is not None and float(np.average(slices, weights=loose.sum((1, 2))[slices])) > level
        found |= _raised(scene, arm, loose) if raised else _hanging(scene, arm, loose)
    return found


def _raised(scene: Scene, arm: Mask, free: Mask) -> Mask:
    """A raised arm, cut across its line a little above where it comes free."""
    slices = np.flatnonzero(free.any(axis=(1, 2)))
    first = int(slices[0])
    if first <= 1:
        return arm
    line = _line(scene, free, range(first, first + round(FIT_MM / scene.spacing[0])))
    z0 = first * scene.spacing[0]
    start = np.array([z0, *line.point(z0)])
    return np.asarray(arm & (_along(scene, start, np.array([1.0, *line.slope])) > UP_START_MM))


def _hanging(scene: Scene, arm: Mask, free: Mask) -> Mask:
    """A hanging arm, followed along its line from where it is free to the axillary fold."""
    slices = np.flatnonzero(free.any(axis=(1, 2)))
    dz, dy, dx = scene.spacing
    last = int(slices[-1])
    line = _line(scene, free, range(last - round(FIT_MM / dz), last + 1))
    top = _skin_above(scene, line, last)
    direction = np.array([-1.0, *-line.slope])
    if top is None:  # the shoulder is above the field of view
        fold, start = scene.body.shape[0] - 1, None
    else:
        z_top = top * dz
        start = np.array([z_top, *line.point(z_top)]) + direction / np.linalg.norm(direction) * DOWN_START_MM
        fold = int(start[0] / dz) + round(0.2 * line.radius / dz) + 1
    y = np.arange(scene.body.shape[1])[:, None] * dy
    x = np.arange(scene.body.shape[2])[None, :] * dx
    result = arm.copy()
    for z in range(last - round(20 / dz), min(fold, scene.body.shape[0] - 1) + 1):
        cy, cx = line.point(z * dz)
        radius = line.radius * (1 + WIDER * max(0, z - last) * dz)
        near = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        outer = ((x - cx) * np.sign(cx - scene.x0[z] * dx) > 0) & (np.abs(y - cy) < 1.3 * radius)
        result[z] |= (near | outer) & scene.body[z]
    if start is not None:
        result &= _along(scene, start, direction) > 0
    return np.asarray(result)


def _line(scene: Scene, free: Mask, slices: range) -> Line:
    """The line through the centres of the free arm in `slices`."""
    dz, dy, dx = scene.spacing
    rows, areas = [], []
    for z in slices:
        if 0 <= z < free.shape[0] and free[z].any():
            y, x = ndimage.center_of_mass(free[z])
            rows.append((z * dz, y * dy, x * dx))
            areas.append(free[z].sum() * dy * dx)
    table = np.array(rows)
    radius = float(np.sqrt(np.median(areas) / np.pi))
    if len(table) < 4:
        return Line(np.zeros(2), table[:, 1:].mean(axis=0), radius)
    slope, at = np.polyfit(table[:, 0], table[:, 1:], 1)
    return Line(
        np.clip(slope, -1.0, 1.0), at + (slope - np.clip(slope, -1.0, 1.0)) * table[:, 0].mean(), radius
    )


def _skin_above(scene: Scene, line: Line, start: int) -> int | None:
    """The slice in which the line leaves the body on top of the shoulder, or None if the scene ends first."""
    _, dy, dx = scene.spacing
    for z in range(start, scene.body.shape[0]):
        y, x = line.point(z * scene.spacing[0])
        iy = int(np.clip(round(y / dy), 0, scene.body.shape[1] - 1))
        ix = int(np.clip(round(x / dx), 0, scene.body.shape[2] - 1))
        if not scene.body[z, iy, ix]:
            return z
    return None


def _along(scene: Scene, start: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance [mm] of every block beyond the plane through `start` (z, y, x) across `direction`."""
    unit = direction / np.linalg.norm(direction)
    axes = [
        (np.arange(n) * s - p) * u
        for n, s, p, u in zip(scene.body.shape, scene.spacing, start, unit, strict=True)
    ]
    beyond = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    return np.asarray(beyond, np.float32)
