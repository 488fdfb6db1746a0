"""PETs without a CT: studies where they are asked for, elsewhere refused or passed over as ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scantwin.errors import Rejection
from scantwin.imaging.dicom_pet import write_pet_series
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.volume import Volume

from .test_reading import nifti_study, one, rejected, zipped


@pytest.fixture
def export(tmp_path, ct_maker, pet_maker) -> Path:
    """A folder with a CT and a PET of one study."""
    ct_maker().write(tmp_path / "export" / "DICOM" / "A1")
    pet_maker().write(tmp_path / "export" / "DICOM" / "A2")
    return tmp_path / "export"


def alone(path: Path):
    """The only study below `path`, PETs without a CT among those that are looked for."""
    (source,) = find_studies(path, pets_alone=True)
    assert source.pet_alone
    return read_study(source)


def pet_files(folder: Path, ending: str = ".nii.gz", factor: float = 9.0) -> Path:
    nifti_study(folder)
    (folder / "CTres.nii.gz").unlink()
    suv = Volume(np.random.default_rng(1).random((6, 8, 9), np.float32) * factor, (3, 2, 2), unit="SUV")
    write_nifti(suv, folder / "SUV.nii.gz")
    if ending == ".nii":
        write_nifti(suv, folder / "SUV.nii")
        (folder / "SUV.nii.gz").unlink()
    return folder


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_a_pet_file_without_a_ct_is_a_study_where_that_is_asked_for(tmp_path, ending):
    pet_files(tmp_path / "data" / "p1", ending)
    (tmp_path / "data" / "p1" / "study.json").write_text(
        '{"name": "one", "patient": "p", "condition": "lymphoma"}'
    )
    with pytest.raises(Rejection) as caught:
        find_studies(tmp_path / "data")
    assert caught.value.code == "study.empty-folder"
    study = alone(tmp_path / "data")
    assert not study.has_ct and study.pet.array.max() > 8
    assert study.ct.same_grid(study.pet) and (study.ct.array == -1000).all()
    assert (study.name, study.condition) == ("one", "lymphoma") and study.lesions.array.any()
    path = zipped(tmp_path / "data", tmp_path / "data.zip")
    np.testing.assert_array_equal(alone(path).pet.array, study.pet.array)
    assert find_studies(path, pets_alone=True)[0].patient == "p"


def test_a_pet_file_alone_is_checked_like_any_other(tmp_path):
    pet_files(tmp_path / "activity", factor=9e4)
    with pytest.raises(Rejection) as caught:
        alone(tmp_path / "activity")
    assert caught.value.code == "pet.implausible"


def test_a_pet_series_without_a_ct_is_read_where_that_is_asked_for(export, tmp_path, pet_maker):
    expected = one(export)
    pet_maker().write(tmp_path / "pet")
    assert rejected(tmp_path / "pet") == "study.no-ct"
    study = alone(tmp_path / "pet")
    assert not study.has_ct and (study.ct.array == -1000).all()
    np.testing.assert_array_equal(study.pet.array, expected.pet.array)
    assert study.source == {key: value for key, value in expected.source.items() if "ct" not in key}
    pet_maker(fields={"Units": "CNTS"}).write(tmp_path / "counts")
    with pytest.raises(Rejection) as caught:
        alone(tmp_path / "counts")
    assert caught.value.code == "suv.counts-without-scale"


def test_what_has_a_ct_is_the_same_whether_pets_alone_are_looked_for_or_not(export, tmp_path, ct_maker):
    nifti_study(export / "nifti")
    assert find_studies(export, pets_alone=True) == find_studies(export)
    # A scout says that the CT was left out of the export: that is what the site must know.
    (tmp_path / "export" / "DICOM" / "A1").rename(tmp_path / "ct")
    ct_maker(fields={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(export / "DICOM" / "scout")
    found = [s for s in find_studies(export, pets_alone=True) if s.kind == "dicom"]
    assert not found[0].pet_alone
    with pytest.raises(Rejection) as caught:
        read_study(found[0])
    assert caught.value.code == "ct.scout"


def test_a_ct_that_is_known_by_its_class_only_is_a_ct(export, ct_maker):
    ct_maker(fields={"Modality": "PT"}).write(export / "DICOM" / "A1")
    (source,) = find_studies(export, pets_alone=True)
    assert source.pet_alone, "the headers that are looked through name no CT"
    assert read_study(source).has_ct


def test_a_pet_converted_beside_its_series_is_no_second_patient(export):
    converted = one(export).pet
    for folder in (export / "DICOM", export / "DICOM" / "A2"):
        write_nifti(converted, folder / "SUV.nii.gz")
    assert [s.kind for s in find_studies(export, pets_alone=True)] == ["dicom"]


def test_a_pet_that_a_model_made_is_none_alone(tmp_path, pet_maker):
    pet = alone(pet_maker().write(tmp_path / "pet")).pet
    write_pet_series(pet, tmp_path / "made", model_version="m", seed=1)
    (source,) = find_studies(tmp_path / "made", pets_alone=True)
    with pytest.raises(Rejection) as caught:
        read_study(source)
    assert caught.value.code == "study.no-ct"


def test_a_site_reads_a_pet_again_that_it_refused_before(tmp_path, pet_maker):
    pet_maker().write(tmp_path)
    (before,), (now,) = find_studies(tmp_path), find_studies(tmp_path, pets_alone=True)
    assert before.files == now.files and before.fingerprint() != now.fingerprint()
