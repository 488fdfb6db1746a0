"""The body mask: the patient without table and clothes, with lungs, airways and bowel gas filled.

It is computed on voxels of about 4 mm, then mapped back to the CT's voxels with a sharp skin line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.imaging.resampling import resample_like
from scantwin.imaging.volume import Volume
from scantwin.units import AIR_HU, HU_RANGE

Scalar = TypeVar("Scalar", bound=np.generic)

COARSE_MM: Final = (4.0, 4.0, 4.0)
"""Voxel size [mm] on which the mask is computed: a tenth of a wrist, and thicker than a table's shell."""
SKIN_HU: Final = -350.0
"""Limit between air and tissue [HU]: a voxel that is half air (-1000), half skin and fat (0 to -100) has
about -520, one that is mostly tissue more than this. A table's shell of 1-2 mm stays below it at 4 mm."""
LUNG_HU: Final = (-930.0, -300.0)
"""Mean HU of a region that is lung and not outside air (once averaged, air is -1000 +-20 at any dose)."""
EDGE_HU: Final = -500.0
"""A voxel at the skin line is body above this [HU]: half of it is skin and fat."""
SHEET_MM: Final = 12.0
"""Anything thinner than this in axial slices is table, blanket or tube, unless it is attached to the body."""
AIRWAY_CM2: Final = 6.0
"""A hole of smaller cross-section [cm2] is filled wherever it opens: a windpipe has 2 to 4, a gap more."""
LUNG_ML: Final = 10.0
"""A lung region smaller than this [ml] behind a thin wall is not looked for."""
PART_ML: Final = 40.0
"""Smallest volume [ml] of a part kept though apart from the trunk (a forearm beside it, a leg in a crop)."""
_SOFT_HU: Final = (-220.0, 200.0)
_IN_SLICE = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])[:, None, None]


@dataclass(frozen=True, eq=False)
class Coarse:
    """A CT averaged over whole blocks of voxels; axes (z, y, x) as in the CT."""

    hu: NDArray[np.float32]
    """Mean HU of each block; whatever was outside the field of view is air."""
    spacing: tuple[float, float, float]
    """Block size (z, y, x) [mm]."""
    factor: tuple[int, int, int]
    """CT voxels per block (z, y, x)."""

    def expand(self, values: NDArray[Scalar], shape: tuple[int, ...]) -> NDArray[Scalar]:
        """The values of the blocks, repeated for each of their voxels."""
        for axis, (count, size) in enumerate(zip(self.factor, shape, strict=True)):
            if count > 1:
                values = values.repeat(count, axis=axis)
            values = values[(slice(None),) * axis + (slice(0, size),)]
        return values


def coarsen(ct: Volume, size_mm: tuple[float, float, float] = COARSE_MM) -> Coarse:
    """Averages a CT [HU] over blocks of about `size_mm` (z, y, x); padding (-3024, NaN) becomes air."""
    factor = tuple(max(1, int(size / s + 0.5)) for size, s in zip(size_mm, ct.spacing, strict=True))
    hu = ct.array
    for axis, count in enumerate(factor):
        hu = _block_mean(hu, axis, count)
    hu = np.nan_to_num(np.asarray(hu, np.float32), nan=AIR_HU)
    spacing = tuple(s * f for s, f in zip(ct.spacing, factor, strict=True))
    return Coarse(np.clip(hu, *HU_RANGE), spacing, factor)  # type: ignore[arg-type]


def body_mask(ct: Volume) -> NDArray[np.bool_]:
    """The patient in a CT [HU] of any orientation: a mask (z, y, x) on the CT's own voxels.

    Table, clothes and tubes are left out; lungs, airways and bowel gas filled. All false if there is nobody.
    """
    if not ct.is_canonical:
        upright = ct.canonical()
        mask = upright.with_array(_canonical_mask(upright).astype(np.uint8), "label")
        return np.asarray(resample_like(mask, ct, how="nearest").array, np.bool_)
    return _canonical_mask(ct)


def coarse_body(coarse: Coarse) -> NDArray[np.bool_]:
    """The body mask on the blocks of a coarse canonical CT."""
    body = np.zeros(coarse.hu.shape, np.bool_)
    boxes = ndimage.find_objects((coarse.hu > SKIN_HU).astype(np.uint8))
    if boxes:
        near = replace(coarse, hu=coarse.hu[boxes[0]])
        parts = _parts(near)
        body[boxes[0]] = _filled(near, parts) if parts.any() else parts
    return body


def _canonical_mask(ct: Volume) -> NDArray[np.bool_]:
    coarse = coarsen(ct)
    body = coarse_body(coarse)
    # Draw the skin line on the CT's voxels, within one block of the coarse line.
    sure = ndimage.binary_erosion(body, _IN_SLICE, border_value=1)
    maybe = ndimage.binary_dilation(body, _IN_SLICE)
    near = coarse.expand(maybe & ~sure, ct.shape)
    inside = coarse.expand(sure, ct.shape)
    tissue = np.asarray(ct.array) > EDGE_HU
    return np.asarray(inside | (near & tissue), np.bool_)


