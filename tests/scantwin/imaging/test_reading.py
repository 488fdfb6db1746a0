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
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from scantwin.errors import InputError, Rejection
from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.imaging.reading import find_studies, read_ct, read_ct_and_header, read_study
from scantwin.imaging.reasons import code_of
from scantwin.imaging.resampling import resample_like
from scantwin.imaging.volume import Volume


def codes(study) -> list[str]:
    return [code_of(note) for note in study.warnings]


def one(path: Path, **options):
    (source,) = find_studies(path)
    return read_study(source, **options)


def rejected(path: Path, **options) -> str:
    with pytest.raises(Rejection) as caught:
        one(path, **options)
    assert caught.value.message
    return caught.value.code


@pytest.fixture
def pair(tmp_path, ct_maker, pet_maker) -> Path:
    """A folder with a CT and a PET of one study."""
    ct_maker().write(tmp_path / "export" / "DICOM" / "A1")
    pet_maker().write(tmp_path / "export" / "DICOM" / "A2")
    return tmp_path / "export"


def zipped(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return target


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


# --- archives


def test_a_folder_of_links_says_so(pair, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "one").symlink_to(pair)
    with pytest.raises(Rejection) as caught:
        find_studies(tmp_path / "links")
    assert caught.value.code == "study.only-links"
    assert len(find_studies(tmp_path / "links" / "one")) == 1


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


# --- drawn lesions


def part10(fields: dict, sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, sop_class
    meta.MediaStorageSOPInstanceUID = "1.2.7.7.7"
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, "1.2.7.7.7"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.77.1", "1.2.7.7"
    ds.FrameOfReferenceUID, ds.PatientID = "1.2.826.0.1.77.9", "P1"
    for name, value in fields.items():
        setattr(ds, name, value)
    return ds


def item(**fields) -> Dataset:
    ds = Dataset()
    for name, value in fields.items():
        setattr(ds, name, value)
    return ds


def structure_set(maker, regions: dict[str, list[tuple[int, tuple[float, float], float]]]) -> FileDataset:
    """Circles (slice, centre (x, y) [mm], radius [mm]) by region name."""
    angles = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    rois, drawn = [], []
    for number, (name, circles) in enumerate(regions.items(), 1):
        rois.append(item(ROINumber=number, ROIName=name))
        contours = []
        for i, (x, y), radius in circles:
            z = np.full_like(angles, maker.origin[2] + i * maker.spacing[0])
            points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles), z], 1)
            data = [f"{v:.3f}" for v in points.ravel()]
            contours.append(item(ContourGeometricType="CLOSED_PLANAR", ContourData=data))
        drawn.append(item(ReferencedROINumber=number, ContourSequence=Sequence(contours)))
    fields = {
        "Modality": "RTSTRUCT",
        "StructureSetROISequence": Sequence(rois), "ROIContourSequence": Sequence(drawn),
    }  # fmt: skip
    return part10(fields, "1.2.840.10008.5.1.4.1.1.481.3")


def test_contours_become_labels_and_organs_are_left_out(pair, ct_maker):
    maker = ct_maker()
    hole = (4, (-3.0, 0.0), 2.2)
    tumour = [*((i, (-3.0, 0.0), 6.2) for i in range(3, 7)), hole]
    ds = structure_set(maker, {"GTV left": tumour, "Liver": [(3, (0.0, 0.0), 5.0)]})
    pydicom.dcmwrite(pair / "RS", ds, enforce_file_format=True)
    study = one(pair)
    assert "lesions.left-out" in codes(study)
    z, y, x = np.meshgrid(*(np.arange(n) for n in study.ct.shape), indexing="ij")
    world = study.ct.world(np.stack([z, y, x], -1))
    distance = np.hypot(world[..., 0] + 3.0, world[..., 1])
    expected = (distance < 6.2) & (z >= 3) & (z <= 6) & ~((distance < 2.2) & (z == 4))
    np.testing.assert_array_equal(study.lesions.array > 0, expected)
    assert study.lesions.unit == "label"


