"""PET series under a path, read from headers alone for `scantwin suv`. Needs no SimpleITK."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag

from scantwin.errors import Rejection
from scantwin.imaging.dicom_files import (
    FileRef,
    files_under,
    is_zip,
    leads_outside,
    may_be_dicom,
    zip_members,
)
from scantwin.imaging.dicom_headers import BROKEN, frames_of, opened, read_header, reading
from scantwin.imaging.dicom_kinds import image_modality
from scantwin.imaging.pet_header import PetHeader, header_of, headers_of_dump
from scantwin.imaging.reasons import reject, warn
from scantwin.imaging.suv import SuvFactors, activity_scales, suv_factors
from scantwin.imaging.suv_body import SuvType

_LAST_TAG: Final = BaseTag(0x00080060)
"""Modality: enough to know what a file is, without reading further."""
MAX_DUMP_BYTES: Final = 64 << 20
"""A header dump is a few kB per instance."""


@dataclass
class PetSeries:
    """One PET series: its files (none for a header dump) and the header of each frame, in the order found."""

    path: str
    uid: str
    headers: list[PetHeader] = field(default_factory=list)
    refs: list[FileRef] = field(default_factory=list)

    def report(self, suv_type: SuvType, *, any_nuclide: bool) -> dict[str, Any]:
        """One entry of the JSON contract of `scantwin suv`; never raises, whatever the headers say."""
        first = self.headers[0]
        entry: dict[str, Any] = {
            "path": self.path, "series_uid": self.uid, "modality": first.modality, "units": first.units,
            "instances": len(self.headers), "suv_type": suv_type, "factor": None, "reference_rule": None,
            "reference_time": None, "dose_at_reference_bq": None, "warnings": [], "derivation": [],
            "error": None,
        }  # fmt: skip
        try:
            result = suv_factors(self.headers, suv_type, any_nuclide=any_nuclide)
        except Rejection as refusal:
            return entry | {"error": refusal.as_json(), "warnings": self._activity(refusal)}
        return entry | _answer(result)

    def _activity(self, refusal: Rejection) -> list[str]:
        """A warning that the values are still an honest activity, if they are."""
        try:
            activity_scales(self.headers)
        except Rejection:
            return []
        return [warn("pet.as-activity", found=refusal.code)]


@dataclass(frozen=True)
class Found:
    """What lies under a path."""

    series: list[PetSeries]
    unreadable: list[Rejection]
    """DICOM files that could not be read."""


def find_pet_series(path: Path, advance: Callable[[float, float], None] | None = None) -> Found:
    """The PET series in a folder, file, zip or header dump (.json). Raises a Rejection if there is none."""
    if not path.exists():
        raise reject("study.not-found", path=path)
    if path.is_file() and path.suffix.lower() == ".json":
        return Found([_dump(path)], [])
    refs, unreadable = _files(path)
    if not refs and not unreadable:
        raise reject("study.only-links" if leads_outside(path) else "study.empty-folder", path=path)
    series: dict[str, PetSeries] = {}
    seen: set[str] = set()
    for number, ref in enumerate(refs):
        if advance is not None:
            advance(number, len(refs))
        try:
            if _is_pet(ref):
                _add(series, seen, ref)
        except Rejection as refusal:
            unreadable.append(refusal)
    for one in series.values():
        one.path = _common_folder(one.refs)
    if not series:
        if unreadable:
            raise unreadable[0]
        raise reject("study.no-pet", path=path)
    return Found(sorted(series.values(), key=lambda s: (s.path, s.uid)), unreadable)


def _files(path: Path) -> tuple[list[FileRef], list[Rejection]]:
    """The files under a path, including those inside zips, and why a zip among them cannot be read."""
    refs = zip_members(path) if path.is_file() and is_zip(path) else list(files_under(path))
    refused: list[Rejection] = []
    for ref in [r for r in refs if not r.member and r.path != path and r.path.suffix.lower() == ".zip"]:
        try:
            refs += zip_members(ref.path)
        except Rejection as refusal:  # one broken zip costs only its own series
            refused.append(refusal)
    inner = {ref.path for ref in refs if ref.member and ref.name.lower().endswith(".zip")}
    return refs, refused + [reject("zip.nested", path=zipped) for zipped in sorted(inner)]


def _is_pet(ref: FileRef) -> bool:
    with reading(ref):
        if not may_be_dicom(ref):
            return False
        with opened(ref) as stream:
            start = read_partial(stream, lambda tag, _vr, _length: tag > _LAST_TAG, force=True)
        return image_modality(start) == "PT"


def _add(series: dict[str, PetSeries], seen: set[str], ref: FileRef) -> None:
    dataset = read_header(ref)
    with reading(ref):
        headers = [header_of(frame) for frame in frames_of(dataset)]
        instance = str(dataset.get("SOPInstanceUID") or ref.shown)
        key = f"{instance} {dataset.get('ImagePositionPatient')} {headers}"
    if key in seen:
        return  # the same export twice, for instance in a folder and in a zip beside it
    seen.add(key)
    uid = _uid(dataset) or ref.folder
    one = series.setdefault(uid, PetSeries(ref.folder, _uid(dataset)))
    one.refs.append(ref)
    one.headers += headers


def _uid(dataset: Dataset) -> str:
    try:
        return str(dataset.get("SeriesInstanceUID") or "")
    except BROKEN:
        return ""


def _common_folder(refs: list[FileRef]) -> str:
    if len(refs) == 1:
        return refs[0].shown
    folders = {ref.folder for ref in refs}
    return folders.pop() if len(folders) == 1 else os.path.commonpath(folders)


def _dump(path: Path) -> PetSeries:
    """A header dump: a JSON list of instances, each an object of DICOM keywords."""
    if path.stat().st_size > MAX_DUMP_BYTES:
        raise reject("dicom.too-large", path=path, found=f"{path.stat().st_size / 2**20:.0f} MiB of headers")
    try:
        entries = json.loads(path.read_bytes())
        headers = headers_of_dump(entries if isinstance(entries, list) else [entries])
    except (ValueError, RecursionError) as error:
        found = str(error).splitlines()[0][:120]
        raise reject("dicom.unreadable", path=path, found=found) from None
    if not headers:
        raise reject("study.no-pet", path=path)
    return PetSeries(str(path), headers[0].series_uid, headers)


def _answer(result: SuvFactors) -> dict[str, Any]:
    factor = result.factor
    return {
        "factor": factor if isinstance(factor, float) else list(factor),
        "reference_rule": result.reference_rule,
        "reference_time": _iso(result.reference_time),
        "dose_at_reference_bq": result.dose_at_reference_bq,
        "warnings": list(result.warnings),
        "derivation": list(result.derivation),
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
