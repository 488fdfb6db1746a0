"""DICOM headers: read without pixels, one flat header per frame, classic and enhanced alike.

Enhanced CT and PET (Part 3, A.38 and A.56) keep the fields of a frame in functional groups. `frames_of` lifts
them to where classic images have them, so that everything above reads one kind of header.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, BinaryIO, Final, cast

import pydicom
from pydicom.dataset import Dataset

from scantwin.errors import Rejection
from scantwin.imaging import limits
from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.reasons import reject
from scantwin.imaging.suv_times import parse_datetime

BROKEN: Final = (Exception,)
"""What parsers raise on damaged bytes cannot be listed: for pydicom it depends on each element's VR, decoders
have errors of their own. A parser of foreign files must not take the program down with it."""

MAX_FRAMES: Final = 20_000
"""Largest number of frames in one multi-frame file."""
_PIECE: Final = 1 << 20
"""Bytes inflated at a time."""

# Values from hospitals constantly break length and character rules. pydicom would warn about each and quote
# the value, which may be a name; what matters here is checked where it is used.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

_LIFTED: Final = (
    ("PlanePositionSequence", ("ImagePositionPatient",)),
    ("PlaneOrientationSequence", ("ImageOrientationPatient",)),
    ("PixelMeasuresSequence", ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices")),
    ("PixelValueTransformationSequence", ("RescaleIntercept", "RescaleSlope", "RescaleType")),
    ("FrameContentSequence", ("FrameAcquisitionDuration", "TemporalPositionIndex", "StackID")),
    ("CTReconstructionSequence", ("ConvolutionKernel",)),
    ("CTAcquisitionDetailsSequence", ("GantryDetectorTilt",)),
)  # fmt: skip
"""Functional group -> fields that a classic image has at its top level."""

_CORRECTIONS: Final = (
    ("AttenuationCorrected", "ATTN"), ("DecayCorrected", "DECY"), ("ScatterCorrected", "SCAT"),
    ("RandomsCorrected", "RAN"), ("DeadTimeCorrected", "DTIM"),
)  # fmt: skip
"""Enhanced PET says YES or NO in one field per correction; classic PET lists codes in CorrectedImage."""


_UNASSIGNED: Final = (
    "UnassignedSharedConvertedAttributesSequence", "UnassignedPerFrameConvertedAttributesSequence",
)  # fmt: skip
"""Where a legacy converted image keeps the fields that belong to no functional group (Part 3, A.70, A.71)."""

_MEASURED: Final[dict[str, tuple[str, str]]] = {
    "bq/ml": ("BQML", ""), "suvbw": ("GML", "BW"), "suvlbm": ("GML", "LBM"), "suvibw": ("GML", "IBW"),
    "suvlbmjanma": ("GML", "LBMJANMA"), "suvlbmjames128": ("GML", "LBMJAMES128"), "suvbsa": ("CM2ML", "BSA"),
}  # fmt: skip
"""UCUM unit of a real world value mapping -> Units, SUVType (Part 16, CID 84, 85). Activity comes first."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silences pydicom's warnings about a file's structure: they quote values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def reading(ref: FileRef) -> Iterator[None]:
    """Turns what a parser raises on damaged bytes into the rejection `dicom.unreadable`."""
    try:
        with quiet():
            yield
    except Rejection:
        raise
    except BROKEN as error:
        raise reject("dicom.unreadable", path=ref.shown, found=in_short(error)) from None


@contextmanager
def opened(ref: FileRef) -> Iterator[BinaryIO]:
    """The bytes of a DICOM file for pydicom, which inflates a deflated one only to within the limit."""
    with ref.open() as stream:
        yield cast(BinaryIO, _Checked(stream, ref.shown))


