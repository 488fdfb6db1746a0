"""Planes of a DICOM series -> one regular stack: order, duplicates, gaps, tilt (Part 3, C.7.6.2).

A plane's voxel (row r, column c) lies at `position + row_step * r + column_step * c`, LPS [mm]. Planes are
sorted along their common normal, whatever their names and numbers. A stack that is not regular is linearly
interpolated onto a regular grid if little is missing, and refused if much is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.reasons import reject, warn

MIN_PLANES: Final = 3
"""Fewer planes make no volume."""
MAX_MISSING_SHARE: Final = 0.1
"""Largest share of a stack's slices that may be missing; they are filled by interpolation."""
MAX_GAP_MM: Final = 25.0
"""Longest gap between two slices that is filled [mm]: an organ can hide in a longer one."""
_SAME_PLACE_MM: Final = 0.02
"""Two planes closer than this lie at the same place."""
_EVEN: Final = 0.05
"""How far a plane may lie off its regular place, as a share of the slice spacing: rounding in headers."""
_SAME_SPACING_MM: Final = 1e-3
"""Voxel sizes that differ by less count as equal [mm]: 0.5 mm over 512 voxels."""
_SAME_COSINE: Final = 0.01
"""Directions whose cosines differ by less count as equal: 0.6 degrees."""
_MAX_STRAY_SHARE: Final = 0.2
"""Largest share of planes of another size or orientation (a scout among the slices) that may be left out."""
_REPEATED: Final = 0.1
"""Largest share of planes at another one's place: fewer are slices sent twice, more are passes or beds."""


@dataclass(frozen=True)
class Plane:
    """Where one frame lies."""

    index: int
    """Its index in the list of frames it came from."""
    position: tuple[float, float, float]
    """World point (x, y, z) of the centre of its first voxel [mm]."""
    orientation: tuple[float, ...]
    """Direction of increasing column (3), then of increasing row (3)."""
    spacing: tuple[float, float]
    """Distance between rows, then between columns [mm]."""
    shape: tuple[int, int]
    """Rows, columns."""
    phase: tuple[str, ...] = ()
    """What distinguishes repeated passes over the same place (acquisition, time point)."""
    time: tuple[float, ...] = ()
    """When it was acquired, to order the passes; 0 where the header does not say."""

    @property
    def place(self) -> tuple[float, ...]:
        """The position to a tenth of a mm: planes that share it are of several passes or duplicates."""
        return tuple(round(v, 1) for v in self.position)


