"""Where an arm begins: distal to the shoulder joint, at the level of the axillary fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.district_landmarks import Landmarks
from scantwin.imaging.district_scene import Mask, Scene

FIT_MM: Final = 120.0
"""Length [mm] of the free arm, next to the shoulder, that gives its direction."""
FOLD_MM: Final = 62.0
"""From the centre of the humeral head along the humerus to the axillary fold [mm] (assumed, as in
docs/phantoms.md)."""
OVER_HEAD: Final = 1.35
"""From the skin on top of the shoulder to the centre of the humeral head, in radii of the arm (assumed)."""
UP_START_MM: Final = 20.0
"""In a raised arm, from where it comes free of the neck to the axillary fold [mm] (assumed)."""
WIDER: Final = 0.003
"""Share of its radius that an arm gains per mm towards the shoulder, over WIDER_MM (assumed)."""
WIDER_MM: Final = 70.0
"""Length [mm] over which the arm widens."""
BONE_NEAR_MM: Final = 28.0
"""The humerus is looked for within this distance of where the arm is expected [mm]."""
BENT_MM: Final = 60.0
"""A humerus deviates from the straight line of the free arm by no more than this [mm]."""
LUNG_TO_FOLD_MM: Final = 135.0
"""From the lowest lung up to the axillary fold of a hanging arm [mm]: 124 to 142 in phantoms."""
NECK_TO_FOLD_MM: Final = 115.0
"""From C7/T1 down to the axillary fold of a hanging arm [mm]: 0.068 of the height (docs/phantoms.md)."""


@dataclass(frozen=True, eq=False)
class Line:
    """The straight line of an arm through the slices: y and x [mm] as functions of z [mm]."""

    slope: NDArray[np.float64]
    """(y, x) per z."""
    at: NDArray[np.float64]
    """(y, x) [mm] at z = 0."""
    radius: float
    """Radius [mm] of the free arm at the upper end of its slices: a raised arm's is nearer to the hand."""

    def point(self, z: float) -> NDArray[np.float64]:
        """(y, x) [mm] at z [mm]."""
        return self.at + self.slope * z


def arms_from_shoulder(scene: Scene, arms: Mask, free: Mask, marks: Landmarks) -> Mask:
    """The arms from the axillary fold on; `arms` includes what lies against the body, `free` does not."""
    level = shoulder_level(marks)
    found = np.zeros_like(arms)
    belongs = _sides(scene, arms)
    for side in (-1, 1):
        half = belongs == side
        arm, loose = arms & half, free & half
        slices = np.flatnonzero(loose.any(axis=(1, 2)))
        if len(slices) < 4:
            found |= arm
            continue
        raised = level is not None and float(np.average(slices, weights=loose.sum((1, 2))[slices])) > level
        found |= (_raised if raised else _hanging)(scene, arm, loose, marks)
    return found


def shoulder_level(marks: Landmarks) -> int | None:
    """The slice at the height of the shoulders, or None if no landmark shows it."""
    if marks.neck is not None:
        return marks.neck
    if marks.lung_slices is not None:
        return marks.lung_slices[1]
    spine = np.flatnonzero(marks.spine)
    return int(spine[-1]) if len(spine) else None


def _sides(scene: Scene, arms: Mask) -> NDArray[np.int8]:
    """Which arm a block belongs to: -1 right, +1 left, 0 none. A raised hand may cross the middle line."""
    sign = np.where(arms, np.where(scene.lateral < 0, -1, 1), 0).astype(np.int8)
    labels, count = ndimage.label(arms)
    left = np.bincount(labels[sign > 0], minlength=count + 1)
    share = left / np.maximum(np.bincount(labels.ravel(), minlength=count + 1), 1)
    # Two arms whose hands touch are one piece: the middle line divides it.
    whose = np.where(share > 0.75, 1, np.where(share < 0.25, -1, 0))[labels]
    return np.where(arms, np.where(whose != 0, whose, sign), 0).astype(np.int8)


def _raised(scene: Scene, arm: Mask, free: Mask, marks: Landmarks) -> Mask:
    """A raised arm, followed down from where it is free to the axillary fold, a little above C7/T1."""
    dz = scene.spacing[0]
    first = int(np.flatnonzero(free.any(axis=(1, 2)))[0])
    if first <= 1:
        return arm
    line = _line(scene, free, range(first, first + round(FIT_MM / dz)))
    direction = np.array([1.0, *line.slope])
    fold = first * dz + UP_START_MM * direction[0] / float(np.linalg.norm(direction))
    if marks.neck is not None:
        fold = min(fold, marks.neck * dz + UP_START_MM)
    centres, _ = _follow(scene, line, first, int(fold / dz) - round(0.3 * line.radius / dz))
    start = np.array([fold, *line.point(fold)])
    return _tube(scene, arm, line, centres) & (_along(scene, start, direction) > 0)


