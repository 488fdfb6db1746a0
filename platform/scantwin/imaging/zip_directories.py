"""How many files a zip declares, read from its end before anything reads its directory."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Final

_ENTRY_BYTES: Final = 512
"""Average size allowed per file in a zip's directory [bytes]: 46 bytes, its name and some extra fields."""
_END: Final = struct.Struct("<4s4H2LH")
"""The record at the end of a zip (APPNOTE.TXT 4.3.16): .., files [4], bytes of the directory [5], .."""
_LOCATOR: Final = struct.Struct("<4sLQL")
"""The record before that in a large zip (4.3.15): .., where the ZIP64 record lies [2], .."""
_END64: Final = struct.Struct("<4sQ2H2L4Q")
"""The ZIP64 record (4.3.14): .., files [7], bytes of the directory [8], .."""


def directory_excess(path: Path, members: int) -> str:
    """What a zip's directory holds beyond what `members` files may need; empty if nothing, or not a zip.

    Only the end of the file is read: zipfile makes an object of every entry before it can be asked how many
    there are, so a small zip of empty files would take gigabytes.
    """
    files, size = _declared(path)
    if files > members:
        return f"{files} files"
    return f"files with {size / 2**20:.0f} MiB of names" if size > members * _ENTRY_BYTES else ""


def _declared(path: Path) -> tuple[int, int]:
    """The files and bytes of a zip's directory, as its end declares them; of several records, the largest.

    Versions of zipfile differ in which record counts. Where the first is full, the ZIP64 record does.
    """
    with path.open("rb") as file:
        length = file.seek(0, io.SEEK_END)
        file.seek(max(length - _END64.size - _LOCATOR.size - _END.size - 0xFFFF, 0))
        tail = file.read()
        at = _end_record(tail)
        if at < 0:
            return 0, 0
        files, size = _END.unpack_from(tail, at)[4:6]
        before = at - _LOCATOR.size
        if before < 0 or not tail.startswith(b"PK\x06\x07", before):
            return files, size
        file.seek(min(_LOCATOR.unpack_from(tail, before)[2], length))
        large = [
            _END64.unpack(record)[7:9]
            for record in (tail[max(before - _END64.size, 0) : before], file.read(_END64.size))
            if len(record) == _END64.size and record.startswith(b"PK\x06\x06")
        ]
    if large:
        files, size = files % 0xFFFF, size % 0xFFFFFFFF  # a full field counts as 0
    return max([files, *(f for f, _ in large)]), max([size, *(s for _, s in large)])


def _end_record(tail: bytes) -> int:
    """Where the record at the end of a zip begins, searched for as zipfile does; -1 if there is none."""
    at = len(tail) - _END.size
    if at >= 0 and tail.startswith(b"PK\x05\x06", at) and tail.endswith(b"\0\0"):
        return at
    at = tail.rfind(b"PK\x05\x06")
    return at if at <= len(tail) - _END.size else -1
