"""Finds DICOM files: folders, nested exports, DICOMDIR, zip archives; in any order, under any name.

A `FileRef` names a file on disk or a member of a zip; nothing is unpacked to disk. A zip is checked as a
whole (names, sizes, encryption) before its first member is read.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, cast

from scantwin.imaging.reasons import reject
from scantwin.imaging.zip_directories import directory_excess

MAX_ZIP_BYTES: Final = 16 << 30
"""Largest unpacked size of a zip [bytes]: a whole-body PET/CT with dynamic series is below 10 GiB."""
MAX_MEMBER_BYTES: Final = 4 << 30
"""Largest unpacked size of one member [bytes]."""
MAX_MEMBERS: Final = 200_000
"""Largest number of files in one zip."""
MAX_RATIO: Final = 1100
"""Deflate cannot compress better than 1032 : 1; a larger declared ratio is a lie."""
_PIECE: Final = 1 << 16
"""Bytes read ahead."""

_NOT_DICOM: Final = re.compile(
    r"\.(nii|gz|json|txt|csv|xml|html?|pdf|png|jpe?g|gif|exe|dll|js|css|ini|inf|md|log|mh[ad]|nrrd|zip|db|py|bat"
    r"|jar|ico|z?raw)$",
    re.IGNORECASE,
)
"""Files with these endings are never opened as DICOM."""


@dataclass(frozen=True, order=True)
class FileRef:
    """A file on disk, or the member `member` of the zip at `path`."""

    path: Path
    member: str = ""

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return PurePosixPath(self.member).name if self.member else self.path.name

    @property
    def folder(self) -> str:
        """The folder it lies in, on disk or inside its zip."""
        return f"{self.path}!{PurePosixPath(self.member).parent}" if self.member else str(self.path.parent)

    @property
    def shown(self) -> str:
        """The name that errors give it."""
        return f"{self.path}!{self.member}" if self.member else str(self.path)

    @property
    def size(self) -> int:
        """Unpacked size [bytes]."""
        return _archive(self.path).getinfo(self.member).file_size if self.member else self.path.stat().st_size

    def stamp(self) -> tuple[str, int, int]:
        """Name, size, and modification time or checksum: changes when the file's content does."""
        if self.member:
            info = _archive(self.path).getinfo(self.member)
            return self.member, info.file_size, info.CRC
        status = self.path.stat()
        return str(self.path), status.st_size, status.st_mtime_ns

    def open(self) -> BinaryIO:
        """The bytes, as a seekable stream; a member of a zip is unpacked only as far as it is read."""
        if not self.member:
            return _Bounded(self.path.open("rb", buffering=0), self.size)
        archive, size = _archive(self.path), self.size
        try:
            return _Member(cast(io.RawIOBase, archive.open(self.member)), size, self.shown)
        except Exception as error:
            raise _damaged(self.shown, error) from None


class _Bounded(io.BufferedReader):
    """A stream that allocates memory for what is left of the file, not for the length that a field claims."""

    def __init__(self, raw: io.RawIOBase, size: int) -> None:
        super().__init__(raw, _PIECE)
        self._bytes = size

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes; all that is left if it is negative."""
        if size is None or size <= _PIECE:  # most reads are of a few bytes
            return super().read(size)
        return super().read(min(size, max(self._bytes - self.tell(), 0)))


class _Member(_Bounded):
    """The same for a member of a zip; damage raises the rejection `zip.unreadable`."""

    def __init__(self, raw: io.RawIOBase, size: int, shown: str) -> None:
        super().__init__(raw, size)
        self._shown = shown

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes; all that is left if it is negative."""
        try:
            return super().read(size)
        except Exception as error:
            raise _damaged(self._shown, error) from None

    def readline(self, size: int | None = -1, /) -> bytes:
        """One line, at most `size` bytes of it."""
        try:
            return super().readline(size)
        except Exception as error:
            raise _damaged(self._shown, error) from None


def _damaged(shown: str, error: Exception) -> Exception:
    """What zipfile raises on damaged members is documented nowhere: BadZipFile, zlib.error, OSError, .."""
    return reject("zip.unreadable", path=shown, found=type(error).__name__)


