from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pydicom
import pytest

from scantwin.errors import InputError
from scantwin.imaging.nifti import read_nifti
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.volume import Volume
from scantwin.phantoms.cohort import write_cohort
from scantwin.phantoms.dicom_out import Subject, write_dicom
from scantwin.phantoms.patient import Phantom
from scantwin.phantoms.scanner import ScannerSpec, image_patient
from scantwin.phantoms.spec import random_patient

QUICK = ScannerSpec(name="quick", ct_spacing_mm=(10.0, 10.0, 10.0), pet_spacing_mm=(10.0, 10.0, 10.0))


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def test_a_nifti_cohort_is_read_back(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "c", 2, QUICK, seed=4, condition="lymphoma", voxel_mm=10.0)
    studies = [read_study(source, need_pet=True) for source in find_studies(folder)]
    assert len(studies) == 2
    for study in studies:
        assert study.condition == "lymphoma"
        assert study.pet is not None
        assert study.lesions is not None
        assert study.lesions.array.any()
    manifest = json.loads((folder / "cohort.json").read_text())
    assert [s["study"] for s in manifest["studies"]] == ["quick-0000", "quick-0001"]
    assert manifest["notice"].startswith("SYNTHETIC")
    truth = folder / "quick-0000" / "truth"
    suv = read_nifti(truth / "suv_true.nii.gz", "SUV").canonical()
    organs = read_nifti(truth / "organs.nii.gz", "label").canonical()
    assert suv.same_grid(organs)
    assert suv.same_grid(studies[0].pet)  # type: ignore[arg-type]
    assert json.loads((truth / "truth.json").read_text())["lesions"]


def test_study_json_counts_the_lesions_that_are_labelled(tmp_path: Path) -> None:
    """Of a patient's lesions some lie beyond the field of view; of others all voxels are a neighbour's."""
    scanner = QUICK.model_copy(update={"field_of_view": "partial"})
    folder = write_cohort(
        tmp_path / "c", [random_patient(28, condition="lymphoma")], scanner, seed=1, voxel_mm=10.0
    )
    study = folder / "quick-0000"
    labels = read_nifti(study / "SEG.nii.gz", "label")
    there, counts = np.unique(labels.array[labels.array > 0], return_counts=True)
    assert json.loads((study / "study.json").read_text())["lesions"] == len(there) < there.max()
    told = json.loads((study / "truth" / "truth.json").read_text())["lesions"]
    labelled = {lesion["label"]: lesion["labelled_ml"] for lesion in told if lesion["labelled_ml"]}
    wanted = dict(zip(there.tolist(), counts * labels.voxel_ml, strict=True))
    assert labelled == pytest.approx(wanted, abs=1e-3)
    assert len(told) > len(labelled), "true, but not in these images"


def test_a_cohort_is_repeatable_and_resumable(tmp_path: Path) -> None:
    specs = [random_patient(s, condition="negative") for s in (1, 2)]
    first = write_cohort(tmp_path / "a", specs, QUICK, seed=1, voxel_mm=10.0)
    second = write_cohort(tmp_path / "b", specs, QUICK, seed=1, voxel_mm=10.0)
    assert digest(first) == digest(second)
    kept = first / "quick-0000" / "SUV.nii.gz"
    stamp = kept.stat().st_mtime_ns
    (first / "quick-0001" / "study.json").unlink()  # as if it had been interrupted
    write_cohort(first, specs, QUICK, seed=1, voxel_mm=10.0)
    assert kept.stat().st_mtime_ns == stamp
    assert digest(first) == digest(second)


def test_sites_with_one_seed_have_different_patients(tmp_path: Path) -> None:
    a = write_cohort(tmp_path / "a", 1, QUICK, seed=0, voxel_mm=10.0)
    b = write_cohort(tmp_path / "b", 1, QUICK.model_copy(update={"name": "other"}), seed=0, voxel_mm=10.0)
    seeds = [json.loads((f / "cohort.json").read_text())["studies"][0]["seed"] for f in (a, b)]
    assert seeds[0] != seeds[1]


