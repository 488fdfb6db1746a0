"""Reads and writes NIfTI.

NIfTI stores arrays as (i, j, k) with an affine to RAS [mm]; a `Volume` is (z, y, x) in LPS. Reading therefore
transposes the array and reverses the first two world axes. Sizes are checked on the header alone.
"""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import BinaryIO, Final

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from scantwin.files import whole_file
from scantwin.imaging.limits import MAX_VOXEL_BYTES, check_bytes
from scantwin.imaging.reasons import reject
from scantwin.imaging.volume import Volume
from scantwin.imaging.world import LPS_RAS, volume_from_affine
from scantwin.units import Unit

_HEADERS: Final = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
"""Header class by the header's size [bytes]."""
_TO_MM: Final = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
"""NIfTI-1 standard, xyzt_units; unknown is taken as mm, as every reader does."""
_PLAUSIBLE_VOXEL_MM: Final = (0.05, 60.0)
"""From micro-CT to the slice gap of an old scout; outside this range the unit is wrong."""


_PIECE: Final = 16 << 20
"""Bytes read at a time."""
_AFTER: Final = 1 << 20
"""Most bytes that may follow the voxels, such as a block's padding; more must not be unpacked."""

_BROKEN_HEADER: Final = (HeaderDataError, ValueError, TypeError, ArithmeticError, KeyError)
"""What nibabel raises on fields that make no sense (LinAlgError is a ValueError)."""


def is_nifti(path: Path | str) -> bool:
    """Whether the name is that of a NIfTI file."""
    return str(path).lower().endswith((".nii", ".nii.gz"))


def read_nifti(path: Path | str, unit: Unit) -> Volume:
    """The volume of a .nii or .nii.gz file, as stored (not made canonical). Values in `unit`."""
    path = Path(path)
    if not path.is_file():
        raise reject("study.not-found", path=path)
    with path.open("rb") as stream:
        return read_nifti_stream(stream, unit, str(path))


def read_nifti_stream(stream: BinaryIO, unit: Unit, shown: str) -> Volume:
    """The same from an open file; `shown` names it in errors."""
    try:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        if not packed:
            return _read(stream, unit, shown)
        unpacked = io.BufferedReader(gzip.GzipFile(fileobj=stream))
        volume = _read(unpacked, unit, shown)
        # gzip verifies its checksum only at its end: unless that is read, a flipped bit would pass as voxels.
        if len(unpacked.read(_AFTER + 1)) > _AFTER:
            raise reject("nifti.unreadable", path=shown, found="it goes on after its voxels")
        return volume
    except (EOFError, OSError, zlib.error) as error:
        raise reject("nifti.unreadable", path=shown, found=_short(error)) from None


