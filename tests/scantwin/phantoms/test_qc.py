from __future__ import annotations

import json
import shutil
import subprocess
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from scantwin.calibration.measure import measure_cylinder
from scantwin.imaging.reading import find_studies, read_study
from scantwin.phantoms.qc import QcScan, sphere_phantom, uniform_cylinder, write_qc
from scantwin.phantoms.scanner import ScannerSpec
from scantwin.phantoms.sites import SITE_PRESETS

CLEAN = ScannerSpec(pet_counts=50.0, pet_spacing_mm=(4.0, 4.0, 4.0), ct_spacing_mm=(4.0, 4.0, 4.0))


def test_the_cylinder_is_one_by_construction() -> None:
    scan = uniform_cylinder(CLEAN)
    assert scan.weight_kg == pytest.approx(np.pi * 10**2 * 30 / 1000)
    assert scan.dose_bq / (scan.weight_kg * 1000) == pytest.approx(5000)
    core = scan.pet.array[30:50, 32:38, 32:38]
    assert core.mean() == pytest.approx(1.0, abs=0.005)
    assert np.median(scan.ct.array[30:50, 32:38, 32:38]) == pytest.approx(0, abs=3)


def test_spheres_hold_the_ratio() -> None:
    scan = sphere_phantom(CLEAN.model_copy(update={"pet_fwhm_mm": 4.0}), ratio=9.8)
    assert [s.diameter_mm for s in scan.spheres] == [37, 28, 22, 17, 13, 10]
    at = np.rint(scan.pet.index(scan.spheres[0].centre_mm)).astype(int)
    assert scan.pet.array[tuple(at)] == pytest.approx(9.8, rel=0.06)


@pytest.mark.parametrize("vendor", ["siemens", "ge", "philips"])
def test_a_cylinder_as_dicom_gives_back_its_suv(tmp_path: Path, vendor: str) -> None:
    scanner = CLEAN.model_copy(update={"vendor": vendor, "suv_scale": 1.08})
    scan: QcScan = uniform_cylinder(scanner, when=date(2026, 4, 2))
    write_qc(tmp_path / "qc", scan, scanner, form="dicom")
    study = read_study(find_studies(tmp_path / "qc")[0], need_pet=True)
    assert study.pet is not None
    assert measure_cylinder(study.pet, study.ct).bias == pytest.approx(0.08, abs=0.003)
    truth = json.loads((tmp_path / "qc" / "truth.json").read_text())
    assert truth["suv_factor"] == pytest.approx(1.08)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize("vendor", ["siemens", "ge", "philips"])
def test_the_standard_is_kept_whatever_the_vendor(tmp_path: Path, vendor: str) -> None:
    scanner = CLEAN.model_copy(update={"vendor": vendor})
    write_qc(tmp_path / "qc", uniform_cylinder(scanner, seed=1), scanner, form="dicom")
    for path in (next((tmp_path / "qc" / kind).iterdir()) for kind in ("CT", "PET")):
        done = subprocess.run(
            ["dciodvfy", str(path)], capture_output=True, text=True, timeout=60, check=False
        )
        said = done.stdout + done.stderr
        assert "Image" in said
        assert [line for line in said.splitlines() if line.startswith("Error")] == []


def test_drift_shows_on_its_day(tmp_path: Path) -> None:
    rural = SITE_PRESETS["rural"]
    scan = uniform_cylinder(rural, when=date(2026, 6, 30))
    write_qc(tmp_path / "n", scan, rural)
    study = read_study(find_studies(tmp_path / "n")[0], need_pet=True)
    assert measure_cylinder(study.pet, study.ct).bias == pytest.approx(scan.suv_factor - 1, abs=0.005)  # type: ignore[arg-type]
    assert scan.suv_factor < rural.suv_scale
