"""Finds studies below a path and reads them: NIfTI folders, DICOM in any form, zips of either.

`find_studies` looks at names and headers only. `read_study` returns a canonical `Study` or raises a
`Rejection` with a code of the catalogue, never anything else.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from pydicom.dataset import Dataset

from scantwin.errors import InputError, Rejection
from scantwin.imaging.dicom_files import FileRef, files_under, is_zip, leads_outside, zip_members
from scantwin.imaging.dicom_headers import BROKEN, in_short
from scantwin.imaging.dicom_series import WANTED, IndexEntry, group_studies, index_file
from scantwin.imaging.images import is_image, read_image
from scantwin.imaging.organs import ORGAN_FILE, PHANTOM_TRUTH, organ_file
from scantwin.imaging.reasons import reject
from scantwin.imaging.study import Study
from scantwin.imaging.study_dicom import read_dicom_ct, read_dicom_study
from scantwin.imaging.study_files import (
    DESCRIPTION,
    as_ct,
    description,
    endless,
    is_ct,
    is_pet_alone,
    read_file_ct,
    read_file_pet,
    read_file_study,
)
from scantwin.imaging.volume import Volume

Kind = Literal["nifti", "dicom", "image", "archive"]
"""`nifti`: a folder in the layout of FDG-PET-CT-Lesions; `dicom`: series; `image`: one CT file; `archive`: a
zip that cannot be opened or holds another."""


@dataclass(frozen=True)
class StudySource:
    """Where one study lies. Holds only names, no image data."""

    path: Path
    """The folder, zip or file that it was found in. May identify a patient: it stays on this machine."""
    kind: Kind
    key: str
    """The same each time the study is found: StudyInstanceUID or relative path. Identifying: local only."""
    files: tuple[FileRef, ...] = ()
    """Every file that belongs to it."""
    patient: str = ""
    """Whose study it is, the same for all of a patient's studies; "" if unknown. Identifying: local only."""
    place: str = ""
    """The folder inside a zip in which a study of image files lies."""
    pet_alone: bool = False
    """Whether this is a PET without a CT, to be read as such; otherwise a study without a CT is refused."""

    def fingerprint(self) -> str:
        """A digest that changes when a file of the study is added, removed or rewritten.

        It differs for a PET alone, so that a site that refused it before it knew of them reads it again.
        """
        digest = hashlib.sha256(b"pet alone" if self.pet_alone else b"")
        for ref in sorted(self.files):
            try:
                digest.update(repr(ref.stamp()).encode())
            except (Rejection, *BROKEN):
                digest.update(b"gone")
        return digest.hexdigest()


def find_studies(
    path: Path | str,
    *,
    index: Callable[[list[FileRef]], Iterable[IndexEntry | None]] | None = None,
    pets_alone: bool = False,
) -> list[StudySource]:
    """All studies in a folder, a zip, a DICOMDIR or a single image file, in a stable order.

    `index` reads the index entries of many files; for large folders, pass one that does so in parallel.
    With `pets_alone`, PETs without a CT, which only unpaired training can use, count as studies too.
    Raises the rejections `study.not-found`, `study.empty-folder` and `study.only-links`.
    """
    path = Path(path)
    if not path.exists():
        raise reject("study.not-found", path=path)
    if path.is_file() and is_image(path):
        beside = [FileRef(path.parent / DESCRIPTION)] if (path.parent / DESCRIPTION).is_file() else []
        patient = _patient(beside, path.parent, "")
        return [StudySource(path, "image", path.name, (FileRef(path),), patient)]
    root = path.parent if path.is_file() and path.name.upper() == "DICOMDIR" else path
    refs, closed = _expanded(root)
    found = [StudySource(zipped, "archive", zipped.name, (FileRef(zipped),)) for zipped in closed]
    found += _file_studies(refs, root)
    taken = {ref for source in found for ref in source.files}
    others = [ref for ref in refs if ref not in taken]
    entries = index(others) if index is not None else map(index_file, others)
    organs = [ref for ref in refs if ref.name == ORGAN_FILE]
    groups = group_studies(entry for entry in entries if entry is not None)
    said = _descriptions(groups, others, [source.path / source.place for source in found])
    for key, group in groups.items():
        wanted = tuple(e.ref for e in group if e.modality in WANTED or not e.readable)
        place = _common(group, root)
        wanted += said[key]
        wanted += _organ_files(organs, _home(group))
        patient = next((e.patient for e in group if e.patient), "")
        kinds = {e.modality for e in group}
        alone = pets_alone and "PT" in kinds and "CT" not in kinds
        found.append(StudySource(place, "dicom", key, wanted, patient, pet_alone=alone))
    if pets_alone:
        # A PET among the files of a study, or above its series, is that study's own PET, converted.
        known = {ref.folder for source in found for ref in source.files} | {str(s.path) for s in found}
        found += _file_studies([ref for ref in others if ref.folder not in known], root, pets_alone=True)
    if not found:
        raise reject("study.only-links" if leads_outside(path) else "study.empty-folder", path=path)
    return sorted(found, key=lambda source: (str(source.path), source.key))


