from __future__ import annotations

import json

import numpy as np

from scantwin import NOTICE
from scantwin.imaging.nifti import read_nifti
from scantwin.systems import scanner_for
from scantwin.translation.outputs import write_scan


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
