"""A scan's results: the list of its files with size and sha256, and the DICOM series as one zip.

A name is the path below the scan's results folder; only names in the list can be fetched.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any, Final

from scantwin.errors import ServiceError
from scantwin.files import sha256, whole_file

DICOM_ZIP: Final = "dicom.zip"

NO_DATE: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest date of the zip format: the same series gives the same zip, whenever it is made."""


def zip_folder(folder: Path, target: Path) -> Path:
    """Zips the files directly in `folder`, in order of name; returns `target`."""
    with (
        whole_file(target) as aside,
        zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for path in sorted(folder.iterdir()):
            if path.is_file():
                entry = zipfile.ZipInfo(path.name, NO_DATE)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
    return target


def listing(contract: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """All files to fetch from `folder`: [{name, kind, size, sha256}]; the kinds are those of `contract`.

    `contract`: what `write_scan` returned. The DICOM series is zipped, and only the zip is listed.
    """
    kinds = {
        Path(contract["pet_nifti"]): "pet-nifti",
        Path(contract["std_nifti"]): "std-nifti",
        Path(contract["manifest"]): "manifest",
        **{Path(picture): "picture" for picture in contract["pictures"]},
    }
    series = Path(contract["pet_dicom"])
    kinds[zip_folder(series, folder / DICOM_ZIP)] = "pet-dicom"
    return [
        {
            "name": path.relative_to(folder).as_posix(), "kind": kinds.get(path, "other"),
            "size": path.stat().st_size, "sha256": sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and series not in path.parents
    ]  # fmt: skip


def inside(folder: Path, name: str) -> Path:
    """The path of a result below `folder`; refuses a name that leads out of it, whoever sent it."""
    path = PurePosixPath(name)
    parts = name.split("/")
    if path.is_absolute() or any(p in ("", ".", "..") for p in parts) or re.search(r"[\\:\x00-\x1f]", name):
        raise ServiceError(
            f"The service sent a result with the unsafe name {name!r}.", hint="Do not use this service."
        )
    return folder / path


def unzip_series(archive: Path, folder: Path) -> Path:
    """Unpacks a DICOM zip of this service (plain names only) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            target = inside(folder, member.filename)
            with zipped.open(member) as source, target.open("wb") as out:
                while block := source.read(1 << 20):
                    out.write(block)
    return folder
