"""What a header tells: which images there are, and that what a model made is never read as measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from scantwin.imaging.dicom_kinds import image_modality, is_made
from scantwin.imaging.dicom_pet import write_pet_series
from scantwin.imaging.dicom_seg import write_seg
from scantwin.imaging.reading import read_ct_and_header
from scantwin.imaging.suv_series import find_pet_series
from scantwin.imaging.volume import Volume

from .test_reading import codes, one, rejected

CT, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.128"
RAW = "1.2.840.10008.5.1.4.1.1.66"


@pytest.mark.parametrize(
    ("fields", "modality"),
    [
        ({"SOPClassUID": CT}, "CT"), ({"SOPClassUID": PET, "Modality": "CT"}, "PT"),
        ({"SOPClassUID": RAW, "Modality": "PT"}, ""), ({"Modality": "PT"}, "PT"), ({"Modality": "CT "}, "CT"),
        ({"SOPClassUID": "", "Modality": "CT"}, "CT"), ({"Modality": "SEG"}, ""), ({}, ""),
    ],
)  # fmt: skip
def test_the_class_tells_the_modality_or_else_the_modality_itself(fields, modality):
    header = Dataset()
    for name, value in fields.items():
        setattr(header, name, value)
    assert image_modality(header) == modality


def test_series_without_a_class_are_the_same_to_the_report_and_to_the_reader(tmp_path, ct_maker, pet_maker):
    def lost(ds, i):
        del ds.SOPClassUID

    for maker in (ct_maker(), pet_maker()):
        folder = tmp_path / maker.modality
        folder.mkdir()
        for i in range(maker.slices):
            ds = maker.dataset(i)
            lost(ds, i)
            pydicom.dcmwrite(folder / str(i), ds, implicit_vr=False, little_endian=True)
    (series,) = find_pet_series(tmp_path).series
    assert len(series.headers) == 9
    study = one(tmp_path)
    assert study.ct.shape[0] == 12 and study.pet.shape[0] == 9


def scanned(export: Path, pet: Volume) -> Path:
    """Leaves beside an export what a scan of its CT leaves: PET, standard deviation, SEG of candidates."""
    _, header = read_ct_and_header(export)
    made = pet.with_array(np.full(pet.shape, 7.0, np.float32))
    files = write_pet_series(made, export / "scan" / "dicom", like=header, model_version="m", seed=1)
    write_pet_series(made, export / "scan" / "std", like=header, model_version="m", seed=1, std=True)
    slices = [pydicom.dcmread(file) for file in files]
    seg = export / "scan" / "dicom-extra" / "seg.dcm"
    labels = pet.with_array(np.ones(pet.shape, np.uint8), "label")
    assert write_seg(labels, seg, series=slices, rule="hot", names=["Candidate 1"]) is not None
    assert all(is_made(pydicom.dcmread(file)) for file in (export / "scan").rglob("*.dcm"))
    return export


@pytest.fixture
def pet(tmp_path, ct_maker, pet_maker) -> Volume:
    """The PET [g/ml] of the maker."""
    ct_maker().write(tmp_path / "elsewhere" / "ct")
    pet_maker().write(tmp_path / "elsewhere" / "pet")
    return one(tmp_path / "elsewhere").pet


def test_a_synthetic_pet_is_no_pet_beside_its_ct(tmp_path, ct_maker, pet):
    export = scanned(ct_maker().write(tmp_path / "p1" / "DICOM").parent, pet)
    study = one(export)
    assert study.pet is None and study.lesions is None
    assert {"pet.synthetic", "lesions.synthetic"} <= set(codes(study))
    assert rejected(export, need_pet=True) == "study.no-pet"


def test_a_measured_pet_is_read_whatever_was_made_beside_it(tmp_path, ct_maker, pet_maker, pet):
    ct_maker().write(tmp_path / "p1" / "DICOM" / "ct")
    pet_maker().write(tmp_path / "p1" / "DICOM" / "pet")
    study = one(scanned(tmp_path / "p1", pet))
    np.testing.assert_array_equal(study.pet.array, pet.array)
    assert study.lesions is None and "pet.synthetic" in codes(study)
    assert study.source["pet_series"] == "1"


def test_a_synthetic_pet_does_not_stand_in_for_one_that_cannot_be_suv(tmp_path, ct_maker, pet_maker, pet):
    ct_maker().write(tmp_path / "p1" / "DICOM" / "ct")
    pet_maker(fields={"Units": "PROPCNTS"}).write(tmp_path / "p1" / "DICOM" / "pet")
    assert rejected(scanned(tmp_path / "p1", pet)) == "suv.units-unknown"
