"""The grid that a patient is painted on: boxes, warped coordinates, partial volume, smooth noise.

Random fields live on lattices in the world, not on voxels: one patient looks the same on every grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scantwin.phantoms.shapes import Array, Points, Shape
from scantwin.phantoms.tissues import ORGANS, TISSUES

_SPLINE_RMS = 0.4794**1.5
"""SD of a 3D cubic B-spline surface over unit-variance coefficients (mean of the squared basis, cubed)."""


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
    """Weights (point, coefficient) of a cubic B-spline and the range of coefficients that they use."""
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
    """A canonical grid by its axes [mm]."""

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
        self, grid: Grid, spacing: tuple[float, float, float], rng: np.random.Generator,
        values: dict[str, tuple[float, float]],
    ) -> None:  # fmt: skip
        self.grid, self.spacing = grid, spacing
        self.values = values  # tissue -> (HU, SUV)
        low = np.array([a[0] - s for a, s in zip((grid.z, grid.y, grid.x), spacing, strict=True)])
        # Anchored to round world positions so that the lattice does not depend on the voxel size.
        self.low = np.array([-100.0, -500.0, -500.0])
        self.high = np.array([2600.0, 500.0, 500.0])
        if (low < self.low - 1).any():
            raise ValueError("the grid leaves the world of the lattices")
        self._warps = [Lattice(rng, self.low, self.high, 170.0) for _ in range(3)]
        self._rough = Lattice(rng, self.low, self.high, 14.0)
        self.labels = np.zeros(grid.shape, np.uint8)
        self.hu = np.full(grid.shape, -1000, np.float32)
        self.suv = np.zeros(grid.shape, np.float32)
        self.voxel = np.float32(np.prod(spacing) ** (1 / 3))

    def box(self, shape: Shape) -> tuple[slice, slice, slice] | None:
        """The part of the grid that can hold `shape`, with room for the warp; None if there is none."""
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
        z, y, x = self.grid.z[box[0]], self.grid.y[box[1]], self.grid.x[box[2]]
        dz, dy, dx = (warp.at(z, y, x) for warp in self._warps)
        scale = np.float32(self.warp_mm)
        return Points(
            x[None, None, :].astype(np.float32) + scale * dx,
            y[None, :, None].astype(np.float32) + scale * dy,
            z[:, None, None].astype(np.float32) + scale * dz,
            lambda: self._rough.at(z, y, x),
        )

    def paint(
        self, tissue: str, shape: Shape, *, only: tuple[str, ...] = (), spare: tuple[str, ...] = ()
    ) -> None:
        """Paints `tissue` over `shape`: on the tissues in `only` (all when empty), never on those in `spare`."""
        box = self.box(shape)
        if box is None:
            return
        self.cover(tissue, box, shape.distance(self.points(box)), only=only, spare=spare)

    def cover(
        self, tissue: str, box: tuple[slice, slice, slice], distance: Array,
        *, only: tuple[str, ...] = (), spare: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Paints `tissue` where `distance` [mm] in `box` is negative, with the partial volume of its edge."""
        alpha = np.clip(np.float32(0.5) - distance / self.voxel, 0, 1)
        labels = self.labels[box]
        if only or spare:
            allowed = np.ones(256, bool) if not only else np.zeros(256, bool)
            allowed[[ORGANS[name] for name in only]] = True
            allowed[[ORGANS[name] for name in spare]] = False
            alpha *= allowed[labels]
        hu, suv = self.values[tissue]
        self.hu[box] += alpha * (np.float32(hu) - self.hu[box])
        self.suv[box] += alpha * (np.float32(suv) - self.suv[box])
        labels[alpha >= 0.5] = ORGANS[tissue]

    def texture(self, rng: np.random.Generator) -> None:
        """Makes organs uneven: smooth noise on HU (fine) and on SUV (fine and coarse)."""
        z, y, x = self.grid.z, self.grid.y, self.grid.x
        fine = Lattice(rng, self.low, self.high, 9.0).at(z, y, x)
        coarse = Lattice(rng, self.low, self.high, 32.0).at(z, y, x)
        hu_sd = np.array([TISSUES[name].hu_texture for name in ORGANS], np.float32)
        suv_sd = np.array([TISSUES[name].suv_texture for name in ORGANS], np.float32)
        self.hu += hu_sd[self.labels] * (0.8 * fine + 0.6 * coarse)
        self.suv *= np.maximum(1 + suv_sd[self.labels] * (0.6 * fine + 0.8 * coarse), 0.1)
