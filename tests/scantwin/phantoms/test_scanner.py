from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from pydantic import ValidationError

from scantwin.errors import InputError
from scantwin.imaging.volume import Volume
from scantwin.phantoms.canvas import Grid
from scantwin.phantoms.ct import NOISE_HU, image_ct
from scantwin.phantoms.patient import Phantom
from scantwin.phantoms.pet import LIVER_COV, image_pet
from scantwin.phantoms.scanner import ScannerSpec, image_patient
from scantwin.phantoms.sites import FULL_PRESETS, SITE_PRESETS

QUICK = ScannerSpec(ct_spacing_mm=(6.0, 6.0, 6.0), pet_spacing_mm=(6.0, 6.0, 6.0), breathing_mm=0.0)


def block(side: float, value: float, size: int = 60, unit: str = "SUV") -> Volume:
    half = size * side / 2
    return Volume(
        np.full((size, size, size), value, np.float32), (side,) * 3, (side / 2 - half,) * 3, unit=unit
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("fwhm", [5.0, 6.5, 8.0])
@pytest.mark.parametrize("side", [2.0, 4.0])
def test_the_resolution_is_the_one_asked_for(fwhm: float, side: float) -> None:
    """Edge response of a slab with partial volume, over all places of the edge within a voxel of `side`."""
    variances = [edge_variance(fwhm, side, place * side) for place in np.arange(0.1, 1.0, 0.2)]
    assert 2.3548 * np.sqrt(np.mean(variances)) == pytest.approx(fwhm, rel=0.05)


def edge_variance(fwhm: float, side: float, edge: float) -> float:
    """Variance [mm2] of the line spread behind an edge at z = `edge` [mm]."""
    truth = block(side, 0.0)
    z = truth.origin[2] + np.arange(60) * side
    truth.array[:] = np.clip(0.5 - (z - edge) / side, 0, 1).astype(np.float32)[:, None, None]
    scanner = ScannerSpec(pet_fwhm_mm=fwhm, pet_spacing_mm=(0.5, 20.0, 20.0), pet_counts=100.0)
    grid = Grid(np.arange(-20.0, 20.0, 0.5), np.arange(-20.0, 21.0, 20.0), np.arange(-20.0, 21.0, 20.0))
    profile = image_pet(truth, scanner, grid, np.random.default_rng(0)).array.mean(axis=(1, 2))
    spread = -np.gradient(np.asarray(profile, float))
    # Noise is 1 %: moments over +-2 FWHM.
    near = np.abs(grid.z - edge) < 2 * fwhm
    weight = spread[near] / spread[near].sum()
    centre = (weight * grid.z[near]).sum()
    assert centre == pytest.approx(edge, abs=0.3)
    return float((weight * (grid.z[near] - centre) ** 2).sum())


@pytest.mark.parametrize("counts", [0.25, 1.0, 4.0])
def test_pet_noise_falls_with_the_root_of_the_counts(counts: float) -> None:
    scanner = ScannerSpec(pet_counts=counts, pet_spacing_mm=(4.0, 4.0, 4.0))
    grid = Grid.over(np.full(3, -80.0), np.full(3, 80.0), (4.0, 4.0, 4.0))
    pet = image_pet(block(4.0, 2.0), scanner, grid, np.random.default_rng(1)).array
    core = pet[5:-5, 5:-5, 5:-5]
    assert core.std() / core.mean() == pytest.approx(LIVER_COV / np.sqrt(counts), rel=0.10)
    assert core.mean() == pytest.approx(2.0, rel=0.01)


def test_pet_noise_is_correlated_over_about_one_fwhm() -> None:
    scanner = ScannerSpec(pet_fwhm_mm=6.0, pet_spacing_mm=(2.0, 2.0, 2.0))
    grid = Grid.over(np.full(3, -60.0), np.full(3, 60.0), (2.0, 2.0, 2.0))
    noise = image_pet(block(4.0, 1.0), scanner, grid, np.random.default_rng(2)).array[8:-8, 8:-8, 8:-8] - 1.0

    def correlation(lag: int) -> float:
        return float(np.corrcoef(noise[lag:].ravel(), noise[:-lag].ravel())[0, 1])

    assert correlation(1) > 0.6  # 2 mm
    # Half the correlation is lost at about half an FWHM, nearly all at one and a half.
    assert correlation(5) < 0.15  # 10 mm


def test_ct_noise_follows_dose_and_slice() -> None:
    water = block(4.0, 0.0, 75, "HU")  # 300 mm square

    def sd(dose: float, thick: float = 3.0, kernel: str = "soft") -> float:
        spec = ScannerSpec(ct_dose=dose, ct_spacing_mm=(thick, 3.0, 3.0), kernel=kernel, table=False)  # type: ignore[arg-type]
        at = Grid.over(np.full(3, -140.0), np.full(3, 140.0), (thick, 3.0, 3.0))
        return float(image_ct(water, spec, at, np.random.default_rng(3)).array[2:-2, 10:-10, 10:-10].std())

    usual = sd(1.0)
    thickness = 2 ** ((2 * np.sqrt(300**2 / np.pi) - 300) / 80)
    assert usual == pytest.approx(NOISE_HU * thickness, rel=0.1)
    assert sd(0.25) == pytest.approx(2 * usual, rel=0.05)
    assert sd(1.0, 6.0) == pytest.approx(usual / np.sqrt(2), rel=0.05)
    assert sd(1.0, kernel="sharp") > 1.5 * usual


def test_partial_volume_keeps_the_mean() -> None:
    truth = block(2.0, 0.0, 80, "HU")
    truth.array[40:43] = 1000.0  # a plate of 6 mm
    spec = ScannerSpec(ct_spacing_mm=(5.0, 4.0, 4.0), table=False, ct_dose=10.0)
    grid = Grid.over(np.full(3, -80.0), np.full(3, 80.0), (5.0, 4.0, 4.0))
    ct = image_ct(truth, spec, grid, np.random.default_rng(0)).array
    profile = ct[3:-3, 8:-8, 8:-8].mean(axis=(1, 2))
    assert profile.sum() * 5.0 == pytest.approx(6000, rel=0.03)


def test_faults_come_through(man: Phantom) -> None:
    good = image_patient(man, QUICK, seed=1)
    spec = QUICK.model_copy(update={"suv_scale": 0.85, "hu_shift": 20.0})
    bad = image_patient(man, spec, seed=1)
    assert np.allclose(bad.pet.array, 0.85 * good.pet.array, rtol=1e-5)
    inside = (good.ct.array > -300) & (good.ct.array < 1000)
    assert np.median(bad.ct.array[inside] - good.ct.array[inside]) == 20
    drifting = QUICK.model_copy(update={"suv_drift_per_month": -0.01, "calibrated_on": date(2026, 1, 1)})
    assert drifting.suv_factor(date(2026, 7, 2)) == pytest.approx(0.94, abs=0.002)
    assert drifting.suv_factor() == 1.0


def test_drift_begins_at_the_calibration_and_never_shows_less_than_nothing() -> None:
    rural = SITE_PRESETS["rural"]
    assert rural.suv_factor(date(2024, 1, 1)) == rural.suv_factor(rural.calibrated_on) == rural.suv_scale
    assert 0 < rural.suv_factor(date(2032, 11, 1)) < 0.02
    with pytest.raises(InputError, match="no activity on 2034-01-01") as told:
        rural.suv_factor(date(2034, 1, 1))
    assert told.value.hint


def test_images_are_repeatable_and_differ_between_seeds(man: Phantom) -> None:
    a, b, c = (image_patient(man, QUICK, seed=s) for s in (5, 5, 6))
    assert np.array_equal(a.pet.array, b.pet.array)
    assert np.array_equal(a.ct.array, b.ct.array)
    assert not np.array_equal(a.pet.array, c.pet.array)
    assert a.ct.array.dtype == np.int16
    assert a.ct.is_canonical
    assert a.pet.is_canonical


def test_the_liver_reads_what_it_truly_is(man: Phantom) -> None:
    imaged = image_patient(man, QUICK, seed=2)
    at = np.rint(imaged.pet.index(man.landmarks["liver"])).astype(int)
    cube = tuple(slice(k - 2, k + 3) for k in at)
    assert imaged.pet.array[cube].mean() == pytest.approx(float(imaged.suv_true.array[cube].mean()), rel=0.06)


def test_fields_of_view(man: Phantom) -> None:
    whole = image_patient(man, QUICK, seed=1)
    usual = image_patient(man, QUICK.model_copy(update={"field_of_view": "eyes-to-thighs"}), seed=1)
    part = image_patient(man, QUICK.model_copy(update={"field_of_view": "partial"}), seed=1)
    height = man.spec.height_cm * 10
    assert usual.ct.extent_mm[0] == pytest.approx(0.575 * height, abs=12)
    assert 0.3 * whole.ct.extent_mm[0] < part.ct.extent_mm[0] < 0.75 * whole.ct.extent_mm[0]
    narrow = image_patient(man, QUICK.model_copy(update={"truncate_arms": True}), seed=1)
    assert (narrow.ct.array[:, 0, 0] == -1024).all()


def test_table_and_metal(man: Phantom) -> None:
    def lying(**changes: object) -> np.ndarray:
        return image_patient(man, QUICK.model_copy(update=changes), seed=1).ct.array.astype(int)

    plain = lying(table=False)
    table = lying(table=True)
    air = plain < -900
    assert ((table > -400) & air).sum() > 500
    metal = lying(table=False, metal=True)
    assert metal.max() == 3071
    assert plain.max() < 2500


def test_a_scanner_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValidationError):
        ScannerSpec(suv_scal=1.0)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        ScannerSpec(pet_counts=0.0)
    assert set(SITE_PRESETS) == set(FULL_PRESETS) == {"university", "regional", "rural"}
    assert SITE_PRESETS["rural"].suv_scale < 0.9
