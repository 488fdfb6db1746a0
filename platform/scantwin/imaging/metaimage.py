"""Reads MetaImage (.mha, .mhd) and NRRD without ITK, whose reader ends the process on some damaged headers.

Both are a few lines of `name = value` (`name: value`) followed by the voxels, x fastest, raw or compressed. A
header may name another file that holds the voxels; it is opened only if it lies beside the header.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from scantwin.imaging.limits import MAX_VOXEL_BYTES, check_bytes
from scantwin.imaging.reasons import reject
from scantwin.imaging.volume import Volume
from scantwin.imaging.world import LPS_RAS, volume_from_affine
from scantwin.units import Unit

Beside = Callable[[str], BinaryIO]
"""Opens a file in the same folder by its name."""

_META_TYPES: Final = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
    "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_NRRD_TYPES: Final = {
    "signed char": "i1", "int8": "i1", "int8_t": "i1", "uchar": "u1", "unsigned char": "u1", "uint8": "u1",
    "uint8_t": "u1", "short": "i2", "short int": "i2", "signed short": "i2", "int16": "i2", "int16_t": "i2",
    "ushort": "u2", "unsigned short": "u2", "uint16": "u2", "uint16_t": "u2", "int": "i4", "signed int": "i4",
    "int32": "i4", "int32_t": "i4", "uint": "u4", "unsigned int": "u4", "uint32": "u4", "uint32_t": "u4",
    "longlong": "i8", "long long": "i8", "long long int": "i8", "int64": "i8", "int64_t": "i8",
    "ulonglong": "u8", "unsigned long long": "u8", "unsigned long long int": "u8", "uint64": "u8",
    "uint64_t": "u8", "float": "f4", "double": "f8",
}  # fmt: skip
_FILE_NAME: Final = re.compile(r"[^/\\:\x00-\x1f\x7f]+")
"""Allowed name of a file beside the header: no path to another folder, nothing that no system can open."""
_SPACES: Final = {
    "left-posterior-superior": np.eye(3), "lps": np.eye(3), "": np.eye(3),
    "right-anterior-superior": LPS_RAS, "ras": LPS_RAS,
    "left-anterior-superior": np.diag([1.0, -1.0, 1.0]), "las": np.diag([1.0, -1.0, 1.0]),
}  # fmt: skip
"""The `space` of an NRRD -> the matrix that turns it into LPS."""
_MAX_HEADER: Final = 1 << 20
"""Largest header [bytes]: a segmentation of 3D Slicer with a hundred segments has some 100 kB."""
_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class _Layout:
    """What a header says."""

    sizes: tuple[int, ...]
    """x, y, z."""
    dtype: np.dtype[np.generic]
    affine: NDArray[np.float64]
    """4 x 4: (i, j, k) -> LPS [mm]."""
    packing: str
    """raw, zlib or gzip."""
    file: str = ""
    """Name of the file that holds the voxels; empty if the header's file does."""
    skip: int = 0
    """Bytes to skip before the voxels, counted after decompression; -1 if the voxels end the file."""
    lines: int = 0
    """Lines to skip before the voxels, counted in the file as stored."""


def read_stream(stream: BinaryIO, unit: Unit, shown: str, beside: Beside) -> Volume:
    """The volume of an open MetaImage or NRRD, as stored. Raises the `image.*` rejections."""
    try:
        layout = (_nrrd if _starts(stream, b"NRRD") else _meta)(stream, shown)
    except (ValueError, KeyError, OverflowError) as error:
        found = f"the header lacks {error}" if isinstance(error, KeyError) else "a field of the header is odd"
        raise reject("image.unreadable", path=shown, found=found) from None
    if len(layout.sizes) != 3 or min(layout.sizes) < 1:
        raise reject("image.dims", path=shown, found=f"its sizes are {layout.sizes[:4]}")
    count = math.prod(layout.sizes)
    check_bytes(count * max(layout.dtype.itemsize, 4), shown)
    need = count * layout.dtype.itemsize
    if layout.file:
        if not _FILE_NAME.fullmatch(layout.file) or layout.file in (".", ".."):
            raise reject("image.unreadable", path=shown, found="its voxels lie in no file beside it")
        with _beside(beside, layout.file, shown) as other:
            data = _voxels(other, layout, need, shown)
    else:
        data = _voxels(stream, layout, need, shown)
    stored = np.frombuffer(data, layout.dtype).reshape(layout.sizes[::-1])
    array = stored.astype(layout.dtype.newbyteorder("="))
    return volume_from_affine(array, layout.affine, unit, shown)


