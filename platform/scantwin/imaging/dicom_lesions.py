"""Lesions drawn by people: RTSTRUCT contours and DICOM SEG -> labels on the CT's grid.

Contours are filled by the even-odd rule on voxel centres, so that a contour inside another is a hole. A
contour represents a slab as thick as the distance to its neighbours; each CT slice takes the nearest plane.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from scantwin.errors import Rejection
from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.dicom_headers import frames_of, opened, reading
from scantwin.imaging.dicom_kinds import is_made
from scantwin.imaging.dicom_pixels import PixelReader
from scantwin.imaging.dicom_read import plane_of
from scantwin.imaging.limits import check_bytes
from scantwin.imaging.reasons import reject, warn
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.volume import Volume
from scantwin.imaging.world import volume_from_affine

_LESION: Final = re.compile(
    r"gtv|tumou?r|lesion|metast|neoplas|lymphoma|melanoma|(?<![a-z])(mass(es)?|mets?)(?![a-z])", re.IGNORECASE
)
"""Matches the name of a region that is a lesion."""
_NO_LESION: Final = re.compile(
    r"(?<![a-z])i?[cp]tv|o?edema|(?<![a-z])minus(?![a-z])|[a-z]{4}[\w ]*-\s*gtv"
    r"|(?<![a-z])non[-_ ]?(gtv|tumou?r|lesion|mass|metast|neoplas)",
    re.IGNORECASE,
)
"""Matches a name that only mentions a lesion: a margin around it, or an organ without it (`Lungs-GTV`;
shorter words are modalities, `PET-GTV`)."""
_NO_LESION_TYPES: Final = ("ORGAN", "AVOIDANCE", "EXTERNAL", "CTV", "PTV", "SUPPORT")
"""RTROIInterpretedType of regions that are no lesion, whatever their name."""
_MAX_POINTS: Final = 2_000_000
"""Largest number of contour points of all lesions in one structure set."""
_ONE_PLANE: Final = 0.05
"""Contours drawn on one plane differ by less [slices]: both their numbers and the grid's are rounded text."""


def read_lesions(
    refs: list[FileRef], grid: Volume, frames_of_reference: frozenset[str] = frozenset()
) -> tuple[Volume | None, list[str]]:
    """Labels 0, 1, 2, .. on the voxels of `grid`, or None, and warnings about what was left out.

    `frames_of_reference` are those of the study's images, whose coordinates `grid` uses; if it is empty,
    regions are taken whatever frame they were drawn in.
    """
    labels = np.zeros(grid.shape, np.uint16)
    left_out: Counter[str] = Counter()
    found = 0
    with PixelReader() as reader:
        for ref in refs:
            try:
                drawn, others = _draw(ref, labels, found, frames_of_reference, grid, reader)
            except Rejection:  # CT and PET can still be used
                labels[labels > found] = 0
                drawn, others = 0, Counter(["lesions.unreadable"])
            found += drawn
            left_out += others
    notes = [warn(code, found=count) for code, count in sorted(left_out.items())]
    return (grid.with_array(labels, "label") if found else None), notes


def _draw(
    ref: FileRef, labels: NDArray[np.uint16], found: int, frames_of_reference: frozenset[str], grid: Volume,
    reader: PixelReader,
) -> tuple[int, Counter[str]]:  # fmt: skip
    """Adds the lesions of one file to `labels`, which hold `found`; gives how many, and what was left out."""
    left_out: Counter[str] = Counter()
    drawn = 0
    with reading(ref), opened(ref) as stream:
        dataset = pydicom.dcmread(stream, force=True)
        if code := _why_left_out(dataset, frames_of_reference):
            return 0, Counter([code])
        is_seg = str(dataset.get("Modality")) == "SEG"
        for mask in _segments(dataset, grid, ref, reader) if is_seg else _contours(dataset, grid, ref):
            if mask is None:
                left_out["lesions.left-out"] += 1
            elif mask.any():
                drawn += 1
                labels[mask & (labels == 0)] = min(found + drawn, 65535)
    return drawn, left_out


