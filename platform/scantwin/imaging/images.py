"""One CT or PET in a single file: NIfTI, MetaImage (.mha, .mhd) or NRRD; on disk or in a zip."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.metaimage import read_stream
from scantwin.imaging.nifti import is_nifti, read_nifti_stream
from scantwin.imaging.reasons import reject
from scantwin.imaging.volume import Volume
from scantwin.units import Unit

_OTHERS: Final = (".mha", ".mhd", ".nrrd")


def is_image(path: Path | str) -> bool:
    """Whether `read_image` reads files of this name."""
    return is_nifti(path) or Path(path).suffix.lower() in _OTHERS


def read_image(file: Path | str | FileRef, unit: Unit) -> Volume:
    """The volume of one file, with its axes as stored. Values in `unit`."""
    ref = file if isinstance(file, FileRef) else FileRef(Path(file))
    if not ref.member and not ref.path.is_file():
        raise reject("study.not-found", path=ref.path)

    def beside(name: str) -> BinaryIO:
        member = str(PurePosixPath(ref.member).parent / name) if ref.member else ""
        return FileRef(ref.path if ref.member else ref.path.parent / name, member).open()

    with ref.open() as stream:
        if is_nifti(ref.name):
            return read_nifti_stream(stream, unit, ref.shown)
        return read_stream(stream, unit, ref.shown, beside)
