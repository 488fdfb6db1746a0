"""From a region of a CT to a CT with it regenerated: boxes, resampling to the network's voxels, borders.

Outside the region every voxel comes back bit for bit. SYNTHETIC, NOT FOR DIAGNOSIS.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy import ndimage

from scantwin.errors import InputError
from scantwin.generation.hu_scale import to_hu, to_unit
from scantwin.generation.inpainting import CTInpainting, Method
from scantwin.generation.regions import Region
from scantwin.imaging.resampling import grid_over, resample_like
from scantwin.imaging.volume import Volume
from scantwin.terminal import Advance, silent

_MARGIN_MM: Final = 40.0
"""Known tissue around a region that the network sees [mm]: the reach of three halvings of a slice."""
_NEAR_MM: Final = 6.0
"""Parts of a region no further apart than this are made together [mm]."""
_ALIKE: Final = 0.1
"""Voxels that differ less than this from the recipe's are used as they are: resampling would cost noise."""

Box = tuple[slice, slice, slice]


def regenerate(
    system: CTInpainting,
    ct: Volume,
    region: Region,
    classes: NDArray[np.uint8],
    *,
    method: Method = "diffusion",
    seed: int = 0,
    advance: Advance = silent,
) -> Volume:
    """`ct` [HU], canonical, with `region` (z, y, x) regenerated as `classes` (ORGAN_LABEL, z, y, x) say.

    Several classes may lie in one region. The same seed gives the same CT.
    """
    if region.shape != ct.shape or classes.shape != ct.shape:
        raise InputError("The region has other voxels than the CT.", hint="Bring it onto the CT's grid.")
    out = np.array(ct.array)
    boxes = _boxes(region, ct.spacing)
    unmade = region.copy()
    for number, (box, part) in enumerate(boxes):
        advance(number, len(boxes))
        near = ct.with_array(out).crop(*_corners(box))
        # The network must not see what lies under this part, nor under the parts whose turn is yet to come.
        made = _made(system, near, unmade[box], classes[box], method, (seed, number))
        unmade[box] &= ~part
        share = _feather(part, ct.spacing, system.rules.feather_mm)
        real = np.asarray(near.array, np.float32)
        blended = real + share * (made - real)
        if out.dtype.kind in "iu":
            blended = np.rint(blended)
        out[box][part] = blended[part].astype(out.dtype)
    advance(len(boxes), len(boxes))
    return ct.with_array(out)


