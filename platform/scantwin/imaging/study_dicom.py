"""A study of DICOM series: choose CT and PET, read them, put the lesions on the CT's grid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from scantwin.errors import Rejection
from scantwin.imaging.beds import join_beds, stitch
from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.dicom_headers import BROKEN
from scantwin.imaging.dicom_kinds import is_made
from scantwin.imaging.dicom_lesions import read_lesions
from scantwin.imaging.dicom_read import read_ct_series, read_pet_series
from scantwin.imaging.dicom_series import Series, list_series
from scantwin.imaging.pairing import check_pair, check_series, choose_ct, choose_pet
from scantwin.imaging.pet_header import header_of
from scantwin.imaging.reasons import reject, warn
from scantwin.imaging.study import Study, air_over
from scantwin.imaging.study_files import DESCRIPTION, as_ct, as_suv, description
from scantwin.imaging.suv_times import origin_of
from scantwin.imaging.volume import Volume

_VENDORS: Final = (
    "SIEMENS",
    "GE",
    "PHILIPS",
    "CANON",
    "TOSHIBA",
    "UIH",
    "UNITED IMAGING",
    "MEDISO",
    "HITACHI",
)
"""Only names from this list leave the header: free text could hold a patient's name."""


def read_dicom_study(
    path: Path, refs: Sequence[FileRef], name: str, *, pet_alone: bool = False, with_pet: bool = True
) -> Study:
    """The study in these files: its PET if `with_pet`, possibly no CT if `pet_alone`. Raises `Rejection`."""
    said = description(refs)
    series, drawn, notes = _look(path, refs)
    pets = choose_pet(series if with_pet else [])
    if with_pet and not pets.series:
        _check_slices(series)
    pet, pet_header, rule, pet_notes, pet_series = _read_pet(pets.series)
    cts = choose_ct(series, pet_series)
    source = {"format": "dicom"}
    has_ct = not (pet_alone and _is_alone(series, pet_header))
    if has_ct or pet is None:
        ct, ct_header, ct_notes = _read_ct(path, series, cts.series)
        notes += ct_notes
        source |= {"ct_vendor": vendor(ct_header), "ct_series": str(len(cts.series))}
    else:
        ct = air_over(pet)
    notes += pet_notes
    if len(cts.series) > 1:
        notes.append(warn("study.several-ct", found=len(cts.series), path=path))
        source["ct_chosen_by"] = cts.reason
    if len(pets.series) > 1:
        notes.append(warn("study.several-pet", found=len(pets.series), path=path))
        source["pet_chosen_by"] = pets.reason if pet_series is pets.series[0] else "SUV can be computed"
    if pet is not None and pet_header is not None and pet_series is not None:
        if has_ct:
            notes += check_series(cts.series[0], pet_series) + check_pair(ct, pet)
        source |= {"pet_vendor": vendor(pet_header), "suv_rule": rule, "pet_series": str(len(pets.series))}
    origin = None
    if pet_series is not None:
        origin = origin_of(pet_series.uid, [header_of(frame.header) for frame in pet_series.frames])
    frames_of_reference = _frames_of_reference(cts.series[0] if has_ct else None, pet_series)
    lesions, lesion_notes = read_lesions(drawn, ct, frames_of_reference) if drawn else (None, [])
    return Study(
        str(said.get("name") or name), ct, pet, lesions, condition=said.get("condition", "unknown"),
        warnings=tuple(dict.fromkeys(notes + lesion_notes)), source=source, has_ct=has_ct, origin=origin,
    )  # fmt: skip


def _is_alone(series: list[Series], pet_header: Dataset | None) -> bool:
    """Whether there is a PET but no CT at all, not even a scout."""
    return pet_header is not None and all(one.modality != "CT" for one in series)


def _frames_of_reference(*series: Series | None) -> frozenset[str]:
    """The frames of reference of a study's images; none if one of the images does not name its own."""
    named = frozenset(one.frame_of_reference for one in series if one is not None)
    return frozenset() if "" in named else named


