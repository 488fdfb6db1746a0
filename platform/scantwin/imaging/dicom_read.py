"""A DICOM series -> `Volume`: CT in HU, PET in SUV. Headers first, then pixels, one file at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.dicom_geometry import Plane, Stack, stack_planes
from scantwin.imaging.dicom_headers import BROKEN, frames_of, opened, read_header, reading
from scantwin.imaging.dicom_pixels import PixelReader
from scantwin.imaging.limits import check_bytes
from scantwin.imaging.pet_header import header_of
from scantwin.imaging.reasons import reject, warn
from scantwin.imaging.suv import suv_factors
from scantwin.imaging.volume import Volume
from scantwin.imaging.world import volume_from_affine
from scantwin.units import AIR_HU, HU_RANGE, Unit

_PADDING_BELOW_HU: Final = -500.0
"""A PixelPaddingValue that would be tissue is the writer's mistake and is ignored."""


@dataclass(frozen=True)
class Frame:
    """One image of a series: its file, its number in that file, its flat header without pixels."""

    ref: FileRef
    number: int
    header: Dataset


def _frames(series: Sequence[FileRef] | Sequence[Frame]) -> list[Frame]:
    """The frames of a series, from its files unless their headers have already been read."""
    known = [item for item in series if isinstance(item, Frame)]
    return known or read_frames([item for item in series if isinstance(item, FileRef)])


def read_frames(refs: Sequence[FileRef]) -> list[Frame]:
    """All frames of the files, with their headers; files with the same SOP instance count once."""
    frames, seen = [], set()
    for ref in refs:
        header = read_header(ref)
        uid = str(header.get("SOPInstanceUID") or ref.shown)
        if uid in seen:
            continue
        seen.add(uid)
        with reading(ref):
            frames += [Frame(ref, i, flat) for i, flat in enumerate(frames_of(header))]
    return frames


def plane_of(header: Dataset, index: int, shown: str) -> Plane:
    """Where a frame lies, from its flat header."""
    fields = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
    try:
        missing = [name for name in fields if header.get(name) in (None, "")]
    except BROKEN:  # pydicom decodes on access; what a broken value raises depends on its VR
        raise reject("geometry.bad", found=f"a field of {shown} cannot be decoded") from None
    if missing:
        raise reject("dicom.missing-field", path=shown, found=", ".join(missing))
    try:
        position = tuple(float(v) for v in header.ImagePositionPatient)
        orientation = tuple(float(v) for v in header.ImageOrientationPatient)
        spacing = tuple(float(v) for v in header.PixelSpacing)
        shape = int(header.Rows), int(header.Columns)
    except BROKEN:
        raise reject("geometry.bad", found=f"a field of {shown} is not a number") from None
    numbers = (*position, *orientation, *spacing)
    if (len(position), len(orientation), len(spacing)) != (3, 6, 2) or not np.isfinite(numbers).all():
        raise reject("geometry.bad", found=f"position {position}, orientation {orientation} in {shown}")
    if min(spacing) <= 0 or min(shape) <= 0:
        raise reject("geometry.bad", found=f"spacing {spacing} mm, size {shape} in {shown}")
    phase = tuple(
        _word(header, name)
        for name in ("TemporalPositionIdentifier", "TemporalPositionIndex", "StackID", "AcquisitionNumber")
    )
    time = tuple(
        _when(header, name)
        for name in ("AcquisitionDate", "AcquisitionTime", "FrameReferenceTime", "TriggerTime")
    )
    return Plane(index, position, orientation, (spacing[0], spacing[1]), shape, phase, time)  # type: ignore[arg-type]


def _word(header: Dataset, name: str) -> str:
    try:
        return str(header.get(name, ""))
    except BROKEN:
        return ""


def _when(header: Dataset, name: str) -> float:
    """A date or time as a number that increases with it; 0 where it is missing or makes no sense."""
    try:
        found = float(_word(header, name))
    except ValueError:
        return 0.0
    return found if np.isfinite(found) else 0.0


def read_ct_series(series: Sequence[FileRef] | Sequence[Frame]) -> tuple[Volume, list[str], Dataset]:
    """CT [HU] (clipped to HU_RANGE, padding set to air), warnings, and the first slice's header."""
    stack, frames = _arranged(_frames(series), bytes_per_voxel=2)
    scales = [_rescale(frame) for frame in frames]
    whole = all(slope == int(slope) and inter == int(inter) for slope, inter in scales)
    padded = 0

    def to_hu(stored: NDArray[np.generic], k: int) -> NDArray[np.generic]:
        nonlocal padded
        slope, inter = scales[k]
        hu = stored.astype(np.float32) * np.float32(slope) + np.float32(inter)
        padding = _padding(stored, hu, frames[k].header)
        if padding is not None:
            hu[padding] = AIR_HU
            padded += int(padding.sum())
        return np.asarray(np.clip(hu, *HU_RANGE))

    array = _pixels(stack, frames, np.dtype(np.int16 if whole else np.float32), to_hu)
    notes = list(stack.warnings)
    if padded:
        notes.append(warn("ct.padding", found=f"{100 * padded / array.size:.1f} %"))
    return _volume(stack, array, "HU", frames[0]), notes, frames[0].header