def _starts(stream: BinaryIO, magic: bytes) -> bool:
    found = stream.read(len(magic))
    stream.seek(0)
    return found == magic


def _lines(stream: BinaryIO, mark: str, last: str, shown: str) -> dict[str, str]:
    """Header fields, names in lower case, up to the field `last`, or to an empty line if `last` is ""."""
    fields: dict[str, str] = {}
    while raw := stream.readline(_MAX_HEADER):
        if stream.tell() > _MAX_HEADER:  # the rest of a header that is cut would be read as voxels
            found = f"its header does not end within {_MAX_HEADER >> 20} MiB"
            raise reject("image.unreadable", path=shown, found=found)
        name, _, value = raw.decode("latin-1").strip("\r\n").partition(mark)
        if not name.strip() and not last:
            break
        if name.startswith("#") or "=" in value[:1]:  # a comment, or a key/value pair of NRRD
            continue
        fields[name.strip().lower()] = value.strip()
        if name.strip().lower() == last:
            break
    return fields


def _meta(stream: BinaryIO, shown: str) -> _Layout:
    fields = _lines(stream, "=", "elementdatafile", shown)
    if int(fields["ndims"]) != 3 or int(fields.get("elementnumberofchannels", "1")) != 1:
        raise reject("image.dims", path=shown, found=f"{fields['ndims']} dimensions")
    if not _true(fields.get("binarydata", "True")):
        raise reject("image.unreadable", path=shown, found="its voxels are written as text")
    msb = _true(fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")))
    axes = _first(fields, ("transformmatrix", "rotation", "orientation"), "1 0 0 0 1 0 0 0 1")
    affine = np.eye(4)
    # Each triple of numbers in the matrix is the direction of one axis.
    affine[:3, :3] = _numbers(axes, 9).reshape(3, 3).T * _numbers(
        _first(fields, ("elementspacing", "elementsize"), "1 1 1"), 3
    )
    affine[:3, 3] = _numbers(_first(fields, ("offset", "position", "origin"), "0 0 0"), 3)
    file = fields["elementdatafile"]
    packed, local = _true(fields.get("compresseddata", "False")), file.upper() == "LOCAL"
    skip = int(fields.get("headersize", "0"))
    if local and skip > 0:  # counted from the start of the file
        skip -= stream.tell()
    if not -1 <= skip <= MAX_VOXEL_BYTES or (packed and skip):
        raise reject("image.unreadable", path=shown, found=f"its HeaderSize is {fields['headersize']}")
    return _Layout(
        tuple(int(n) for n in fields["dimsize"].split()),
        np.dtype((">" if msb else "<") + _META_TYPES[fields["elementtype"].upper()]), affine,
        "zlib" if packed else "raw", "" if local else file, skip,
    )  # fmt: skip


def _nrrd(stream: BinaryIO, shown: str) -> _Layout:
    stream.readline(64)
    fields = _lines(stream, ":", "", shown)
    if int(fields["dimension"]) != 3:
        raise reject("image.dims", path=shown, found=f"{fields['dimension']} dimensions")
    packing = {"raw": "raw", "gzip": "gzip", "gz": "gzip"}.get(fields["encoding"].lower())
    if packing is None:
        raise reject("image.unreadable", path=shown, found=f"its encoding is {fields['encoding'][:20]}")
    affine = np.eye(4)
    if "space directions" in fields:
        axes = [
            _numbers(axis.replace(",", " "), 3)
            for axis in re.findall(r"\(([^)]*)\)", fields["space directions"])
        ]
        affine[:3, :3] = np.array(axes).reshape(3, 3).T
    else:
        affine[:3, :3] = np.diag(_numbers(fields.get("spacings", "1 1 1"), 3))
    affine[:3, 3] = _numbers(re.sub("[(),]", " ", fields.get("space origin", "(0,0,0)")), 3)
    affine[:3] = _SPACES[fields.get("space", "").lower()] @ affine[:3]
    if moved := sorted({"axis mins", "axis maxs", "axismins", "axismaxs"} & set(fields)):
        found = f"{moved[0]} is not read; write space origin and space directions"
        raise reject("image.unreadable", path=shown, found=found)
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    file = _first(fields, ("data file", "datafile"), "")
    skip = int(_first(fields, ("byte skip", "byteskip"), "0"))
    sizes = tuple(int(n) for n in fields["sizes"].split())
    dtype = np.dtype(order + _NRRD_TYPES[fields["type"].lower()])
    lines = int(_first(fields, ("line skip", "lineskip"), "0"))
    if not -1 <= skip <= MAX_VOXEL_BYTES or not 0 <= lines <= _MAX_HEADER:
        raise reject("image.unreadable", path=shown, found=f"it skips {skip} bytes and {lines} lines")
    return _Layout(sizes, dtype, affine, packing, file, skip, lines)


def _voxels(stream: BinaryIO, layout: _Layout, need: int, shown: str) -> bytes:
    """Exactly `need` bytes of voxels."""
    for _ in range(layout.lines):
        stream.readline(_MAX_HEADER)
    skip = max(layout.skip, 0)
    if layout.packing != "raw":
        data = _unpacked(stream, layout.packing, skip + need, shown)[skip:]
    else:
        if layout.skip == -1:
            stream.seek(max(stream.seek(0, 2) - need, 0))
        stream.seek(skip, 1)
        data = bytearray()
        while len(data) < need and (piece := stream.read(min(_PIECE, need - len(data)))):
            data += piece
    if len(data) < need:
        raise reject("image.unreadable", path=shown, found=f"it ends {need - len(data)} bytes early")
    return bytes(data)


def _unpacked(stream: BinaryIO, packing: str, size: int, shown: str) -> bytearray:
    """The first `size` decompressed bytes, or fewer if it ends early; verifies a checksum if there is one."""
    unpack = zlib.decompressobj(zlib.MAX_WBITS | (16 if packing == "gzip" else 0))
    data = bytearray()
    try:
        # One byte more than needed reveals data that follow, or, where none do, lets the end be read.
        while not unpack.eof and len(data) <= size:
            piece = unpack.unconsumed_tail or stream.read(_PIECE)
            if not piece:
                break
            data += unpack.decompress(piece, size + 1 - len(data))
    except zlib.error:
        raise reject("image.unreadable", path=shown, found="its voxels cannot be unpacked") from None
    if len(data) >= size and not unpack.eof:
        found = "it goes on after its voxels" if len(data) > size else "its checksum is missing"
        raise reject("image.unreadable", path=shown, found=found)
    return data[:size]


def _beside(beside: Beside, name: str, shown: str) -> BinaryIO:
    try:
        return beside(name)
    except (OSError, KeyError):
        raise reject("image.unreadable", path=shown, found="the file with its voxels is missing") from None


def _first(fields: dict[str, str], names: tuple[str, ...], default: str) -> str:
    return next((fields[name] for name in names if name in fields), default)


def _numbers(text: str, count: int) -> NDArray[np.float64]:
    values = np.array([float(v) for v in text.split()])
    if len(values) != count or not np.isfinite(values).all():
        raise ValueError(text)
    return values


def _true(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")