def read_dicom_ct(path: Path, refs: Sequence[FileRef]) -> tuple[Volume, Dataset]:
    """The CT alone [HU], canonical, and the header of one of its slices."""
    series, _, _ = _look(path, refs)
    ct, header, _ = _read_ct(path, series, choose_ct(series, None).series)
    return ct, header


def vendor(header: Dataset) -> str:
    """The manufacturer's name if it is a known one, else `other`."""
    try:
        said = str(header.get("Manufacturer") or "").upper()
    except BROKEN:
        return "other"
    return next((name for name in _VENDORS if re.match(rf"\b{name}\b", said)), "other")


def _look(path: Path, refs: Sequence[FileRef]) -> tuple[list[Series], list[FileRef], list[str]]:
    """The measured CT and PET series, the files with drawn lesions, and warnings about what was left out."""
    files = [ref for ref in refs if ref.name != DESCRIPTION]
    stored, drawn, damaged = list_series(files)
    if damaged and damaged == len(files):
        raise reject("dicom.unreadable", path=path, found=f"all {damaged} files are damaged or closed")
    measured = [one for one in stored if not _is_synthetic(one)]
    notes = [warn("dicom.file-left-out", found=damaged)] if damaged else []
    if len(measured) < len(stored):
        notes.append(warn("pet.synthetic", found=len(stored) - len(measured)))
    return join_beds(measured), drawn, notes


def _is_synthetic(series: Series) -> bool:
    """Whether it is a PET that a model made: nothing may learn from it or be measured by it."""
    return series.modality == "PT" and any(is_made(frame.header) for frame in series.frames)


def _read_ct(path: Path, series: list[Series], cts: Sequence[Series]) -> tuple[Volume, Dataset, list[str]]:
    if not cts:
        rest = [s for s in series if s.modality == "CT"]
        if any(not s.measured for s in rest):
            raise reject("ct.scout")
        if rest:
            raise reject("geometry.too-few-slices", found=max(len(s.frames) for s in rest))
        raise reject("study.no-ct", path=path)
    beds = [read_ct_series(bed.measured) for bed in cts[0].beds or cts[:1]]
    notes = _said([bed[1] for bed in beds])
    ct, more = as_ct(stitch([bed[0] for bed in beds]), path)
    return ct, beds[0][2], notes + more


def _check_slices(series: list[Series]) -> None:
    """Refuses a PET of too few slices; if it were ignored, the study would be taken for a CT without a PET.

    Images derived from a PET (a projection, a screenshot) are ignored.
    """
    pets = [s for s in series if s.modality == "PT" and s.measured]
    counts = [len(s.frames) for s in pets if not s.image_type.upper().startswith("DERIVED")]
    if counts:
        raise reject("geometry.too-few-slices", found=max(counts))


def read_pet(series: Series) -> tuple[Volume, list[str], Dataset, str]:
    """PET [g/ml] of a series or its beds, warnings, a header, and the rule that gave the decay reference."""
    beds = [read_pet_series(bed.measured or bed.frames) for bed in series.beds or (series,)]
    return stitch([bed[0] for bed in beds]), _said([bed[1] for bed in beds]), beds[0][2], beds[0][3]


def _said(notes: Sequence[list[str]]) -> list[str]:
    """The warnings about the beds of a series, and one that there were several."""
    several = [warn("study.beds-joined", found=len(notes))] if len(notes) > 1 else []
    return several + list(dict.fromkeys(note for each in notes for note in each))


def _read_pet(
    pets: Sequence[Series],
) -> tuple[Volume | None, Dataset | None, str, list[str], Series | None]:
    """The best PET that can become SUV; if none can, raises the refusal of the best one."""
    refusal: Rejection | None = None
    for series in pets:
        try:
            raw, notes, header, rule = read_pet(series)
            pet, more = as_suv(raw, "the PET series")
        except Rejection as error:
            refusal = refusal or error
            continue
        return pet, header, rule, notes + more, series
    if refusal is not None:
        raise refusal
    return None, None, "", [], None
