"""Pictures of a scan's folder, made on demand: slices, projections, and where a slice lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from PIL import Image

from scantwin.errors import InputError
from scantwin.imaging.nifti import read_nifti
from scantwin.imaging.picture_marks import Palette, notice_band, scale_bar
from scantwin.imaging.pictures import (
    Plane,
    View,
    best_coronal_mm,
    ct_slice_image,
    districts_image,
    fused_image,
    mip_image,
    pet_slice_image,
    slice_frame,
)
from scantwin.imaging.volume import Volume

Layer = Literal["CT", "PET", "CT + PET", "Uncertainty", "Districts"]
LAYERS: Final[tuple[Layer, ...]] = get_args(Layer)
PLANES: Final[tuple[Plane, ...]] = get_args(Plane)

FILES: Final = {
    "pet.nii.gz": "Synthetic PET, NIfTI [SUV]",
    "std.nii.gz": "Standard deviation, NIfTI [SUV]",
    "ct.nii.gz": "CT on the PET's voxels, NIfTI [HU]",
    "districts.nii.gz": "Districts, NIfTI [label]",
    "manifest.json": "Manifest, JSON",
}
"""The files of a scan's folder that may be downloaded, and what they are."""

SEEN_SUV: Final = 0.5
"""[g/ml] Nothing is read from a PET below this; the twin's triage uses the same limit."""

_AXIS: Final[dict[Plane, int]] = {"axial": 0, "coronal": 1, "sagittal": 2}
_GROUND: Final = (16, 16, 16)
"""The dark ground of the scales in `scantwin.imaging.picture_marks`."""

_FLAT: Final = 64
"""A picture lower than this [pixels] is not shown, nor a scale drawn: their words would have no room."""

_SMALLEST_TOP: Final = 0.5
"""Smallest top of the scale of the standard deviation [SUV]."""


@dataclass(frozen=True, eq=False)
class ScanVolumes:
    """What a scan's folder holds, all on the voxels of the PET, canonical."""

    ct: Volume
    """CT [HU]."""
    pet: Volume
    """Synthetic PET [SUV]."""
    std: Volume | None
    """Its standard deviation [SUV], NaN where it is not known; None if it is known nowhere."""
    districts: Volume | None
    """District labels."""

    @cached_property
    def first(self) -> dict[Plane, int]:
        """The slice to begin with: coronal in the body, axial through the trunk, sagittal in the middle."""
        # Clipped, so that the large liver and heart win over the small hot brain and bladder.
        uptake = np.clip(np.asarray(self.pet.array), 0, 2.5).sum(axis=(1, 2))
        low, step = place_mm(self, "coronal", 0), self.pet.spacing[1]
        coronal = round((best_coronal_mm(self.ct) - low) / step)
        return {
            "axial": int(np.argmax(uptake)),
            "coronal": int(np.clip(coronal, 0, self.pet.shape[1] - 1)),
            "sagittal": self.pet.shape[2] // 2,
        }

    @cached_property
    def spread_top(self) -> float:
        """Top of the scale of the standard deviation [SUV]: holds nearly all of it, in steps of 0.5."""
        values = np.zeros(0) if self.std is None else np.asarray(self.std.array)
        inside = values[values > 0]
        if not inside.size:
            return _SMALLEST_TOP
        return max(_SMALLEST_TOP, float(np.ceil(2 * np.percentile(inside, 99.5)) / 2))

    @cached_property
    def partly_unknown(self) -> bool:
        """Whether the standard deviation is not known everywhere."""
        return self.std is not None and bool(np.isnan(self.std.array).any())

    @cached_property
    def unknown(self) -> float:
        """Share of the voxels above `SEEN_SUV` whose standard deviation is not known."""
        seen = np.asarray(self.pet.array) > SEEN_SUV
        if self.std is None or not seen.any():
            return 0.0
        return float(np.isnan(np.asarray(self.std.array)[seen]).mean())

    @cached_property
    def planes(self) -> tuple[Plane, ...]:
        """The planes worth showing: from the side, a few slices are only a line, which the notice hides."""
        seen = tuple(p for p in PLANES if sorted(slice_frame(self.pet, p).shape)[1] >= _FLAT)
        return seen or ("axial",)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The pictures that can be shown."""
        absent = {"Uncertainty" if self.std is None else "", "Districts" if self.districts is None else ""}
        return tuple(layer for layer in LAYERS if layer not in absent)


def load(folder: Path) -> ScanVolumes:
    """Reads a scan's folder. Raises `InputError` if it is missing or incomplete."""
    if not (folder / "pet.nii.gz").is_file() or not (folder / "ct.nii.gz").is_file():
        raise InputError(
            f"The scan's folder {folder} is not on this machine, or its pictures were removed.",
            hint="Open the dashboard where the twin service keeps its scans, or scan again.",
        )
    std, districts = folder / "std.nii.gz", folder / "districts.nii.gz"
    spread = read_nifti(std, "SUV").canonical() if std.is_file() else None
    return ScanVolumes(
        ct=read_nifti(folder / "ct.nii.gz", "HU").canonical(),
        pet=read_nifti(folder / "pet.nii.gz", "SUV").canonical(),
        std=None if spread is None or not (np.asarray(spread.array) > 0).any() else spread,
        districts=read_nifti(districts, "label").canonical() if districts.is_file() else None,
    )