def read_study(source: StudySource, *, need_pet: bool = False, with_pet: bool = True) -> Study:
    """The study, canonical: CT [HU], PET [g/ml] if there is one, lesions. Raises `Rejection`.

    A study whose PET cannot become SUV is refused, since the site must know the reason; `read_ct` takes the
    CT alone. With `need_pet`, a study without a PET is refused too. Without `with_pet`, the PET is ignored,
    for callers that make CTs from CTs and labels.
    """
    with _only_rejections(source.path):
        if source.kind == "archive":
            zip_members(source.path)
            raise reject("zip.nested", path=source.path)
        if source.kind == "image":
            ct, notes = as_ct(read_image(source.path, "HU"), source.path)
            study = Study(endless(source.path.name), ct, warnings=tuple(notes), source={"format": "image"})
        elif source.kind == "nifti":
            if source.pet_alone:
                study = read_file_pet(source.path, source.files)
            else:
                study = read_file_study(source.path, source.files, with_pet=with_pet)
        else:
            study = read_dicom_study(
                source.path, source.files, _name(source.key), pet_alone=source.pet_alone, with_pet=with_pet
            )
        if need_pet and study.pet is None:
            raise reject("study.no-pet", path=source.path)
        return replace(study, organs=organ_file(source.files, description(source.files)))


def read_ct(path: Path | str) -> Volume:
    """The CT [HU], canonical, of an image file, a DICOM folder, a zip or a study folder, without any PET."""
    return read_ct_and_header(path)[0]


def read_ct_and_header(path: Path | str) -> tuple[Volume, Dataset | None]:
    """The same CT and the header of one of its slices, None if it is not DICOM.

    What is made from the CT joins the patient's study through this header, which must therefore come from the
    very series that was read: another series may have another frame of reference.
    """
    path = Path(path)
    sources = find_studies(path)
    if len(sources) > 1:
        raise InputError(f"{path} holds {len(sources)} studies.", hint="Point to one of them.")
    source = sources[0]
    with _only_rejections(path):
        if source.kind == "dicom":
            return read_dicom_ct(path, source.files)
        if source.kind == "nifti":
            return read_file_ct(path, source.files), None
        return read_study(source).ct, None


def _expanded(root: Path) -> tuple[list[FileRef], list[Path]]:
    """All files, including those inside zips, and the zips that cannot be opened or hold zips themselves."""
    refs: list[FileRef] = []
    closed: list[Path] = []
    for ref in files_under(root):
        if not is_zip(ref.path):
            refs.append(ref)
            continue
        try:
            members = zip_members(ref.path)
        except Rejection:
            closed.append(ref.path)
            continue
        refs += members
        if any(member.name.lower().endswith(".zip") for member in members):
            closed.append(ref.path)
    return refs, closed


