"""A study of image files in the layout of FDG-PET-CT-Lesions.

CTres.nii.gz or CT.nii.gz   CT [HU]; without it the PET can teach unpaired systems
SUV.nii.gz                  PET [g/ml] (SUVbw), optional
SEG.nii.gz or GTV.nii.gz    lesion labels, optional
districts.nii.gz            district labels (DISTRICT_LABEL), optional
study.json                  {"condition": .., "name": .., "patient": ..}, all optional
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.images import is_image, read_image
from scantwin.imaging.pairing import check_pair
from scantwin.imaging.reasons import reject, warn
from scantwin.imaging.study import Condition, Study, air_over
from scantwin.imaging.volume import Volume
from scantwin.imaging.world import axis_aligned
from scantwin.units import HU_RANGE

CT_NAMES: Final = ("CTres", "CT")
"""The CT's file name without its ending; the first one present is used."""
PET_NAMES: Final = ("SUV",)
LESION_NAMES: Final = ("SEG", "GTV")
DISTRICT_NAMES: Final = ("districts",)
MAX_SUV: Final = 5000.0
"""A larger maximum means an activity [Bq/ml]; a small patient's bladder reaches some hundreds [g/ml]."""
_ENDINGS: Final = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
DESCRIPTION: Final = "study.json"
"""What a site says about a study; it lies beside NIfTI files or in the folder above DICOM series."""
_MAX_JSON: Final = 1 << 20


def endless(name: str) -> str:
    """The file name without the ending of an image format."""
    return next((name[: -len(end)] for end in _ENDINGS if name.lower().endswith(end)), name)


def is_ct(name: str) -> bool:
    """Whether a file of this name is a study's CT; as for all names here, in letters of either case."""
    return is_image(name) and endless(name).lower() in [one.lower() for one in CT_NAMES]


def read_file_study(path: Path, files: Sequence[FileRef], *, with_pet: bool = True) -> Study:
    """The study in these files, its PET only if `with_pet`. Raises `Rejection`."""
    said = description(files)
    ref, ct, notes = _read_ct(path, files)
    pet = None
    if with_pet and (pet_ref := _first(files, PET_NAMES)) is not None:
        pet, more = as_suv(read_image(pet_ref, "SUV"), pet_ref.shown)
        notes += more + check_pair(ct, pet)
    return _study(path, files, said, ref, Study("", ct, pet, warnings=tuple(notes)))


def is_pet_alone(files: Sequence[FileRef]) -> bool:
    """Whether there is a PET but no CT among the files."""
    return _first(files, PET_NAMES) is not None and _first(files, CT_NAMES) is None


def read_file_pet(path: Path, files: Sequence[FileRef]) -> Study:
    """The PET in these files as a study without a CT. Raises `Rejection`."""
    said = description(files)
    ref = _first(files, PET_NAMES)
    if ref is None:
        raise reject("study.no-pet", path=path)
    pet, notes = as_suv(read_image(ref, "SUV"), ref.shown)
    return _study(path, files, said, ref, Study("", air_over(pet), pet, warnings=tuple(notes), has_ct=False))


def _study(path: Path, files: Sequence[FileRef], said: dict[str, Any], ref: FileRef, images: Study) -> Study:
    """The study of `images`, one of them read from `ref`, with its labels and what study.json says of it."""
    lesions = districts = None
    if (lesion_ref := _first(files, LESION_NAMES)) is not None:
        lesions = _as_labels(read_image(lesion_ref, "label"), "lesions", images.pet or images.ct, np.uint16)
    if (district_ref := _first(files, DISTRICT_NAMES)) is not None:
        districts = _as_labels(read_image(district_ref, "label"), "districts", images.ct, np.uint8)
    inside = Path(ref.member).parent.name if ref.member else path.name
    return replace(
        images, name=str(said.get("name") or inside or path.stem), lesions=lesions, districts=districts,
        condition=said.get("condition", "unknown"), source={"format": "nifti"},
    )  # fmt: skip


def read_file_ct(path: Path, files: Sequence[FileRef]) -> Volume:
    """The CT alone [HU], canonical."""
    return _read_ct(path, files)[1]


def _read_ct(path: Path, files: Sequence[FileRef]) -> tuple[FileRef, Volume, list[str]]:
    ref = _first(files, CT_NAMES)
    if ref is None:
        raise reject("study.no-ct", path=path)
    return ref, *as_ct(read_image(ref, "HU"), ref.shown)


