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
FOLD_MM: Final = 62.0
"""From the centre of the humeral head along the humerus to the axillary fold [mm] (assumed, as in
docs/phantoms.md)."""
OVER_HEAD: Final = 1.35
"""From the skin on top of the shoulder to the centre of the humeral head, in radii of the arm (assumed)."""
UP_START_MM: Final = 20.0
"""Of a raised arm, from where it comes free of the neck to the axillary fold [mm] (assumed)."""
WIDER: Final = 0.003
"""An arm gains this share of its radius per mm towards the shoulder, over WIDER_MM (assumed)."""
WIDER_MM: Final = 70.0
"""Length [mm] over which it does."""
BONE_NEAR_MM: Final = 28.0
"""The humerus is looked for this far from where the arm is expected [mm]."""


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
    """A hanging arm, followed along its bone from where it is free to the axillary fold."""
    slices = np.flatnonzero(free.any(axis=(1, 2)))
    dz, dy, dx = scene.spacing
    last, count = int(slices[-1]), scene.body.shape[0]
    line = _line(scene, free, range(last - round(FIT_MM / dz), last + 1))
    first = max(int(slices[0]), last - round(20 / dz))
    centres, top = _follow(scene, line, first)
    direction = np.array([-1.0, *-line.slope])
    start, fold = None, count - 1
    if top is not None:
        upper = centres[max(0, top - first - round(FIT_MM / dz)) : top - first]
        slope = np.polyfit(np.arange(len(upper)) * dz, upper, 1)[0] if len(upper) > 3 else line.slope
        direction = np.array([-1.0, *-slope])
        away = direction / np.linalg.norm(direction) * (FOLD_MM + OVER_HEAD * line.radius)
        start = np.array([top * dz, *centres[top - first - 1]]) + away
        fold = min(count - 1, int(start[0] / dz) + round(0.3 * line.radius / dz) + 1)
    y = np.arange(scene.body.shape[1])[:, None] * dy
    x = np.arange(scene.body.shape[2])[None, :] * dx
    result = arm.copy()
    for z in range(first, min(fold, first + len(centres) - 1) + 1):
        cy, cx = centres[z - first]
        radius = line.radius * (1 + WIDER * min(max(0.0, (z - last) * dz), WIDER_MM))
        near = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        outer = ((x - cx) * np.sign(cx - scene.x0[z] * dx) > 0) & (np.abs(y - cy) < 1.3 * radius)
        result[z] |= (near | outer) & scene.body[z]
    if start is not None:
        result &= _along(scene, start, direction) > 0
    return np.asarray(result)


def _follow(scene: Scene, line: Line, first: int) -> tuple[NDArray[np.float64], int | None]:
    """Centres (y, x) [mm] of the arm from slice `first` up, and the slice where they leave the shoulder.

    They run straight on from the free arm and are drawn to the humerus where it is seen. The second is
    None when the field of view ends first.
    """
    dz, dy, dx = scene.spacing
    centre, step = line.point(first * dz), line.slope * dz
    centres: list[NDArray[np.float64]] = []
    for z in range(first, scene.body.shape[0]):
        iy = int(np.clip(round(centre[0] / dy), 0, scene.body.shape[1] - 1))
        ix = int(np.clip(round(centre[1] / dx), 0, scene.body.shape[2] - 1))
        if not scene.body[z, iy, ix] and centres:
            return np.array(centres), z
        ry, rx = round(BONE_NEAR_MM / dy), round(BONE_NEAR_MM / dx)
        box = (slice(max(0, iy - ry), iy + ry + 1), slice(max(0, ix - rx), ix + rx + 1))
        rows, columns = np.nonzero(scene.bone[z][box])
        if len(rows) >= 2:
            bone = np.array([(rows.mean() + box[0].start) * dy, (columns.mean() + box[1].start) * dx])
            pull = 0.3 * (bone - centre)
            centre = centre + np.clip(pull, -3.0, 3.0)
            step = 0.95 * step + 0.05 * (step + np.clip(pull, -3.0, 3.0))
        centres.append(centre)
        centre = centre + step
    return np.array(centres), None


def _line(scene: Scene, free: Mask, slices: range) -> Line:
    """The line through the centres of the free arm in `slices`."""
    dz, dy, dx = scene.spacing
    rows, areas, near = [], [], round(50 / dz)
    for z in slices:
        if 0 <= z < free.shape[0] and free[z].any():
            y, x = ndimage.center_of_mass(free[z])
            rows.append((z * dz, y * dy, x * dx))
            areas.append(free[z].sum() * dy * dx)
    table = np.array(rows)
    radius = float(np.sqrt(np.median(areas[-near:]) / np.pi))
    if len(table) < 4:
        return Line(np.zeros(2), table[:, 1:].mean(axis=0), radius)
    slope, at = np.polyfit(table[:, 0], table[:, 1:], 1)
    return Line(
        np.clip(slope, -1.0, 1.0), at + (slope - np.clip(slope, -1.0, 1.0)) * table[:, 0].mean(), radius
    )


def _along(scene: Scene, start: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance [mm] of every block beyond the plane through `start` (z, y, x) across `direction`."""
    unit = direction / np.linalg.norm(direction)
    axes = [
        (np.arange(n) * s - p) * u
        for n, s, p, u in zip(scene.body.shape, scene.spacing, start, unit, strict=True)
    ]
    beyond = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    return np.asarray(beyond, np.float32)
