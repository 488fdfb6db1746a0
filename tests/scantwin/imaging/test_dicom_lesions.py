"""Drawn regions: which are lesions, and the voxels of those that are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLosslessSV1

from scantwin.imaging import dicom_lesions
from scantwin.imaging.dicom_files import FileRef
from scantwin.imaging.dicom_lesions import is_lesion, rasterise, read_lesions
from scantwin.imaging.jpeg_apart import JpegApart
from scantwin.imaging.reasons import code_of
from scantwin.imaging.volume import Volume

GRID = Volume(np.zeros((40, 16, 18), np.int16), (3.0, 2.0, 1.5), (-15.0, -10.0, -20.0), unit="HU")


@pytest.mark.parametrize(
    "region",
    [
        ("GTV_Mass_PET", "GTV"), ("GTV-1", ""), ("GTVp", ""), ("left", "GTV"), ("Lung mass", ""),
        ("mass_2", ""), ("Masses", ""), ("Tumor", ""), ("Brain_mets", ""), ("Liver metastasis", ""),
        ("PET-GTV", ""), ("Non-Hodgkin lymphoma", ""),
        ("Segment 1 Lesion Morphologically Abnormal Structure", ""),
    ],
)  # fmt: skip
def test_lesions(region: tuple[str, str]) -> None:
    assert is_lesion(*region)


@pytest.mark.parametrize(
    "region",
    [
        ("Lungs-GTV", "ORGAN"), ("Lungs-GTV", ""), ("Lung_L - GTV", ""), ("Liver minus GTV", "AVOIDANCE"),
        ("Liver_minus_GTV", ""), ("GTV", "ORGAN"), ("Masseter_L", "ORGAN"), ("Masseter_L", ""),
        ("PTV_GTVn", "PTV"), ("CTV_GTV", "CTV"), ("CTV_GTV", ""), ("PTV70 GTV", ""), ("GTV_Edema", ""),
        ("oedema of the tumour", ""), ("non-tumour brain", ""), ("Nontumor", ""), ("Metsovo", ""),
        ("Liver", ""), ("Tumour couch", "SUPPORT"), ("GTV", " external"),
    ],
)  # fmt: skip
def test_organs_and_margins_that_name_a_lesion_are_none(region: tuple[str, str]) -> None:
    assert not is_lesion(*region)


def part10(path: Path, fields: dict, sop_class: str, syntax: str = ExplicitVRLittleEndian) -> FileRef:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID("1.2.7.7.7")
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = UID(sop_class), UID("1.2.7.7.7")
    for name, value in fields.items():
        setattr(ds, name, value)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return FileRef(path)


def item(**fields: object) -> Dataset:
    ds = Dataset()
    for name, value in fields.items():
        setattr(ds, name, value)
    return ds


def segmentation(
    path: Path, labels: list[str], pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **fields: object
) -> FileRef:
    """A SEG of one byte a voxel: the frames of each label lie on the slices 5, 6, .. of the grid."""
    frames = []
    for number in range(len(labels)):
        for k in range(len(pixels) // len(labels)):
            position = [float(v) for v in GRID.world((5 + k, 0, 0))]
            frames.append(
                item(
                    PlanePositionSequence=Sequence([item(ImagePositionPatient=position)]),
                    SegmentIdentificationSequence=Sequence([item(ReferencedSegmentNumber=number + 1)]),
                )
            )
    shared = item(
        PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
        PixelMeasuresSequence=Sequence([item(PixelSpacing=[2.0, 1.5], SliceThickness=3.0)]),
    )
    segments = [item(SegmentNumber=k + 1, SegmentLabel=label) for k, label in enumerate(labels)]
    said = {
        "Modality": "SEG", "Rows": pixels.shape[1], "Columns": pixels.shape[2], "NumberOfFrames": len(pixels),
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 8, "BitsStored": 8,
        "HighBit": 7, "PixelRepresentation": 0, "SegmentSequence": Sequence(segments),
        "SharedFunctionalGroupsSequence": Sequence([shared]),
        "PerFrameFunctionalGroupsSequence": Sequence(frames), **fields,
    }  # fmt: skip
    said.setdefault("PixelData", pixels.astype(np.uint8).tobytes())
    return part10(path, said, "1.2.840.10008.5.1.4.1.1.66.4", syntax)


def structure_set(path: Path, regions: dict[str, str], **fields: object) -> FileRef:
    """A RTSTRUCT of one square for each region, by name -> RTROIInterpretedType."""
    square = [-6.0, -2.0, 1.0, 0.0, -2.0, 1.0, 0.0, 4.0, 1.0, -6.0, 4.0, 1.0]
    contour = item(ContourGeometricType="CLOSED_PLANAR", ContourData=square)
    numbered = list(enumerate(regions.items(), 1))
    said = {
        "Modality": "RTSTRUCT", **fields,
        "ROIContourSequence": Sequence(
            [item(ReferencedROINumber=k, ContourSequence=Sequence([contour])) for k, _ in numbered]
        ),
        "StructureSetROISequence": Sequence([item(ROINumber=k, ROIName=name) for k, (name, _) in numbered]),
        "RTROIObservationsSequence": Sequence(
            [item(ReferencedROINumber=k, RTROIInterpretedType=kind) for k, (_, kind) in numbered]
        ),
    }  # fmt: skip
    return part10(path, said, "1.2.840.10008.5.1.4.1.1.481.3")


def test_of_fractions_half_and_more_is_inside(tmp_path: Path) -> None:
    pixels = np.zeros((2, 16, 18), np.uint8)
    pixels[:, 3:12, 3:12], pixels[:, 5:9, 5:9], pixels[:, 6, 6] = 99, 100, 200
    ref = segmentation(
        tmp_path / "s", ["GTV"], pixels, SegmentationType="FRACTIONAL", MaximumFractionalValue=200
    )
    labels, notes = read_lesions([ref], GRID)
    assert labels is not None
    assert notes == []
    expected = np.zeros(GRID.shape, bool)
    expected[5:7, 5:9, 5:9] = True
    np.testing.assert_array_equal(labels.array > 0, expected)


def test_only_lesions_are_drawn_and_only_around_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask of a whole body takes a second a frame and 100 MB an organ: none is made for nothing."""
    made: list[tuple[int, ...]] = []
    resample_like, rasterise = dicom_lesions.resample_like, dicom_lesions.rasterise
    monkeypatch.setattr(
        dicom_lesions, "resample_like",
        lambda volume, like, **how: made.append(like.shape) or resample_like(volume, like, **how),
    )  # fmt: skip
    monkeypatch.setattr(
        dicom_lesions, "rasterise", lambda polygons, shape: made.append(shape) or rasterise(polygons, shape)
    )
    pixels = np.zeros((4, 16, 18), np.uint8)
    pixels[:, 5:9, 5:9] = 1
    ref = segmentation(tmp_path / "s", ["Liver", "GTV"], pixels, SegmentationType="BINARY")
    labels, notes = read_lesions([ref], GRID)
    assert labels is not None
    expected = np.zeros(GRID.shape, bool)
    expected[5:7, 5:9, 5:9] = True
    np.testing.assert_array_equal(labels.array > 0, expected)
    assert [code_of(note) for note in notes] == ["lesions.left-out"]
    assert len(made) == 2
    assert max(shape[0] for shape in made) <= 5
    made.clear()
    labels, notes = read_lesions([structure_set(tmp_path / "r", {"Lungs-GTV": "ORGAN", "GTV": ""})], GRID)
    assert labels is not None
    assert np.unique(np.nonzero(labels.array)[0]).tolist() == [7]
    assert [code_of(note) for note in notes] == ["lesions.left-out"]
    assert made == [GRID.shape]


