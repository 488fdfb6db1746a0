"""Finding studies in what hospitals have, choosing CT and PET, refusing with reasons."""

from __future__ import annotations

import errno
import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.fileset import FileSet

from scantwin.errors import InputError, Rejection
from scantwin.imaging.dicom_files import files_under
from scantwin.imaging.reading import find_studies, read_ct, read_ct_and_header, read_study
from scantwin.imaging.resampling import resample_like

from .studies import codes, nifti_study, one, rejected, zipped

# --- finding


def test_nested_folder_zip_and_dicomdir_give_the_same_study(pair, tmp_path):
    expected = one(pair)
    assert expected.pet is not None
    others = [zipped(pair, tmp_path / "export.zip")]
    inside = tmp_path / "delivered"
    inside.mkdir()
    others.append(inside)
    zipped(pair, inside / "study 1.zip")
    media = FileSet()
    for path in pair.rglob("*"):
        if path.is_file():
            media.add(path)
    media.write(tmp_path / "cd")
    others += [tmp_path / "cd", tmp_path / "cd" / "DICOMDIR"]
    for path in others:
        study = one(path)
        np.testing.assert_array_equal(study.ct.array, expected.ct.array)
        np.testing.assert_array_equal(study.pet.array, expected.pet.array)
        assert study.name == expected.name


def test_other_files_in_the_export_do_no_harm(pair):
    (pair / "README.txt").write_text("viewer")
    (pair / "autorun.inf").write_text("[autorun]")
    (pair / "noname").write_bytes(b"\0" * 500)
    (pair / "empty").write_bytes(b"")
    (pair / ".hidden").write_bytes(b"\x08\0" * 100)
    (pair / "loop").symlink_to(pair)
    (pair / "away").symlink_to("/etc")
    assert one(pair).pet is not None


def test_several_studies_in_one_folder_are_told_apart(tmp_path, ct_maker, pet_maker):
    for k in range(3):
        fields = {"PatientID": f"P{k}"}
        for maker in (ct_maker, pet_maker):
            made = maker(study=f"1.2.3.{k}", frame=f"1.2.4.{k}", fields=fields)
            made.write(tmp_path, name=lambda i, m=made, k=k: f"{m.modality}{k}{i}")
    sources = find_studies(tmp_path)
    assert len(sources) == 3
    assert len({s.key for s in sources}) == 3
    assert all(read_study(s).pet is not None for s in sources)
    with pytest.raises(InputError):
        read_ct(tmp_path)


def test_patients_with_one_study_uid_are_told_apart(tmp_path, ct_maker):
    for k in range(2):
        uid = f"1.2.3.{k}"
        ct_maker(fields={"PatientID": f"P{k}"}, series=uid).write(tmp_path / str(k))
    assert len(find_studies(tmp_path)) == 2


def test_ct_and_pet_kept_as_two_studies_are_put_together(tmp_path, ct_maker, pet_maker):
    ct_maker(study="1.2.3.1").write(tmp_path / "a")
    pet_maker(study="1.2.3.2").write(tmp_path / "b")
    assert one(tmp_path).pet is not None


def test_the_source_is_the_same_however_often_it_is_found_and_notices_changes(pair):
    first, second = find_studies(pair)[0], find_studies(pair)[0]
    assert first == second
    before = first.fingerprint()
    assert before == second.fingerprint()
    path = next(p for p in pair.rglob("*") if p.is_file())
    path.write_bytes(path.read_bytes() + b"\0")
    assert find_studies(pair)[0].fingerprint() != before


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(Rejection) as caught:
        find_studies(tmp_path)
    assert caught.value.code == "study.empty-folder"
    with pytest.raises(Rejection) as caught:
        find_studies(tmp_path / "nowhere")
    assert caught.value.code == "study.not-found"


def test_a_study_is_described_in_the_folder_above_its_series(tmp_path, ct_maker, pet_maker):
    for k in (1, 2):
        for maker in (ct_maker, pet_maker):
            made = maker(study=f"1.2.3.{k}", frame=f"1.2.4.{k}", fields={"PatientID": f"P{k}"})
            made.write(tmp_path / f"p{k}" / "DICOM")
        (tmp_path / f"p{k}" / "study.json").write_text(json.dumps({"name": f"n{k}"}))
    (tmp_path / "study.json").write_text(json.dumps({"name": "both"}))
    assert [read_study(s).name for s in find_studies(tmp_path)] == ["n1", "n2"]
    assert one(tmp_path / "p1").name == "n1"
    assert one(zipped(tmp_path / "p1", tmp_path / "p1.zip")).name == "n1"
    (tmp_path / "p1" / "DICOM" / "study.json").write_text(json.dumps({"name": "nearer"}))
    assert one(tmp_path / "p1").name == "nearer"


