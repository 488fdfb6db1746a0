from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pydicom

from scantwin import NOTICE
from scantwin.imaging.dicom_pdf import _EDGE, A4, _wrapped
from scantwin.imaging.nifti import read_nifti
from scantwin.systems import scanner_for
from scantwin.translation.candidates import lesion_candidates
from scantwin.translation.outputs import write_scan
from scantwin.translation.outputs_extra import scan_page
from scantwin.translation.starter import PHANTOMS_ONLY, SENTENCE


def test_a_scans_folder_is_complete(bar_model, new_bar, tmp_path):
    result = scanner_for(bar_model).scan(new_bar.ct)
    said = write_scan(result, new_bar.ct, bar_model, "pix2pix-test", tmp_path / "scan", seed=3)
    assert set(said) >= {
        "pet_nifti",
        "std_nifti",
        "pet_dicom",
        "pictures",
        "manifest",
        "seconds",
        "districts",
    }
    pet = read_nifti(said["pet_nifti"], "SUV")
    assert pet.canonical().same_grid(result.pet)
    assert np.allclose(pet.canonical().array, result.pet.array, atol=1e-4)
    manifest = json.loads((tmp_path / "scan" / "manifest.json").read_text())
    assert manifest["notice"] == NOTICE and manifest["seed"] == 3
    assert all((tmp_path / "scan" / name).is_file() for name in manifest["pictures"])
    assert len(list((tmp_path / "scan" / "dicom").iterdir())) == result.pet.shape[0]
    assert said["report_pdf"] == str(tmp_path / "scan" / "report.pdf")
    assert (tmp_path / "scan" / "report.pdf").read_bytes().startswith(b"%PDF-")
    listed = {str(tmp_path / "scan" / name) for name in manifest["dicom_extra"]}
    assert listed == set(said["dicom_extra"])
    assert listed == {str(path) for path in (tmp_path / "scan" / "dicom-extra").iterdir()}
    assert (said["lesions_dicom"] in listed) == (said["candidates"] > 0)
    assert len(manifest["candidates"]["found"]) == said["candidates"]
    (study,) = {pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID for path in listed}
    assert study == pydicom.dcmread(tmp_path / "scan" / "dicom" / "00001.dcm").StudyInstanceUID


def test_the_pets_headers_say_what_the_model_has_never_seen(bar_model, new_bar, tmp_path):
    result = scanner_for(bar_model).scan(new_bar.ct)
    of_phantoms = replace(bar_model, record={**bar_model.record, PHANTOMS_ONLY: True})
    for model, said in ((of_phantoms, True), (bar_model, False)):
        write_scan(result, new_bar.ct, model, "pix2pix-test", tmp_path / "scan")
        header = pydicom.dcmread(tmp_path / "scan" / "dicom" / "00001.dcm", stop_before_pixels=True)
        assert (SENTENCE in header.ImageComments) == said


def test_the_page_says_what_its_standard_deviation_is(bar_model, new_bar):
    result = scanner_for(bar_model).scan(new_bar.ct)
    page = scan_page(result, lesion_candidates(result.pet), "pix2pix-test", 0, [])
    legend = _wrapped(page.remark, A4[0] - 2 * _EDGE, 16)
    assert len(legend) <= 2, "the page prints no third line"
    assert "80 % interval / 1.28" in legend[1] and legend[1].endswith("2 SD are not 95 %.")


def test_a_hot_spot_is_a_candidate_and_a_segment(bar_model, new_bar, tmp_path):
    result = scanner_for(bar_model).scan(new_bar.ct)
    hot = np.array(result.pet.array)
    hot[10:13, 10:13, 10:13] = 12.0
    warm = replace(result, pet=result.pet.with_array(hot))
    said = write_scan(warm, new_bar.ct, bar_model, "pix2pix-test", tmp_path / "scan")
    assert said["candidates"] >= 1 and said["lesions_dicom"] is not None
    seg = pydicom.dcmread(said["lesions_dicom"])
    assert len(seg.SegmentSequence) == said["candidates"]


def test_the_pet_and_its_error_bar_are_what_their_names_say(bar_model, new_bar, tmp_path):
    result = scanner_for(bar_model).scan(new_bar.ct)
    write_scan(result, new_bar.ct, bar_model, "pix2pix-test", tmp_path / "scan")
    assert not np.allclose(result.pet.array, result.std.array, equal_nan=True)
    for name, image in (("pet", result.pet), ("std", result.std)):
        written = read_nifti(tmp_path / "scan" / f"{name}.nii.gz", "SUV").canonical()
        assert written.same_grid(image)
        assert np.allclose(written.array, image.array, atol=1e-4, equal_nan=True), name
