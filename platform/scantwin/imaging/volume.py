"""`Volume`: an array with a position in the patient. The conventions of the whole project, stated once:

- an array is indexed (z, y, x); `spacing` [mm] has the same order;
- the world is the DICOM patient system LPS [mm]: +x to the patient's left, +y to the back, +z to the head;
- `origin` is the world point (x, y, z) of the centre of voxel [0, 0, 0];
- the columns of `direction` are the world directions (x, y, z) of the array axes z, y, x.

A *canonical* volume has its array axes along +z, +y, +x of the world.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray

from scantwin.units import Unit

CANONICAL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""Direction of a canonical volume: array axis z runs along world +z, y along +y, x along +x."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3D image in the patient. Axes (z, y, x); spacing [mm]; values in `unit`."""

    array: NDArray[np.generic]
    """Values, axes (z, y, x)."""
    spacing: tuple[float, float, float]
    """Voxel size (z, y, x) [mm]."""
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """World point (x, y, z), LPS [mm], of the centre of voxel [0, 0, 0]."""
    direction: NDArray[np.float64] = field(default_factory=CANONICAL.copy)
    """3 x 3; column k is the world direction of array axis k."""
    unit: Unit = "1"

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ValueError(f"a volume has three axes (z, y, x), this array has shape {self.array.shape}")
        if not all(np.isfinite(s) and s > 0 for s in self.spacing):
            raise ValueError(f"voxel sizes must be positive, these are {self.spacing} mm")

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.shape))
        voxel = " x ".join(f"{s:.4g}" for s in self.spacing)
        memory = f"{self.array.nbytes / 2**20:.1f} MiB"
        return f"Volume({size} zyx, {voxel} mm, {self.unit}, {self.array.dtype}, {memory})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels (z, y, x)."""
        z, y, x = self.array.shape
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel [ml]."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size of the field of view (z, y, x) [mm]."""
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing, strict=True))
        return z, y, x

    @cached_property
    def affine(self) -> NDArray[np.float64]:
        """4 x 4: array index (z, y, x, 1) -> world point (x, y, z, 1), LPS [mm]."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * np.asarray(self.spacing)
        matrix[:3, 3] = self.origin
        return matrix

    @property
    def is_canonical(self) -> bool:
        """Whether the array axes run along +z, +y, +x of the world (to within 0.06 degrees)."""
        return bool(np.allclose(self.direction, CANONICAL, atol=1e-3))

    def world(self, index: ArrayLike) -> NDArray[np.float64]:
        """World points (..., xyz) [mm] of array indices (..., zyx)."""
        return np.asarray(index, float) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def index(self, world: ArrayLike) -> NDArray[np.float64]:
        """Fractional array indices (..., zyx) of world points (..., xyz) [mm]."""
        inverse = np.linalg.inv(self.affine[:3, :3])
        return (np.asarray(world, float) - self.affine[:3, 3]) @ inverse.T

    @property
    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest corner (x, y, z) of the field of view, LPS [mm]: outer edges of the voxels."""
        world = self.corners
        return world.min(axis=0), world.max(axis=0)

    @property
    def corners(self) -> NDArray[np.float64]:
        """The eight corners (8, xyz) of the field of view, LPS [mm]: outer edges of the voxels."""
        ends = np.meshgrid(*[(-0.5, n - 0.5) for n in self.shape], indexing="ij")
        return self.world(np.array(ends).reshape(3, -1).T)

    def with_array(self, array: NDArray[np.generic], unit: Unit | None = None) -> Volume:
        """The same grid with other values of the same shape."""
        if array.shape != self.array.shape:
            raise ValueError(f"the shape {array.shape} is not the volume's {self.array.shape}")
        return replace(self, array=array, unit=unit or self.unit)

    def same_grid(self, other: Volume) -> bool:
        """Whether both have the same voxels, to within a hundredth of a voxel."""
        if self.shape != other.shape:
            return False
        # All eight: with two axes swapped, the first and the last corner can lie where they did.
        return bool(np.allclose(self.corners, other.corners, atol=0.01 * min(self.spacing)))

    def canonical(self) -> Volume:
        """The same image with axes flipped and swapped towards +z, +y, +x; an oblique one stays oblique."""
        # Each world axis is assigned the array axis most nearly parallel to it.
        strength = np.abs(CANONICAL.T @ self.direction)  # (wanted axis, array axis)
        order: list[int] = [-1, -1, -1]
        for _ in range(3):
            wanted, axis = np.unravel_index(np.argmax(strength), strength.shape)
            order[int(wanted)] = int(axis)
            strength[wanted, :] = -1.0
            strength[:, axis] = -1.0
        direction = self.direction[:, order]
        spacing = np.asarray(self.spacing)[order]
        array = self.array.transpose(order)
        origin = np.asarray(self.origin)
        for k in range(3):
            if CANONICAL[:, k] @ direction[:, k] < 0:
                origin = origin + direction[:, k] * spacing[k] * (array.shape[k] - 1)
                direction = direction * np.where(np.arange(3) == k, -1.0, 1.0)
                array = np.flip(array, k)
        return replace(
            self, array=array, spacing=_triple(spacing), origin=_triple(origin), direction=direction
        )

    def crop(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> Volume:
        """The part [start, stop) of array indices (z, y, x)."""
        part = self.array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
        return replace(self, array=part, origin=_triple(self.world(start)))

    def to_sitk(self) -> sitk.Image:
        """A SimpleITK image with the same grid (its axes are x, y, z)."""
        array = self.array.astype(np.uint8) if self.array.dtype == bool else np.ascontiguousarray(self.array)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([float(s) for s in self.spacing[::-1]])
        image.SetOrigin([float(o) for o in self.origin])
        image.SetDirection(self.itk_direction)
        return image

    @property
    def itk_direction(self) -> list[float]:
        """The direction in ITK's order (axes x, y, z), without numbers on which ITK's inversion fails."""
        rows = self.direction[:, ::-1].ravel()
        # A cosine like 1e-308 makes ITK's singular value decomposition fail, and the image is lost.
        return [float(d) if abs(d) > 1e-12 else 0.0 for d in rows]


def _triple(values: NDArray[np.generic]) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c
