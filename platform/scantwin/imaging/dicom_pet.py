"""Writes a synthetic PET [g/ml] as a DICOM series that joins the patient's study.

SOP class Positron Emission Tomography Image Storage (PS3.3 A.21; modules C.8.9.1 to C.8.9.4). The series says
in three places that it is SYNTHETIC and NOT FOR DIAGNOSTIC USE. `dciodvfy` finds one error: value 2 of
ImageType is SECONDARY, where C.8.9.4 allows only PRIMARY. That is on purpose: no scanner measured anything
here, and scanners themselves write SECONDARY for images in SUV.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    ExplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from scantwin import __version__
from scantwin.files import whole_folder
from scantwin.imaging.dicom_headers import BROKEN
from scantwin.imaging.dicom_kinds import MACHINE, METHOD
from scantwin.imaging.reasons import reject
from scantwin.imaging.volume import Volume
from scantwin.units import F18_HALF_LIFE_S

LARGEST_STORED: Final = 32767
"""Largest stored value: signed 16 bit, as scanners write PET (unsigned is allowed, but rarer)."""
SERIES_NUMBER: Final = 9001
"""Far above the numbers that scanners assign. A series of standard deviations would have 9002: a scan writes
none."""
_LONGEST_TEXT: Final = 10240
"""Characters of a value of VR LT (PS3.5 6.2)."""

_OF_THE_PATIENT: Final = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "PatientSize", "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)  # fmt: skip
_OF_THE_STUDY: Final = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "ReferringPhysicianName", "FrameOfReferenceUID", "PositionReferenceIndicator",
    "InstitutionName", "AcquisitionDate", "AcquisitionTime", "BodyPartExamined", "Laterality",
)  # fmt: skip
"""What the series takes over from the CT: who, which examination, and in which coordinates."""
_MAY_BE_EMPTY: Final = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PositionReferenceIndicator", "AcquisitionDate",
    "AcquisitionTime",
)  # fmt: skip
"""Type 2 attributes: present, but empty if unknown."""

_PAIRED: Final = frozenset(
    (
        "EXTREMITY",
        "LEG",
        "ARM",
        "HAND",
        "FOOT",
        "KNEE",
        "HIP",
        "ANKLE",
        "ELBOW",
        "SHOULDER",
        "BREAST",
        "THIGH",
    )
)
"""Body parts for which Laterality is Type 2C (C.7.3.1)."""
_POSTURE: Final = {"S": ("40199007", "supine"), "P": ("1240000", "prone")}
"""Third letter of PatientPosition -> SNOMED CT (CID 20)."""
_FIRST: Final = {"HF": ("102540008", "headfirst"), "FF": ("102541007", "feet-first")}
"""First two letters of PatientPosition -> SNOMED CT (CID 21)."""


def write_pet_series(
    pet: Volume,
    folder: Path,
    *,
    like: Dataset | None = None,
    model_version: str,
    seed: int,
    std: bool = False,
    when: datetime | None = None,
    remark: str = "",
) -> list[Path]:
    """Writes `pet` [g/ml] (SUVbw), one file per slice, all or none; gives the files in order of z.

    `like` is a header of the CT, whose patient, study and frame of reference are taken over; without it they
    are synthetic. The same image, seed, model version and study give the same files, including the unique
    identifiers; `when` is the series date and time (default: the CT's). `remark` is what else ImageComments
    must say, for example of the model. With `std` the image is the standard deviation of a synthetic PET: its
    CorrectedImage stays empty, so that nothing mistakes it for a PET. Negative values become 0.
    Raises `pet.not-finite`.
    """
    image = pet.canonical()
    array = np.asarray(image.array, dtype=np.float64)
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise reject("pet.not-finite", found=f"{bad} voxels")
    version = model_version.replace("\\", "/")
    common = _common(array, image, like, version, seed, std, when, remark)
    with whole_folder(folder) as aside:
        for k, values in enumerate(array):
            slice_ = _slice(common, image, k, values)
            slice_.save_as(aside / _name(k), enforce_file_format=True)
    return [Path(folder) / _name(k) for k in range(len(array))]


def _name(k: int) -> str:
    return f"{k + 1:05d}.dcm"


_LEAST_SLOPE = 1e-30
"""Not every reader can distinguish a smaller slope from zero: single precision ends at 1e-38."""


def quantise(values: NDArray[np.float64]) -> tuple[NDArray[np.int16], str]:
    """Stored values of one slice (y, x) and its rescale slope, a DICOM DS: value = stored * slope [g/ml]."""
    top = float(values.max(initial=0.0))
    # The slope is formatted before it is used, because a reader multiplies by the rounded text.
    slope = format_number_as_ds(max(top / LARGEST_STORED, _LEAST_SLOPE)) if top > 0 else "1"
    stored = np.clip(np.rint(values / float(slope)), 0, LARGEST_STORED).astype(np.int16)
    return stored, slope


def _common(
    array: NDArray[np.float64],
    image: Volume,
    like: Dataset | None,
    version: str,
    seed: int,
    std: bool,
    when: datetime | None,
    remark: str,
) -> Dataset:
    """What all slices share."""
    kind = "standard deviation" if std else "PET"
    source = str(like.get("StudyInstanceUID", "")) if like is not None else ""
    digest = hashlib.sha256(array.astype("<f4").tobytes() + repr(image.affine.tolist()).encode()).hexdigest()
    entropy = ["ScanTwin", kind, version, str(seed), source, digest]
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    _identity(ds, like, entropy, digest)
    ds.SOPClassUID = PositronEmissionTomographyImageStorage
    ds.SeriesInstanceUID = _uid(entropy, "series")
    ds.Modality = "PT"
    ds.SeriesNumber = SERIES_NUMBER + int(std)
    _when(ds, when)
    _words(ds, version, seed, kind, remark)
    _pet_series(ds, len(array), std)
    _isotope(ds)
    _posture(ds, str(like.get("PatientPosition") or "") if like is not None else "HFS")
    ds.Manufacturer = "ScanTwin"
    ds.ManufacturerModelName = MACHINE
    ds.SoftwareVersions = [f"scantwin {__version__}", version[:64]]
    ds.ImageType = ["DERIVED", "SECONDARY"]
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.WindowCenter, ds.WindowWidth = ("1", "2") if std else ("5", "10")
    _grid(ds, image)
    return ds


def _identity(ds: Dataset, like: Dataset | None, entropy: Sequence[str], digest: str) -> None:
    if like is not None:
        for keyword in (*_OF_THE_PATIENT, *_OF_THE_STUDY):
            # A value that cannot even be decoded is left out rather than passed on.
            with suppress(*BROKEN):
                if keyword in like:
                    ds.add(deepcopy(like[keyword]))  # setting a shared element would change the CT
    else:
        ds.PatientName = "SYNTHETIC^VIRTUAL"
        ds.PatientID = f"SYNTHETIC-{digest[:12]}"
        ds.PatientIdentityRemoved = "YES"
        ds.DeidentificationMethod = "Synthetic patient"
        ds.StudyID = "SYNTHETIC"
        ds.StudyDescription = "SYNTHETIC, NOT FOR DIAGNOSTIC USE"
    for keyword in _MAY_BE_EMPTY:
        if keyword not in ds:
            setattr(ds, keyword, "")
    if not ds.get("StudyInstanceUID"):
        ds.StudyInstanceUID = _uid(entropy, "study")
    if not ds.get("FrameOfReferenceUID"):
        ds.FrameOfReferenceUID = _uid(entropy, "frame of reference")
    if not ds.get("BodyPartExamined"):
        ds.BodyPartExamined = "WHOLEBODY"
    if ds.BodyPartExamined in _PAIRED and "Laterality" not in ds:
        ds.Laterality = ""


def _when(ds: Dataset, when: datetime | None) -> None:
    """Sets series date and time, which are Type 1: the CT's if known, else DICOM's dummy date."""
    if when is not None:
        ds.SeriesDate, ds.SeriesTime = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
        return
    ds.SeriesDate = ds.get("AcquisitionDate") or ds.get("StudyDate") or "19000101"
    ds.SeriesTime = ds.get("AcquisitionTime") or ds.get("StudyTime") or "000000"
    ds.StudyDate, ds.StudyTime = ds.StudyDate or ds.SeriesDate, ds.StudyTime or ds.SeriesTime


def _words(ds: Dataset, version: str, seed: int, kind: str, remark: str) -> None:
    short = "" if kind == "PET" else "SD "
    ds.SeriesDescription = f"{short}SYNTHETIC NOT FOR DIAGNOSTIC USE {version}"[:64].strip()
    said = f"SYNTHETIC {kind}, NOT FOR DIAGNOSTIC USE. Made from a CT by the model {version}"
    made = f"{said}, seed {seed}, scantwin {__version__}. No tracer was given and no PET was taken."
    ds.ImageComments = f"{made} {remark}".strip()[:_LONGEST_TEXT]
    ds.DerivationDescription = f"{said}, seed {seed}."[:1024]


def _pet_series(ds: Dataset, slices: int, std: bool) -> None:
    ds.Units = "GML"
    ds.SUVType = "BW"
    ds.DecayCorrection = "ADMIN"
    ds.DecayFactor = "1"
    ds.CorrectedImage = [] if std else ["ATTN", "DECY"]
    ds.CountsSource = "EMISSION"
    ds.SeriesType = ["STATIC", "IMAGE"]
    ds.NumberOfSlices = slices
    ds.CollimatorType = "NONE"
    ds.ReconstructionMethod = METHOD
    ds.FrameReferenceTime = "0"
    ds.ActualFrameDuration = None
    ds.DoseCalibrationFactor = None


def _isotope(ds: Dataset) -> None:
    """FDG, which the image imitates; no dose and no time, since none was given."""
    drug = Dataset()
    drug.Radiopharmaceutical = "FDG (synthetic, none given)"
    drug.RadionuclideHalfLife = str(F18_HALF_LIFE_S)
    drug.RadionuclideCodeSequence = [_code("77004003", "^18^Fluorine")]
    drug.RadiopharmaceuticalCodeSequence = [_code("35321007", "Fluorodeoxyglucose F^18^")]
    ds.RadiopharmaceuticalInformationSequence = [drug]


def _posture(ds: Dataset, position: str) -> None:
    """How the patient lay, as codes (C.8.4.6); PatientPosition itself must not be present beside them."""
    ds.PatientOrientationCodeSequence = []
    ds.PatientGantryRelationshipCodeSequence = []
    if position[:2] in _FIRST and position[2:] in _POSTURE:
        recumbent = _code("102538003", "recumbent")
        recumbent.PatientOrientationModifierCodeSequence = [_code(*_POSTURE[position[2:]])]
        ds.PatientOrientationCodeSequence = [recumbent]
        ds.PatientGantryRelationshipCodeSequence = [_code(*_FIRST[position[:2]])]


def _code(value: str, meaning: str) -> Dataset:
    """A SNOMED CT code."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code


def _grid(ds: Dataset, image: Volume) -> None:
    _, rows, columns = image.shape
    ds.Rows, ds.Columns = rows, columns
    ds.PixelSpacing = _ds(image.spacing[1:])
    ds.SliceThickness = _ds(image.spacing[:1])[0]
    # DICOM names the direction of a row (array axis x) first, then that of a column (array axis y).
    ds.ImageOrientationPatient = _ds([*image.direction[:, 2], *image.direction[:, 1]])
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelRepresentation = 1
    ds.RescaleIntercept = "0"


def _slice(common: Dataset, image: Volume, k: int, values: NDArray[np.float64]) -> Dataset:
    ds = Dataset()
    ds.update(common)
    position = image.world([k, 0, 0])
    ds.InstanceNumber = k + 1
    ds.ImageIndex = k + 1
    ds.SOPInstanceUID = _uid([str(common.SeriesInstanceUID)], str(k))
    ds.ImagePositionPatient = _ds(position)
    ds.SliceLocation = _ds([float(np.cross(image.direction[:, 2], image.direction[:, 1]) @ position)])[0]
    stored, ds.RescaleSlope = quantise(values)
    ds.PixelData = stored.astype("<i2").tobytes()
    ds["PixelData"].VR = "OW"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return ds


def _ds(numbers: Sequence[float] | NDArray[np.float64]) -> list[str]:
    # Adding 0.0 turns -0.0 into 0.0.
    return [format_number_as_ds(float(n) + 0.0) for n in numbers]


def _uid(entropy: Sequence[str], what: str) -> str:
    return str(generate_uid(entropy_srcs=[*entropy, what]))