def test_a_description_that_could_speak_of_two_studies_speaks_of_none(tmp_path, ct_maker):
    for k in (1, 2):
        ct_maker(study=f"1.2.3.{k}", frame=f"1.2.4.{k}").write(tmp_path / f"p{k}")
    (tmp_path / "study.json").write_text(json.dumps({"name": "which"}))
    assert all(read_study(s).name.startswith("study-") for s in find_studies(tmp_path))
    ct_maker().write(tmp_path / "mixed" / "DICOM")
    nifti_study(tmp_path / "mixed" / "files")
    (tmp_path / "mixed" / "study.json").write_text(json.dumps({"name": "which"}))
    assert "which" not in {read_study(s).name for s in find_studies(tmp_path / "mixed")}


@pytest.fixture
def close(monkeypatch):
    """Makes files and folders such that they cannot be opened, also for root."""
    closed: set[Path] = set()

    def guarded(method):
        def call(self, *args, **kwargs):
            if self in closed:
                raise PermissionError(errno.EACCES, "Permission denied", str(self))
            return method(self, *args, **kwargs)

        return call

    monkeypatch.setattr(Path, "open", guarded(Path.open))
    monkeypatch.setattr(Path, "iterdir", guarded(Path.iterdir))
    return closed.add


def test_a_file_that_cannot_be_opened_is_left_out_and_said(pair, close):
    files = sorted((pair / "DICOM" / "A1").iterdir(), key=lambda p: pydicom.dcmread(p).InstanceNumber)
    close(files[5])
    (pair / "notes.txt").write_text("closed")
    close(pair / "notes.txt")
    study = one(pair)
    assert {"dicom.file-left-out", "geometry.missing-slices"} <= set(codes(study))


def test_a_folder_that_cannot_be_looked_into_is_refused_and_the_others_are_read(pair, close, ct_maker):
    close(ct_maker(study="1.2.3.9", frame="1.2.4.9").write(pair / "DICOM" / "closed"))
    (pair / "closed.zip").write_bytes(b"PK")
    close(pair / "closed.zip")
    said = {}
    for source in find_studies(pair):
        try:
            said[source.kind] = read_study(source).pet is not None
        except Rejection as refusal:
            said[refusal.code] = True
    assert said == {"dicom": True, "dicom.unreadable": True, "zip.unreadable": True}


def test_a_description_that_cannot_be_opened_refuses_its_study(tmp_path, close):
    close(nifti_study(tmp_path / "a", said={}) / "study.json")
    nifti_study(tmp_path / "b")
    first, second = find_studies(tmp_path)
    with pytest.raises(Rejection) as caught:
        read_study(first)
    assert caught.value.code == "study.bad-json"
    assert read_study(second).pet is not None


def test_a_pet_of_too_few_slices_refuses_its_study(tmp_path, ct_maker, pet_maker):
    """Passed over, the study would be a CT that never had a PET, and nobody would send the rest."""
    ct_maker().write(tmp_path)
    pet_maker().write(tmp_path, keep=lambda i: i < 2)
    assert rejected(tmp_path) == "geometry.too-few-slices"
    assert one(tmp_path, with_pet=False).pet is None
    pet_maker(series="1.2.3.7").write(tmp_path / "whole")
    assert one(tmp_path).pet.shape[0] == 9


@pytest.mark.parametrize(
    "made",
    [
        {"ImageType": ["DERIVED", "SECONDARY"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "MIP"]},
        {"ReconstructionMethod": "SYNTHETIC"},
    ],
)  # fmt: skip
def test_a_picture_of_a_pet_or_a_slice_of_a_synthetic_one_is_passed_over(made, tmp_path, ct_maker, pet_maker):
    ct_maker().write(tmp_path)
    pet_maker(slices=1, fields=made).write(tmp_path)
    assert one(tmp_path).pet is None


