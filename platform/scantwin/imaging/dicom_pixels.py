"""Pixels of DICOM images: native or compressed, checked against the header before they are decoded."""

from __future__ import annotations

from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ImplicitVRLittleEndian, RLELossless

from scantwin.errors import Rejection
from scantwin.imaging.codestreams import claimed_size
from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.dicom_headers import BROKEN, in_short
from scantwin.imaging.jpeg_apart import OLD_JPEG, JpegApart
from scantwin.imaging.reasons import reject

_DECODER: Final = {
    **{f"1.2.840.10008.1.2.4.{k}": "pyjpegls" for k in (80, 81)},
    **{f"1.2.840.10008.1.2.4.{k}": "pylibjpeg" for k in (90, 91, 201, 202, 203)},
    RLELossless: "pydicom",
}
"""Transfer syntax (JPEG-LS, JPEG 2000 and its high-throughput form, RLE) -> the one decoder that is used.
pydicom would try others when one fails, and GDCM ends the process on some damaged files."""


class PixelReader:
    """Reads frames; a context manager, since old JPEG needs a process that must end."""

    def __init__(self) -> None:
        self._apart = JpegApart()

    def __enter__(self) -> PixelReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._apart.close()

    def frame(self, dataset: Dataset, number: int, ref: FileRef) -> NDArray[np.generic]:
        """Stored values (rows, columns) of frame `number` of a file. Raises the `dicom.*` rejections."""
        shape = int(dataset.Rows), int(dataset.Columns)
        if int(dataset.get("SamplesPerPixel", 1) or 1) != 1:
            raise reject("dicom.not-images", path=ref.shown)
        if "PixelData" not in dataset:
            raise reject("dicom.truncated", path=ref.shown, found="it has no pixels")
        frames = int(dataset.get("NumberOfFrames") or 1)
        syntax = _syntax(dataset, ref)
        packed = syntax.is_compressed and not syntax.is_deflated
        if not packed:
            need = -(-shape[0] * shape[1] * frames * int(dataset.get("BitsAllocated") or 16) // 8)
            if len(dataset.PixelData) < need:
                found = f"{len(dataset.PixelData)} of {need} bytes"
                raise reject("dicom.truncated", path=ref.shown, found=found)
        try:
            stored = self._stored(dataset, number, syntax if packed else None, ref)
        except Rejection:
            raise
        except BROKEN as error:
            if packed:
                found = f"{syntax.name}, {in_short(error)}"
                raise reject("dicom.compressed", path=ref.shown, found=found) from None
            raise
        if stored.ndim == 3 and stored.shape[0] == 1:
            stored = stored[0]
        if stored.shape != shape:
            found = f"an image of {stored.shape} instead of {shape}"
            raise reject("dicom.truncated", path=ref.shown, found=found)
        return stored

    def _stored(self, dataset: Dataset, number: int, packed: UID | None, ref: FileRef) -> NDArray[np.generic]:
        if packed is None and int(dataset.get("BitsAllocated") or 16) == 1:
            return _bits(dataset, number)
        misplaced = _misplaced(dataset)
        if misplaced and packed is not None:
            raise _high_bit(dataset, ref)
        if misplaced:
            return _moved_down(dataset, number, ref)
        if packed is None:
            return np.asarray(pixel_array(dataset, index=number, raw=True))
        if packed not in OLD_JPEG and packed not in _DECODER:
            raise reject("dicom.compressed", path=ref.shown, found=packed.name)
        if packed != RLELossless:  # which claims no size of its own
            _check_claim(dataset, number, packed, ref)
        if packed in OLD_JPEG:
            with ref.open() as stream:
                return self._apart.decode(stream.read(), number)
        # `raw`: no colour or window is applied to the stored values. `index` even for a single frame: without
        # it pydicom goes on to frames beyond NumberOfFrames, whose claims have not been checked.
        return np.asarray(pixel_array(dataset, index=number, raw=True, decoding_plugin=_DECODER[packed]))


def _misplaced(dataset: Dataset) -> bool:
    """Whether the stored bits lie above unused ones: HighBit is not BitsStored - 1 (retired)."""
    allocated, bits, high = _placement(dataset)
    return 0 < bits <= high < allocated


def _placement(dataset: Dataset) -> tuple[int, int, int]:
    """BitsAllocated, BitsStored, HighBit; the usual value where one is missing."""
    allocated = int(dataset.get("BitsAllocated") or 16)
    bits = int(dataset.get("BitsStored") or allocated)
    high = dataset.get("HighBit")
    return allocated, bits, bits - 1 if high is None else int(high)


def _moved_down(dataset: Dataset, number: int, ref: FileRef) -> NDArray[np.generic]:
    """A frame whose values lie in the upper bits. Raises `dicom.high-bit` if a bit below them is set."""
    allocated, bits, high = _placement(dataset)
    array = np.asarray(pixel_array(dataset, index=number, raw=True, correct_unused_bits=False))
    # If one is set, HighBit is wrong and the values lie as usual, or an overlay lies below: nobody can tell.
    if (array & (2 ** (high + 1 - bits) - 1)).any():
        raise _high_bit(dataset, ref)
    return np.asarray((array << (allocated - 1 - high)) >> (allocated - bits))


def _high_bit(dataset: Dataset, ref: FileRef) -> Rejection:
    _, bits, high = _placement(dataset)
    return reject("dicom.high-bit", path=ref.shown, found=f"{bits} bits are stored, the highest is {high}")


def _check_claim(dataset: Dataset, number: int, packed: UID, ref: FileRef) -> None:
    """Raises `dicom.compressed` if the codestream of a frame claims another size than the image has."""
    claimed = claimed_size(_codestream(dataset, number))
    size = int(dataset.Rows), int(dataset.Columns), 1
    if claimed != size:
        said = "nothing" if claimed is None else " x ".join(map(str, claimed))
        found = f"{packed.name}, whose codestream claims {said} instead of {' x '.join(map(str, size))}"
        raise reject("dicom.compressed", path=ref.shown, found=found)


def _codestream(dataset: Dataset, number: int) -> bytes:
    """The bytes of one compressed frame, located in the same way as pydicom locates what it decodes."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    offsets, lengths = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    # pydicom ignores tables that do not match.
    tables = (offsets, lengths) if offsets and lengths and len(offsets) == len(lengths) else None
    return get_frame(dataset.PixelData, number, number_of_frames=frames, extended_offsets=tables)


def _bits(dataset: Dataset, number: int) -> NDArray[np.uint8]:
    """A frame of single bits (rows, columns); frames follow each other without a gap, even within a byte.

    pydicom reads too few bytes if a frame begins late in a byte.
    """
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    first = number * rows * columns
    stored = np.frombuffer(dataset.PixelData, np.uint8)[first // 8 : -(-(first + rows * columns) // 8)]
    bits = np.unpackbits(stored, bitorder="little")[first % 8 :]
    return bits[: rows * columns].reshape(rows, columns)


def _syntax(dataset: Dataset, ref: FileRef) -> UID:
    """The transfer syntax; an old export without file meta is Implicit VR Little Endian."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    uid = UID(dataset.file_meta.get("TransferSyntaxUID") or ImplicitVRLittleEndian)
    dataset.file_meta.TransferSyntaxUID = uid
    if not uid.is_transfer_syntax:
        raise reject("dicom.compressed", path=ref.shown, found="an unknown transfer syntax")
    return uid
