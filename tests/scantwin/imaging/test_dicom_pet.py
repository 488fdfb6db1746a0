"""A synthetic PET written as DICOM is read back as the same SUV at the same place, by others too."""

from __future__ import annotations

import shutil
import subprocess
from copy import deepcopy
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom import Dataset
from pydicom.uid import generate_uid
from SimpleITK import ImageSeriesReader

from scantwin.errors import Rejection
from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.dicom_pet import LARGEST_STORED, quantise, write_pet_series
from scantwin.imaging.dicom_read import read_pet_series
from scantwin.imaging.pet_header import header_of
from scantwin.imaging.suv import suv_factors
from scantwin.imaging.volume import Volume

from .sitk_volumes import from_sitk

VERSION = "coarse-diffusion-0123456789ab"


@pytest.fixture
def pet() -> Volume:
    """SUV with a slice of air and a hot slice; voxels and planes of three different sizes."""
    array = np.random.default_rng(3).gamma(2.0, 0.7, (6, 9, 11)).astype(np.float32)
    array[2] = 0.0
    array[4] *= 30.0
    return Volume(array, (3.27, 4.0728, 4.1), (-171.3, -203.75, -812.125), unit="SUV")


@pytest.fixture
def ct() -> Dataset:
    """The header of a CT of a patient with a name beyond ASCII."""
    ct = Dataset()
    ct.SpecificCharacterSet = "ISO_IR 100"
    ct.PatientName = "Müller^Jürgen"
    ct.PatientID = "P-1"
    ct.PatientBirthDate = "19600101"
    ct.PatientSex = "M"
    ct.PatientWeight = "81"
    ct.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.1"
    ct.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.2"
    ct.StudyDate, ct.StudyTime = "20240315", "101500"
    ct.AcquisitionDate, ct.AcquisitionTime = "20240315", "102030"
    ct.StudyID, ct.AccessionNumber = "7", "A1"
    ct.ReferringPhysicianName = "Doctor^Who"
    ct.PositionReferenceIndicator = ""
    ct.PatientPosition = "HFS"
    ct.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.3"
    return ct


def write(
    pet: Volume, folder: Path, like: Dataset | None = None, seed: int = 1, **more: object
) -> list[Dataset]:
    paths = write_pet_series(pet, folder, like=like, model_version=VERSION, seed=seed, **more)  # type: ignore[arg-type]
    return [pydicom.dcmread(path) for path in paths]


def test_pydicom_reads_the_same_suv(pet: Volume, tmp_path: Path) -> None:
    slices = write(pet, tmp_path / "pet")
    for k, ds in enumerate(slices):
        step = float(ds.RescaleSlope)
        assert np.abs(ds.pixel_array * step - pet.array[k]).max() <= 0.5001 * step
        assert float(ds.RescaleIntercept) == 0
        assert list(ds.ImagePositionPatient) == pytest.approx(pet.world([k, 0, 0]), abs=1e-6)
    assert len({str(ds.RescaleSlope) for ds in slices}) == len(slices), "each slice has a slope of its own"
    assert len({ds.SOPInstanceUID for ds in slices}) == len(slices)


def test_simpleitk_reads_the_same_suv_and_place(pet: Volume, tmp_path: Path) -> None:
    write(pet, tmp_path / "pet")
    reader = ImageSeriesReader()
    reader.SetFileNames(ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "pet")))
    other = from_sitk(reader.Execute(), "SUV")
    assert other.same_grid(pet)
    assert other.origin == pytest.approx(pet.origin, abs=1e-6)
    assert other.spacing == pytest.approx(pet.spacing, abs=1e-6)
    step = pet.array.reshape(len(pet.array), -1).max(axis=1) / LARGEST_STORED
    assert (np.abs(other.array - pet.array) <= np.maximum(step, 1e-9)[:, None, None]).all()


def test_our_own_reader_takes_it_as_suv(pet: Volume, tmp_path: Path) -> None:
    slices = write(pet, tmp_path / "pet")
    result = suv_factors([header_of(ds) for ds in slices])
    assert (result.factor, result.reference_rule, result.warnings) == (1.0, "already-suv", ())
    refs = [FileRef(path) for path in sorted((tmp_path / "pet").iterdir())]
    volume, *_ = read_pet_series(refs)
    assert volume.canonical().same_grid(pet)
    step = pet.array.max() / LARGEST_STORED
    assert np.abs(volume.canonical().array - pet.array).max() <= step


def test_an_oblique_volume_keeps_its_place(tmp_path: Path) -> None:
    c, s = np.cos(0.2), np.sin(0.2)
    direction = np.array([[0.0, 0.0, 1.0], [s, c, 0.0], [c, -s, 0.0]])
    pet = Volume(
        np.random.default_rng(0).random((4, 5, 6)), (3.0, 2.0, 2.5), (1.0, 2.0, 3.0), direction, "SUV"
    )
    write(pet, tmp_path / "pet")
    volume, *_ = read_pet_series([FileRef(path) for path in sorted((tmp_path / "pet").iterdir())])
    assert volume.canonical().same_grid(pet.canonical())


def test_a_flipped_volume_is_written_upright(pet: Volume, tmp_path: Path) -> None:
    flipped = Volume(
        pet.array[::-1], pet.spacing, tuple(pet.world([5, 0, 0])), pet.direction * [-1, 1, 1], "SUV"
    )
    one, other = write(pet, tmp_path / "a"), write(flipped, tmp_path / "b")
    assert [d.PixelData for d in one] == [d.PixelData for d in other]
    assert [d.ImagePositionPatient for d in one] == [d.ImagePositionPatient for d in other]