@dataclass(frozen=True)
class Stack:
    """Planes in order along the normal, and the grid that they form."""

    order: tuple[int, ...]
    """`Plane.index` of the planes kept, in order."""
    places: NDArray[np.float64]
    """Position of each along the normal, in slices of the grid: 0, 1, 2, .. if regular."""
    slices: int
    """Number of slices of the regular grid."""
    affine: NDArray[np.float64]
    """4 x 4: (column, row, slice) of the grid -> LPS [mm]."""
    warnings: tuple[str, ...]

    @property
    def regular(self) -> bool:
        """Whether the planes are the slices of the grid, without interpolation."""
        return self.slices == len(self.order) and bool(
            np.abs(self.places - np.arange(self.slices)).max() <= _EVEN
        )

    def fill(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """`array` (planes in order, rows, columns) interpolated linearly to the grid's slices (z, y, x)."""
        if self.regular:
            return array
        filled = np.empty((self.slices, *array.shape[1:]), array.dtype)
        upper = np.clip(
            np.searchsorted(self.places, np.arange(self.slices), side="left"), 1, len(self.places) - 1
        )
        for k, j in enumerate(upper):
            a, b = self.places[j - 1], self.places[j]
            w = float(np.clip((k - a) / (b - a), 0.0, 1.0))
            between = (1 - w) * array[j - 1].astype(np.float32) + w * array[j].astype(np.float32)
            filled[k] = between if array.dtype.kind == "f" else np.rint(between)
        return filled


def stack_planes(planes: Sequence[Plane]) -> Stack:
    """The stack that a series' planes form. Raises the `geometry.*` rejections."""
    notes: list[str] = []
    kept = _one_pass(_same_shape(planes, notes), notes)
    row, column, normal = _axes(kept[0])
    points = np.array([p.position for p in kept])
    along = points @ normal
    order = np.argsort(along, kind="stable")
    keep = np.concatenate([[True], np.diff(along[order]) > _SAME_PLACE_MM])
    if not keep.all():
        notes.append(warn("geometry.duplicates", found=int((~keep).sum())))
    # Of several planes at one place, the first in `kept` is taken: argsort is stable.
    order = order[keep]
    if len(order) < MIN_PLANES:
        raise reject("geometry.too-few-slices", found=len(order))
    along, points = along[order], points[order]
    step = _step(along)
    places, slices = _places(along, step, notes)
    drift = _drift(along, np.stack([points @ column, points @ row], axis=1), kept[0].spacing, step * slices)
    slice_step = step * (normal + drift[0] * column + drift[1] * row)
    tilt = float(np.degrees(np.arctan(np.linalg.norm(drift))))
    if tilt > 0:
        notes.append(warn("geometry.tilt", found=round(tilt, 1)))
    affine = np.eye(4)
    affine[:3, 0] = column * kept[0].spacing[1]
    affine[:3, 1] = row * kept[0].spacing[0]
    affine[:3, 2] = slice_step
    affine[:3, 3] = points[0]
    return Stack(tuple(kept[i].index for i in order), places, slices, affine, tuple(notes))


def _axes(plane: Plane) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Directions of increasing row and of increasing column, and the normal."""
    column, row = np.asarray(plane.orientation[:3], float), np.asarray(plane.orientation[3:], float)
    lengths = np.linalg.norm(column), np.linalg.norm(row)
    if not all(0.9 < n < 1.1 for n in lengths) or abs(column @ row) > 0.01:
        raise reject("geometry.bad", found=f"ImageOrientationPatient is {list(plane.orientation)}")
    column, row = column / lengths[0], row / lengths[1]
    row = row - (row @ column) * column
    row /= np.linalg.norm(row)
    return row, column, np.cross(column, row)


def _same_shape(planes: Sequence[Plane], notes: list[str]) -> list[Plane]:
    """The planes of the most common size and orientation; only a few others may exist."""
    if not planes:
        raise reject("geometry.too-few-slices", found=0)
    rounded = [
        (p.shape, tuple(np.round(p.spacing, 3)), tuple(np.round(np.asarray(p.orientation) + 0.0, 2)))
        for p in planes
    ]
    common = planes[rounded.index(Counter(rounded).most_common(1)[0][0])]
    # Compare by difference: the rounded numbers of one series may fall on both sides of a rounding edge.
    differ = [_difference(plane, common) for plane in planes]
    strays = len(planes) - differ.count("")
    if strays > _MAX_STRAY_SHARE * len(planes):
        field = next(name for name in differ if name)
        raise reject("geometry.mixed", field=field, found=f"{strays} of {len(planes)}")
    if strays:
        notes.append(warn("geometry.stray", found=strays))
    return [plane for plane, name in zip(planes, differ, strict=True) if not name]


def _difference(plane: Plane, common: Plane) -> str:
    """How a plane differs from the most common kind; "" if it does not."""
    if plane.shape != common.shape:
        return "size"
    if not np.allclose(plane.spacing, common.spacing, rtol=0.0, atol=_SAME_SPACING_MM):
        return "voxel size"
    same = np.allclose(plane.orientation, common.orientation, rtol=0.0, atol=_SAME_COSINE)
    return "" if same else "orientation"


def _one_pass(planes: list[Plane], notes: list[str]) -> list[Plane]:
    """One pass over the body if a series holds several (time frames, repeated acquisitions, beds)."""
    if _doubled([planes]) <= _REPEATED:
        return planes
    groups: list[list[Plane]] = []
    for group in _groups(planes, lambda plane: plane.phase):
        # Times come second: many scanners give every slice its own time.
        groups += _groups(group, lambda plane: plane.time) if _doubled([group]) > _REPEATED else [group]
    # Shorter words come first, so that 2 comes before 10.
    groups.sort(key=lambda g: (min(p.time for p in g), [(len(word), word) for word in g[0].phase]))
    times = Counter(plane.place for plane in planes)
    whole = [g for g in groups if len({p.place for p in g}) >= (1 - _REPEATED) * len(times)]
    kept = whole[:1] or _beds(groups)
    most = max(times.values())
    if _doubled(kept) > _REPEATED:
        found = f"up to {most} lie at one place and nothing tells them apart"
        raise reject("geometry.mixed", field="time", found=found)
    if len(kept) < len(groups):
        notes.append(warn("geometry.passes", found=most))
    return [plane for group in kept for plane in group]


def _doubled(groups: Sequence[Sequence[Plane]]) -> float:
    """Share of planes that lie at the same place as another of their group."""
    planes = sum(map(len, groups))
    return 1 - sum(len({plane.place for plane in group}) for group in groups) / planes


def _groups(planes: Sequence[Plane], key: Callable[[Plane], Hashable]) -> list[list[Plane]]:
    groups: dict[Hashable, list[Plane]] = defaultdict(list)
    for plane in planes:
        groups[key(plane)].append(plane)
    return list(groups.values())


def _beds(groups: Sequence[list[Plane]]) -> list[list[Plane]]:
    """The groups that cover new places, in order of time: beds overlap, a second pass covers nothing new."""
    kept: list[list[Plane]] = []
    seen: set[tuple[float, ...]] = set()
    for group in groups:
        places = {plane.place for plane in group}
        if len(places - seen) > _REPEATED * len(places):
            kept.append(group)
            seen |= places
    return kept


def _step(along: NDArray[np.float64]) -> float:
    """Slice spacing [mm]: the median, refined over the whole length if the stack is regular."""
    gaps = np.diff(along)
    step = float(np.median(gaps))
    counts = np.rint(gaps / step)
    if (np.abs(gaps - counts * step) <= _EVEN * step).all() and (counts >= 1).all():
        return float((along[-1] - along[0]) / counts.sum())
    return step


def _places(along: NDArray[np.float64], step: float, notes: list[str]) -> tuple[NDArray[np.float64], int]:
    places = (along - along[0]) / step
    slices = int(places[-1] + _EVEN) + 1
    gaps = np.diff(places)
    holes = gaps[gaps > 1.5]
    missing = int(np.rint(holes - 1).sum())
    if missing > MAX_MISSING_SHARE * slices or (len(holes) and holes.max() * step > MAX_GAP_MM):
        raise reject("geometry.large-gap", found=missing)
    if missing:
        notes.append(warn("geometry.missing-slices", found=missing))
    off = np.abs(places - np.rint(places)).max()
    if off > _EVEN:
        low, high = gaps.min() * step, gaps.max() * step
        notes.append(warn("geometry.uneven-filled", found=f"{low:.2f} to {high:.2f} mm"))
    return places, slices


def _drift(
    along: NDArray[np.float64], inside: NDArray[np.float64], spacing: tuple[float, float], length: float
) -> NDArray[np.float64]:
    """Shift of planes (column, row direction) per mm along the normal: 0, or the tangent of a gantry tilt."""
    centred = along - along.mean()
    slope = centred @ (inside - inside.mean(axis=0)) / (centred @ centred)
    off = inside - inside.mean(axis=0) - np.outer(centred, slope)
    if np.abs(off).max() > max(0.5 * min(spacing), 0.5):
        raise reject("geometry.bad", found=f"slices are shifted sideways by {np.abs(off).max():.1f} mm")
    # Less than a tenth of a voxel over the whole stack is rounding of the positions.
    if np.linalg.norm(slope) * length < 0.1 * min(spacing):
        return np.zeros(2)
    return np.asarray(slope)
