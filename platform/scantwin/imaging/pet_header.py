"""`PetHeader`: what one PET instance says about itself, as plain numbers and texts.

It comes from a DICOM dataset (`header_of`) or from a header dump, a JSON list with one object of DICOM
keywords per instance (`headers_of_dump`). Reading never fails: a missing number is None, an unreadable one is
NaN, and the rules of `suv` decide which of them matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydicom import Dataset

GE_CREATOR: Final = "GEMS_PETD_01"
"""Private creator of GE's PET block in group 0009 (xx0D scan start, xx3B administration)."""
SIEMENS_CREATOR: Final = "SIEMENS MED PT"
"""Private creator of Siemens' PET block in group 0071 (xx22 reference of the decay correction)."""
PHILIPS_CREATOR: Final = "Philips PET Private Group"
"""Private creator of Philips' PET block in group 7053 (xx00 SUV factor, xx09 activity factor)."""

UNREADABLE: Final = "(unreadable)"
"""Stands for a value that pydicom could not decode."""


@dataclass(frozen=True)
class PetHeader:
    """One PET instance. A number is None if it is missing, NaN if it is present but not finite."""

    modality: str = "PT"
    series_uid: str = ""
    manufacturer: str = ""
    units: str = ""
    """Units (0054,1001), upper case."""
    suv_type: str = ""
    """SUVType (0054,1006), upper case."""
    corrected: tuple[str, ...] = ()
    """CorrectedImage (0028,0051), upper case."""
    decay_correction: str = ""
    """DecayCorrection (0054,1102), upper case."""
    weight: float | None = None
    """PatientWeight (0010,1030) [kg]."""
    height: float | None = None
    """PatientSize (0010,1020) [m]."""
    sex: str = ""
    """PatientSex (0010,0040), upper case."""
    dose: float | None = None
    """RadionuclideTotalDose (0018,1074) [Bq], as stored."""
    administrations: int = 1
    """Number of items of the radiopharmaceutical sequence (0054,0016)."""
    half_life: float | None = None
    """RadionuclideHalfLife (0018,1075) [s]."""
    nuclide: str = ""
    """Code and meaning of the radionuclide."""
    tracer: str = ""
    """Name of the radiopharmaceutical (0018,0031) or its code's meaning."""
    start_time: str = ""
    """RadiopharmaceuticalStartTime (0018,1072)."""
    start_datetime: str = ""
    """RadiopharmaceuticalStartDateTime (0018,1078)."""
    series_date: str = ""
    series_time: str = ""
    acquisition_date: str = ""
    acquisition_time: str = ""
    zone: str = ""
    """TimezoneOffsetFromUTC (0008,0201), the clock of all times without a zone of their own."""
    frame_reference_ms: float | None = None
    """FrameReferenceTime (0054,1300) [ms]."""
    frame_duration_ms: float | None = None
    """ActualFrameDuration (0018,1242) [ms]."""
    decay_factor: float | None = None
    """DecayFactor (0054,1321)."""
    slope: float | None = 1.0
    """RescaleSlope (0028,1053); 1 in a header dump, which need not carry it."""
    intercept: float | None = 0.0
    """RescaleIntercept (0028,1052)."""
    corrected_to: str = ""
    """DecayCorrectionDateTime (0018,9701) of an enhanced PET."""
    vendor_reference: str = ""
    """Private reference of decay: GE (0009,xx0D), Siemens (0071,xx22)."""
    vendor_start: str = ""
    """Private administration time of GE (0009,xx3B)."""
    philips_suv: float | None = None
    """Philips (7053,xx00) [g/ml per stored unit, after the rescale slope]."""
    philips_activity: float | None = None
    """Philips (7053,xx09) [Bq/ml per stored unit, after the rescale slope]."""

    @property
    def is_ge(self) -> bool:
        """Whether GE made the scanner."""
        return self.manufacturer.upper().startswith(("GE ", "GEMS", "GENERAL ELECTRIC")) or (
            self.manufacturer.upper() == "GE"
        )


def number(value: object) -> float | None:
    """A DICOM number: None if it is missing, NaN if it is not exactly one finite number."""
    if isinstance(value, bytes):
        value = text(value)
    if isinstance(value, list | tuple) or (
        hasattr(value, "__iter__") and not isinstance(value, str | Mapping)
    ):
        items = list(value)
        if len(items) != 1:
            return None if not items else math.nan
        value = items[0]
    if value is None or (isinstance(value, str) and not value.strip(" \0")):
        return None
    # Python takes 1_0 for ten, and so does pydicom, whose numbers remember how they were written.
    if isinstance(value, bool) or "_" in str(value):
        return math.nan
    try:
        found = float(str(value).strip(" \0"))
    except (ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def text(value: object) -> str:
    """A DICOM text without its padding; several values are joined by a backslash.

    A lone surrogate (half a character, which JSON can hold) becomes a question mark: nothing can write it.
    """
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str) and hasattr(value, "__iter__") and not hasattr(value, "components"):
        return "\\".join(text(item) for item in value)
    return str(value).strip(" \0\t\r\n").encode("utf-8", "replace").decode("utf-8")