# --- archives


def test_a_folder_of_links_says_so(pair, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "one").symlink_to(pair)
    with pytest.raises(Rejection) as caught:
        find_studies(tmp_path / "links")
    assert caught.value.code == "study.only-links"
    assert len(find_studies(tmp_path / "links" / "one")) == 1


def test_links_are_followed_to_files_inside_the_folder_that_was_given(pair):
    folder = pair / "DICOM" / "A1"
    (pair / "beside").mkdir()
    for path in sorted(folder.iterdir())[::2]:
        path.rename(pair / "beside" / path.name)
        path.symlink_to(f"../../beside/{path.name}")
    links = {path for path in folder.iterdir() if path.is_symlink()}
    assert links and links <= {ref.path for ref in files_under(pair)}
    # From the folder of the links itself, they lead outside.
    assert links.isdisjoint(ref.path for ref in files_under(folder))


def test_links_that_lead_to_each_other_are_passed_over(pair):
    (pair / "a").symlink_to("b")
    (pair / "b").symlink_to("a")
    assert not any(ref.path.is_symlink() for ref in files_under(pair))
    assert one(pair).pet is not None


def test_zips_that_lead_outside_are_refused(tmp_path):
    for name in ("../evil.dcm", "/etc/evil.dcm", "a/../../evil.dcm", "C:/evil.dcm", "..\\evil.dcm"):
        path = tmp_path / "x.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"\0" * 200)
        assert rejected(path) == "zip.unsafe-path", name