def read_pet_series(
    series: Sequence[FileRef] | Sequence[Frame],
) -> tuple[Volume, list[str], Dataset, str]:
    """PET [g/ml] (SUVbw), warnings, the first slice's header, and the rule that gave the decay reference."""
    frames = _frames(series)
    stack, kept = _arranged(frames, bytes_per_voxel=4)
    with reading(frames[0].ref):
        # The earliest acquisition is that of all frames, including those left out of the stack.
        suv = suv_factors([header_of(frame.header) for frame in frames])
    factor = dict(zip(((f.ref, f.number) for f in frames), suv.factors, strict=True))
    scales = [_rescale(frame) for frame in kept]

    def to_suv(stored: NDArray[np.generic], k: int) -> NDArray[np.generic]:
        slope, inter = scales[k]
        activity = stored.astype(np.float64) * slope + inter
        return np.asarray(activity * factor[kept[k].ref, kept[k].number])

    array = _pixels(stack, kept, np.dtype(np.float32), to_suv)
    notes = [*stack.warnings, *suv.warnings]
    return _volume(stack, array, "SUV", kept[0]), notes, kept[0].header, str(suv.reference_rule)


def _arranged(frames: list[Frame], bytes_per_voxel: int) -> tuple[Stack, list[Frame]]:
    """The stack and its frames in order; sizes are checked before any pixel is read."""
    if not frames:
        raise reject("geometry.too-few-slices", found=0)
    planes = [plane_of(frame.header, i, frame.ref.shown) for i, frame in enumerate(frames)]
    stack = stack_planes(planes)
    rows, columns = planes[stack.order[0]].shape
    check_bytes(rows * columns * max(stack.slices, len(stack.order)) * bytes_per_voxel, frames[0].ref.folder)
    return stack, [frames[i] for i in stack.order]


def _pixels(
    stack: Stack,
    frames: list[Frame],
    dtype: np.dtype[np.generic],
    scale: Callable[[NDArray[np.generic], int], NDArray[np.generic]],
) -> NDArray[np.generic]:
    """The scaled pixels (z, y, x) on the stack's grid; each file is opened once."""
    header = frames[0].header
    array = np.empty((len(frames), int(header.Rows), int(header.Columns)), dtype)
    by_file: dict[FileRef, list[int]] = defaultdict(list)
    for k, frame in enumerate(frames):
        by_file[frame.ref].append(k)
    with PixelReader() as reader:
        for ref, places in by_file.items():
            with reading(ref), opened(ref) as stream:
                dataset = pydicom.dcmread(stream, force=True)
                for k in places:
                    values = scale(reader.frame(dataset, frames[k].number, ref), k)
                    array[k] = np.rint(values) if dtype.kind == "i" else values
    return stack.fill(array)


def _rescale(frame: Frame) -> tuple[float, float]:
    header = frame.header
    with reading(frame.ref):
        slope, inter = header.get("RescaleSlope"), header.get("RescaleIntercept")
        kind = str(header.get("RescaleType") or "HU").upper()
    if slope in (None, "") or inter in (None, ""):
        missing = "RescaleSlope" if slope in (None, "") else "RescaleIntercept"
        raise reject("dicom.missing-field", path=frame.ref.folder, found=missing)
    try:
        slope, inter = float(slope), float(inter)
    except BROKEN:
        slope = inter = float("nan")
    if not (np.isfinite(slope) and np.isfinite(inter)) or slope == 0:
        raise reject("geometry.bad", found=f"RescaleSlope or RescaleIntercept in {frame.ref.shown}")
    if str(header.get("Modality")) == "CT" and kind not in ("HU", "US", "UNSPECIFIED"):
        raise reject("ct.not-hu", found=f"RescaleType is {kind}")
    return slope, inter


def _padding(
    stored: NDArray[np.generic], hu: NDArray[np.float32], header: Dataset
) -> NDArray[np.bool_] | None:
    """Which voxels are padding, or None."""
    try:
        value = header.get("PixelPaddingValue")
        if value is None:
            return None
        low, high = sorted((int(value), int(header.get("PixelPaddingRangeLimit", value))))
    except BROKEN:
        return None
    found: NDArray[np.bool_] = np.greater_equal(stored, low) & np.less_equal(stored, high)
    found &= hu < _PADDING_BELOW_HU
    return found if found.any() else None


def _volume(stack: Stack, array: NDArray[np.generic], unit: Unit, frame: Frame) -> Volume:
    return volume_from_affine(array, stack.affine, unit, frame.ref.folder)