class _Checked:
    """A stream for pydicom, which reads all that is left for one purpose only: to inflate it at once."""

    def __init__(self, stream: BinaryIO, shown: str) -> None:
        self._stream, self._shown = stream, shown
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; if negative, all that is left, provided that it inflates within the limit."""
        data = self._stream.read(size)
        if size < 0:
            _check_inflated(data, self._shown)
        return data


def _check_inflated(deflated: bytes, shown: str) -> None:
    """Raises the rejection `dicom.too-large` if this inflates beyond the limit; takes little memory."""
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for start in range(0, len(deflated), _PIECE):
        piece = deflated[start : start + _PIECE]
        while piece and not inflate.eof:
            size += len(inflate.decompress(piece, _PIECE))
            piece = inflate.unconsumed_tail
            if size > limits.MAX_INFLATED_BYTES:
                found = f"it inflates to more than {limits.MAX_INFLATED_BYTES >> 20} MiB"
                raise reject("dicom.too-large", path=shown, found=found)


def in_short(error: BaseException) -> str:
    """What went wrong, without the bytes that parsers quote from the file: they may hold a name."""
    if isinstance(error, EOFError):
        return "it ends early"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()


def read_header(ref: FileRef, tags: list[str] | None = None) -> Dataset:
    """The header of a file without its pixels; only `tags` if given."""
    with reading(ref), opened(ref) as stream:
        header = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=tags)
        if "SOPClassUID" not in header and "Modality" not in header:
            raise reject("dicom.unreadable", path=ref.shown, found="it has no SOP class and no modality")
    return header


def frames_of(header: Dataset) -> list[Dataset]:
    """One flat header per frame; a classic image is a single frame."""
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        return [header]
    if len(per_frame) > MAX_FRAMES:
        raise reject("dicom.too-large", path="the series", found=f"{len(per_frame)} frames in one file")
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])
    top = Dataset()
    for element in header:
        if element.keyword not in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
            top.add(element)
    _correct(top)
    return [_flat(top, [*shared, groups]) for groups in per_frame]


def _flat(top: Dataset, groups: list[Dataset]) -> Dataset:
    frame = Dataset()
    frame.update(top)
    for group in groups:
        for sequence, fields in _LIFTED:
            for item in group.get(sequence) or []:
                for field in fields:
                    if field in item:
                        setattr(frame, field, item.get(field))
        for kind in ("CTImageFrameTypeSequence", "PETFrameTypeSequence"):
            for item in group.get(kind) or []:
                if "FrameType" in item:
                    frame.ImageType = item.FrameType
        for item in group.get("FrameContentSequence") or []:
            _lift_times(frame, item)
        for sequence in _UNASSIGNED:
            for item in group.get(sequence) or []:
                frame.update({e.tag: e for e in item if e.tag not in frame})
    if not frame.get("Units"):
        _lift_units(frame, groups)
    return frame


def _lift_units(frame: Dataset, groups: list[Dataset]) -> None:
    """Sets the units of an enhanced PET, which gives them with its scale in a real world value mapping."""
    known = {}
    for group in groups:
        for item in group.get("RealWorldValueMappingSequence") or []:
            unit = str((item.get("MeasurementUnitsCodeSequence") or [Dataset()])[0].get("CodeValue", ""))
            # {SUVbw}g/ml, also g/ml{SUVbw}
            known[re.sub(r"g/ml|cm2/ml|[{}() ]", "", unit, flags=re.IGNORECASE).lower()] = item
    for unit, (units, kind) in _MEASURED.items():
        if unit in known:
            frame.Units, frame.SUVType = units, kind
            if "RealWorldValueSlope" in known[unit]:
                frame.RescaleSlope = known[unit].RealWorldValueSlope
                frame.RescaleIntercept = known[unit].get("RealWorldValueIntercept", 0)
            return


def _lift_times(frame: Dataset, item: Dataset) -> None:
    when = str(item.get("FrameAcquisitionDateTime") or "")
    if len(when) >= 14:
        frame.AcquisitionDate, frame.AcquisitionTime = _date_and_time(when, _zone(frame))
    reference = str(item.get("FrameReferenceDateTime") or "")
    duration = item.get("FrameAcquisitionDuration")
    if duration is not None:
        frame.ActualFrameDuration = int(float(duration))
    if len(reference) >= 14 and "FrameReferenceTime" in frame:
        del frame.FrameReferenceTime


def _correct(top: Dataset) -> None:
    """Sets the classic fields CorrectedImage and DecayCorrection of an enhanced PET."""
    flags: list[tuple[str, Any]] = [(code, top.get(field)) for field, code in _CORRECTIONS]
    if "CorrectedImage" not in top and any(value is not None for _, value in flags):
        top.CorrectedImage = [code for code, value in flags if value == "YES"]
    when = str(top.get("DecayCorrectionDateTime") or "")
    if "DecayCorrection" not in top and len(when) >= 14:
        items = top.get("RadiopharmaceuticalInformationSequence") or []
        injected = str(items[0].get("RadiopharmaceuticalStartDateTime") or "") if items else ""
        given, stated = parse_datetime(injected, _zone(top)), parse_datetime(when, _zone(top))
        same = given is not None and stated is not None and abs(given - stated) < timedelta(seconds=1)
        top.DecayCorrection = "ADMIN" if same else "START"


def _zone(header: Dataset) -> str:
    return str(header.get("TimezoneOffsetFromUTC") or "")


def _date_and_time(when: str, zone: str) -> tuple[str, str]:
    """A DICOM date-time as date and time on the clock of `zone`; as it stands if it is not one."""
    at = parse_datetime(when, zone)
    return (when[:8], when[8:]) if at is None else (f"{at:%Y%m%d}".zfill(8), f"{at:%H%M%S.%f}")