def test_zip_bombs_are_refused_before_they_unpack(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.dcm", b"\0" * 5_000_000)
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\x01\x02")  # the directory claims 3.9 GiB
    content[at + 24 : at + 28] = struct.pack("<I", 0xF9000000)
    path.write_bytes(bytes(content))
    assert rejected(path) == "zip.bomb"


def test_locked_and_broken_zips_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.dcm", b"\0" * 200)
    whole = path.read_bytes()
    locked = bytearray(whole)
    locked[locked.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(locked))
    assert rejected(path) == "zip.encrypted"
    path.write_bytes(whole[:-30])
    assert rejected(path) == "zip.unreadable"


def test_a_broken_zip_among_others_is_reported_not_passed_over(pair, tmp_path):
    (pair / "broken.zip").write_bytes(b"PK\x03\x04 and nothing more")
    sources = find_studies(pair)
    assert sorted(s.kind for s in sources) == ["archive", "dicom"]


def test_a_zip_in_a_zip_is_reported(pair, tmp_path):
    (tmp_path / "inner").mkdir()
    zipped(pair, tmp_path / "inner" / "inner.zip")
    assert rejected(zipped(tmp_path / "inner", tmp_path / "outer.zip")) == "zip.nested"


# --- choosing


def test_scouts_reformats_screenshots_and_dose_reports_are_passed_over(pair, ct_maker):
    extra = [
        (ct_maker(series="1.2.9.1", slices=3), {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
        (ct_maker(series="1.2.9.2", slices=40), {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}),
        (ct_maker(series="1.2.9.3", slices=40), {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CSA MIP"]}),
        (ct_maker(series="1.2.9.4"), {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "Modality": "OT"}),
        (ct_maker(series="1.2.9.5"), {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67", "Modality": "SR"}),
    ]  # fmt: skip
    for k, (maker, fields) in enumerate(extra):
        maker.fields = fields
        maker.write(pair / f"extra{k}")
    study = one(pair)
    assert study.ct.shape[0] == 12
    assert "study.several-ct" not in codes(study)


def test_only_a_scout_is_refused(tmp_path, ct_maker):
    ct_maker(fields={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}).write(tmp_path)
    assert rejected(tmp_path) == "ct.scout"


def test_of_several_cts_the_one_that_covers_the_pet_is_taken_and_said(pair, ct_maker):
    short = ct_maker(series="1.2.9.1", slices=3, values=lambda p: 0 * p[..., 0] + 100)
    short.write(pair / "short")
    lung = ct_maker(series="1.2.9.2", values=lambda p: 0 * p[..., 0] + 200)
    lung.fields = {"ConvolutionKernel": "LUNG"}
    lung.write(pair / "lung")
    other = ct_maker(series="1.2.9.3", frame="1.2.3.4.5", slices=40, values=lambda p: 0 * p[..., 0] + 300)
    other.write(pair / "other frame")
    study = one(pair)
    assert "study.several-ct" in codes(study)
    assert study.ct.array.min() < 0  # none of the constant ones
    assert study.ct.shape[0] == 12
    assert study.source["ct_chosen_by"] == "kernel"


def test_of_equal_cts_always_the_same_is_taken(tmp_path, ct_maker):
    for k in (2, 1):
        ct_maker(series=f"1.2.9.{k}", values=lambda p, k=k: 0 * p[..., 0] - 100 * k).write(tmp_path / str(k))
    study = one(tmp_path)
    assert study.ct.array.max() == -100
    assert study.source["ct_chosen_by"].startswith("none")


def test_the_corrected_pet_is_taken_and_an_uncorrected_one_alone_is_refused(tmp_path, ct_maker, pet_maker):
    ct_maker().write(tmp_path / "ct")
    nac = pet_maker(series="1.2.9.1", slices=12, values=lambda p: 0 * p[..., 0] + 9)
    nac.fields = {"CorrectedImage": ["DECY"]}
    nac.write(tmp_path / "nac")
    assert rejected(tmp_path) == "pet.no-attenuation-correction"
    pet_maker().write(tmp_path / "ac")
    study = one(tmp_path)
    assert "study.several-pet" in codes(study)
    assert study.pet.array.max() < 9


def test_a_pet_that_cannot_be_suv_gives_way_to_one_that_can(tmp_path, ct_maker, pet_maker):
    ct_maker().write(tmp_path / "ct")
    longer = pet_maker(series="1.2.9.1", slices=12)
    longer.fields = {"Units": "PROPCNTS"}
    longer.write(tmp_path / "counts")
    pet_maker().write(tmp_path / "suv")
    assert one(tmp_path).pet.shape[0] == 9


def test_ct_and_pet_must_belong_together(tmp_path, ct_maker, pet_maker):
    ct_maker().write(tmp_path / "ct")
    cases = {
        "pair.far-apart": {"origin": (-14.0, -9.0, 200.0)},
        "pair.other-frame": {"frame": "1.2.3.4"},
        "pair.other-day": {"fields": {"AcquisitionDate": "20200104"}},
    }
    for code, changes in cases.items():
        folder = tmp_path / code
        ct_maker().write(folder / "ct")
        pet_maker(**changes).write(folder / "pet")
        if code == "pair.far-apart":
            assert rejected(folder) == code
        else:
            assert code in codes(one(folder))
    other = tmp_path / "other"
    ct_maker().write(other / "ct")
    pet_maker(fields={"PatientID": "P2"}).write(other / "pet")
    assert rejected(other) == "pair.other-patient"


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        ((0, 0, 200), "0 mm in common along the patient"),
        ((0, 200, 0), "0 mm in common from front to back"),
        # The CT spans -15.75 to 9.75 mm, the PET -15.5 to 11.5 mm.
        ((20, 0, 0), "5 mm in common from right to left"),
    ],
)
def test_how_ct_and_pet_lie_apart_is_said(shift, said, tmp_path, ct_maker, pet_maker):
    ct_maker().write(tmp_path / "ct")
    pet_maker(origin=tuple(np.add((-14.0, -9.0, -19.0), shift))).write(tmp_path / "pet")
    with pytest.raises(Rejection, match=said) as caught:
        one(tmp_path)
    assert caught.value.code == "pair.far-apart"


def test_ct_and_pet_may_be_of_other_extent_and_place(tmp_path, ct_maker, pet_maker):
    ct_maker(slices=30).write(tmp_path / "ct")
    pet_maker(slices=5, origin=(-11.0, -6.0, -10.0)).write(tmp_path / "pet")
    study = one(tmp_path)
    assert "pair.part-overlap" in codes(study)
    point = np.array([-8.0, -2.5, -6.0])
    at = tuple(np.rint(study.pet.index(point)).astype(int))
    expected = 5.0 + 0.02 * point[0] + 0.01 * point[1] - 0.015 * point[2]
    assert study.pet.array[at] == pytest.approx(expected, abs=1e-3)


def test_a_study_without_pet_or_without_ct_is_said(tmp_path, ct_maker, pet_maker):
    ct_maker().write(tmp_path / "ct")
    pet_maker(study="1.2.8", frame="1.2.9").write(tmp_path / "pet")
    assert one(tmp_path / "ct").pet is None
    assert rejected(tmp_path / "ct", need_pet=True) == "study.no-pet"
    assert rejected(tmp_path / "pet") == "study.no-ct"
    assert read_ct(tmp_path / "ct").unit == "HU"


def test_read_ct_passes_over_a_pet_that_would_be_refused(pair, pet_maker, tmp_path):
    nac = pet_maker(fields={"CorrectedImage": ["DECY"]})
    nac.write(pair / "DICOM" / "A2")
    assert read_ct(pair).unit == "HU"
    folder = nifti_study(tmp_path / "files")
    (folder / "SUV.nii.gz").write_bytes(b"damaged")
    assert rejected(folder) == "nifti.unreadable"
    assert read_ct(folder).unit == "HU"


def test_who_makes_cts_is_not_stopped_by_a_pet_that_would_be_refused(pair, pet_maker, tmp_path):
    no_dose = pet_maker(fields={"CorrectedImage": ["DECY"]})
    no_dose.write(tmp_path / "only" / "A2")
    for path in (pair / "DICOM" / "A2").iterdir():
        path.unlink()
    no_dose.write(pair / "DICOM" / "A2")
    assert rejected(pair).startswith("pet.")
    study = one(pair, with_pet=False)
    assert study.pet is None and study.has_ct and study.ct.unit == "HU"
    assert rejected(tmp_path / "only", with_pet=False) == "study.no-ct"
    folder = nifti_study(tmp_path / "files")
    (folder / "SUV.nii.gz").write_bytes(b"damaged")
    study = one(folder, with_pet=False)
    assert study.pet is None and study.lesions is not None and study.lesions.same_grid(study.ct)


def test_the_header_is_of_the_ct_that_was_read(tmp_path, ct_maker):
    """What is made from the CT gets its frame of reference from this header."""
    ct_maker(series="1.2.9.1", slices=3, frame="1.2.3.4.5").write(tmp_path / "a short one")
    ct_maker(series="1.2.9.2").write(tmp_path / "b")
    ct, header = read_ct_and_header(tmp_path)
    assert ct.shape[0] == 12
    assert (header.SeriesInstanceUID, header.FrameOfReferenceUID) == ("1.2.9.2", "1.2.826.0.1.77.9")
    assert read_ct_and_header(nifti_study(tmp_path / "files"))[1] is None


# --- real scans


@pytest.mark.data
def test_dicom_and_nifti_of_one_patient_agree(shared_data):
    """The PET values must be the same; the contours fill the voxels that others filled."""
    for path in sorted((shared_data / "sts" / "dicom").glob("*.zip"))[:3]:
        dicom = one(path)
        nifti = one(shared_data / "sts" / "nifti" / path.stem)
        assert dicom.pet.same_grid(nifti.pet)
        np.testing.assert_array_equal(dicom.pet.array, nifti.pet.array)
        inside, drawn = dicom.lesions_on(nifti.pet).array > 0, nifti.lesions.array > 0
        assert 2 * (inside & drawn).sum() / (inside.sum() + drawn.sum()) > 0.98
        ct = resample_like(dicom.ct, nifti.ct, outside=-1000)
        covered = ct.array > -1000
        # The reference was resampled from whole numbers by another program: half a unit on average.
        assert np.abs(ct.array - nifti.ct.array)[covered].mean() < 0.5


@pytest.mark.data
def test_a_real_ct_of_a_trunk_is_read(shared_data):
    ct = read_ct(shared_data / "ct" / "crlm_1004.zip")
    assert ct.shape == (41, 512, 512)
    assert ct.spacing == pytest.approx((5.0, 0.796875, 0.796875))
    assert ct.array.min() >= -1024
    assert read_ct(shared_data / "ct" / "trunk_3mm.nii.gz").is_canonical


def test_study_json_names_the_patient_wherever_the_study_lies(tmp_path):
    nifti_study(tmp_path / "a", said={"patient": "one"})
    nifti_study(tmp_path / "elsewhere" / "b", said={"patient": "one"})
    nifti_study(tmp_path / "c", said={"patient": "two"})
    assert [source.patient for source in find_studies(tmp_path)] == ["one", "two", "one"]