def _boxes(region: Region, spacing: tuple[float, float, float]) -> list[tuple[Box, Region]]:
    """Boxes with a margin around the parts of a region, and the part in each."""
    if not region.any():
        return []
    # A region is small beside a CT of 100 million voxels: its parts are sought in its own box.
    near = [int(_NEAR_MM / 2 // s) for s in spacing]
    whole = _grown(ndimage.find_objects(region.astype(np.uint8))[0], near, region.shape)
    joined = ndimage.maximum_filter(region[whole], size=[2 * n + 1 for n in near])
    parts, _ = ndimage.label(joined, ndimage.generate_binary_structure(3, 3))
    margin = [int(np.ceil(_MARGIN_MM / s)) for s in spacing]
    boxes = []
    for label, found in enumerate(ndimage.find_objects(parts), start=1):
        z, y, x = (slice(w.start + f.start, w.start + f.stop) for w, f in zip(whole, found, strict=True))
        part = np.zeros_like(region[(box := _grown((z, y, x), margin, region.shape))])
        inside = tuple(
            slice(s.start - b.start, s.stop - b.start) for s, b in zip((z, y, x), box, strict=True)
        )
        part[inside] = region[z, y, x] & (parts[found] == label)
        boxes.append((box, part))
    return boxes


def _grown(box: tuple[slice, ...], margin: list[int], shape: tuple[int, ...]) -> Box:
    """`box` with `margin` [voxels] around it, within the array."""
    z, y, x = (
        slice(max(side.start - m, 0), min(side.stop + m, n))
        for side, m, n in zip(box, margin, shape, strict=True)
    )
    return z, y, x


def _corners(box: Box) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    z, y, x = box
    return (z.start, y.start, x.start), (z.stop, y.stop, x.stop)


def _made(
    system: CTInpainting, ct: Volume, region: Region, classes: NDArray[np.uint8], method: Method,
    seed: tuple[int, int],
) -> NDArray[np.float32]:  # fmt: skip
    """What the network makes of a box, on the CT's own voxels [HU]."""
    spacing = system.recipe.spacing_mm
    alike = all(abs(s / w - 1) < _ALIKE for s, w in zip(ct.spacing, spacing, strict=True))
    grid = ct if alike else grid_over(ct, spacing)
    # The grid's last voxels extend beyond the box. As air they would come back as air: its edge continues.
    work = resample_like(ct, grid, how="area", outside=None)
    where = region if alike else _touched(ct.with_array(region.astype(np.float32), "1"), grid)
    named = resample_like(ct.with_array(classes, "label"), grid, how="nearest", outside=None)
    labels = named.array.astype(np.int64)
    made = _painted(system, np.asarray(work.array, np.float32), where, labels, method, seed)
    if alike:
        return made
    back = resample_like(grid.with_array(made, "HU"), ct, outside=None).array.astype(np.float32)
    return back + _fine_noise(ct, work, region, seed)


def _touched(region: Volume, grid: Volume) -> Region:
    """Voxels of `grid` that lie in the region, if only in part."""
    share = resample_like(region, grid, how="area", outside=None).array.astype(np.float32)
    return np.asarray(share > 0.05, np.bool_)


def _painted(
    system: CTInpainting, hu: NDArray[np.float32], region: Region, classes: NDArray[np.int64],
    method: Method, seed: tuple[int, int],
) -> NDArray[np.float32]:  # fmt: skip
    depth = max(len(system.rules.channels), len(system.recipe.network.channels))
    multiple = 2 ** (depth - 1)
    pad = [(0, 0), *((0, -n % multiple) for n in hu.shape[1:])]
    # Mirrored, not repeated: repeated voxels have no noise, and the CT's noise is measured here.
    image = torch.from_numpy(to_unit(np.pad(hu, pad, mode="reflect")))
    inside = torch.from_numpy(np.pad(region, pad).astype(np.float32))
    named = torch.from_numpy(np.pad(classes, pad))
    random = np.random.default_rng([*seed, 11])
    noise = torch.from_numpy(random.standard_normal(image.shape, np.float32))
    image, inside, named, noise = (one.to(system.device) for one in (image, inside, named, noise))
    made = system.paint(system.district, image, inside, named, noise, method)
    _, height, width = hu.shape
    return to_hu(made.cpu().numpy()[:, :height, :width])


def _fine_noise(ct: Volume, work: Volume, region: Region, seed: tuple[int, int]) -> NDArray[np.float32]:
    """Noise [HU] too fine for the network's larger voxels, as strong as around the region."""
    real = np.asarray(ct.array, np.float32)
    lost = real - resample_like(work, ct, outside=None).array.astype(np.float32)
    around = ~region & (np.abs(lost) < 100.0) & (real > -200.0)
    if not around.any():
        return np.zeros_like(real)
    white = ct.with_array(np.random.default_rng([*seed, 12]).standard_normal(real.shape, np.float32), "HU")
    smooth = resample_like(resample_like(white, work, how="area", outside=None), ct, outside=None)
    fine = white.array.astype(np.float32) - smooth.array.astype(np.float32)
    wanted = float(np.median(np.abs(lost[around])))
    return np.asarray(fine * (wanted / max(float(np.median(np.abs(fine[around]))), 1e-6)), np.float32)


def _feather(region: Region, spacing: tuple[float, float, float], width_mm: float) -> NDArray[np.float32]:
    """Share of the made CT in each voxel: 0 outside, 1 from `width_mm` inside the border on."""
    # SciPy's distances take some 50 bytes a voxel, ITK's some 20. The CT's edge is no border of the region.
    known = sitk.GetImageFromArray((~region).view(np.uint8))
    known.SetSpacing(spacing[::-1])
    signed = sitk.SignedMaurerDistanceMap(known, squaredDistance=False, useImageSpacing=True)
    share = sitk.GetArrayFromImage(signed)
    share /= np.float32(width_mm + min(spacing) / 2)
    np.clip(share, 0.0, 1.0, out=share)
    return np.asarray(share * share * (3 - 2 * share), np.float32)
