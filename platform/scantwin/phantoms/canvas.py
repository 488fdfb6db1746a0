"""The grid that a patient is painted on: boxes, warped coordinates, partial volume, smooth noise.

Random fields live on lattices in the world, not on voxels, so one patient looks the same on every grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from scantwin.phantoms.shapes import Array, Points, Shape
from scantwin.phantoms.tissues import ORGANS, TISSUES

_SPLINE_RMS = 0.4794**1.5
"""SD of a 3D cubic B-spline field with coefficients of unit variance (mean of the squared basis, cubed)."""


_KEEP_VOXELS = 16_000_000
"""Up to this many voxels (200 MB), the warped points of the whole grid are kept; beyond, box by box."""


class Lattice:
    """Smooth noise of unit variance: cubic B-splines over random values every `step` mm."""

    def __init__(
        self, rng: np.random.Generator, low: NDArray[np.float64], high: NDArray[np.float64], step: float
    ) -> None:
        self.low, self.step = low, step  # low, high: (z, y, x) [mm]
        size = np.ceil((high - low) / step).astype(int) + 4
        self.values = (rng.standard_normal(tuple(size)) / _SPLINE_RMS).astype(np.float32)

    def at(self, z: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> Array:
        """The field at the points of a grid given by its axes [mm]; axes (z, y, x)."""
        result = self.values
        parts = [
            _basis((axis - low) / self.step, n)
            for axis, low, n in zip((z, y, x), self.low, result.shape, strict=True)
        ]
        first = [slice(*part[1]) for part in parts]
        result = result[tuple(first)]
        bz, by, bx = (part[0] for part in parts)
        result = np.tensordot(bz, result, (1, 0))  # (Z, ly, lx)
        result = np.matmul(by, result)  # (Z, Y, lx)
        return np.asarray(result @ bx.T, np.float32)  # (Z, Y, X)


def _basis(position: NDArray[np.float64], count: int) -> tuple[Array, tuple[int, int]]:
    """Weights (point, coefficient) of a cubic B-spline, and the range of coefficients that they use."""
    position = np.clip(position, 0, count - 4 - 1e-6)
    start, stop = int(position.min()), int(position.max()) + 4
    cell = position.astype(int)
    t = position - cell
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    matrix = np.zeros((len(position), stop - start), np.float32)
    for k in range(4):
        matrix[np.arange(len(position)), cell - start + k] = weights[:, k]
    return matrix, (start, stop)


@dataclass(frozen=True)
class Grid:
    """A canonical grid, given by its axes [mm]."""

    z: NDArray[np.float64]
    y: NDArray[np.float64]
    x: NDArray[np.float64]

    @classmethod
    def over(
        cls, low: NDArray[np.float64], high: NDArray[np.float64], spacing: tuple[float, float, float]
    ) -> Grid:
        """The grid over the box low..high (z, y, x) [mm]."""
        size = np.ceil((high - low) / np.asarray(spacing) - 1e-6).astype(int)
        return cls(*(a + (np.arange(n) + 0.5) * s for a, n, s in zip(low, size, spacing, strict=True)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return len(self.z), len(self.y), len(self.x)


class Canvas:
    """Labels, HU and SUV of one patient on one grid."""

    warp_mm = 5.0
    """SD of the smooth displacement that makes two bodies differ [mm]; assumed."""

    def __init__(
        self, grid: Grid, spacing: tuple[float, float, float], seed: int,
        values: dict[str, tuple[float, float]],
    ) -> None:  # fmt: skip
        self.grid, self.spacing = grid, spacing
        self.values = values  # tissue -> (HU, SUV)
        # Anchored to round world positions so that the lattices do not depend on the voxel size.
        self.low = np.array([-60.0, -340.0, -440.0])
        self.high = np.array([2500.0, 300.0, 440.0])
        self._seed = seed
        self._lattices: dict[tuple[str, float], Lattice] = {}
        self._whole: tuple[Array, Array, Array] | None = None
        self.labels = np.zeros(grid.shape, np.uint8)
        self.hu = np.full(grid.shape, -1000, np.float32)
        self.suv = np.zeros(grid.shape, np.float32)
        self.voxel = np.float32(np.prod(spacing) ** (1 / 3))

    def box(self, shape: Shape) -> tuple[slice, slice, slice] | None:
        """The part of the grid that can hold `shape`, with a margin for the warp; None if there is none."""
        pad = 3 * self.warp_mm + float(self.voxel)
        parts = []
        axes = (self.grid.z, self.grid.y, self.grid.x)
        for axis, a, b in zip(axes, shape.low[::-1] - pad, shape.high[::-1] + pad, strict=True):
            i, j = int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b))
            if i >= j:
                return None
            parts.append(slice(i, j))
        return parts[0], parts[1], parts[2]

    def points(self, box: tuple[slice, slice, slice]) -> Points:
        """The warped points of a box."""
        if self._whole is None and self.labels.size <= _KEEP_VOXELS:
            self._whole = self._warped((slice(None), slice(None), slice(None)))
        px, py, pz = (a[box] for a in self._whole) if self._whole is not None else self._warped(box)
        z, y, x = self.grid.z[box[0]], self.grid.y[box[1]], self.grid.x[box[2]]
        return Points(
            px, py, pz, lambda name, step, stretch=1.0: self.lattice(name, step).at(z / stretch, y, x)
        )

    def plain_points(self, box: tuple[slice, slice, slice]) -> Points:
        """The points of a box at their place in the world, without warp."""
        z, y, x = self.grid.z[box[0]], self.grid.y[box[1]], self.grid.x[box[2]]
        return Points(
            x.astype(np.float32)[None, None, :],
            y.astype(np.float32)[None, :, None],
            z.astype(np.float32)[:, None, None],
            lambda name, step, stretch=1.0: self.lattice(name, step).at(z / stretch, y, x),
        )

    def _warped(self, box: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
        """x, y, z [mm] of a box, displaced by the patient's own smooth warp."""
        z, y, x = self.grid.z[box[0]], self.grid.y[box[1]], self.grid.x[box[2]]
        dz, dy, dx = (self.lattice(f"warp-{axis}", 170.0).at(z, y, x) for axis in "zyx")
        scale = np.float32(self.warp_mm)
        dz, dy, dx = dz * scale, dy * scale, dx * scale
        dx += x.astype(np.float32)
        dy += y.astype(np.float32)[:, None]
        dz += z.astype(np.float32)[:, None, None]
        return dx, dy, dz

    def lattice(self, name: str, step: float) -> Lattice:
        """The random field of that name, created on first use."""
        key = (name, step)
        if key not in self._lattices:
            rng = np.random.default_rng([self._seed, 5, crc32(f"{name}/{step}".encode())])
            self._lattices[key] = Lattice(rng, self.low, self.high, step)
        return self._lattices[key]

    def paint(
        self, tissue: str, shape: Shape, *, only: tuple[str, ...] = (), spare: tuple[str, ...] = ()
    ) -> None:
        """Paints `tissue` over `shape`: only on the tissues in `only` (on all if empty), never on those in
        `spare` nor outside the body."""
        box = self.box(shape)
        if box is None:
            return
        self.cover(tissue, box, shape.distance(self.points(box)), only=only, spare=(*spare, "air-outside"))

    def cover(
        self, tissue: str, box: tuple[slice, slice, slice], distance: Array,
        *, only: tuple[str, ...] = (), spare: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Paints `tissue` where `distance` [mm] in `box` is negative, with partial volume at its edge."""
        # Most of a box is empty: only the voxels that the shape touches are processed.
        hit = np.nonzero(distance < np.float32(0.5) * self.voxel)
        labels, hu, suv = self.labels[box], self.hu[box], self.suv[box]
        old = labels[hit]
        if only or spare:
            allowed = np.ones(256, bool) if not only else np.zeros(256, bool)
            allowed[[ORGANS[name] for name in only]] = True
            allowed[[ORGANS[name] for name in spare]] = False
            keep = allowed[old]
            hit, old = (hit[0][keep], hit[1][keep], hit[2][keep]), old[keep]
        alpha = np.minimum(np.float32(0.5) - distance[hit] / self.voxel, np.float32(1))
        new_hu, new_suv = (np.float32(v) for v in self.values[tissue])
        hu[hit] = (1 - alpha) * hu[hit] + alpha * new_hu
        suv[hit] = (1 - alpha) * suv[hit] + alpha * new_suv
        labels[hit] = np.where(alpha >= 0.5, np.uint8(ORGANS[tissue]), old)

    def texture(self, cv: dict[str, float]) -> None:
        """Makes organs uneven with smooth noise on HU and SUV, fine and coarse; `cv` overrides a tissue's SD
        of uptake over its mean."""
        z, y, x = self.grid.z, self.grid.y, self.grid.x
        noise = 0.8 * self.lattice("fine", 9.0).at(z, y, x)
        noise += 0.6 * self.lattice("coarse", 32.0).at(z, y, x)
        hu_sd = np.array([TISSUES[name].hu_texture for name in ORGANS], np.float32)
        suv_sd = np.array([cv.get(name, TISSUES[name].suv_texture) for name in ORGANS], np.float32)
        self.hu += hu_sd[self.labels] * noise
        self.suv *= np.maximum(1 + suv_sd[self.labels] * noise, np.float32(0.1))
