"""Phantoms as DICOM: a CT series and a PET series of one study, with a vendor's habits.

The PET holds Bq/ml (Siemens, GE) or counts (Philips); the SUV rules recover what the scanner showed.
Every instance says that it is a SYNTHETIC PHANTOM.
"""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    PositronEmissionTomographyImageStorage,
    generate_uid,
)  # fmt: skip

from scantwin import NOTICE, __version__
from scantwin.imaging.volume import Volume
from scantwin.phantoms.dicom_habits import (
    HABITS,
    Timing,
    beds_of,
    clock,
    frame_fields,
    philips_fields,
    private_fields,
    stamp,
)  # fmt: skip
from scantwin.units import F18_HALF_LIFE_S

if TYPE_CHECKING:
    from scantwin.phantoms.scanner import Vendor

LARGEST_STORED: Final = 32767
"""Largest stored value of a PET (signed 16 bit)."""
SCAN_DAY: Final = date(2026, 3, 2)
"""Day of the scan when none is given."""
MBQ_PER_KG: Final = 4.1
"""Injected activity (LD)."""


@dataclass(frozen=True)
class Subject:
    """The person in the headers, entirely made up."""

    name: str
    sex: str = "O"
    age: int | None = None
    height_m: float | None = None
    weight_kg: float = 70.0
    injected_bq: float | None = None
    """Activity at injection [Bq]; by default 4.1 MBq/kg."""
    dose_at_scan_bq: float | None = None
    """Activity at the start of the scan [Bq], where that is the known one (QC objects)."""


def write_dicom(
    folder: Path, ct: Volume, pet: Volume, subject: Subject, vendor: Vendor, *,
    seed: int, when: date | None = None, lesions: Volume | None = None,
) -> None:  # fmt: skip
    """Writes CT/ and PET/ (and SEG/ for lesions) of one study below `folder`.

    `ct` [HU]; `pet` SUVbw [g/ml] as the scanner shows it. The same input writes the same bytes.
    """
    from scantwin.phantoms.dicom_seg import write_lesions

    rng = np.random.default_rng([seed, 41])
    half_life = 6588.0 if rng.random() < 0.6 else F18_HALF_LIFE_S  # 61 % and 36 % of the survey
    start = datetime.combine(when or SCAN_DAY, time(9, 30)) + timedelta(seconds=int(rng.integers(0, 18000)))
    timing = Timing(start, start + timedelta(seconds=int(rng.integers(3300, 4800))), half_life)
    key = _key(seed, subject, vendor, start, ct, pet)
    common = _common(subject, vendor, key, timing)
    series_ct = _ct_header(deepcopy(common), vendor, ct, key, timing)
    _write(folder / "CT", ct, series_ct, CTImageStorage, key, lambda k, ds: _ct_slice(ds, ct, k))
    injected = subject.injected_bq or MBQ_PER_KG * 1e6 * subject.weight_kg
    if subject.dose_at_scan_bq is not None:
        injected = subject.dose_at_scan_bq / timing.dose_at_scan(1.0)
    # Rounded as it will be read back, so that the activity in the pixels matches the header.
    injected = float(f"{injected:.9g}")
    header = _pet_header(deepcopy(common), vendor, pet, key, timing, injected, rng)
    _write_pet(folder / "PET", pet, header, vendor, key, timing, injected)
    if lesions is not None and lesions.array.any():
        write_lesions(folder / "SEG" / "lesions.dcm", lesions, deepcopy(common), key)


def _key(seed: int, subject: Subject, vendor: Vendor, start: datetime, ct: Volume, pet: Volume) -> str:
    """Key from which a study's UIDs are made: another scan, even only of another day, must have others."""
    digest = hashlib.sha256(repr((seed, subject, vendor, start)).encode())
    for volume in (ct, pet):
        digest.update(repr((volume.shape, volume.spacing, volume.origin)).encode())
        digest.update(np.ascontiguousarray(volume.array).tobytes())
    return digest.hexdigest()