@pytest.mark.slow
def test_workers_change_nothing(tmp_path: Path) -> None:
    one = write_cohort(tmp_path / "one", 2, QUICK, seed=2, workers=1, voxel_mm=10.0)
    two = write_cohort(tmp_path / "two", 2, QUICK, seed=2, workers=2, voxel_mm=10.0)
    assert digest(one) == digest(two)


def test_a_folder_of_another_cohort_is_left_alone(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "c", 1, QUICK, seed=1, voxel_mm=10.0)
    before = digest(folder)
    with pytest.raises(InputError, match="another cohort"):
        write_cohort(folder, 1, QUICK, seed=2, voxel_mm=10.0)
    with pytest.raises(InputError):
        write_cohort(folder, 1, QUICK.model_copy(update={"suv_scale": 0.9}), seed=1, voxel_mm=10.0)
    assert digest(folder) == before
    write_cohort(folder, 2, QUICK, seed=1, voxel_mm=10.0)  # more of the same is welcome
    assert (folder / "quick-0001" / "study.json").exists()


def test_what_is_not_a_phantoms_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "quick-0000" / "mine.txt"
    mine.parent.mkdir()
    mine.touch()
    with pytest.raises(InputError, match=r"not empty, and has no cohort\.json"):
        write_cohort(tmp_path, 1, QUICK, seed=1, voxel_mm=10.0)
    ours = write_cohort(tmp_path / "ours", 1, QUICK, seed=1, voxel_mm=10.0)
    shutil.copytree(mine.parent, ours / "quick-0001")
    with pytest.raises(InputError, match=r"quick-0001 is not empty"):
        write_cohort(ours, 2, QUICK, seed=1, voxel_mm=10.0)
    assert mine.exists() and (ours / "quick-0001" / "mine.txt").exists()
    told = json.loads((ours / "cohort.json").read_text())
    for damaged in ("", "[]", json.dumps({**told, "studies": 3})):
        (ours / "cohort.json").write_text(damaged)
        with pytest.raises(InputError, match=r"damaged|another cohort"):
            write_cohort(ours, 1, QUICK, seed=1, voxel_mm=10.0)


@pytest.mark.parametrize("vendor", ["siemens", "ge", "philips"])
def test_every_vendor_gives_back_the_exact_suv(tmp_path: Path, woman: Phantom, vendor: str) -> None:
    scanner = QUICK.model_copy(update={"vendor": vendor, "suv_scale": 0.9})
    imaged = image_patient(woman, scanner, seed=3)
    spec = woman.spec
    subject = Subject("p1", spec.sex, spec.age, spec.height_cm / 100, spec.weight_kg)
    write_dicom(
        tmp_path,
        imaged.ct,
        imaged.pet,
        subject,
        scanner.vendor,
        seed=3,
        when=date(2026, 5, 4),
        lesions=imaged.lesions,
    )
    sources = find_studies(tmp_path)
    assert len(sources) == 1
    study = read_study(sources[0], need_pet=True)
    assert study.pet is not None
    assert study.pet.same_grid(imaged.pet)
    # 16 bits: half a step of the largest value of the series.
    assert np.abs(study.pet.array - imaged.pet.array).max() <= imaged.pet.array.max() / 32767
    assert np.array_equal(study.ct.array, np.clip(imaged.ct.array, -1024, 3071))
    expected = "vendor-factor" if vendor == "philips" else "vendor-private"
    assert study.source["suv_rule"] == expected
    lesions = study.lesions_on(imaged.pet)
    assert lesions is not None
    assert np.array_equal(np.asarray(lesions.array) > 0, imaged.lesions.array > 0)


