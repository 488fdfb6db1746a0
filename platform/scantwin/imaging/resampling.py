"""Moving a volume onto another grid of voxels."""

from __future__ import annotations

from typing import Literal

import numpy as np
import SimpleITK as sitk

from scantwin.imaging.blocks import block_means, blocks_within
from scantwin.imaging.limits import check_bytes
from scantwin.imaging.volume import CANONICAL, Volume

Interpolation = Literal["linear", "nearest", "area"]
"""`area` blurs before downsampling, so that means are preserved and noise does not alias."""

_ITK = {"linear": sitk.sitkLinear, "nearest": sitk.sitkNearestNeighbor, "area": sitk.sitkLinear}


_RECURSIVE_MIN = 4
"""Fewest voxels along an axis that ITK's recursive Gaussian accepts."""


def resample_like(
    volume: Volume, reference: Volume, *, how: Interpolation = "linear", outside: float | None = 0.0
) -> Volume:
    """`volume` on the voxels of `reference`; beyond its own field of view, `outside` (in its unit).

    If `outside` is None, the values at its edge are repeated there.
    """
    if volume.same_grid(reference):
        return volume
    if how == "area":
        new = np.abs(reference.direction.T @ volume.direction).T @ np.asarray(reference.spacing)
        counts = blocks_within(volume, new)
        volume = block_means(volume, counts) if max(counts) > 1 else volume
    image = volume.to_sitk()
    # Band-limit in the moving image's own axes: the variance of a box of the new voxel, less its own voxel's.
    if how == "area":
        own = np.asarray(volume.spacing)
        sigma = np.sqrt(np.maximum(new**2 - own**2, 0.0) / 12.0)
        image = _smooth(sitk.Cast(image, sitk.sitkFloat32), sigma[::-1])
    elif how == "linear":
        image = sitk.Cast(image, sitk.sitkFloat32)
    grid = sitk.Image([int(n) for n in reference.shape[::-1]], sitk.sitkUInt8)
    grid.SetSpacing([float(s) for s in reference.spacing[::-1]])
    grid.SetOrigin([float(o) for o in reference.origin])
    grid.SetDirection(reference.itk_direction)
    moved = sitk.Resample(
        image, grid, sitk.Transform(), _ITK[how], float(outside or 0.0),
        useNearestNeighborExtrapolator=outside is None,
    )  # fmt: skip
    return reference.with_array(sitk.GetArrayFromImage(moved), volume.unit)


def grid_over(volume: Volume, spacing: tuple[float, float, float]) -> Volume:
    """An empty canonical grid of `spacing` (z, y, x) [mm] that covers `volume`."""
    low, high = (corner[::-1] for corner in volume.bounds)  # (z, y, x)
    size = np.maximum(np.ceil((high - low) / np.asarray(spacing) - 1e-3), 1).astype(int)
    origin = low + np.asarray(spacing) / 2
    array = np.broadcast_to(np.uint8(0), tuple(size))
    x, y, z = (float(v) for v in origin[::-1])
    return Volume(array, spacing, (x, y, z), CANONICAL.copy(), volume.unit)


def to_spacing(
    volume: Volume, spacing: tuple[float, float, float], *, how: Interpolation = "area", outside: float = 0.0
) -> Volume:
    """`volume` on a canonical grid of `spacing` (z, y, x) [mm]. Raises `dicom.too-large`."""
    # The box around an oblique image of anisotropic voxels can be thousands of times as large as the image.
    low, high = volume.bounds
    voxels = float(((high - low)[::-1] / np.asarray(spacing)).prod())
    size = volume.array.dtype.itemsize if how == "nearest" else 4  # linear gives float32
    check_bytes(int(voxels * size), "The image along the patient's axes")
    return resample_like(volume, grid_over(volume, spacing), how=how, outside=outside)


def _smooth(image: sitk.Image, sigma_mm: np.ndarray) -> sitk.Image:
    for axis, sigma in enumerate(sigma_mm):
        if sigma > 0 and image.GetSize()[axis] >= _RECURSIVE_MIN:
            image = sitk.RecursiveGaussian(
                image, float(sigma), False, sitk.RecursiveGaussianImageFilter.ZeroOrder, axis
            )
        elif sigma > 0:
            from scipy.ndimage import gaussian_filter1d

            array = sitk.GetArrayFromImage(image)
            voxels = float(sigma) / image.GetSpacing()[axis]
            short = sitk.GetImageFromArray(gaussian_filter1d(array, voxels, axis=2 - axis, mode="nearest"))
            short.CopyInformation(image)
            image = short
    return image