def count(volumes: ScanVolumes, plane: Plane) -> int:
    """Number of slices across a plane."""
    return volumes.pet.shape[_AXIS[plane]]


def place_mm(volumes: ScanVolumes, plane: Plane, index: int) -> float:
    """World coordinate (LPS) of a slice [mm]: z axial, y coronal, x sagittal."""
    at = [0, 0, 0]
    at[_AXIS[plane]] = index
    return float(volumes.pet.world(tuple(at))[2 - _AXIS[plane]])


def slice_image(volumes: ScanVolumes, layer: Layer, plane: Plane, index: int, top: float) -> Image.Image:
    """One slice with its scale; `top` is the SUV [g/ml] at the end of the scale. All have the same size."""
    frame = slice_frame(volumes.pet, plane, place_mm(volumes, plane, index))
    if layer == "CT":
        return _beside(_with_room(ct_slice_image(volumes.ct, frame=frame)), None)
    if layer == "PET":
        return _beside(pet_slice_image(volumes.pet, frame=frame, top=top), ("inverse-grey", top, "SUV"))
    if layer == "CT + PET":
        return _beside(fused_image(volumes.ct, volumes.pet, frame=frame, top=top), ("hot", top, "SUV"))
    if layer == "Districts" and volumes.districts is not None:
        return _beside(_with_room(districts_image(volumes.ct, volumes.districts, frame=frame)), None)
    if volumes.std is None:
        raise InputError(
            "This scan has no standard deviation.", hint="Scan again with a newer model version."
        )
    most = volumes.spread_top
    return _beside(
        pet_slice_image(volumes.std, frame=frame, top=most, palette="spread"), ("spread", most, "SD [SUV]")
    )


def projection(volumes: ScanVolumes, view: View, top: float) -> Image.Image:
    """The maximum intensity projection with its scale."""
    return _beside(mip_image(volumes.pet, view=view, top=top), ("inverse-grey", top, "SUV"))


def _with_room(picture: Image.Image) -> Image.Image:
    """Pads a picture of real data to the size of its neighbours, which have the notice below."""
    band = notice_band(picture.width)
    both = Image.new("RGB", (band.width, picture.height + band.height))
    both.paste(picture, ((band.width - picture.width) // 2, 0))
    return both


def _beside(picture: Image.Image, scale: tuple[Palette, float, str] | None) -> Image.Image:
    """The picture with its scale on the right, or with the same room left empty."""
    palette, top, label = scale or ("inverse-grey", 1.0, "")
    bar = scale_bar(max(picture.height, _FLAT), top, palette, label)
    both = Image.new("RGB", (picture.width + bar.width + 4, bar.height), _GROUND if scale else "black")
    both.paste(picture, (0, 0))
    if scale is not None:
        both.paste(bar, (picture.width + 4, 0))
    return both