def _file_studies(refs: list[FileRef], root: Path, *, pets_alone: bool = False) -> list[StudySource]:
    """Studies in the layout of FDG-PET-CT-Lesions, on disk or in a zip; or else those of a PET alone."""
    folders: dict[str, list[FileRef]] = defaultdict(list)
    for ref in refs:
        folders[ref.folder].append(ref)
    organs = [ref for ref in refs if ref.name == ORGAN_FILE]
    found = []
    for files in folders.values():
        if is_pet_alone(files) if pets_alone else any(is_ct(ref.name) for ref in files):
            first = files[0]
            place = str(PurePosixPath(first.member).parent) if first.member else ""
            path = first.path if place else first.path.parent
            key = f"{_relative(path, root)}/{place}".removesuffix("/")
            kept = tuple(r for r in files if is_image(r.name) or r.name == DESCRIPTION)
            if not any(ref.name == ORGAN_FILE for ref in kept):
                kept += _organ_files(organs, _folder(first))
            patient = _patient(kept, path, place)
            found.append(StudySource(path, "nifti", key, kept, patient, place, pets_alone))
    return found


def _organ_files(refs: Sequence[FileRef], folder: Path) -> tuple[FileRef, ...]:
    """Organ labels in a study's folder, or the true ones of a phantom below it."""
    return tuple(ref for ref in refs if _folder(ref) in (folder, folder / PHANTOM_TRUTH))


def _patient(files: Sequence[FileRef], path: Path, place: str) -> str:
    """The `patient` of study.json, or the folder PETCT_<hash> of one patient's studies (FDG-PET-CT-Lesions).

    Every other folder counts as a patient of its own.
    """
    try:
        said = description(files).get("patient")
    except Rejection:
        said = None  # reading the study will say what is wrong with the file
    if isinstance(said, str) and said:
        return said
    parts = (*path.parts, *PurePosixPath(place).parts)
    return next((part for part in reversed(parts) if part.startswith("PETCT_")), "")


def _relative(path: Path, root: Path) -> str:
    inside = path.relative_to(root) if path != root and path.is_relative_to(root) else Path(path.name)
    return inside.as_posix()


def _common(group: list[IndexEntry], root: Path) -> Path:
    """The folder (or zip) that holds all files of a study."""
    tops = {entry.ref.path if entry.ref.member else entry.ref.path.parent for entry in group}
    first = min(tops)
    if len(tops) == 1:
        return first
    parents = [p for p in (first, *first.parents) if all(t == p or p in t.parents for t in tops)]
    return parents[0] if parents else root


def _descriptions(
    groups: dict[str, list[IndexEntry]], refs: list[FileRef], elsewhere: list[Path]
) -> dict[str, tuple[FileRef, ...]]:
    """Each group's study.json among `refs`: the one in the folder that holds all of the group's files.

    Otherwise the one in the folder above (`p1/study.json` for `p1/DICOM/*`), unless another group or one of
    the folders `elsewhere` also lies below that folder: it could then describe either.
    """
    homes = {key: _home(group) for key, group in groups.items()}
    below = Counter(folder for home in (*homes.values(), *elsewhere) for folder in (home, *home.parents))
    known = {_folder(ref): ref for ref in refs if ref.name == DESCRIPTION}
    said: dict[str, tuple[FileRef, ...]] = {}
    for key, home in homes.items():
        above = known.get(home.parent) if below[home.parent] == 1 else None
        ref = known.get(home, above)
        said[key] = () if ref is None else (ref,)
    return said


def _home(group: list[IndexEntry]) -> Path:
    """The folder that holds all files of a study; a zip and the folders in it count as folders."""
    return Path(os.path.commonpath({_folder(entry.ref) for entry in group}))


def _folder(ref: FileRef) -> Path:
    """The folder that a file lies in; a zip counts as a folder."""
    return ref.path / PurePosixPath(ref.member).parent if ref.member else ref.path.parent


def _name(key: str) -> str:
    return "study-" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]


class _only_rejections:  # noqa: N801 - reads as a statement
    """Turns whatever a parser raises on damaged data into a rejection: a study is either read or refused."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if os.environ.get("SCANTWIN_DEBUG"):
            return  # otherwise a bug of ours would hide behind the word "damaged"
        if isinstance(error, BROKEN) and not isinstance(error, InputError):
            raise reject("study.unreadable", path=self.path, found=in_short(error)) from error