def header_of(dataset: Dataset) -> PetHeader:
    """The header of a PET instance. Never fails, whatever the file says."""
    get = _reader(dataset)
    items = get("RadiopharmaceuticalInformationSequence") or []
    drug = _first_item(items)
    code = _first_item(drug("RadionuclideCodeSequence"))
    name = _first_item(drug("RadiopharmaceuticalCodeSequence"))
    ge = text(_private(dataset, 0x0009, GE_CREATOR, 0x0D))
    siemens = text(_private(dataset, 0x0071, SIEMENS_CREATOR, 0x22))
    return _build(
        get,
        drug,
        administrations=len(items) if _is_sequence(items) else 1,
        # Some Discovery ST exports have lost the manufacturer; the private block reveals it.
        manufacturer=text(get("Manufacturer")) or ("GE MEDICAL SYSTEMS" if ge else ""),
        nuclide=f"{text(code('CodeValue'))} {text(code('CodeMeaning'))}".strip(),
        tracer=text(drug("Radiopharmaceutical")) or text(name("CodeMeaning")),
        slope=number(get("RescaleSlope")),
        vendor_reference=ge or siemens,
        vendor_start=text(_private(dataset, 0x0009, GE_CREATOR, 0x3B)),
        philips_suv=number(_private(dataset, 0x7053, PHILIPS_CREATOR, 0x00)),
        philips_activity=number(_private(dataset, 0x7053, PHILIPS_CREATOR, 0x09)),
    )


def headers_of_dump(entries: Iterable[object]) -> list[PetHeader]:
    """The headers of a dump: one object of DICOM keywords per instance, the drug's nested or among them.

    Private fields have their own names: `PhilipsPETPrivateGroup` {`SUVScaleFactor`,
    `ActivityConcentrationScaleFactor`}, `GEPrivatePostInjectionDateTime` (0009,xx0D, under the name that the
    survey's dumps use) and `SiemensDecayCorrectionDateTime` (0071,xx22). Raises ValueError if an entry is not
    an object.
    """
    return [_header_of_entry(entry) for entry in entries]


def _header_of_entry(entry: object) -> PetHeader:
    if not isinstance(entry, Mapping):
        raise ValueError(f"an instance is an object of DICOM keywords, not {type(entry).__name__}")
    items = entry.get("RadiopharmaceuticalInformationSequence")
    drug = items[0] if isinstance(items, list) and items and isinstance(items[0], Mapping) else entry
    philips = entry.get("PhilipsPETPrivateGroup")
    philips = philips if isinstance(philips, Mapping) else {}
    slope = number(entry.get("RescaleSlope"))
    return _build(
        entry.get,
        drug.get,
        administrations=len(items) if isinstance(items, list) and items else 1,
        manufacturer=text(entry.get("Manufacturer")),
        nuclide=text(entry.get("RadionuclideCode")),
        tracer=text(drug.get("Radiopharmaceutical")),
        slope=1.0 if slope is None else slope,
        vendor_reference=text(entry.get("GEPrivatePostInjectionDateTime"))
        or text(entry.get("SiemensDecayCorrectionDateTime")),
        philips_suv=number(philips.get("SUVScaleFactor")),
        philips_activity=number(philips.get("ActivityConcentrationScaleFactor")),
    )


def _build(get: Any, drug: Any, **given: Any) -> PetHeader:
    corrected = text(get("CorrectedImage")).upper()
    intercept = number(get("RescaleIntercept"))
    return PetHeader(
        modality=text(get("Modality")).upper() or "PT",
        series_uid=text(get("SeriesInstanceUID")),
        units=text(get("Units")).upper(),
        suv_type=text(get("SUVType")).upper(),
        corrected=tuple(part.strip() for part in corrected.split("\\") if part.strip()),
        decay_correction=text(get("DecayCorrection")).upper(),
        weight=number(get("PatientWeight")),
        height=number(get("PatientSize")),
        sex=text(get("PatientSex")).upper(),
        dose=number(drug("RadionuclideTotalDose")),
        half_life=number(drug("RadionuclideHalfLife")),
        start_time=text(drug("RadiopharmaceuticalStartTime")),
        start_datetime=text(drug("RadiopharmaceuticalStartDateTime")),
        series_date=text(get("SeriesDate")),
        series_time=text(get("SeriesTime")),
        acquisition_date=text(get("AcquisitionDate")),
        acquisition_time=text(get("AcquisitionTime")),
        zone=text(get("TimezoneOffsetFromUTC")),
        corrected_to=text(get("DecayCorrectionDateTime")),
        frame_reference_ms=number(get("FrameReferenceTime")),
        frame_duration_ms=number(get("ActualFrameDuration")),
        decay_factor=number(get("DecayFactor")),
        intercept=0.0 if intercept is None else intercept,
        **given,
    )


def _is_sequence(value: object) -> bool:
    return not isinstance(value, str | bytes) and hasattr(value, "__len__") and len(value) > 0


def _reader(dataset: Dataset) -> Any:
    def get(keyword: str) -> object:
        try:
            return dataset.get(keyword)
        except Exception:
            # pydicom decodes on access; what a broken value raises depends on its VR.
            return UNREADABLE

    return get


def _first_item(sequence: object) -> Any:
    """A reader of a sequence's first item, or of nothing if there is none."""
    return _reader(sequence[0]) if _is_sequence(sequence) else {}.get  # type: ignore[index]


def _private(dataset: Dataset, group: int, creator: str, element: int) -> object:
    """A private value, found through its creator: the block may lie at any xx."""
    try:
        block = dataset.private_block(group, creator)
        return block[element].value if element in block else None
    except KeyError:
        return None
    except Exception:
        return UNREADABLE