def uid(key: str, *what: object) -> str:
    """A UID that depends on the study and on what it is for."""
    return str(generate_uid(entropy_srcs=["scantwin-phantom", key, *map(str, what)]))


def _common(subject: Subject, vendor: Vendor, key: str, timing: Timing) -> Dataset:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.PatientName, ds.PatientID = f"PHANTOM^{subject.name}", subject.name
    ds.PatientBirthDate, ds.PatientSex = "", subject.sex
    if subject.age is not None:
        ds.PatientAge = f"{subject.age:03d}Y"
    if subject.height_m is not None:
        ds.PatientSize = round(subject.height_m, 4)
    ds.PatientWeight = float(f"{subject.weight_kg:.7g}")
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "Synthetic phantom: there is no patient"
    ds.StudyInstanceUID, ds.FrameOfReferenceUID = uid(key, "study"), uid(key, "frame")
    ds.StudyDate, ds.StudyTime = timing.scan.strftime("%Y%m%d"), clock(timing.scan - timedelta(minutes=8))
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.StudyDescription = "SYNTHETIC PHANTOM PET/CT"
    ds.InstitutionName = "ScanTwin phantom"
    ds.Manufacturer = HABITS[vendor].manufacturer
    ds.SoftwareVersions = f"scantwin {__version__}"
    ds.ImageComments = f"Phantom. {NOTICE}"
    ds.PatientPosition, ds.PositionReferenceIndicator, ds.Laterality = "HFS", "", ""
    return ds


def _ct_header(ds: Dataset, vendor: Vendor, ct: Volume, key: str, timing: Timing) -> Dataset:
    at = timing.scan - timedelta(minutes=4)
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "CT", uid(key, "ct"), 2
    ds.SeriesDescription = "CT WB PHANTOM"
    ds.ManufacturerModelName = HABITS[vendor].ct_model
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = at.strftime("%Y%m%d")
    ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = clock(at)
    ds.KVP, ds.ConvolutionKernel, ds.AcquisitionNumber = 120, "STANDARD", 1
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
    _grid(ds, ct)
    return ds


def _pet_header(
    ds: Dataset, vendor: Vendor, pet: Volume, key: str, timing: Timing, injected_bq: float,
    rng: np.random.Generator,
) -> Dataset:  # fmt: skip
    habit = HABITS[vendor]
    ds.Modality, ds.SeriesInstanceUID, ds.SeriesNumber = "PT", uid(key, "pet"), 3
    ds.SeriesDescription = "PET WB PHANTOM"
    ds.ManufacturerModelName = str(rng.choice(habit.models))
    ds.ImageType = ["ORIGINAL", "PRIMARY"]
    ds.SeriesDate, ds.SeriesTime = timing.scan.strftime("%Y%m%d"), clock(timing.scan)
    ds.ContentDate, ds.ContentTime = ds.SeriesDate, ds.SeriesTime
    ds.Units, ds.DecayCorrection, ds.CorrectedImage = habit.units, "START", list(habit.corrected)
    ds.SeriesType, ds.CountsSource, ds.CollimatorType = ["WHOLE BODY", "IMAGE"], "EMISSION", "NONE"
    ds.NumberOfSlices, ds.ReconstructionMethod = pet.shape[0], habit.reconstruction
    ds.RandomsCorrectionMethod, ds.AttenuationCorrectionMethod = "DLYD", "CT"
    if habit.kernel:
        ds.ConvolutionKernel = habit.kernel
    ds.PatientOrientationCodeSequence, ds.PatientGantryRelationshipCodeSequence = [], []  # Type 2
    del ds.PatientPosition  # replaced by these (C.8.4.6)
    drug = Dataset()
    drug.Radiopharmaceutical = "Fluorodeoxyglucose"
    drug.RadiopharmaceuticalStartTime = clock(timing.injected)
    if rng.random() < 0.4:  # time only in 59 % of the survey, both in 35 %
        drug.RadiopharmaceuticalStartDateTime = stamp(timing.injected)
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = injected_bq, timing.half_life_s
    drug.RadionuclidePositronFraction = 0.967
    drug.RadionuclideCodeSequence = [_code("C-111A1", "SRT", "^18^Fluorine")]
    drug.RadiopharmaceuticalCodeSequence = [_code("C-B1031", "SRT", "Fluorodeoxyglucose F^18^")]
    ds.RadiopharmaceuticalInformationSequence = [drug]
    ds.RescaleIntercept = 0
    _grid(ds, pet)
    ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 1, 16, 15
    private_fields(ds, vendor, timing, injected_bq)
    return ds


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _grid(ds: Dataset, volume: Volume) -> None:
    ds.Rows, ds.Columns = volume.shape[1], volume.shape[2]
    ds.PixelSpacing = [round(volume.spacing[1], 6), round(volume.spacing[2], 6)]
    ds.SliceThickness = round(volume.spacing[0], 6)
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0