def _why_left_out(dataset: Dataset, frames_of_reference: frozenset[str]) -> str:
    """The code of the reason why a SEG or RTSTRUCT is left out as a whole; "" if it is read."""
    if is_made(dataset):
        return "lesions.synthetic"
    if str(dataset.get("SegmentationType")) == "LABELMAP":
        return "lesions.labelmap"
    named = {str(dataset.get("FrameOfReferenceUID") or "")}
    # Planning systems give a structure set its own frame of reference and name the images' frame inside it.
    named |= {
        str(item.get("FrameOfReferenceUID") or "")
        for item in dataset.get("ReferencedFrameOfReferenceSequence") or []
    }
    named.discard("")
    elsewhere = bool(named) and bool(frames_of_reference) and not named & frames_of_reference
    return "lesions.other-frame" if elsewhere else ""


def is_lesion(name: str, kind: str = "") -> bool:
    """Whether a region is a lesion, by its name and its RTROIInterpretedType."""
    if kind.strip().upper() in _NO_LESION_TYPES or _NO_LESION.search(name):
        return False
    return bool(_LESION.search(f"{name} {kind}"))


def _contours(dataset: Dataset, grid: Volume, ref: FileRef) -> Iterator[NDArray[np.bool_] | None]:
    """One mask on `grid` for each region, one at a time; None for what is left out."""
    names = {
        int(roi.ROINumber): str(roi.get("ROIName", ""))
        for roi in dataset.get("StructureSetROISequence") or []
    }
    kinds = {
        int(o.ReferencedROINumber): str(o.get("RTROIInterpretedType") or "")
        for o in dataset.get("RTROIObservationsSequence") or []
    }
    points_left = _MAX_POINTS
    for roi in dataset.get("ROIContourSequence") or []:
        number = int(roi.ReferencedROINumber)
        polygons = []
        if is_lesion(names.get(number, ""), kinds.get(number, "")):
            for contour in roi.get("ContourSequence") or []:
                if str(contour.get("ContourGeometricType")) in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                    points_left -= _points_of(contour)
                    if points_left < 0:
                        found = f"more than {_MAX_POINTS} contour points"
                        raise reject("dicom.too-large", path=ref.shown, found=found)
                    points = np.asarray([float(v) for v in contour.ContourData]).reshape(-1, 3)
                    if len(points) >= 3 and np.isfinite(points).all():
                        polygons.append(grid.index(points))
        yield rasterise(polygons, grid.shape) if polygons else None


def _points_of(contour: Dataset) -> int:
    """Number of points of a contour, without parsing its text into numbers."""
    element = contour.get_item("ContourData")
    value = None if element is None else element.value
    return (value.count(b"\\") + 1) // 3 if isinstance(value, bytes) else len(value or ()) // 3


def rasterise(polygons: list[NDArray[np.float64]], shape: tuple[int, int, int]) -> NDArray[np.bool_] | None:
    """The voxels (z, y, x) inside planar polygons, given as fractional indices (point, zyx).

    None if a polygon does not lie along the slices.
    """
    if any(np.ptp(polygon[:, 0]) > 0.5 for polygon in polygons):
        return None
    planes = _planes(polygons)
    heights = np.array(list(planes))
    gap = float(np.median(np.diff(heights))) if len(heights) > 1 else 1.0
    mask = np.zeros(shape, bool)
    for z in range(shape[0]):
        nearest = heights[np.argmin(np.abs(heights - z))]
        # Half a contour spacing beyond the last plane, and at least the slice that the plane lies in.
        if abs(nearest - z) <= max(0.5 * gap, 0.5) + 1e-6:
            for polygon in planes[nearest]:
                mask[z] ^= fill_polygon(polygon, (shape[1], shape[2]))
    return mask


def _planes(polygons: list[NDArray[np.float64]]) -> dict[float, list[NDArray[np.float64]]]:
    """Height [slices] -> outlines (point, yx), for each plane with contours, from the lowest up."""
    planes: dict[float, list[NDArray[np.float64]]] = {}
    height = -np.inf
    for z, polygon in sorted(((float(np.median(p[:, 0])), p) for p in polygons), key=lambda pair: pair[0]):
        if z - height > _ONE_PLANE:
            height = z
        planes.setdefault(height, []).append(polygon[:, 1:])
    return planes


