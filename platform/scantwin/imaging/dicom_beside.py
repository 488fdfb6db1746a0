"""What is common to all objects written beside a synthetic PET series in the patient's study."""

from __future__ import annotations

import hashlib
from copy import deepcopy
from typing import Final

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian, generate_uid

from scantwin import NOTICE

_TAKEN: Final = (
    "SpecificCharacterSet",
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "PatientSize", "PatientWeight", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "InstitutionName",
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "SeriesDate", "SeriesTime",
    "BodyPartExamined", "Laterality",
)  # fmt: skip
"""Patient, study and equipment as in the synthetic PET series, which has the first two from the CT."""


def beside(
    pet: Dataset, sop_class: str, modality: str, series_number: int, description: str, content: bytes
) -> Dataset:
    """The header of a new object in the study of the synthetic PET slice `pet`, in a series of its own.

    The unique identifiers are derived from the series of `pet`, the description and the `content`: the same
    scan gives the same files.
    """
    ds = Dataset()
    for keyword in _TAKEN:
        if keyword in pet:
            ds.add(deepcopy(pet[keyword]))
    entropy = [str(pet.SeriesInstanceUID), modality, description]
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = generate_uid(entropy_srcs=[*entropy, hashlib.sha256(content).hexdigest()])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=[*entropy, "series"])
    ds.Modality = modality
    ds.SeriesNumber = series_number
    ds.InstanceNumber = 1
    ds.SeriesDescription = f"{description} - {NOTICE}"[:64]
    ds.ContentDate, ds.ContentTime = ds.SeriesDate, ds.SeriesTime
    return ds


def with_meta(ds: Dataset) -> Dataset:
    """`ds` with the file meta information of PS3.10, for explicit VR little endian."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return ds
