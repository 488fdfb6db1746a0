"""Which DICOM files there are: an index of studies from a few fields, and a summary of one study's series."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag

from scantwin.errors import Rejection
from scantwin.imaging.dicom_files import FileRef, may_be_dicom
from scantwin.imaging.dicom_geometry import Plane
from scantwin.imaging.dicom_headers import BROKEN, frames_of, opened, quiet, read_header
from scantwin.imaging.dicom_kinds import image_modality
from scantwin.imaging.dicom_read import Frame, plane_of

WANTED: Final = ("CT", "PT", "RTSTRUCT", "SEG")
"""Modalities that are read; dose reports, MR, secondary captures and the like are ignored."""

_NOT_ORIGINAL: Final = re.compile(
    r"LOCALIZER|SCOUT|TOPOGRAM|MPR|MIP|MINIP|PROJECTION|SCREEN|REFORMAT|VRT|VOLREND|3D|FUSION|DOSE|RGB|CURVED"
)
"""In ImageType of scouts, reformats, projections, screenshots: not slices as the scanner measured them."""

_LAST_INDEX_TAG: Final = BaseTag(0x00200052)


@dataclass(frozen=True)
class IndexEntry:
    """One file and where it belongs; the identifiers stay in memory."""

    ref: FileRef
    study: str
    series: str
    modality: str
    frame_of_reference: str
    patient: str
    readable: bool = True


@dataclass
class Series:
    """Summary of one CT or PET series: what is needed to choose among several."""

    uid: str
    modality: str
    frames: list[Frame] = field(default_factory=list)
    """Its frames with their headers, without pixels."""
    image_type: str = ""
    frame_of_reference: str = ""
    patient: str = ""
    study: str = ""
    when: datetime | None = None
    kernel: str = ""
    corrected: tuple[str, ...] = ()
    series_type: str = ""
    normal: tuple[float, float, float] = (0.0, 0.0, 1.0)
    heights: list[float] = field(default_factory=list)
    """Positions along the normal [mm], which for axial slices is the world's z."""
    plane: Plane | None = None
    """Where its first readable frame lies."""
    beds: tuple[Series, ...] = ()
    """The series that were joined into this one, from the feet up; empty for a series as it was stored."""

    @property
    def low(self) -> float:
        """Lowest plane along the normal [mm]."""
        return min(self.heights, default=0.0)

    @property
    def high(self) -> float:
        """Highest plane along the normal [mm]."""
        return max(self.heights, default=0.0)

    @property
    def axial(self) -> bool:
        """Whether the slices lie across the patient, within 45 degrees."""
        return bool(abs(self.normal[2]) > 0.7071)

    @property
    def measured(self) -> list[Frame]:
        """The slices as measured: no scout, reformat, projection or screenshot."""
        return [frame for frame in self.frames if not _NOT_ORIGINAL.search(_image_type(frame.header).upper())]


def index_file(ref: FileRef) -> IndexEntry | None:
    """The entry of a DICOM file, or None if it is something else; a damaged file is marked, not an error."""
    try:
        if not may_be_dicom(ref):
            return None
    except (Rejection, FileNotFoundError):
        return None
    except OSError:  # it may be a slice: reading the study says that it was left out
        return IndexEntry(ref, "", "", "", "", "", readable=False)
    except BROKEN:
        return None
    try:
        with quiet(), opened(ref) as stream:
            header = read_partial(stream, lambda tag, _vr, _length: tag > _LAST_INDEX_TAG, force=True)
            if "SOPClassUID" not in header and "Modality" not in header:
                return IndexEntry(ref, "", "", "", "", "", readable=False)
            if str(header.get("SOPClassUID")) == pydicom.uid.MediaStorageDirectoryStorage:
                return None
            return IndexEntry(
                ref,
                _text(header, "StudyInstanceUID"),
                _text(header, "SeriesInstanceUID"),
                _text(header, "Modality"),
                _text(header, "FrameOfReferenceUID"),
                _text(header, "PatientID"),
            )
    except (Rejection, *BROKEN):
        return IndexEntry(ref, "", "", "", "", "", readable=False)


def group_studies(entries: Iterable[IndexEntry]) -> dict[str, list[IndexEntry]]:
    """Key -> files of one study. Studies that share patient and frame of reference are one examination."""
    groups: dict[str, list[IndexEntry]] = defaultdict(list)
    by_folder: dict[str, str] = {}
    damaged: list[IndexEntry] = []
    for entry in entries:
        if not entry.readable:
            damaged.append(entry)
            continue
        key = entry.study or f"folder:{entry.ref.folder}"
        groups[key].append(entry)
        by_folder.setdefault(entry.ref.folder, key)
    for entry in damaged:
        groups[by_folder.get(entry.ref.folder, f"folder:{entry.ref.folder}")].append(entry)
    return _joined(_one_patient_each(groups))