def files_under(path: Path) -> Iterator[FileRef]:
    """All files below a folder, sorted, or the file itself; hidden ones and links that lead out are left out.

    A subfolder that cannot be listed is yielded as if it were a file: opening it then reports the error.
    """
    if path.is_dir():
        yield from _below(path, path.resolve())
    else:
        yield FileRef(path)


def _below(folder: Path, root: Path) -> Iterator[FileRef]:
    """The files below a folder; links count only if they lead to files below `root`."""
    for child in sorted(folder.iterdir()):
        # realpath, because until Python 3.13 Path.resolve fails on links that lead to each other.
        leads_out = child.is_symlink() and root not in Path(os.path.realpath(child)).parents
        if child.name.startswith(".") or leads_out:
            continue
        if child.is_dir() and not child.is_symlink():
            try:
                yield from _below(child, root)
            except OSError:
                yield FileRef(child)
        elif child.is_file():
            yield FileRef(child)


def leads_outside(path: Path) -> bool:
    """Whether a folder holds links to folders that `files_under` does not follow."""
    return path.is_dir() and any(child.is_symlink() and child.is_dir() for child in path.rglob("*"))


def is_zip(path: Path) -> bool:
    """Whether this file is a zip, by its name or its first bytes; a file that cannot be opened is not."""
    if path.suffix.lower() == ".zip":
        return True
    try:
        with path.open("rb") as stream:
            return stream.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def zip_members(path: Path) -> list[FileRef]:
    """The files of a zip, once the zip has been checked. Raises the `zip.*` rejections."""
    archive = _archive(path)
    return [
        FileRef(path, info.filename)
        for info in archive.infolist()
        if not info.is_dir() and not _hidden(info.filename)
    ]


def may_be_dicom(ref: FileRef) -> bool:
    """Whether the name does not rule out DICOM and the first bytes are those of a DICOM file."""
    if _NOT_DICOM.search(ref.name) or ref.name.upper() == "DICOMDIR":
        return False
    with ref.open() as stream:
        start = stream.read(132)
    # Part 10 files have DICM after 128 bytes; older exports begin with an element of group 0002 or 0008.
    return start[128:132] == b"DICM" or (start[:2] in (b"\x02\x00", b"\x08\x00") and len(start) == 132)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


@lru_cache(maxsize=2)
def _opened(path: Path, _size: int, _mtime: int) -> zipfile.ZipFile:
    try:
        excess = directory_excess(path, MAX_MEMBERS)
        archive = None if excess else zipfile.ZipFile(path)
    except OSError as error:
        raise reject("zip.unreadable", path=path, found=error.strerror or type(error).__name__) from None
    except Exception as error:
        # What zipfile raises on damaged directories is documented nowhere: struct.error, UnicodeError, ..
        raise reject("zip.unreadable", path=path, found=type(error).__name__) from None
    if archive is None:
        raise reject("zip.bomb", path=path, found=excess)
    _check(archive, path)
    return archive


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        status = path.stat()
    except OSError:
        raise reject("study.not-found", path=path) from None
    return _opened(path, status.st_size, status.st_mtime_ns)


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise reject("zip.bomb", path=path, found=f"{len(members)} files")
    for info in members:
        name = info.filename
        parts = PurePosixPath(name.replace("\\", "/")).parts
        linked = stat.S_ISLNK(info.external_attr >> 16)
        if name.startswith(("/", "\\")) or ".." in parts or ":" in name[:3] or "\0" in name or linked:
            raise reject("zip.unsafe-path", path=path, found=repr(name[:80]))
        if info.flag_bits & 0x1:
            raise reject("zip.encrypted", path=path)
        if info.file_size > MAX_MEMBER_BYTES or info.file_size > MAX_RATIO * max(info.compress_size, 1):
            raise reject("zip.bomb", path=path, found=f"{info.file_size / 2**20:.0f} MiB in one file")
    total = sum(info.file_size for info in members)
    if total > MAX_ZIP_BYTES:
        raise reject("zip.bomb", path=path, found=f"{total / 2**30:.1f} GiB")