def test_a_segments_name_is_the_label_of_its_lesion(tmp_path: Path) -> None:
    """A lesion too small for the PET's voxels leaves a gap there, and DICOM numbers segments without gaps."""
    image = np.zeros((6, 5, 4), np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[1, 1, 1], labels[2:4, 3, 2] = 1, 3
    ct, pet, lesions = (
        Volume(array, (8.0, 8.0, 8.0), unit=unit)
        for array, unit in ((image, "HU"), (image + 1, "SUV"), (labels, "label"))
    )
    write_dicom(tmp_path, ct, pet, Subject("p1"), "siemens", seed=0, lesions=lesions)
    segmentation = pydicom.dcmread(tmp_path / "SEG" / "lesions.dcm")
    segments = [(one.SegmentNumber, one.SegmentLabel) for one in segmentation.SegmentSequence]
    assert segments == [(1, "Lesion 1"), (2, "Lesion 3")]
    frames = segmentation.PerFrameFunctionalGroupsSequence
    numbers = [one.SegmentIdentificationSequence[0].ReferencedSegmentNumber for one in frames]
    assert numbers == [1, 2, 2], "slices of each"


def test_only_the_same_scan_has_the_same_uids(tmp_path: Path) -> None:
    z = np.arange(6, dtype=np.float32)[:, None, None]
    ct, pet = (Volume(np.zeros((6, 5, 4), np.float32) + z, (8.0, 8.0, 8.0), unit=u) for u in ("HU", "SUV"))
    who, january = Subject("QC-cylinder"), date(2026, 1, 5)
    usual = {"ct": ct, "pet": pet, "subject": who, "vendor": "siemens", "seed": 0, "when": january}
    changes = {
        "usual": {}, "day": {"when": date(2026, 2, 5)}, "scale": {"pet": pet.with_array(0.9 * pet.array)},
        "dose": {"ct": ct.with_array(ct.array + 1)}, "who": {"subject": replace(who, name="QC-spheres")},
        "vendor": {"vendor": "ge"}, "voxels": {"pet": replace(pet, spacing=(8.0, 8.0, 7.0))},
    }  # fmt: skip
    for name, change in changes.items():
        write_dicom(tmp_path / "all" / name, **{**usual, **change})  # type: ignore[arg-type]
    write_dicom(tmp_path / "again", **usual)  # type: ignore[arg-type]
    assert digest(tmp_path / "again") == digest(tmp_path / "all" / "usual")
    # The reader tells studies apart by their UIDs, whatever their folders.
    assert len(find_studies(tmp_path / "all")) == len(changes)
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "all").rglob("*.dcm")]
    assert len(set(uids)) == len(uids) == 12 * len(changes)


def test_dicom_without_private_fields_still_gives_the_suv(tmp_path: Path, man: Phantom) -> None:
    imaged = image_patient(man, QUICK, seed=3)
    write_dicom(tmp_path, imaged.ct, imaged.pet, Subject("p2", weight_kg=73.1), "siemens", seed=3)
    for path in tmp_path.rglob("PT*.dcm"):
        ds = pydicom.dcmread(path)
        ds.remove_private_tags()
        ds.save_as(path)
    study = read_study(find_studies(tmp_path)[0], need_pet=True)
    assert study.source["suv_rule"] == "series-time"
    assert study.pet is not None
    assert np.abs(study.pet.array - imaged.pet.array).max() <= imaged.pet.array.max() / 32767


def test_a_dicom_cohort(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path / "d", 1, QUICK, seed=1, form="dicom", condition="melanoma", voxel_mm=10.0)
    source = find_studies(folder)
    assert [s.kind for s in source] == ["dicom"]
    study = read_study(source[0], need_pet=True)
    truth = read_nifti(folder / "quick-0000/truth/lesions.nii.gz", "label").canonical()
    assert study.lesions is not None
    moved = study.lesions_on(study.pet)  # type: ignore[arg-type]
    assert np.array_equal(np.asarray(moved.array) > 0, truth.array > 0)  # type: ignore[union-attr]
