"""Pictures of CT and PET for people: slices, fused slices, projections. No plotting library is needed.

They follow radiological convention: the patient's right is on the left of the picture, the head is up, the
front is up in axial slices and on the left in sagittal ones. Pixels are square, whatever the voxels are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from scantwin.files import whole_file
from scantwin.imaging.body import SKIN_HU, coarsen
from scantwin.imaging.picture_marks import Palette, colours, mark_sides, panel, scale_bar, with_notice
from scantwin.imaging.resampling import grid_over, resample_like
from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.imaging.volume import CANONICAL, Volume
from scantwin.units import AIR_HU

Plane = Literal["coronal", "axial", "sagittal"]
View = Literal["anterior", "lateral"]

SOFT_TISSUE: Final = (-160.0, 240.0)
"""CT window [HU] for soft tissue: level 40, width 400, as reading rooms use it."""
WIDE: Final = (-1000.0, 600.0)
"""CT window [HU] that shows lung and bone together."""
PET_TOP: Final = 10.0
"""SUV [g/ml] shown as black in the inverse grey scale."""
PIXELS: Final = 640
"""Pixels along the longer side of a slice."""

_AXIS: Final[dict[Plane, int]] = {"axial": 0, "coronal": 1, "sagittal": 2}
_SIDES: Final[dict[str, tuple[str, str]]] = {
    "coronal": ("R", "L"),
    "axial": ("R", "L"),
    "sagittal": ("A", "P"),
    "anterior": ("R", "L"),
    "lateral": ("A", "P"),
}
_UNKNOWN: Final = (110, 110, 110)
"""Grey for an unknown standard deviation; the palette for standard deviations does not contain it."""

_DISTRICT_COLOURS: Final = np.array(
    [(0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66)], np.uint8
)
"""Okabe and Ito's colours, distinct also for the colour-blind: head, trunk, arms, legs, whole body."""


def slice_frame(volume: Volume, plane: Plane = "coronal", at_mm: float | None = None) -> Volume:
    """A one-slice grid with square pixels over the field of view of `volume`, on which volumes are shown.

    `at_mm` is the world coordinate across the slice (z axial, y coronal, x sagittal), the middle by default.
    """
    box = grid_over(volume, volume.canonical().spacing)
    axis = _AXIS[plane]
    inside = [a for a in range(3) if a != axis]
    pixel = max(box.extent_mm[a] for a in inside) / PIXELS
    low = box.world((0, 0, 0))[::-1] - np.asarray(box.spacing) / 2  # (z, y, x)
    size = np.ones(3, int)
    origin = low + pixel / 2
    for a in inside:
        size[a] = max(1, round(box.extent_mm[a] / pixel))
    origin[axis] = low[axis] + box.extent_mm[axis] / 2 if at_mm is None else at_mm
    x, y, z = (float(v) for v in origin[::-1])
    empty = np.broadcast_to(np.uint8(0), tuple(size))
    return Volume(empty, (pixel, pixel, pixel), (x, y, z), CANONICAL.copy(), volume.unit)


def ct_slice_image(
    ct: Volume,
    *,
    plane: Plane = "coronal",
    at_mm: float | None = None,
    window: tuple[float, float] = SOFT_TISSUE,
    frame: Volume | None = None,
    outlined: Volume | None = None,
) -> Image.Image:
    """A CT [HU] slice in grey; `frame` sets position and extent where several pictures must match."""
    frame = frame or slice_frame(ct, plane, at_mm)
    return _marked(_outlined(_grey(ct, frame, window), outlined, frame), _plane_of(frame))


def pet_slice_image(
    pet: Volume,
    *,
    plane: Plane = "coronal",
    at_mm: float | None = None,
    top: float = PET_TOP,
    palette: Palette = "inverse-grey",
    frame: Volume | None = None,
    synthetic: bool = True,
) -> Image.Image:
    """A PET [SUV] slice from 0 to `top`; with the palette `spread`, a slice of its standard deviation, grey
    where that is unknown (NaN)."""
    frame = frame or slice_frame(pet, plane, at_mm)
    rgb = _coloured(_on(pet, frame, 0.0), top, palette)
    if palette == "spread":
        unknown = pet.with_array(np.isnan(pet.array).astype(np.uint8), "label")
        rgb[_on(unknown, frame, 0.0, "nearest") > 0.5] = _UNKNOWN
    return _marked(rgb, _plane_of(frame), synthetic)


