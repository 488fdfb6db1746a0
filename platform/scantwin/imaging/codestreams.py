"""The size that a compressed frame claims, read from its codestream before anything is decoded.

Decoders allocate memory for what the codestream claims, not for Rows x Columns: 35 bytes can claim gigabytes.
"""

from __future__ import annotations

import struct
from typing import Final

_JP2: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
"""First bytes of a JPEG 2000 file (ISO 15444-1, I.5.1). DICOM requires the bare codestream; some wrap it."""
_SOC_SIZ: Final = b"\xff\x4f\xff\x51"
"""First bytes of a JPEG 2000 codestream (ISO 15444-1, A.4.1, A.5.1)."""
_SIZ: Final = struct.Struct(">4s2H8LH")
"""Markers, length, capabilities, then width and height on the reference grid [3, 4], the image's offset on it
[5, 6], tiles, components [11]."""
_SOF: Final = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header: JPEG (ISO 10918-1, table B.1) and JPEG-LS (ISO 14495-1, C.2.2)."""
_SOF_SIZE: Final = struct.Struct(">HBHHB")
"""Length, precision, rows [2], columns [3], components [4]."""
_BARE: Final = frozenset((0x01, *range(0xD0, 0xD9)))
"""Markers without a length."""


def claimed_size(frame: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, components) of a JPEG, JPEG-LS or JPEG 2000 frame; None if it claims none.

    Raises `struct.error` if it ends within its header.
    """
    if frame.startswith(_JP2):
        frame = _out_of_boxes(frame)
    if frame.startswith(_SOC_SIZ):
        fields = _SIZ.unpack_from(frame)
        return fields[4] - fields[6], fields[3] - fields[5], fields[11]
    return _of_jpeg(frame)


def _out_of_boxes(frame: bytes) -> bytes:
    """The codestream inside the boxes of a JPEG 2000 file (ISO 15444-1, I.4); empty if there is none."""
    at = 0
    while at < len(frame):
        length, kind = struct.unpack_from(">L4s", frame, at)
        head = 8
        if length == 1:
            (length,), head = struct.unpack_from(">Q", frame, at + 8), 16
        if kind == b"jp2c":
            return frame[at + head :]
        if length < head:
            break
        at += length
    return b""


def _of_jpeg(frame: bytes) -> tuple[int, int, int] | None:
    """The size in the frame header of a JPEG or JPEG-LS codestream."""
    at = 0
    while frame[at : at + 1] == b"\xff" and at + 1 < len(frame):
        marker = frame[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _SOF:
            _, _, rows, columns, components = _SOF_SIZE.unpack_from(frame, at + 2)
            return rows, columns, components
        else:
            at += 2 + int(struct.unpack_from(">H", frame, at + 2)[0])
    return None
