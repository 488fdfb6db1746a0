from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest

from scantwin.errors import Rejection
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.organs import (
    ORGAN_CLASSES,
    ORGAN_LABEL,
    classes_of_ct,
    load_organ_mapping,
    organ_mapping_names,
)
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.volume import Volume
from scantwin.phantoms.tissues import ORGANS

PLACE = {"spacing": (5.0, 4.0, 4.0), "origin": (-40.0, -30.0, 10.0)}


@pytest.fixture
def folder(tmp_path):
    """A study of a CT whose organ labels are 0, 1, 2, 3, .. along x."""
    ct = np.full((6, 10, 20), 40, np.int16)
    ct[0] = -1000
    labels = np.broadcast_to(np.arange(20, dtype=np.uint8), ct.shape)
    write_nifti(Volume(ct, unit="HU", **PLACE), tmp_path / "study" / "CT.nii.gz")
    write_nifti(Volume(np.ascontiguousarray(labels), unit="label", **PLACE), tmp_path / "organs.nii.gz")
    return tmp_path / "study"


def put(folder, place):
    (folder / place).parent.mkdir(exist_ok=True)
    shutil.copy(folder.parent / "organs.nii.gz", folder / place)


def only_study(path):
    (source,) = find_studies(path)
    return read_study(source)


def classes_along_x(study):
    return study.organs_on(study.ct).array[2, 5]


def test_the_phantoms_labels_are_those_of_the_mapping():
    mapping = load_organ_mapping("phantom")
    assert set(mapping.classes) == set(ORGANS.values()) - {0}
    for name, wanted in (
        ("liver", "liver"),
        ("kidney-cortex", "kidney"),
        ("lesion", "tumour"),
        ("lung", "lung"),
    ):
        assert mapping.classes[ORGANS[name]] == wanted


@pytest.mark.parametrize("name", organ_mapping_names())
def test_a_mapping_has_the_organs_that_evidence_needs(name):
    found = set(load_organ_mapping(name).classes.values())
    assert {"lung", "liver", "kidney", "spleen", "bone"} <= found <= set(ORGAN_CLASSES)


def test_labels_beside_a_ct_are_totalsegmentators(folder):
    put(folder, "organs.nii.gz")
    row = classes_along_x(only_study(folder))
    assert row[1] == ORGAN_LABEL["spleen"]
    assert row[5] == ORGAN_LABEL["liver"]
    assert row[0] == 0


def test_a_phantoms_labels_are_found_below_truth_and_in_a_zip(folder, tmp_path):
    put(folder, "truth/organs.nii.gz")
    archive = tmp_path / "one.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name in ("CT.nii.gz", "truth/organs.nii.gz"):
            zipped.write(folder / name, f"study/{name}")
    for path in (folder, archive):
        assert classes_along_x(only_study(path))[ORGANS["csf"]] == ORGAN_LABEL["brain"]


@pytest.mark.parametrize("inside", ["", "study/"])
@pytest.mark.parametrize("place", ["", "truth/"])
def test_labels_in_a_zip_belong_to_the_study_in_its_folder(inside, place, folder, tmp_path, ct_maker):
    """Image files or DICOM series, at the root of the zip or in a folder."""
    ct_maker().write(tmp_path / "dicom")
    for name, files in (("nifti", [folder / "CT.nii.gz"]), ("dicom", (tmp_path / "dicom").iterdir())):
        archive = tmp_path / f"{name}.zip"
        with zipfile.ZipFile(archive, "w") as zipped:
            for path in files:
                zipped.write(path, f"{inside}{path.name}")
            zipped.write(tmp_path / "organs.nii.gz", f"{inside}{place}organs.nii.gz")
        organs = only_study(archive).organs
        assert organs is not None
        assert organs.mapping.name == ("phantom" if place else "totalsegmentator-total")


def test_study_json_names_or_holds_the_mapping(folder):
    put(folder, "organs.nii.gz")
    (folder / "study.json").write_text(json.dumps({"organs": {"7": "kidney"}}))
    row = classes_along_x(only_study(folder))
    assert row[7] == ORGAN_LABEL["kidney"]
    assert not row[[1, 2, 3, 5]].any()
    (folder / "study.json").write_text(json.dumps({"organs": "nobody"}))
    with pytest.raises(Rejection, match="nobody") as refused:
        only_study(folder)
    assert refused.value.code == "study.bad-json"


def test_a_study_without_labels_has_none(folder):
    assert only_study(folder).organs is None


def test_ct_numbers_tell_lung_gas_fat_soft_tissue_and_bone():
    hu = np.full((40, 60, 60), 50.0, np.float32)
    places = {
        "lung": (slice(5, 35), slice(10, 35), slice(5, 30), -780.0),
        "gas": (slice(5, 9), slice(45, 50), slice(10, 16), -950.0),
        "fat": (slice(5, 35), slice(10, 30), slice(40, 55), -100.0),
        "bone": (slice(5, 35), slice(45, 55), slice(40, 50), 600.0),
    }
    for z, y, x, value in places.values():
        hu[z, y, x] = value
    hu += np.random.default_rng(0).normal(0, 15, hu.shape).astype(np.float32)
    body = np.ones(hu.shape, bool)
    body[0] = False
    found = classes_of_ct(hu, body, (3.0, 2.0, 2.0))
    for name, (z, y, x, _) in places.items():
        inner = (
            slice(z.start + 1, z.stop - 1),
            slice(y.start + 1, y.stop - 1),
            slice(x.start + 1, x.stop - 1),
        )
        assert (found[inner] == ORGAN_LABEL[name]).mean() > 0.95, name
    assert not found[0].any()
    assert found[20, 40, 35] == ORGAN_LABEL["soft-tissue"]
