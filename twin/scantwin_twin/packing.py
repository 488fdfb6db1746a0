"""A CT as one file to send: a NIfTI file or a zip as it is, a DICOM folder zipped on the fly.

From a folder only slices of modality CT are taken, under plain numbers and without the files' dates: file
names often contain a person's name.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scantwin.errors import InputError
from scantwin.imaging.dicom_files import FileRef, files_under, is_zip, may_be_dicom
from scantwin.imaging.dicom_headers import read_header
from scantwin.imaging.nifti import is_nifti
from scantwin_twin.results import NO_DATE
from scantwin_twin.v1 import twin_pb2 as pb


@dataclass(frozen=True)
class Pack:
    """A file to send."""

    path: Path
    format: pb.Format
    suffix: str
    """All that is sent of the file's name."""


@contextmanager
def packed(ct: Path) -> Iterator[Pack]:
    """The CT as one file; a zip that was made for it is removed at the end."""
    if ct.is_dir():
        with tempfile.TemporaryDirectory(prefix="scantwin-") as scratch:
            yield Pack(_zipped(ct, Path(scratch) / "ct.zip"), pb.FORMAT_DICOM_ZIP, ".zip")
    elif not ct.is_file():
        raise InputError(
            f"There is no CT at {ct}.", hint="Give a NIfTI file, a DICOM folder or a zip of one."
        )
    elif is_nifti(ct):
        yield Pack(ct, pb.FORMAT_NIFTI, ".nii.gz" if ct.suffix.lower() == ".gz" else ".nii")
    elif is_zip(ct):
        yield Pack(ct, pb.FORMAT_DICOM_ZIP, ".zip")
    else:
        raise InputError(
            f"{ct} is neither a NIfTI file nor a zip.",
            hint="Give .nii, .nii.gz, a DICOM folder or a zip of one.",
        )


def _zipped(folder: Path, target: Path) -> Path:
    number = 0
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for ref in files_under(folder):
            if may_be_dicom(ref) and read_header(ref).get("Modality") == "CT":
                number += 1
                _add(archive, ref, f"{number:05d}.dcm")
    if number == 0:
        raise InputError(
            f"The folder {folder} holds no CT slices.", hint="Point to the folder of the CT series."
        )
    return target


def _add(archive: zipfile.ZipFile, ref: FileRef, name: str) -> None:
    """Adds a file without its date. `archive.write` would send it, and refuse some exports' (before 1980)."""
    entry = zipfile.ZipInfo(name, NO_DATE)
    entry.compress_type, entry.file_size = zipfile.ZIP_DEFLATED, ref.size
    with ref.open() as source, archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target)