def as_ct(volume: Volume, shown: Path | str) -> tuple[Volume, list[str]]:
    """A canonical CT (finite, clipped to HU_RANGE, int16 if it holds whole numbers) and warnings."""
    array = volume.array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        # Resampling tools write NaN outside the field of view.
        array = np.where(np.isfinite(array), array, np.float32(HU_RANGE[0]))
    if float(array.max()) < -500 or float(array.min()) > 500:
        raise reject("ct.empty", found=f"values from {array.min():.4g} to {array.max():.4g} in {shown}")
    if float(array.min()) >= 0:
        raise reject("ct.not-hu", found=f"no value is below 0 in {shown}")
    clipped = _clipped(array)
    whole = array.dtype.kind in "iu" or all(np.array_equal(plane, np.rint(plane)) for plane in clipped)
    kept = clipped.astype(np.int16 if whole else np.float32, copy=False)
    return _along_axes(volume.with_array(kept, "HU"), "CT")


def _clipped(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """HU clipped to HU_RANGE, of the same integer type or float32: a float64 copy is four times a CT."""
    low, high = HU_RANGE
    if array.dtype.kind == "f":
        return np.asarray(np.clip(array, low, high), np.float32)
    held = np.iinfo(array.dtype.name)
    return np.asarray(np.clip(array, max(int(low), held.min), min(int(high), held.max)))


def as_suv(volume: Volume, shown: Path | str) -> tuple[Volume, list[str]]:
    """A canonical PET [g/ml] (finite, not negative, of the magnitude of SUV) and warnings."""
    array = volume.array.astype(np.float32)
    bad = ~np.isfinite(array)
    if bad.any():
        raise reject("pet.not-finite", found=f"{int(bad.sum())} voxels in {shown}")
    notes = []
    negative = int((array < 0).sum())
    if negative:
        notes.append(warn("pet.negative", found=f"{100 * negative / array.size:.2g} %"))
        np.maximum(array, 0.0, out=array)
    top = float(array.max())
    if top > MAX_SUV or top == 0.0:
        raise reject("pet.implausible", found=f"the largest value is {top:.4g}")
    aligned, more = _along_axes(volume.with_array(array, "SUV"), "PET")
    return aligned, notes + more


def _along_axes(volume: Volume, what: str) -> tuple[Volume, list[str]]:
    notes = [] if volume.canonical().is_canonical else [warn("geometry.oblique", found=what)]
    return axis_aligned(volume), notes


def _as_labels(
    volume: Volume, what: Literal["lesions", "districts"], image: Volume, kind: type[np.uint8 | np.uint16]
) -> Volume:
    array = np.nan_to_num(np.asarray(volume.array, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    whole = np.clip(np.rint(array), 0, np.iinfo(kind).max).astype(kind)
    labels = volume.with_array(whole, "label")
    (low, high), (image_low, image_high) = labels.bounds, image.bounds
    if (np.minimum(high, image_high) <= np.maximum(low, image_low)).any():
        code = "pair.lesions-elsewhere" if what == "lesions" else "pair.districts-elsewhere"
        raise reject(code, found="their fields of view do not overlap")
    return axis_aligned(labels)


def _first(files: Sequence[FileRef], names: tuple[str, ...]) -> FileRef | None:
    for name in names:
        for end in _ENDINGS:
            for ref in files:
                if ref.name.lower() == (name + end).lower():
                    return ref
    return None


def description(files: Sequence[FileRef]) -> dict[str, Any]:
    """What the study.json among the files says; empty if there is none. Raises `study.bad-json`."""
    ref = next((r for r in files if r.name == DESCRIPTION), None)
    if ref is None:
        return {}
    try:
        with ref.open() as stream:
            text = stream.read(_MAX_JSON)
        said = json.loads(text)
    except OSError as error:
        raise reject("study.bad-json", path=ref.shown, found=error.strerror) from None
    except (ValueError, RecursionError) as error:
        raise reject("study.bad-json", path=ref.shown, found=str(error)[:100]) from None
    if not isinstance(said, dict):
        raise reject("study.bad-json", path=ref.shown, found=f"a {type(said).__name__}")
    condition = said.get("condition", "unknown")
    if condition not in get_args(Condition):
        known = ", ".join(get_args(Condition))
        raise reject("study.bad-json", path=ref.shown, found=f"condition {condition!r}, known are {known}")
    return said
