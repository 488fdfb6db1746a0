"""Studies as image files: the layout of FDG-PET-CT-Lesions, refusals with their reason."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from scantwin.errors import Rejection
from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.study_files import as_ct
from scantwin.imaging.volume import Volume

from .memory import memory_traced
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


def test_the_letters_of_a_file_name_may_be_of_either_case(tmp_path):
    expected = one(nifti_study(tmp_path / "s"))
    for name in ("CTres", "SUV", "SEG"):
        (tmp_path / "s" / f"{name}.nii.gz").rename(tmp_path / "s" / f"{name.lower()}.nii.gz")
    for pets_alone in (False, True):
        (source,) = find_studies(tmp_path / "s", pets_alone=pets_alone)
        assert not source.pet_alone
        np.testing.assert_array_equal(read_study(source).ct.array, expected.ct.array)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ("condition", "study.bad-json"), ("list", "study.bad-json"), ("becquerel", "pet.implausible"),
        ("nan pet", "pet.not-finite"), ("flat ct", "ct.empty"), ("offset ct", "ct.not-hu"),
        ("far pet", "pair.far-apart"), ("far lesions", "pair.lesions-elsewhere"),
        ("far districts", "pair.districts-elsewhere"), ("cut", "nifti.unreadable"),
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
    elif spoil == "far districts":
        write_nifti(Volume(np.ones(ct.shape, np.uint8), ct.spacing, (900, 0, 0)), folder / "districts.nii.gz")
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


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "i8", "f4", "f8"])
def test_hu_are_clipped_in_the_type_that_they_have(kind):
    dtype = np.dtype(kind)
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    values = np.array([-30000, -2000, -1024, -100, 0, 40, 3071, 3100, 60000])
    kept = values[(values >= float(limits.min)) & (values <= float(limits.max))]
    array = kept.astype(dtype)[:, None, None]
    if dtype.kind == "u":
        with pytest.raises(Rejection, match="no value is below 0"):
            as_ct(Volume(array, (1.0, 1.0, 1.0)), "here")
        return
    ct, _ = as_ct(Volume(array, (1.0, 1.0, 1.0)), "here")
    assert ct.array.dtype == np.int16
    np.testing.assert_array_equal(ct.array.ravel(), kept.clip(-1024, 3071))


@pytest.mark.parametrize("kind", ["i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("fraction", [0.0, 0.25])
def test_a_ct_is_taken_with_twice_the_memory_of_its_voxels(kind, fraction):
    """The stored voxels and the clipped ones; one copy as float64 would be four times those of int16."""
    hu = np.full((32, 64, 64), -1000.0)
    hu[8:24, 16:48, 16:48] = 40 + fraction
    volume = Volume(hu.astype(kind), (2.0, 1.0, 1.0), unit="HU")
    with memory_traced():
        ct, _ = as_ct(volume, "here")
        more = tracemalloc.get_traced_memory()[1]
    assert ct.array.dtype == (np.float32 if fraction and kind[0] == "f" else np.int16)
    # Beside the stored ones: the clipped ones, and of float32 the int16 that they become.
    assert more < 1.6 * volume.array.nbytes