def test_it_joins_the_patients_study(pet: Volume, ct: Dataset, tmp_path: Path) -> None:
    before = deepcopy(ct)
    slices = write(pet, tmp_path / "pet", ct)
    assert ct == before, "the CT's header is left alone"
    for ds in slices:
        for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "StudyID"):
            assert ds[keyword].value == ct[keyword].value
        assert str(ds.PatientName) == "Müller^Jürgen"
        assert ds.SeriesInstanceUID != ct.SeriesInstanceUID
        assert (ds.SeriesDate, ds.SeriesTime) == ("20240315", "102030")


def test_it_says_what_it_is(pet: Volume, tmp_path: Path) -> None:
    for ds in write(pet, tmp_path / "pet"):
        for text in (ds.SeriesDescription, ds.ImageComments, ds.DerivationDescription):
            assert "SYNTHETIC" in text and "NOT FOR DIAGNOSTIC USE" in text and VERSION in text
        assert len(ds.SeriesDescription) <= 64
        assert list(ds.ImageType) == ["DERIVED", "SECONDARY"]
        assert (ds.Units, ds.SUVType, ds.DecayCorrection, ds.Modality) == ("GML", "BW", "ADMIN", "PT")
        assert ds.SOPClassUID == "1.2.840.10008.5.1.4.1.1.128"
        assert "SYNTHETIC" in str(ds.PatientID)
        assert ds.NumberOfSlices == 6


def test_what_must_be_said_of_the_model_is_in_the_headers(pet: Volume, ct: Dataset, tmp_path: Path) -> None:
    for ds in write(pet, tmp_path / "pet", ct, remark="It has never seen a patient."):
        assert ds.ImageComments.endswith("no PET was taken. It has never seen a patient.")
        assert "SYNTHETIC PET, NOT FOR DIAGNOSTIC USE" in ds.ImageComments
    (ds, *_) = write(pet, tmp_path / "long", ct, remark="x" * 20_000)
    assert len(ds.ImageComments) == 10_240, "the most that VR LT may hold"
    assert ds.ImageComments.startswith("SYNTHETIC")


def test_the_same_seed_gives_the_same_files(pet: Volume, ct: Dataset, tmp_path: Path) -> None:
    def files(folder: str, like: Dataset | None, seed: int = 1) -> list[bytes]:
        return [
            p.read_bytes()
            for p in write_pet_series(pet, tmp_path / folder, like=like, model_version=VERSION, seed=seed)
        ]

    first = files("a", ct)
    assert files("b", ct) == first
    assert files("b", ct) == first, "written over itself"
    other = deepcopy(ct)
    other.StudyInstanceUID = generate_uid()
    uids = {
        pydicom.dcmread(
            write_pet_series(pet, tmp_path / n, like=like, model_version=VERSION, seed=seed)[0]
        ).SeriesInstanceUID
        for n, like, seed in (("c", ct, 1), ("d", ct, 2), ("e", other, 1), ("f", None, 1))
    }
    assert len(uids) == 4
    hotter = pet.with_array(pet.array * 2)
    assert write(hotter, tmp_path / "g")[0].SOPInstanceUID != write(pet, tmp_path / "h")[0].SOPInstanceUID


def test_the_standard_deviation_is_never_taken_for_a_pet(pet: Volume, tmp_path: Path) -> None:
    slices = write(pet, tmp_path / "std", std=True, when=datetime(2026, 3, 1, 12, 30))
    assert "standard deviation" in slices[0].ImageComments
    assert slices[0].SeriesDescription.startswith("SD SYNTHETIC")
    assert (slices[0].SeriesDate, slices[0].SeriesTime) == ("20260301", "123000")
    with pytest.raises(Rejection) as caught:
        suv_factors([header_of(ds) for ds in slices])
    assert caught.value.code == "pet.no-attenuation-correction"


def test_values_that_are_not_numbers_are_refused_and_leave_nothing(pet: Volume, tmp_path: Path) -> None:
    array = pet.array.copy()
    array[0, 0, 0] = np.nan
    with pytest.raises(Rejection) as caught:
        write(pet.with_array(array), tmp_path / "pet")
    assert caught.value.code == "pet.not-finite"
    assert list(tmp_path.iterdir()) == []


@given(arrays(np.float64, (3, 4), elements=st.floats(-10, 1e4)))
def test_quantisation_is_within_half_a_step(values: np.ndarray) -> None:
    stored, text = quantise(values)
    assert len(text) <= 16
    assert stored.min() >= 0 and stored.max() <= LARGEST_STORED
    assert float(text) > 0
    assert np.abs(stored * float(text) - np.maximum(values, 0)).max() <= 0.5001 * float(text)


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed"
)
@pytest.mark.parametrize("std", [False, True])
def test_the_standard_is_kept(pet: Volume, ct: Dataset, tmp_path: Path, std: bool) -> None:
    """One error is on purpose: ImageType DERIVED\\SECONDARY, see the module."""
    for like in (None, ct):
        path = write_pet_series(pet, tmp_path / "pet", like=like, model_version=VERSION, seed=1, std=std)[2]
        done = subprocess.run(
            ["dciodvfy", str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert [e for e in errors if "Image Type" not in e] == []
        assert "PETImage" in done.stdout + done.stderr
