"""Lesions that were drawn: structure sets and segmentations of a DICOM study."""

from __future__ import annotations

import numpy as np
import pydicom
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.sr.codedict import codes as codes_of
from pydicom.uid import ExplicitVRLittleEndian

from .studies import codes, one


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


def test_a_segmentation_of_one_segment_as_highdicom_writes_it(pair, ct_maker):
    """It says for all frames at once which segment they are of."""
    slices = [pydicom.dcmread(path) for path in (pair / "DICOM" / "A1").iterdir()]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    for ds in slices:
        ds.AccessionNumber = ds.PatientBirthDate = ds.ReferringPhysicianName = ds.PatientSex = ""
    masks = np.zeros((len(slices), *ct_maker().shape), np.uint8)
    masks[3:9, 2:6, 4:11] = 1
    segment = SegmentDescription(
        1, "GTV", codes_of.SCT.MorphologicallyAbnormalStructure, codes_of.SCT.Lesion, "MANUAL"
    )
    ds = Segmentation(slices, masks, "BINARY", [segment], "1.2.7.7", 5, "1.2.7.7.8", 1, "X", "X", "1", "1")
    assert "SegmentIdentificationSequence" in ds.SharedFunctionalGroupsSequence[0]
    ds.save_as(pair / "SEG")
    study = one(pair)
    assert codes(study) == []
    np.testing.assert_array_equal(study.lesions.array > 0, masks > 0)
