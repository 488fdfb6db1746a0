"""Lesions drawn by people: RTSTRUCT contours and DICOM SEG -> labels on the CT's grid.

Contours are filled by the even-odd rule on voxel centres, so that a contour inside another is a hole. A
contour stands for a slab as thick as the distance to its neighbours; each CT slice takes the nearest plane.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Final

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.dicom_headers import frames_of, reading
from scantwin.imaging.dicom_read import plane_of
from scantwin.imaging.limits import check_bytes
from scantwin.imaging.reasons import warn
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.volume import Volume
from scantwin.imaging.world import volume_from_affine

_LESION_NAME: Final = re.compile(
    r"gtv|tumou?r|lesion|mass|metast|neoplas|\bmets?\b|lymphoma|melanoma", re.IGNORECASE
)
"""What the name of a region says when it is a lesion; organs and margins (CTV, PTV) are not."""
_MAX_POINTS: Final = 2_000_000
"""Contour points of one structure set."""


def read_lesions(refs: list[FileRef], grid: Volume) -> tuple[Volume | None, list[str]]:
    """Labels 0, 1, 2, .. on the voxels of `grid`, or None; regions that are not lesions are left out."""
    labels = np.zeros(grid.shape, np.uint8)
    notes: list[str] = []
    found = 0
    for ref in refs:
        with reading(ref), ref.open() as stream:
            dataset = pydicom.dcmread(stream, force=True)
            is_seg = str(dataset.get("Modality")) == "SEG"
            masks = _segments(dataset, grid, ref) if is_seg else _contours(dataset, grid)
            for name, mask in masks:
                if mask is None or not _LESION_NAME.search(name):
                    notes.append(warn("lesions.left-out", found="organ, margin or empty region"))
                elif mask.any():
                    found += 1
                    labels[mask & (labels == 0)] = min(found, 255)
    return (grid.with_array(labels, "label") if found else None), sorted(set(notes))


def _contours(dataset: Dataset, grid: Volume) -> list[tuple[str, NDArray[np.bool_] | None]]:
    names = {
        int(roi.ROINumber): str(roi.get("ROIName", ""))
        for roi in dataset.get("StructureSetROISequence") or []
    }
    kinds = {
        int(o.ReferencedROINumber): str(o.get("RTROIInterpretedType") or "")
        for o in dataset.get("RTROIObservationsSequence") or []
    }
    regions: list[tuple[str, NDArray[np.bool_] | None]] = []
    for roi in dataset.get("ROIContourSequence") or []:
        number = int(roi.ReferencedROINumber)
        polygons = []
        for contour in roi.get("ContourSequence") or []:
            if str(contour.get("ContourGeometricType")) in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                points = np.asarray([float(v) for v in contour.ContourData]).reshape(-1, 3)
                if 3 <= len(points) <= _MAX_POINTS and np.isfinite(points).all():
                    polygons.append(grid.index(points))
        name = f"{names.get(number, '')} {kinds.get(number, '')}"
        regions.append((name, rasterise(polygons, grid.shape) if polygons else None))
    return regions


def rasterise(polygons: list[NDArray[np.float64]], shape: tuple[int, int, int]) -> NDArray[np.bool_] | None:
    """The voxels (z, y, x) inside planar polygons of fractional indices (point, zyx).

    None if a polygon does not lie along the slices.
    """
    planes: dict[float, list[NDArray[np.float64]]] = defaultdict(list)
    for polygon in polygons:
        z = float(polygon[:, 0].mean())
        if np.ptp(polygon[:, 0]) > 0.5:
            return None
        planes[round(z, 2)].append(polygon[:, 1:])
    heights = np.array(sorted(planes))
    gap = float(np.median(np.diff(heights))) if len(heights) > 1 else 1.0
    mask = np.zeros(shape, bool)
    for z in range(shape[0]):
        nearest = heights[np.argmin(np.abs(heights - z))]
        # Half a contour spacing beyond the last plane, and at least the slice that the plane lies in.
        if abs(nearest - z) <= max(0.5 * gap, 0.5) + 1e-6:
            for polygon in planes[nearest]:
                mask[z] ^= fill_polygon(polygon, (shape[1], shape[2]))
    return mask


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


def _segments(dataset: Dataset, grid: Volume, ref: FileRef) -> list[tuple[str, NDArray[np.bool_] | None]]:
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
    pixels = dataset.pixel_array
    pixels = pixels[None] if pixels.ndim == 2 else pixels
    groups: dict[int, list[int]] = defaultdict(list)
    for i, groups_of_frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups[int(groups_of_frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)].append(i)
    regions: list[tuple[str, NDArray[np.bool_] | None]] = []
    for number, frames in groups.items():
        mask = np.zeros(grid.shape, bool)
        for i in frames:
            mask |= _slab(pixels[i], headers[i], i, grid, ref)
        regions.append((names.get(number, ""), mask))
    return regions


def _slab(
    image: NDArray[np.generic], header: Dataset, i: int, grid: Volume, ref: FileRef
) -> NDArray[np.bool_]:
    """One frame of a segmentation, as thick as its slice, on the voxels of `grid`."""
    plane = plane_of(header, i, ref.shown)
    thickness = float(header.get("SpacingBetweenSlices") or header.get("SliceThickness") or grid.spacing[0])
    column, row = np.asarray(plane.orientation[:3]), np.asarray(plane.orientation[3:])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = column * plane.spacing[1], row * plane.spacing[0]
    affine[:3, 2] = np.cross(column, row) * thickness
    affine[:3, 3] = plane.position
    slab = volume_from_affine((np.asarray(image) > 0).astype(np.uint8)[None], affine, "label", ref.shown)
    return np.asarray(resample_like(slab, grid, how="nearest").array) > 0
