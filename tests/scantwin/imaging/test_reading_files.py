"""Studies as image files: the layout of FDG-PET-CT-Lesions, refusals with their reason."""

from __future__ import annotations

import numpy as np
import pytest

from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.volume import Volume

from .studies import nifti_study, one, rejected, zipped


def test_the_layout_of_fdg_pet_ct_lesions_is_read(tmp_path):
    nifti_study(tmp_path / "PETCT_01" / "study1", said={"condition": "melanoma", "name": "one"})
    nifti_study(tmp_path / "PETCT_01" / "study2")
    nifti_study(tmp_path / "b", ct="CT", seg="GTV")
    first, second, third = find_studies(tmp_path)
    assert first.patient == second.patient != third.patient
    study = read_study(first)
    assert (study.condition, study.name) == ("melanoma", "one")
    assert read_study(third).lesions.array.any()
    assert read_study(third).districts is None
    assert read_study(second).condition == "unknown"


def test_a_zip_of_nifti_studies_is_read(tmp_path):
    nifti_study(tmp_path / "all" / "a")
    nifti_study(tmp_path / "all" / "b")
    path = zipped(tmp_path / "all", tmp_path / "all.zip")
    sources = find_studies(path)
    assert [s.place for s in sources] == ["a", "b"]
    expected = read_study(find_studies(tmp_path / "all")[0])
    np.testing.assert_array_equal(read_study(sources[0]).pet.array, expected.pet.array)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ("condition", "study.bad-json"), ("list", "study.bad-json"), ("becquerel", "pet.implausible"),
        ("nan pet", "pet.not-finite"), ("flat ct", "ct.empty"), ("offset ct", "ct.not-hu"),
        ("far pet", "pair.far-apart"), ("far lesions", "pair.lesions-elsewhere"), ("cut", "nifti.unreadable"),
    ],
)  # fmt: skip
def test_nifti_studies_are_refused_with_their_reason(spoil, code, tmp_path):
    said = {"condition": "healthy"} if spoil == "condition" else [1] if spoil == "list" else None
    folder = nifti_study(tmp_path / "s", said=said)
    ct, pet = read_nifti(folder / "CTres.nii.gz", "HU"), read_nifti(folder / "SUV.nii.gz", "SUV")
    if spoil == "becquerel":
        write_nifti(pet.with_array(pet.array * 5000), folder / "SUV.nii.gz")
    elif spoil == "nan pet":
        pet.array[0, 0, 0] = np.nan
        write_nifti(pet, folder / "SUV.nii.gz")
    elif spoil == "flat ct":
        write_nifti(ct.with_array(np.full(ct.shape, -1000, np.int16)), folder / "CTres.nii.gz")
    elif spoil == "offset ct":
        write_nifti(ct.with_array(ct.array + np.int16(1024)), folder / "CTres.nii.gz")
    elif spoil == "far pet":
        write_nifti(Volume(pet.array, pet.spacing, (0, 0, 500), unit="SUV"), folder / "SUV.nii.gz")
    elif spoil == "far lesions":
        write_nifti(Volume(pet.array > 8, pet.spacing, (900, 0, 0)), folder / "SEG.nii.gz")
    elif spoil == "cut":
        path = folder / "SUV.nii.gz"
        path.write_bytes(path.read_bytes()[:200])
    assert rejected(folder) == code


def test_nan_outside_a_resampled_ct_is_air(tmp_path):
    folder = nifti_study(tmp_path / "s")
    ct = read_nifti(folder / "CTres.nii.gz", "HU")
    array = ct.array.astype(np.float32)
    array[0] = np.nan
    write_nifti(ct.with_array(array), folder / "CTres.nii.gz")
    assert (one(folder).ct.array[0] == -1024).all()