def fill_polygon(polygon: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels (y, x) whose centres lie inside a polygon of fractional (y, x) points: even-odd rule."""
    inside = np.zeros(shape, bool)
    y0, x0 = polygon[:, 0], polygon[:, 1]
    y1, x1 = np.roll(y0, -1), np.roll(x0, -1)
    first, last = max(int(np.ceil(y0.min())), 0), min(int(np.floor(y0.max())), shape[0] - 1)
    columns = np.arange(shape[1])
    for y in range(first, last + 1):
        crossing = (y0 <= y) != (y1 <= y)  # half open: a vertex on the row counts once
        if crossing.any():
            a, b = y0[crossing], y1[crossing]
            x = np.sort(x0[crossing] + (y - a) / (b - a) * (x1[crossing] - x0[crossing]))
            inside[y] = np.searchsorted(x, columns, side="right") % 2 == 1
    return inside


def _segments(
    dataset: Dataset, grid: Volume, ref: FileRef, reader: PixelReader
) -> Iterator[NDArray[np.bool_] | None]:
    """The same for the segments of a SEG."""
    names = {}
    for segment in dataset.get("SegmentSequence") or []:
        kinds = [
            str(item.get("CodeMeaning", ""))
            for field in ("SegmentedPropertyTypeCodeSequence", "SegmentedPropertyCategoryCodeSequence")
            for item in segment.get(field) or []
        ]
        names[int(segment.SegmentNumber)] = " ".join([str(segment.get("SegmentLabel", "")), *kinds])
    headers = frames_of(dataset)
    check_bytes(int(dataset.Rows) * int(dataset.Columns) * len(headers), ref.shown)
    groups: dict[int, list[int]] = defaultdict(list)
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for i, own in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        # What all frames share may be stored once; with a single segment, that includes the segment.
        named = own.get("SegmentIdentificationSequence") or shared.SegmentIdentificationSequence
        groups[int(named[0].ReferencedSegmentNumber)].append(i)
    least = _least(dataset)
    for number, frames in groups.items():
        if not is_lesion(names.get(number, "")):
            yield None
            continue
        mask = np.zeros(grid.shape, bool)
        for i in frames:
            inside = np.greater_equal(reader.frame(dataset, i, ref), least)
            _add_slab(mask, inside, headers[i], i, grid, ref)
        yield mask


def _least(dataset: Dataset) -> int:
    """The lowest value that counts as inside: half of the maximum where the values are fractions."""
    if str(dataset.get("SegmentationType")) != "FRACTIONAL":
        return 1
    return max((int(dataset.get("MaximumFractionalValue") or 255) + 1) // 2, 1)


def _add_slab(
    mask: NDArray[np.bool_], inside: NDArray[np.bool_], header: Dataset, i: int, grid: Volume, ref: FileRef
) -> None:
    """Adds one frame of a segmentation, as thick as its slice, to a mask on the voxels of `grid`."""
    plane = plane_of(header, i, ref.shown)
    thickness = float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or grid.spacing[0])
    column, row = np.asarray(plane.orientation[:3]), np.asarray(plane.orientation[3:])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = column * plane.spacing[1], row * plane.spacing[0]
    affine[:3, 2] = np.cross(column, row) * thickness
    affine[:3, 3] = plane.position
    slab = volume_from_affine(inside.astype(np.uint8)[None], affine, "label", ref.shown)
    # Resample only around the slab: a frame is one slice, the grid may be a whole body.
    index = grid.index(slab.corners)
    low = np.clip(np.floor(index.min(axis=0)) - 1, 0, grid.shape).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 2, 0, grid.shape).astype(int)
    if (low < high).all():
        near = resample_like(slab, grid.crop(tuple(low), tuple(high)), how="nearest")
        mask[tuple(map(slice, low, high))] |= np.asarray(near.array) > 0
