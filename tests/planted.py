"""Identifiers planted in every text element of DICOM files, and the search for them."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from scantwin.imaging.volume import Volume
from scantwin.phantoms.dicom_out import Subject, write_dicom

PLANTED = {
    "PatientName": "QZNAME^QZJANE", "PatientID": "QZPID4711", "PatientBirthDate": "19470531",
    "AccessionNumber": "QZACC0815", "InstitutionName": "QZHOSPITAL", "OtherPatientIDs": "QZOTHER99",
    "ReferringPhysicianName": "QZDOCTOR^QZWHO", "StudyDescription": "QZDESC",
    "DeviceSerialNumber": "QZSERIAL", "StationName": "QZSTATION", "PatientAddress": "QZSTREET5",
    "StudyID": "QZSTUDY1",
}  # fmt: skip
TEXT = "QZPLANTED"
"""What every other text element holds, private ones too."""
ROOT = "1.2.752.24.77131"
"""The hospital's UID root."""
DAYS = ("20260302", "2026-03-02")
"""The day of the scans, as files and as databases write it."""
SOUGHT = (
    TEXT, *(part for value in PLANTED.values() for part in value.split("^")), ROOT, ROOT[-11:], *DAYS,
)  # fmt: skip
MEANT = {
    "SOPClassUID", "Modality", "ImageType", "PhotometricInterpretation", "Units", "SUVType",
    "DecayCorrection", "CorrectedImage", "SeriesType", "PatientSex", "SpecificCharacterSet", "RescaleType",
    "Manufacturer", "PatientPosition", "CountsSource", "SegmentationType",
}  # fmt: skip
"""Fields that the reader must understand."""
GROUPS = (0x08, 0x10, 0x18, 0x20, 0x28, 0x32, 0x38, 0x40, 0x54, 0x88)
TEXTS = {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE", "CS", "UR"}


def plant(path: Path) -> None:
    """Puts an identifier into every text element of one file, and the hospital's root into its UIDs."""
    ds = pydicom.dcmread(path)
    _uids(ds)
    for tag, (vr, vm, _name, retired, keyword) in DicomDictionary.items():
        known = keyword in MEANT or tag >> 16 not in GROUPS
        if vr in TEXTS and keyword and not known and not retired:
            ds.add(DataElement(tag, vr, TEXT if vm.startswith("1") else [TEXT, TEXT]))
    for keyword, value in PLANTED.items():
        setattr(ds, keyword, value)
    for group in (0x0009, 0x0011, 0x0029, 0x0071, 0x7053):
        block = ds.private_block(group, f"ACME {TEXT}", create=True)
        for offset, vr in ((1, "LO"), (2, "PN"), (3, "UT"), (4, "SH"), (5, "UN")):
            block.add_new(offset, vr, TEXT.encode() if vr == "UN" else TEXT)
    ds.save_as(path)


def _uids(ds: Dataset) -> None:
    for element in ds:
        if element.VR == "UI" and element.keyword not in ("SOPClassUID", "TransferSyntaxUID"):
            element.value = f"{ROOT}.{str(element.value)[-20:].lstrip('.0')}"
        elif element.VR == "SQ":
            for item in element.value:
                _uids(item)


def bar(folder: Path, seed: int, **spoilt: str) -> None:
    """A soft bar with a warm core as planted DICOM, of a patient of its own; the PET is spoilt if asked."""
    random = np.random.default_rng(seed)
    z, y, x = np.ogrid[:24, :24, :28]
    body = ((y - 12) / 9.0) ** 2 + ((x - 14) / 11.0) ** 2 < 1 + 0 * z
    core = ((y - 12) / 4.0) ** 2 + ((x - 14) / 5.0) ** 2 < 1 + 0 * z
    hu = np.where(body, np.where(core, 55.0, -90.0), -1000.0) + random.normal(0, 8, body.shape)
    suv = np.where(body, np.where(core, 2.0, 0.3), 0.0) * (1 + 0.05 * random.normal(size=body.shape))
    ct, pet = (Volume(a.astype(np.float32), (8.0, 8.0, 8.0), unit=u) for a, u in ((hu, "HU"), (suv, "SUV")))
    subject = Subject(f"p{seed}", "F", 60, 1.7, 70.0)
    write_dicom(folder, ct, pet, subject, ("siemens", "ge", "philips")[seed % 3], seed=seed)
    for path in folder.rglob("*.dcm"):
        plant(path)
        ds = pydicom.dcmread(path)
        ds.PatientID = f"{PLANTED['PatientID']}-{seed}"  # of studies of one patient alone nothing leaves
        for keyword, value in (spoilt if path.parent.name == "PET" else {}).items():
            setattr(ds, keyword, value)
        ds.save_as(path)


def leaks(where: dict[str, bytes]) -> list[str]:
    """Which planted text is in which place."""
    return [
        f"{text} in {name}"
        for name, data in where.items()
        for text in SOUGHT
        if text.encode() in data or text.encode("utf-16-le") in data or text.lower().encode() in data
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and what is inside the packed ones."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        found[str(path.relative_to(folder))] = path.read_bytes()
        if path.suffix == ".gz":
            found[f"{path.name} unpacked"] = gzip.decompress(path.read_bytes())
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found |= {f"{path.name}!{n}": archive.read(n) for n in archive.namelist()}
    return found