def write_nifti(volume: Volume, path: Path | str) -> Path:
    """Writes a volume as .nii.gz (or .nii) with sform and qform; booleans become uint8."""
    target = Path(path)
    array = volume.array
    if array.dtype == bool:
        array = array.astype(np.uint8)
    elif array.dtype in (np.int64, np.uint64, np.float16):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.int32)
    affine = np.eye(4)
    affine[:3, :3] = LPS_RAS @ (volume.direction * np.asarray(volume.spacing))[:, ::-1]
    affine[:3, 3] = LPS_RAS @ np.asarray(volume.origin)
    image = nib.Nifti1Image(np.asarray(array).transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    with whole_file(target) as aside:
        nib.save(image, aside)
    return target


def _read(stream: BinaryIO, unit: Unit, shown: str) -> Volume:
    header = _header(stream, shown)
    shape = _shape(header, shown)
    try:
        dtype = header.get_data_dtype()
        slope, inter = header.get_slope_inter()
        offset = int(header.get_data_offset())
        affine = header.get_best_affine()
    except _BROKEN_HEADER as error:
        raise reject("nifti.unreadable", path=shown, found=_short(error)) from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise reject("nifti.dims", path=shown, found=f"values of type {dtype}")
    count = int(np.prod(shape, dtype=np.int64))
    check_bytes(count * max(dtype.itemsize, 4), shown)
    if not 0 <= offset <= MAX_VOXEL_BYTES:
        raise reject("nifti.unreadable", path=shown, found=f"the data begin at byte {offset}")
    # In a single file the voxels follow the header, at byte 352 or 544 at the earliest; some writers leave
    # the offset at 0. A file whose voxels do begin earlier ends early, and is refused for that.
    stream.seek(max(offset, header.single_vox_offset))
    data = _read_exactly(stream, count * dtype.itemsize, shown)
    stored = np.frombuffer(data, dtype).reshape(shape[::-1])  # (k, j, i): Fortran order of (i, j, k)
    return volume_from_affine(_scaled(stored, slope, inter), _lps(affine, header, shown), unit, shown)


def _header(stream: BinaryIO, shown: str) -> nib.Nifti1Header:
    start = stream.read(4)
    for size, kind in _HEADERS.items():
        if size in (int.from_bytes(start, "little"), int.from_bytes(start, "big")):
            block = start + _read_exactly(stream, size - 4, shown)
            try:
                header: nib.Nifti1Header = kind.from_fileobj(io.BytesIO(block), check=False)
                return header
            except _BROKEN_HEADER as error:
                raise reject("nifti.unreadable", path=shown, found=_short(error)) from None
    raise reject("nifti.unreadable", path=shown, found="it does not begin with a NIfTI header")


def _shape(header: nib.Nifti1Header, shown: str) -> tuple[int, int, int]:
    dims = [int(n) for n in header["dim"]]
    if not 1 <= dims[0] <= 7:
        raise reject("nifti.unreadable", path=shown, found=f"{dims[0]} dimensions")
    shape = dims[1 : dims[0] + 1] + [1] * 3
    if any(n < 1 for n in shape) or any(n != 1 for n in shape[3:]):
        raise reject("nifti.dims", path=shown, found=f"its shape is {tuple(shape[: dims[0]])}")
    return shape[0], shape[1], shape[2]


def _lps(affine: NDArray[np.float64], header: nib.Nifti1Header, shown: str) -> NDArray[np.float64]:
    """The 4 x 4 affine (i, j, k) -> LPS [mm]."""
    if not header["sform_code"] and not header["qform_code"]:
        # Method 1 of NIfTI-1: voxel sizes without position or direction. Which way is front would be a guess.
        raise reject("nifti.geometry", path=shown, found="neither sform nor qform says how it lies")
    if not np.isfinite(affine).all():
        raise reject("nifti.geometry", path=shown, found="it holds values that are not numbers")
    try:
        scale = _TO_MM.get(header.get_xyzt_units()[0], 1.0)
    except (KeyError, ValueError):
        scale = 1.0
    lps = np.eye(4)
    lps[:3] = LPS_RAS @ affine[:3]
    voxel = np.linalg.norm(lps[:3, :3], axis=0)
    low, high = _PLAUSIBLE_VOXEL_MM
    # Some writers say metres and write millimetres: the unit is used only where it makes sense.
    if scale != 1.0 and ((voxel * scale >= low) & (voxel * scale <= high)).all():
        lps[:3] *= scale
    return lps


def _scaled(stored: NDArray[np.generic], slope: float | None, inter: float | None) -> NDArray[np.generic]:
    """Stored values with the header's scale, in native byte order; float32, or unscaled integers."""
    slope, inter = 1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter)
    if slope == 1.0 and inter == 0.0 and stored.dtype.kind in "iu":
        return stored.astype(stored.dtype.newbyteorder("="))
    wide: NDArray[np.floating] = stored.astype(np.float64 if stored.dtype.itemsize > 4 else np.float32)
    # The caller deals with values that are not numbers; numpy need not warn of them on the terminal.
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(wide * slope + inter, np.float32)


def _read_exactly(stream: BinaryIO, size: int, shown: str) -> bytearray:
    data = bytearray()
    while len(data) < size:
        # Piece by piece, so memory is used for what is there, not for what a header claims.
        piece = stream.read(min(size - len(data), _PIECE))
        if not piece:
            raise reject("nifti.unreadable", path=shown, found=f"it ends {size - len(data)} bytes early")
        data += piece
    return data


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120] or type(error).__name__
