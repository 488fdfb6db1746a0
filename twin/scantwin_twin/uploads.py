"""Receives a CT. Sizes are checked before memory or disk is used; the file appears whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scantwin.imaging.zip_directories import directory_excess
from scantwin_twin.refusals import refuse
from scantwin_twin.v1 import twin_pb2 as pb

CHUNK_BYTES: Final = 1 << 18
"""What client and service send per message: 256 KiB, enough for a fast link, not too much for a slow one."""

MAX_CHUNK_BYTES: Final = 1 << 20
"""The largest chunk that is accepted."""

MAX_MESSAGE_BYTES: Final = MAX_CHUNK_BYTES + (1 << 12)
"""gRPC refuses a larger message by its length prefix, before it allocates memory for it."""

FORMATS: Final = {pb.FORMAT_NIFTI: "nifti", pb.FORMAT_DICOM_ZIP: "dicom-zip"}

_PSEUDONYM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
_NIFTI_HEADERS: Final = frozenset({348, 540})
"""The first number of a NIfTI-1 or NIfTI-2 file: the size of its header [bytes]."""


@dataclass(frozen=True)
class Limits:
    """How much one upload may take."""

    upload: int = 2 << 30
    """Bytes of the file that is sent: a CT of 1000 DICOM slices has half a GiB."""
    unpacked: int = 4 << 30
    """Bytes that a zip may unpack to."""
    members: int = 20_000
    """Files in a zip."""
    spare: int = 1 << 29
    """Bytes that must stay free on the disk, beyond the upload, for the results."""
    stall_s: float = 60.0
    """Seconds without a chunk, sent or received, after which an upload or a download is given up."""
    first_s: float = 5.0
    """Seconds after which a call without its first message is given up."""


def check(metadata: pb.ScanMetadata, limits: Limits) -> None:
    """Refuses metadata that cannot be right, before a byte of the CT is received."""
    if not _PSEUDONYM.fullmatch(metadata.twin):
        raise refuse("bad-pseudonym")
    if metadata.format not in FORMATS:
        raise refuse("bad-format")
    if not _SHA256.fullmatch(metadata.sha256):
        raise refuse("bad-sha256")
    if len(metadata.idempotency_key) > 128:
        raise refuse("bad-key")
    if metadata.size == 0:
        raise refuse("empty-upload")
    if metadata.size > limits.upload:
        raise refuse("upload-too-large", declared=metadata.size, limit=limits.upload)


def check_disk(size: int, folder: Path, limits: Limits) -> None:
    """Refuses the upload if the disk of `folder` cannot hold `size` bytes and the results."""
    free = shutil.disk_usage(folder).free
    if free < size + limits.spare:
        needed = f"{(size + limits.spare) / 2**20:.0f} MiB"
        raise refuse("disk-full", free=f"{free / 2**20:.0f} MiB", needed=needed)


def first(messages: Iterator[pb.SubmitScanRequest]) -> pb.ScanMetadata:
    """The metadata, which must come first."""
    message = next(messages, None)
    if message is None or message.WhichOneof("part") != "metadata":
        raise refuse("no-metadata")
    return message.metadata


def receive(
    messages: Iterable[pb.SubmitScanRequest], metadata: pb.ScanMetadata, folder: Path, limits: Limits
) -> Path:
    """Writes the chunks to a new file in `folder`, checked against size, sha256 and format; returns it."""
    aside = folder / "upload.part"
    digest, total = hashlib.sha256(), 0
    with aside.open("xb") as file:
        for message in messages:
            if message.WhichOneof("part") != "chunk":
                raise refuse("metadata-twice")
            size = len(message.chunk)
            if size > MAX_CHUNK_BYTES:
                raise refuse("chunk-too-large", size=size, limit=MAX_CHUNK_BYTES)
            total += size
            if total > metadata.size:
                raise refuse("longer-than-declared", declared=metadata.size)
            digest.update(message.chunk)
            file.write(message.chunk)
    if total < metadata.size:
        raise refuse("truncated", received=total, declared=metadata.size)
    if digest.hexdigest() != metadata.sha256.lower():
        raise refuse("wrong-sha256")
    if metadata.format == pb.FORMAT_DICOM_ZIP:
        inspect_zip(aside, limits)
        return aside.rename(folder / "ct.zip")
    return aside.rename(folder / ("ct.nii.gz" if inspect_nifti(aside) else "ct.nii"))


def inspect_nifti(path: Path) -> bool:
    """Whether a NIfTI file is compressed; refuses one without a NIfTI start. The worker reads the rest."""
    with path.open("rb") as file:
        start = file.read(4)
    compressed = start[:2] == b"\x1f\x8b"
    if compressed:
        try:
            with gzip.open(path) as file:
                start = file.read(4)
        except (OSError, EOFError, zlib.error):
            raise refuse("not-a-nifti", why="it is damaged") from None
    sizes = {int.from_bytes(start, "little"), int.from_bytes(start, "big")}
    if not sizes & _NIFTI_HEADERS:
        raise refuse("not-a-nifti", why="it has no NIfTI header")
    return compressed


def inspect_zip(path: Path, limits: Limits) -> None:
    """Refuses what is not a zip, or would unpack to more than the limits. Reads only the directory."""
    try:
        if excess := directory_excess(path, limits.members):
            raise refuse("unpacks-too-large", unpacked=excess, limit=f"{limits.members} files")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise refuse("not-a-zip", why="it is damaged or something else") from None
    if not members:
        raise refuse("not-a-zip", why="it is empty")
    if len(members) > limits.members:
        raise refuse("unpacks-too-large", unpacked=f"{len(members)} files", limit=f"{limits.members} files")
    unpacked = sum(member.file_size for member in members)
    if unpacked > limits.unpacked:
        raise refuse("unpacks-too-large", unpacked=f"{unpacked} bytes", limit=f"{limits.unpacked} bytes")


@contextmanager
def private_folder(folder: Path) -> Iterator[Path]:
    """A new folder for the owner only, removed at the end unless it was moved away."""
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