def fused_image(
    ct: Volume,
    pet: Volume,
    *,
    plane: Plane = "coronal",
    at_mm: float | None = None,
    top: float = PET_TOP,
    window: tuple[float, float] = SOFT_TISSUE,
    frame: Volume | None = None,
    lesions: Volume | None = None,
    synthetic: bool = True,
) -> Image.Image:
    """PET [SUV] in colour over CT [HU] in grey; what has no uptake stays grey. Lesions are outlined."""
    frame = frame or slice_frame(ct, plane, at_mm)
    suv = _on(pet, frame, 0.0)
    # From 40 % of the scale upwards, colour covers the CT; background uptake (muscle, fat) barely tints it.
    weight = (0.85 * np.clip(suv / (0.4 * top), 0.0, 1.0))[..., None]
    rgb = (1 - weight) * _grey(ct, frame, window) + weight * _coloured(suv, top, "hot")
    return _marked(_outlined(rgb, lesions, frame), _plane_of(frame), synthetic)


def districts_image(
    ct: Volume,
    districts: Volume,
    *,
    plane: Plane = "coronal",
    at_mm: float | None = None,
    window: tuple[float, float] = SOFT_TISSUE,
    frame: Volume | None = None,
) -> Image.Image:
    """District labels in colour over a CT [HU] slice."""
    frame = frame or slice_frame(ct, plane, at_mm)
    labels = np.clip(np.rint(_on(districts, frame, 0.0, "nearest")), 0, len(DISTRICT_LABEL)).astype(int)
    weight = np.where(labels > 0, 0.4, 0.0)[..., None]
    return _marked(
        (1 - weight) * _grey(ct, frame, window) + weight * _DISTRICT_COLOURS[labels], _plane_of(frame)
    )


def mip_image(
    pet: Volume, *, view: View = "anterior", top: float = PET_TOP, synthetic: bool = True
) -> Image.Image:
    """Maximum intensity projection of a PET [SUV], seen from the front or from the patient's left."""
    upright = pet.canonical()
    values = np.nan_to_num(np.asarray(upright.array, np.float32)).max(axis=1 if view == "anterior" else 2)[
        ::-1
    ]
    height = upright.spacing[0] * values.shape[0]
    width = upright.spacing[2 if view == "anterior" else 1] * values.shape[1]
    scale = PIXELS / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    smooth = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))
    return _marked(_coloured(smooth, top, "inverse-grey"), view, synthetic)


def best_coronal_mm(ct: Volume, lesions: Volume | None = None) -> float:
    """World y [mm] of the coronal slice to show: that with most lesion voxels, or the middle of the body."""
    if lesions is not None and np.asarray(lesions.array).any():
        upright = lesions.canonical()
        index = int(np.argmax((np.asarray(upright.array) > 0).sum(axis=(0, 2))))
        return float(upright.world((0, index, 0))[1])
    upright = ct.canonical()
    coarse = coarsen(upright, (8.0, 8.0, 8.0))
    profile = (coarse.hu > SKIN_HU).sum(axis=(0, 2)).astype(float)
    middle = float(profile @ np.arange(len(profile)) / profile.sum()) if profile.any() else len(profile) / 2
    return float(upright.world((0, (middle + 0.5) * coarse.factor[1] - 0.5, 0))[1])