def test_a_segmentation_beside_the_grid_leaves_it_empty(tmp_path: Path) -> None:
    far = GRID.crop((20, 0, 0), (40, 16, 18))
    ref = segmentation(tmp_path / "s", ["GTV"], np.ones((2, 16, 18), np.uint8), SegmentationType="BINARY")
    assert read_lesions([ref], far) == (None, [])


def test_what_is_left_out_is_counted_and_said_once(tmp_path: Path) -> None:
    pixels = np.ones((3, 16, 18), np.uint8)
    refs = [
        segmentation(tmp_path / "s", ["Liver", "Lungs-GTV", "GTV"], pixels, SegmentationType="BINARY"),
        structure_set(tmp_path / "r", {"Heart": "ORGAN"}),
    ]
    labels, (note,) = read_lesions(refs, GRID)
    assert labels is not None
    assert (
        note
        == "lesions.left-out: 3 drawn regions were left out: organs, margins, or not drawn along the slices."
    )


def test_regions_of_another_frame_of_reference_are_left_out(tmp_path: Path) -> None:
    """The numbers of another patient position fit the grid just as well, and mean another place."""
    seg = segmentation(
        tmp_path / "s", ["GTV"], np.ones((2, 16, 18), np.uint8), FrameOfReferenceUID="1.2.3",
        SegmentationType="BINARY",
    )  # fmt: skip
    within = Sequence([item(FrameOfReferenceUID="1.2.4")])
    drawn = structure_set(
        tmp_path / "r", {"GTV": ""}, FrameOfReferenceUID="1.2.5", ReferencedFrameOfReferenceSequence=within
    )
    silent = structure_set(tmp_path / "n", {"GTV": ""})
    for frames, read in (
        (frozenset(), [seg, drawn, silent]), (frozenset({"1.2.3"}), [seg, silent]),
        (frozenset({"1.2.4"}), [drawn, silent]), (frozenset({"1.2.3", "1.2.4"}), [seg, drawn, silent]),
    ):  # fmt: skip
        for ref in (seg, drawn, silent):
            labels, notes = read_lesions([ref], GRID, frames)
            assert (labels is not None) == (ref in read)
            assert [code_of(note) for note in notes] == ([] if ref in read else ["lesions.other-frame"])