def test_contours_of_another_patient_position_are_left_out(pair, ct_maker, pet_maker):
    ds = structure_set(ct_maker(), {"GTV": [(i, (-3.0, 0.0), 6.2) for i in range(3, 7)]})
    for frame, own in (("1.2.3.4.5", False), ("1.2.826.0.1.77.9", True)):
        ds.FrameOfReferenceUID = frame
        pydicom.dcmwrite(pair / "RS", ds, enforce_file_format=True)
        study = one(pair)
        assert (study.lesions is not None, "lesions.other-frame" in codes(study)) == (own, not own)
    # Drawn on the PET, which the study takes as it lies.
    pet_maker(frame="1.2.3.4.5").write(pair / "DICOM" / "A2")
    ds.FrameOfReferenceUID = "1.2.3.4.5"
    pydicom.dcmwrite(pair / "RS", ds, enforce_file_format=True)
    assert one(pair).lesions is not None
    # Of a CT that does not name its own, nobody knows.
    ct_maker(frame="").write(pair / "DICOM" / "A1")
    ds.FrameOfReferenceUID = "1.2.3.4.6"
    pydicom.dcmwrite(pair / "RS", ds, enforce_file_format=True)
    assert one(pair).lesions is not None


def test_segmentation_objects_become_labels(pair, ct_maker):
    maker = ct_maker()
    masks, frames = [], []
    for i in (2, 3, 4):
        mask = np.zeros(maker.shape, np.uint8)
        mask[3:7, 4 : 6 + i] = 1
        masks.append(mask)
        frames.append(
            item(
                PlanePositionSequence=Sequence([item(ImagePositionPatient=list(maker.points(i)[0, 0]))]),
                SegmentIdentificationSequence=Sequence([item(ReferencedSegmentNumber=1)]),
            )
        )
    shared = item(
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[2.0, 1.5], SliceThickness=3.0)]),
    )
    bits = np.packbits(np.stack(masks).ravel(), bitorder="little").tobytes()
    fields = {
        "Modality": "SEG", "Rows": maker.shape[0], "Columns": maker.shape[1], "NumberOfFrames": 3,
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 1, "BitsStored": 1,
        "HighBit": 0, "PixelRepresentation": 0, "SegmentationType": "BINARY",
        "SegmentSequence": Sequence([item(SegmentNumber=1, SegmentLabel="Lesion 1")]),
        "SharedFunctionalGroupsSequence": Sequence([shared]),
        "PerFrameFunctionalGroupsSequence": Sequence(frames), "PixelData": bits + b"\0" * (len(bits) % 2),
    }  # fmt: skip
    ds = part10(fields, "1.2.840.10008.5.1.4.1.1.66.4")
    pydicom.dcmwrite(pair / "SEG1", ds, enforce_file_format=True)
    study = one(pair)
    expected = np.zeros(study.ct.shape, bool)
    expected[2:5] = np.stack(masks) > 0
    np.testing.assert_array_equal(study.lesions.array > 0, expected)


# --- NIfTI layout


def nifti_study(folder: Path, *, ct: str = "CTres", seg: str = "SEG", said: object = None) -> Path:
    rng = np.random.default_rng(0)
    shape, spacing = (6, 8, 9), (3.0, 2.0, 2.0)
    write_nifti(
        Volume(rng.integers(-1000, 900, shape).astype(np.int16), spacing, unit="HU"), folder / f"{ct}.nii.gz"
    )
    write_nifti(
        Volume(rng.random(shape, np.float32) * 9, spacing, unit="SUV"), folder / "SUV.nii.gz"
    )  # fmt: skip
    write_nifti(Volume((rng.random(shape) > 0.9), spacing, unit="label"), folder / f"{seg}.nii.gz")
    if said is not None:
        (folder / "study.json").write_text(json.dumps(said))
    return folder


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