def _block_mean(values: NDArray[np.generic], axis: int, count: int) -> NDArray[np.generic]:
    """Means of `count` neighbours along an axis; the last block repeats the last voxel."""
    if count == 1:
        return values
    short = -values.shape[axis] % count
    if short:
        last = values.take([-1], axis=axis)
        values = np.concatenate([values, last.repeat(short, axis=axis)], axis=axis)
    shape = (*values.shape[:axis], values.shape[axis] // count, count, *values.shape[axis + 1 :])
    blocks = values.reshape(shape)
    total = np.zeros((*shape[: axis + 1], *shape[axis + 2 :]), np.float32)
    for k in range(count):
        part = blocks[(slice(None),) * (axis + 1) + (k,)]
        # On some scanners, padding is many thousand HU below air: it must not weigh more than air.
        total += np.maximum(part.astype(np.float32), np.float32(HU_RANGE[0]))
    return total / np.float32(count)


def _parts(coarse: Coarse) -> NDArray[np.bool_]:
    """Tissue that is thick enough: the trunk, and limbs separate from it."""
    tissue = coarse.hu > SKIN_HU
    in_slice = float(min(coarse.spacing[1:]))
    steps = max(1, round(SHEET_MM / 2 / in_slice))
    thick = ndimage.binary_erosion(tissue, _IN_SLICE, iterations=steps, border_value=1)
    labels, count = ndimage.label(thick)
    if count == 0:
        return np.zeros_like(tissue)
    volumes = np.bincount(labels.ravel(), minlength=count + 1)[1:].astype(float)
    soft = (coarse.hu > _SOFT_HU[0]) & (coarse.hu < _SOFT_HU[1])
    softness = np.bincount(labels.ravel(), weights=soft.ravel(), minlength=count + 1)[1:] / volumes
    voxel_ml = float(np.prod(coarse.spacing)) / 1000.0
    # Erosion removes much of a thin limb, so what is left need only have half the volume.
    keep = (softness > 0.5) & ((volumes * voxel_ml > PART_ML / 2) | (volumes == volumes.max()))
    core = np.concatenate([[False], keep])[labels]
    # Grow back to the skin, and a little further along what is attached to it: ears, nose, fingers.
    return np.asarray(ndimage.binary_dilation(core, _IN_SLICE, iterations=steps + 2, mask=tissue), np.bool_)


def _filled(coarse: Coarse, parts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fills what the body encloses in axial slices, and lungs behind a thin wall or cut by a side."""
    # A chest wall of a few millimetres was taken for a sheet or for air: the lung behind it is recognised by
    # its HU. Growing all tissue by one block closes the wall.
    tissue = coarse.hu > SKIN_HU
    behind = _holes(ndimage.binary_dilation(tissue, _IN_SLICE)) & ~tissue
    lungs = _lungs_only(coarse, behind | _cut_by_sides(parts | _holes(parts)), tissue, parts)
    wall = ndimage.binary_dilation(lungs, _IN_SLICE)
    wall = ndimage.binary_dilation(wall, _IN_SLICE, iterations=4, mask=tissue | wall)
    body = parts | wall
    return np.asarray(body | _without_gaps(coarse, _holes(body), body), np.bool_)


def _holes(mask: NDArray[np.bool_], wall: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """What the mask encloses in axial slices; with `wall` = (axis, side), what it encloses with that side."""
    labels, count = ndimage.label(~mask, _IN_SLICE)
    outside = np.zeros(count + 1, bool)
    for axis, side in ((1, 0), (1, -1), (2, 0), (2, -1)):
        if (axis, side) != wall:
            outside[labels.take(side, axis=axis)] = True
    outside[0] = True
    return np.asarray(~outside[labels], np.bool_)


def _lungs_only(
    coarse: Coarse, regions: NDArray[np.bool_], tissue: NDArray[np.bool_], parts: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The regions with the mean HU of lung and with the patient around them: not the foam in a table."""
    labels, count = ndimage.label(regions)
    if not count:
        return regions
    size = np.bincount(labels.ravel(), minlength=count + 1)
    mean = np.bincount(labels.ravel(), weights=coarse.hu.ravel(), minlength=count + 1) / np.maximum(size, 1)
    lungs = (mean > LUNG_HU[0]) & (mean < LUNG_HU[1]) & (size * np.prod(coarse.spacing) / 1000 > LUNG_ML)
    rim = np.where(tissue & ~regions, ndimage.grey_dilation(labels, size=(1, 5, 5)), 0)
    around = np.bincount(rim.ravel(), minlength=count + 1)
    lungs &= np.bincount(rim[parts], minlength=count + 1) > 0.15 * around
    lungs[0] = False
    return np.asarray(lungs[labels], np.bool_)


def _without_gaps(coarse: Coarse, holes: NDArray[np.bool_], parts: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The holes that are inside the patient, not the gap between a raised arm and the head.

    A gap opens widely to the outside in the slices above or below, an airway only through a nostril.
    """
    labels, count = ndimage.label(holes)
    if count == 0:
        return holes
    outside = ~(holes | parts)
    faces = np.zeros(holes.shape, np.float32)
    faces[1:] += outside[:-1]
    faces[:-1] += outside[1:]
    size = np.bincount(labels.ravel(), minlength=count + 1).astype(float)
    openings = np.bincount(labels.ravel(), weights=faces.ravel(), minlength=count + 1)
    slices = np.array([0, *(part[0].stop - part[0].start for part in ndimage.find_objects(labels))])
    across = size / np.maximum(slices, 1)  # the mean cross-section, in blocks
    narrow = across * (coarse.spacing[1] * coarse.spacing[2] / 100.0) < AIRWAY_CM2
    keep = narrow | (openings < 0.5 * across)
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)


def _cut_by_sides(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Air that the body encloses together with one side of the field of view, slice by slice."""
    found = np.zeros_like(body)
    touching = np.flatnonzero(body[:, [0, -1]].any(axis=(1, 2)) | body[:, :, [0, -1]].any(axis=(1, 2)))
    for wall in ((1, 0), (1, -1), (2, 0), (2, -1)) if len(touching) else ():
        found[touching] |= _holes(body[touching], wall)
    return found