def test_a_label_map_is_left_out_and_costs_the_others_nothing(tmp_path: Path) -> None:
    pixels = np.ones((2, 16, 18), np.uint8)
    mapped = segmentation(tmp_path / "m", ["GTV"], pixels, SegmentationType="LABELMAP")
    dataset = pydicom.dcmread(mapped.path)
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        del groups.SegmentIdentificationSequence
    dataset.save_as(mapped.path)
    other = segmentation(tmp_path / "s", ["GTV"], pixels, SegmentationType="BINARY")
    labels, notes = read_lesions([mapped, other], GRID)
    assert labels is not None and labels.array.max() == 1
    assert [code_of(note) for note in notes] == ["lesions.labelmap"]


def test_frames_of_single_bits_may_begin_within_a_byte(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (9, 5, 7), np.uint8)
    ref = segmentation(
        tmp_path / "s", ["GTV"], masks, SegmentationType="BINARY", BitsAllocated=1, BitsStored=1, HighBit=0,
        PixelData=np.packbits(masks.ravel(), bitorder="little").tobytes(),
    )  # fmt: skip
    labels, notes = read_lesions([ref], GRID)
    assert labels is not None and notes == []
    np.testing.assert_array_equal(labels.array[5:14, :5, :7] > 0, masks > 0)


def test_lossless_jpeg_is_decoded_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GDCM ends its process on some damaged files."""
    masks = np.random.default_rng(0).integers(0, 2, (2, 16, 18), np.uint8)
    header = bytes.fromhex("ffd8 ffc3 000b 08 0010 0012 01 01 11 00")
    ref = segmentation(
        tmp_path / "s", ["GTV"], masks, JPEGLosslessSV1, SegmentationType="BINARY",
        PixelData=encapsulate([header, header]),
    )  # fmt: skip
    monkeypatch.setattr(JpegApart, "decode", lambda self, file, number: masks[number])
    labels, _ = read_lesions([ref], GRID)
    assert labels is not None
    np.testing.assert_array_equal(labels.array[5:7, :16, :18] > 0, masks > 0)


def test_a_structure_set_of_too_many_points_is_left_out_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = structure_set(tmp_path / "r", {"GTV 1": "", "Liver": "ORGAN", "GTV 2": ""})
    monkeypatch.setattr(dicom_lesions, "_MAX_POINTS", 8)
    assert read_lesions([ref], GRID)[0] is not None, "two squares; what is no lesion does not count"
    monkeypatch.setattr(dicom_lesions, "_MAX_POINTS", 7)
    labels, notes = read_lesions([ref], GRID)
    assert labels is None
    assert [code_of(note) for note in notes] == ["lesions.unreadable"]


def test_a_damaged_drawing_is_left_out_whole_and_costs_the_others_nothing(tmp_path: Path) -> None:
    first = structure_set(tmp_path / "a", {"GTV": ""})
    pixels = np.zeros((4, 16, 18), np.uint8)
    pixels[:, 5:15, 5:9], pixels[2:, 5:15, 5:9] = 1, 0
    damaged = segmentation(tmp_path / "b", ["Liver", "GTV 1", "GTV 2", "GTV 3"], np.ones_like(pixels))
    dataset = pydicom.dcmread(damaged.path)
    dataset.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient = [1, 2]
    dataset.save_as(damaged.path)
    last = segmentation(tmp_path / "c", ["GTV", "Liver"], pixels)
    labels, notes = read_lesions([first, damaged, last], GRID)
    without, _ = read_lesions([first, last], GRID)
    assert labels is not None and without is not None
    np.testing.assert_array_equal(labels.array, without.array)
    assert np.unique(labels.array).tolist() == [0, 1, 2]
    assert [code_of(note) for note in notes] == ["lesions.left-out", "lesions.unreadable"]
    assert all(": 1 " in note for note in notes), "the liver of the file that was read, and the other file"


def square(z: float, low: int, high: int) -> np.ndarray:
    """A square of fractional indices (point, zyx) around the voxels `low` to `high` of both axes."""
    a, b = low - 0.4, high + 0.4
    return np.array([(z, a, a), (z, a, b), (z, b, b), (z, b, a)])


@pytest.mark.parametrize("edge", [3.005, 3.125, 3.0])
def test_contours_of_one_plane_stay_on_one_plane(edge: float) -> None:
    """Wherever it lies: what is computed of texts differs in the last digits from contour to contour."""
    off = 1e-9
    drawn = [square(edge - off, 1, 5), square(edge + off, 2, 3), square(edge + off, 8, 12)]
    for polygons in (drawn, drawn[::-1]):
        mask = rasterise(polygons, (6, 16, 16))
        expected = np.zeros((6, 16, 16), bool)
        expected[3, 1:6, 1:6], expected[3, 8:13, 8:13] = True, True
        expected[3, 2:4, 2:4] = False  # inside another: a hole
        np.testing.assert_array_equal(mask, expected)


def test_contours_of_close_planes_are_no_holes_of_each_other() -> None:
    """Drawn on 0.5 mm, laid on 5 mm: each slice takes the nearest plane, not what several leave over."""
    mask = rasterise([square(0.1 * k, 2, 4) for k in range(41)], (6, 8, 8))
    assert mask is not None
    assert mask[:5, 2:5, 2:5].all()
    assert not mask[5].any()