def _ct_slice(ds: Dataset, ct: Volume, k: int) -> None:
    stored = np.clip(np.asarray(ct.array[k], np.int32) + 1024, 0, 4095)
    ds.PixelData = stored.astype("<u2").tobytes()


def _write_pet(
    folder: Path, pet: Volume, header: Dataset, vendor: Vendor, key: str, timing: Timing, injected_bq: float
) -> None:
    # SUV = (Bq/ml) W[g] / D_ref, solved for Bq/ml.
    bq_per_suv = timing.dose_at_scan(injected_bq) / (float(header.PatientWeight) * 1000)
    array = np.maximum(pet.array.astype(np.float64), 0)
    z = pet.world(np.stack([np.arange(pet.shape[0]), np.zeros(pet.shape[0]), np.zeros(pet.shape[0])], 1))[
        :, 2
    ]
    beds = beds_of(z)
    counts = 1.0
    if vendor == "philips":
        counts = float(f"{max(array.max(), 1e-6) * bq_per_suv / 60000:.6g}")  # [Bq/ml per count]
        philips_fields(header, counts / bq_per_suv, counts)
    in_units = array * (bq_per_suv / counts)
    whole = float(in_units.max()) / LARGEST_STORED

    def fill(k: int, ds: Dataset) -> None:
        slope = float(in_units[k].max()) / LARGEST_STORED if HABITS[vendor].slope_per_slice else whole
        # Rounded up, as the header will state it, so that no value overflows.
        text = f"{max(slope, 1e-9) * (1 + 1e-7):.9g}"
        ds.RescaleSlope = text
        ds.PixelData = np.rint(in_units[k] / float(text)).astype("<i2").tobytes()
        frame_fields(ds, vendor, timing, int(beds[k]))
        ds.ImageIndex = k + 1

    _write(folder, pet, header, PositronEmissionTomographyImageStorage, key, fill)


def _write(folder: Path, volume: Volume, header: Dataset, sop_class: str, key: str, fill: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    index = np.stack([np.arange(volume.shape[0]), np.zeros(volume.shape[0]), np.zeros(volume.shape[0])], 1)
    positions: NDArray[np.float64] = volume.world(index)
    for k in range(volume.shape[0]):
        ds = Dataset(header)
        ds.SOPClassUID = sop_class
        ds.SOPInstanceUID = uid(key, header.Modality, k)
        ds.InstanceNumber = k + 1
        ds.ImagePositionPatient = [round(float(v), 4) for v in positions[k]]
        ds.SliceLocation = round(float(positions[k][2]), 4)
        fill(k, ds)
        save(ds, folder / f"{header.Modality}{k:05d}.dcm")


def save(ds: Dataset, path: Path) -> None:
    """Writes one instance in explicit VR little endian."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