def _one_patient_each(groups: dict[str, list[IndexEntry]]) -> dict[str, list[IndexEntry]]:
    """Splits studies that hold CTs of several patients: careless exports give them all one study UID."""
    parted: dict[str, list[IndexEntry]] = {}
    for key, entries in groups.items():
        patients = {e.patient for e in entries if e.modality == "CT"}
        if len(patients) < 2:
            parted[key] = entries
            continue
        for entry in entries:
            home = entry.patient if entry.patient in patients else min(patients)
            parted.setdefault(f"{key} {home}", []).append(entry)
    return parted


def _joined(groups: dict[str, list[IndexEntry]]) -> dict[str, list[IndexEntry]]:
    """Joins a PET and a CT that were stored as two studies but share patient and frame of reference."""
    kinds = {key: {e.modality for e in entries} for key, entries in groups.items()}
    homes = {
        (e.patient, e.frame_of_reference): key
        for key, entries in groups.items()
        if "CT" in kinds[key] and "PT" not in kinds[key]
        for e in entries
        if e.modality == "CT" and e.frame_of_reference
    }
    joined = dict(groups)
    for key, entries in groups.items():
        if "CT" not in kinds[key]:
            home = next(
                (homes[f] for e in entries if (f := (e.patient, e.frame_of_reference)) in homes), None
            )
            if home is not None:
                joined[home] = joined[home] + joined.pop(key)
    return joined


def list_series(refs: Iterable[FileRef]) -> tuple[list[Series], list[FileRef], int]:
    """The CT and PET series among the files, the files with drawn lesions, and how many could not be read."""
    series: dict[tuple[str, str], Series] = {}
    seen: set[str] = set()
    drawn: list[FileRef] = []
    damaged = 0
    for ref in refs:
        try:
            header = read_header(ref)
            modality = image_modality(header)
            if _text(header, "Modality") in ("RTSTRUCT", "SEG"):
                drawn.append(ref)
            instance = _text(header, "SOPInstanceUID") or ref.shown
            if not modality or instance in seen:
                continue
            seen.add(instance)
            uid = _text(header, "SeriesInstanceUID") or ref.folder
            one = series.setdefault((uid, modality), Series(uid, modality))
            _note(one, header, ref)
        except (Rejection, *BROKEN):
            damaged += 1
    return list(series.values()), drawn, damaged


def _note(series: Series, header: Dataset, ref: FileRef) -> None:
    frames = frames_of(header)
    first = frames[0]
    if not series.frames:
        series.frame_of_reference = _text(header, "FrameOfReferenceUID")
        series.patient = _text(header, "PatientID")
        series.study = _text(header, "StudyInstanceUID")
        series.kernel = _text(first, "ConvolutionKernel")
        series.corrected = tuple(str(v) for v in _many(first.get("CorrectedImage")))
        series.series_type = "\\".join(str(v) for v in _many(first.get("SeriesType")))
        series.image_type = _image_type(first)
        series.when = when_of(first)
    for i, frame in enumerate(frames):
        series.frames.append(Frame(ref, i, frame))
        try:
            plane = plane_of(frame, i, ref.shown)
        except Rejection:
            continue
        normal = np.cross(plane.orientation[:3], plane.orientation[3:])
        series.plane = series.plane or plane
        series.normal = (float(normal[0]), float(normal[1]), float(normal[2]))
        series.heights.append(float(np.dot(normal, plane.position)) * (1.0 if normal[2] >= 0 else -1.0))


def when_of(header: Dataset) -> datetime | None:
    """When the image was acquired, or None; only differences of these times leave this module."""
    for date, time in (
        ("AcquisitionDate", "AcquisitionTime"),
        ("SeriesDate", "SeriesTime"),
        ("StudyDate", "StudyTime"),
    ):
        text = _text(header, date) + (_text(header, time).split(".")[0] + "000000")[:6]
        try:
            return datetime.strptime(text, "%Y%m%d%H%M%S")
        except ValueError:
            continue
    return None


def _image_type(header: Dataset) -> str:
    try:
        return "\\".join(str(v) for v in _many(header.get("ImageType")))
    except BROKEN:
        return ""


def _text(header: Dataset, name: str) -> str:
    value = header.get(name)
    return "" if value is None else str(value).strip()


def _many(value: object) -> list[object]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else list(value) if hasattr(value, "__iter__") else [value]
