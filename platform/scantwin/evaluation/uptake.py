"""Uptake metrics: SUVmean, SUVmax, SUVpeak of regions. Definitions: sources.md, 6."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.evaluation.tumour_volumes import NEIGHBOURS

PEAK_RADIUS_MM: Final = float(np.cbrt(750.0 / np.pi))
"""Radius of a sphere of 1 ml [mm]: 6.20."""

_SUB_POINTS: Final = 12
"""Sample points along each edge of a voxel, which count how much of it lies in a sphere. On a PET's voxels, 5
mm at most, the sphere's volume is right to half a per cent."""

REAL_CHANGE: Final = (-0.25, 0.33)
"""A relative change outside these limits is real; inside, it is test-retest variability (sources.md, 6)."""

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Uptake:
    """The uptake of a region [g/ml]."""

    mean: float
    maximum: float
    peak: float


@dataclass(frozen=True)
class Compared:
    """The uptake of one region, predicted and true."""

    said: Uptake
    true: Uptake
    mae: float
    """Mean absolute error over its voxels [g/ml]."""

    def figures(self) -> dict[str, float]:
        """Errors of SUVmean, SUVmax, SUVpeak [g/ml]; 1 if inside `REAL_CHANGE`, else 0."""
        mean_inside = _inside(self.said.mean, self.true.mean)
        peak_inside = _inside(self.said.peak, self.true.peak)
        return {
            "mae": self.mae,
            "suvmax_error": abs(self.said.maximum - self.true.maximum),
            "suvpeak_error": abs(self.said.peak - self.true.peak),
            "suvmean_bias": self.said.mean - self.true.mean,
            "inside_limits": float(mean_inside and peak_inside),
            "suvmean_inside": float(mean_inside),
            "suvpeak_inside": float(peak_inside),
        }


def suv_peak(suv: NDArray[np.float32], mask: NDArray[np.bool_], spacing_mm: Spacing) -> float:
    """The highest mean of `suv` [g/ml] in a 1 ml sphere centred in `mask`. Axes (z, y, x)."""
    near = _around(ndimage.find_objects(mask.view(np.uint8))[0], spacing_mm)
    return float(sphere_means(suv[near], spacing_mm)[mask[near]].max())


def sphere_means(suv: NDArray[np.float32], spacing_mm: Spacing) -> NDArray[np.float32]:
    """Mean of `suv` [g/ml] in the part of a 1 ml sphere around each voxel that is in the volume (z, y, x)."""
    kernel = peak_kernel(spacing_mm)
    weight = ndimage.convolve(np.ones(suv.shape, np.float32), kernel, mode="constant")
    total = ndimage.convolve(np.asarray(suv, np.float32), kernel, mode="constant")
    return np.asarray(total / weight, np.float32)


@lru_cache(maxsize=8)
def peak_kernel(spacing_mm: Spacing) -> NDArray[np.float64]:
    """The share of each voxel that lies in a 1 ml sphere around the middle one. Axes (z, y, x)."""
    at = [np.arange(-r, r + 1) * step for r, step in zip(_reach(spacing_mm), spacing_mm, strict=True)]
    within = (np.arange(_SUB_POINTS) + 0.5) / _SUB_POINTS - 0.5
    kernel = np.zeros([len(axis) for axis in at])
    for offsets in product(within, repeat=3):
        moved = (axis + part * step for axis, part, step in zip(at, offsets, spacing_mm, strict=True))
        z, y, x = np.meshgrid(*moved, indexing="ij", sparse=True)
        kernel += z**2 + y**2 + x**2 <= PEAK_RADIUS_MM**2
    return kernel / _SUB_POINTS**3


def compare_lesions(
    predicted: NDArray[np.float32],
    true: NDArray[np.float32],
    lesions: NDArray[np.bool_],
    spacing_mm: Spacing,
) -> Iterator[Compared]:
    """The uptake of each 18-connected lesion. Axes (z, y, x)."""
    labels, _ = ndimage.label(lesions, NEIGHBOURS)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        near = _around(box, spacing_mm)
        both = predicted[near], true[near]
        peaks = sphere_means(both[0], spacing_mm), sphere_means(both[1], spacing_mm)
        yield compare_region(*both, labels[near] == label, peaks=peaks)


def compare_region(
    predicted: NDArray[np.float32], true: NDArray[np.float32], mask: NDArray[np.bool_],
    *, peaks: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> Compared:  # fmt: skip
    """The uptake of `mask`; `peaks` are the `sphere_means` of both PETs. Axes (z, y, x)."""
    said = predicted[mask], peaks[0][mask]
    is_true = true[mask], peaks[1][mask]
    return Compared(_uptake(*said), _uptake(*is_true), float(np.abs(said[0] - is_true[0]).mean()))


def _uptake(suv: NDArray[np.float32], spheres: NDArray[np.float32]) -> Uptake:
    return Uptake(float(suv.mean()), float(suv.max()), float(spheres.max()))


def _reach(spacing_mm: Spacing) -> list[int]:
    """Voxels along each axis from a sphere's centre to the last one that its surface cuts."""
    return [int(np.ceil(PEAK_RADIUS_MM / s - 0.5)) for s in spacing_mm]


def _around(box: tuple[slice, ...], spacing_mm: Spacing) -> tuple[slice, ...]:
    """`box`, grown by the reach of spheres around its voxels."""
    return tuple(
        slice(max(one.start - r, 0), one.stop + r) for one, r in zip(box, _reach(spacing_mm), strict=True)
    )


def _inside(said: float, true: float) -> bool:
    return true > 0 and REAL_CHANGE[0] <= said / true - 1 <= REAL_CHANGE[1]
