"""SEG, Secondary Capture and Encapsulated PDF stand beside the synthetic PET in the patient's study."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import Dataset
from scipy.spatial.transform import Rotation

from scantwin import NOTICE, __version__
from scantwin.imaging import dicom_pdf
from scantwin.imaging.dicom_capture import write_capture
from scantwin.imaging.dicom_pdf import A4, ScanPage, draw_page, write_encapsulated_pdf, write_pdf
from scantwin.imaging.dicom_pet import write_pet_series
from scantwin.imaging.dicom_seg import write_seg
from scantwin.imaging.pictures import save_png
from scantwin.imaging.volume import CANONICAL, Volume

RULE = "Connected regions with SUV 4 or more and 0.5 ml or more."


@pytest.fixture
def pet() -> Volume:
    array = np.full((8, 20, 24), 0.5, np.float32)
    array[2:4, 3:8, 4:9] = 6.0
    array[5:7, 12:16, 14:20] = 9.0
    return Volume(array, (3.0, 4.0, 4.0), (-40.0, -30.0, 100.0), unit="SUV")


@pytest.fixture
def labels(pet: Volume) -> Volume:
    return pet.with_array((pet.array > 4).astype(np.uint8) + (pet.array > 7).astype(np.uint8))


@pytest.fixture
def series(pet: Volume, tmp_path: Path) -> list[Dataset]:
    ct = Dataset()
    ct.SpecificCharacterSet = "ISO_IR 100"
    ct.PatientName, ct.PatientID, ct.PatientBirthDate, ct.PatientSex = "Müller^J", "P-1", "19600101", "M"
    ct.StudyInstanceUID, ct.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
    ct.StudyDate, ct.StudyTime, ct.StudyID, ct.AccessionNumber = "20240315", "101500", "7", "A1"
    ct.PatientPosition = "HFS"
    files = write_pet_series(pet, tmp_path / "pet", like=ct, model_version="pix2pix-0123", seed=1)
    return [pydicom.dcmread(path) for path in files]


@pytest.fixture
def page(tmp_path: Path) -> ScanPage:
    pictures = [
        save_png(Image.new("RGB", size, (40, 80, 120)), tmp_path / f"{k}.png")
        for k, size in enumerate([(900, 400), (300, 400), (500, 400)])
    ]
    return ScanPage("pix2pix-0123", [("SUV max", "9.0")], [("trunk", "1000")], ["w " * 300], pictures, RULE)


def dciodvfy(path: Path) -> tuple[list[str], str]:
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian: dicom3tools) is not installed")
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, timeout=60, check=False)
    said = done.stdout + done.stderr
    return [line for line in said.splitlines() if line.startswith("Error")], said


def test_seg_lies_on_the_pet(labels: Volume, series: list[Dataset], tmp_path: Path) -> None:
    path = write_seg(labels, tmp_path / "seg.dcm", series=series, rule=RULE)
    assert path is not None
    seg = highdicom.seg.segread(path)
    assert seg.number_of_segments == 2
    assert seg.StudyInstanceUID == series[0].StudyInstanceUID
    assert seg.FrameOfReferenceUID == series[0].FrameOfReferenceUID
    assert str(seg.PatientName) == "Müller^J"
    pixels = seg.get_pixels_by_source_instance([ds.SOPInstanceUID for ds in series])
    for number in (1, 2):
        assert np.array_equal(pixels[..., number - 1], labels.array == number)
    for segment in seg.SegmentSequence:
        assert segment.SegmentDescription == NOTICE
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("ScanTwin", __version__)
    errors, said = dciodvfy(path)
    assert errors == []
    assert "Segmentation" in said


def test_no_candidate_gives_no_seg(labels: Volume, series: list[Dataset], tmp_path: Path) -> None:
    empty = labels.with_array(labels.array * 0)
    assert write_seg(empty, tmp_path / "seg.dcm", series=series, rule=RULE) is None
    assert not (tmp_path / "seg.dcm").exists()


def test_a_seg_of_another_grid_is_refused(labels: Volume, series: list[Dataset], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="do not lie"):
        write_seg(labels, tmp_path / "seg.dcm", series=series[1:], rule=RULE)


@pytest.mark.parametrize(
    "change",
    [
        {"spacing": (3.0, 4.0, 4.1)},
        {"spacing": (3.1, 4.0, 4.0)},
        {"origin": (-40.0, -30.0, 100.5)},
        {"direction": Rotation.from_euler("z", 5, degrees=True).as_matrix() @ CANONICAL},
        {"direction": CANONICAL * [-1, 1, 1]},
    ],
    ids=["voxels", "slices", "place", "turned", "upside down"],
)
def test_a_seg_of_the_same_size_on_another_grid_is_refused(
    change: dict, labels: Volume, series: list[Dataset], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="do not lie"):
        write_seg(replace(labels, **change), tmp_path / "seg.dcm", series=series, rule=RULE)
    assert not (tmp_path / "seg.dcm").exists()


def test_the_same_scan_gives_the_same_files(
    labels: Volume, series: list[Dataset], page: ScanPage, tmp_path: Path
) -> None:
    def made(where: str) -> list[bytes]:
        folder = tmp_path / where
        pdf = write_pdf(page, folder / "report.pdf")
        seg = write_seg(labels, folder / "seg.dcm", series=series, rule=RULE)
        report = write_encapsulated_pdf(pdf, folder / "r.dcm", pet=series[0])
        assert seg is not None
        return [path.read_bytes() for path in (pdf, seg, report)]

    assert made("a") == made("b")


@pytest.mark.parametrize("size", [(64, 48), (33, 31)])
def test_a_capture_is_the_picture(size: tuple[int, int], series: list[Dataset], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    path = write_capture(
        Image.fromarray(pixels), tmp_path / "sc.dcm", pet=series[0], description="coronal", number=2
    )
    ds = pydicom.dcmread(path)
    assert np.array_equal(ds.pixel_array, pixels)
    assert (ds.StudyInstanceUID, ds.PatientID) == (series[0].StudyInstanceUID, "P-1")
    assert NOTICE in ds.SeriesDescription and NOTICE in ds.ImageComments
    errors, said = dciodvfy(path)
    assert errors == []
    assert "SCImage" in said


def test_the_report_is_one_page(page: ScanPage, series: list[Dataset], tmp_path: Path) -> None:
    assert draw_page(page).size == A4
    pdf = write_pdf(page, tmp_path / "report.pdf")
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-") and content.count(b"/Type /Page\n") == 1
    path = write_encapsulated_pdf(pdf, tmp_path / "report.dcm", pet=series[0])
    ds = pydicom.dcmread(path)
    assert ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength] == content
    assert NOTICE in ds.DocumentTitle
    errors, said = dciodvfy(path)
    assert errors == []
    assert "EncapsulatedPDF" in said


@pytest.mark.parametrize("count", [1, 3, 200])
def test_warnings_beyond_the_end_of_the_page_are_counted(
    count: int, page: ScanPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    line = dicom_pdf._line

    def noted(sheet: Image.Image, text: str, y: int, **how: object) -> int:
        drawn.append(text)
        return line(sheet, text, y, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(dicom_pdf, "_line", noted)
    draw_page(replace(page, warnings=[f"warning {k} " + "w " * 100 for k in range(count)]))
    told = sum(text.startswith("warning") for text in drawn)
    more = [text for text in drawn if "manifest.json" in text]
    assert more == ([] if told == count else [f"And {count - told} more: see manifest.json."])
    assert (told == count) == (count < 200)  # 200 lines are more than an A4 page has