def study_pictures(
    ct: Volume,
    pet: Volume,
    folder: Path,
    *,
    std: Volume | None = None,
    lesions: Volume | None = None,
    synthetic: bool = True,
    title: str = "",
) -> list[Path]:
    """Writes the pictures of one study: CT | PET | fused, projections and, with `std`, the uncertainty."""
    frame = slice_frame(ct, "coronal", best_coronal_mm(ct, lesions))
    seen = pet_slice_image(pet, frame=frame, synthetic=synthetic)
    fused = fused_image(ct, pet, frame=frame, lesions=lesions, synthetic=synthetic)
    suv = scale_bar(seen.height, PET_TOP, "inverse-grey", "SUV")
    hot = scale_bar(seen.height, PET_TOP, "hot", "SUV")
    name = "synthetic PET" if synthetic else "PET"
    made = [
        save_png(
            panel([[ct_slice_image(ct, frame=frame), seen, suv, fused, hot]],
                  columns=("CT", name, "", f"CT + {name}", ""), title=title),
            folder / "coronal.png",
        )
    ]  # fmt: skip
    views = [mip_image(pet, view=view, synthetic=synthetic) for view in ("anterior", "lateral")]
    bar = scale_bar(views[0].height, PET_TOP, "inverse-grey", "SUV")
    made.append(
        save_png(
            panel([[*views, bar]], columns=(f"{name}, front", "left side", ""), title=title),
            folder / "mip.png",
        )
    )
    if std is not None:
        spread = np.asarray(std.array)
        top = (
            max(0.5, float(np.ceil(2 * np.percentile(spread[spread > 0], 99.5)) / 2))
            if (spread > 0).any()
            else 0.5
        )
        error = pet_slice_image(std, frame=frame, top=top, palette="spread", synthetic=synthetic)
        bars = scale_bar(error.height, top, "spread", "SD [SUV]")
        what = "standard deviation" + (" (grey: unknown)" if np.isnan(spread).any() else "")
        picture = panel([[seen, suv, error, bars]], columns=(name, "", what, ""), title=title)
        made.append(save_png(picture, folder / "uncertainty.png"))
    return made


def save_png(image: Image.Image, path: Path) -> Path:
    """Writes a picture as a PNG file, whole or not at all."""
    with whole_file(path) as aside:
        image.save(aside, format="PNG")
    return path


def _plane_of(frame: Volume) -> Plane:
    planes: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
    return planes[frame.shape.index(1)]


def _on(
    volume: Volume, frame: Volume, outside: float, how: Literal["area", "nearest"] = "area"
) -> NDArray[np.float32]:
    """The values of `volume` on the pixels of `frame`, as a picture (row, column): head or front up."""
    # Only the voxels around the slice are touched: a whole-body CT need not be resampled for one slice.
    index = volume.index(frame.corners)
    low = np.clip(np.floor(index.min(axis=0)).astype(int) - 3, 0, np.asarray(volume.shape) - 1)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 4, low + 1, volume.shape)
    near = volume.crop(tuple(low), tuple(high))
    values = np.asarray(resample_like(near, frame, how=how, outside=outside).array, np.float32)
    axis = _AXIS[_plane_of(frame)]
    flat: NDArray[np.float32] = np.nan_to_num(np.squeeze(values, axis=axis))
    return flat if axis == 0 else flat[::-1]


def _grey(ct: Volume, frame: Volume, window: tuple[float, float]) -> NDArray[np.float32]:
    """A CT slice (row, column, RGB), 0..255 over the window [HU]."""
    low, high = window
    grey = np.clip((_on(ct, frame, AIR_HU) - low) / (high - low), 0.0, 1.0) * 255
    return np.repeat(grey[..., None], 3, axis=2).astype(np.float32)


def _outlined(rgb: NDArray[np.float32], mask: Volume | None, frame: Volume) -> NDArray[np.float32]:
    """The picture (row, column, RGB) with a line around what `mask` marks."""
    if mask is not None:
        inside = _on(mask, frame, 0.0, "nearest") > 0.5
        rgb[ndimage.binary_dilation(inside) & ~inside] = (0, 255, 255)
    return rgb


def _coloured(values: NDArray[np.float32], top: float, palette: Palette) -> NDArray[np.uint8]:
    return np.asarray(colours(palette)[(np.clip(values / top, 0.0, 1.0) * 255).round().astype(int)])


def _marked(rgb: NDArray[np.generic], orientation: str, synthetic: bool = False) -> Image.Image:
    image = Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8))
    mark_sides(image, *_SIDES[orientation])
    return with_notice(image) if synthetic else image