def _hanging(scene: Scene, arm: Mask, free: Mask, marks: Landmarks) -> Mask:
    """A hanging arm, followed up along its bone from where it is free to the axillary fold."""
    dz = scene.spacing[0]
    slices = np.flatnonzero(free.any(axis=(1, 2)))
    last, count = int(slices[-1]), scene.body.shape[0]
    line = _line(scene, free, range(last - round(FIT_MM / dz), last + 1))
    centres, top = _follow(scene, line, last, count - 1)
    upper = np.array(list(centres.values())[-round(FIT_MM / dz) :])
    slope = np.polyfit(np.arange(len(upper)) * dz, upper, 1)[0] if len(upper) > 3 else line.slope
    direction = np.array([-1.0, *-slope])
    if top is not None:
        away = direction / np.linalg.norm(direction) * (FOLD_MM + OVER_HEAD * line.radius)
        start = np.array([top * dz, *upper[-1]]) + away
    elif (fold := _fold_mm(marks, dz)) is not None:  # the field of view ends in the shoulder
        z = min(fold, max(centres) * dz)
        start = np.array([z, *line.point(z)])
    else:
        return _tube(scene, arm, line, centres)
    high = int(start[0] / dz) + round(0.3 * line.radius / dz) + 1
    low = {z: c for z, c in centres.items() if z <= high}
    return _tube(scene, arm, line, low) & (_along(scene, start, direction) > 0)


def _fold_mm(marks: Landmarks, dz: float) -> float | None:
    """Height of a hanging arm's axillary fold [mm], by the neck or else the lungs; None without either."""
    if marks.neck is not None:
        return marks.neck * dz - NECK_TO_FOLD_MM
    if marks.lung_slices is not None:
        return marks.lung_slices[0] * dz + LUNG_TO_FOLD_MM
    return None


def _follow(
    scene: Scene, line: Line, start: int, end: int
) -> tuple[dict[int, NDArray[np.float64]], int | None]:
    """Centres (y, x) [mm] of the arm from slice `start` to `end`, and the slice where they leave the body.

    They run straight on from the free arm and are pulled towards the humerus where it is seen. The slice is
    None if they do not leave the body.
    """
    dz, dy, dx = scene.spacing
    way = 1 if end >= start else -1
    offset = np.zeros(2)
    centres: dict[int, NDArray[np.float64]] = {}
    for z in range(start, np.clip(end, 0, scene.body.shape[0] - 1) + way, way):
        centre = line.point(z * dz) + offset
        iy = int(np.clip(round(centre[0] / dy), 0, scene.body.shape[1] - 1))
        ix = int(np.clip(round(centre[1] / dx), 0, scene.body.shape[2] - 1))
        if not scene.body[z, iy, ix] and centres:
            return centres, z
        ry, rx = round(BONE_NEAR_MM / dy), round(BONE_NEAR_MM / dx)
        box = (slice(max(0, iy - ry), iy + ry + 1), slice(max(0, ix - rx), ix + rx + 1))
        rows, columns = np.nonzero(scene.bone[z][box])
        if len(rows) >= 2:
            bone = np.array([(rows.mean() + box[0].start) * dy, (columns.mean() + box[1].start) * dx])
            pull = np.clip(0.3 * (bone - centre), -3.0, 3.0)
            offset = np.clip(offset + pull, -BENT_MM, BENT_MM)
        centres[z] = line.point(z * dz) + offset
    return centres, None


def _tube(scene: Scene, arm: Mask, line: Line, centres: dict[int, NDArray[np.float64]]) -> Mask:
    """The arm with a tube around `centres`; whatever lies further out than they do is arm as well."""
    dz, dy, dx = scene.spacing
    y = np.arange(scene.body.shape[1])[:, None] * dy
    x = np.arange(scene.body.shape[2])[None, :] * dx
    result = arm.copy()
    first = next(iter(centres), 0)
    for z, (cy, cx) in centres.items():
        radius = line.radius * (1 + WIDER * min(abs(z - first) * dz, WIDER_MM))
        near = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        outer = ((x - cx) * np.sign(cx - scene.x0[z] * dx) > 0) & (np.abs(y - cy) < 1.3 * radius)
        result[z] |= (near | outer) & scene.body[z]
    return result


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
    """Distance [mm] of every block beyond the plane through `start` (z, y, x) normal to `direction`."""
    unit = direction / np.linalg.norm(direction)
    axes = [
        (np.arange(n) * s - p) * u
        for n, s, p, u in zip(scene.body.shape, scene.spacing, start, unit, strict=True)
    ]
    beyond = axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :]
    return np.asarray(beyond, np.float32)
