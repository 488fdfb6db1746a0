from __future__ import annotations

import numpy as np
import pytest

from scantwin.phantoms.spec import random_patient
from scantwin.phantoms.tissues import ORGANS, TISSUES
from scantwin.phantoms.uptake import MYOCARDIUM, sample_uptake

N = 600
SPECS = [random_patient(s) for s in range(N)]
SAMPLES = [sample_uptake(spec) for spec in SPECS]


def column(name: str) -> np.ndarray:
    return np.array([s.suv[name] for s in SAMPLES])


def test_liver_and_blood_go_together() -> None:
    r = np.corrcoef(column("liver"), column("blood"))[0, 1]
    assert r == pytest.approx(0.82, abs=0.06)  # CV, n = 1,018
    ratio = column("liver") / column("blood")
    assert ratio.std() / ratio.mean() == pytest.approx(0.15, abs=0.05)
    assert column("liver").mean() == pytest.approx(2.17, rel=0.08)
    assert column("liver").std() / column("liver").mean() == pytest.approx(0.22, abs=0.05)


@pytest.mark.parametrize(
    ("name", "r"), [("vertebral-marrow", -0.52), ("tonsils", -0.51), ("sublingual", -0.70)]
)
def test_some_tissues_fall_with_age(name: str, r: float) -> None:
    age = np.array([s.age for s in SPECS])
    assert np.corrcoef(age, column(name))[0, 1] == pytest.approx(r, abs=0.15)


def test_the_brain_falls_with_glucose() -> None:
    glucose = np.array([s.glucose_mmol for s in SPECS])
    assert np.corrcoef(glucose, column("grey-matter"))[0, 1] < -0.25
    assert 4 < np.percentile(column("grey-matter"), 5) < np.percentile(column("grey-matter"), 95) < 14


def test_the_myocardium_follows_the_fasting() -> None:
    for way, shares in MYOCARDIUM.items():
        drawn = [sample_uptake(random_patient(s, fasted=way)) for s in range(250)]
        cold = np.mean([u.suv["myocardium"] < u.suv["blood"] for u in drawn])
        hot = np.mean([u.suv["myocardium"] > 2.9 and u.texture["myocardium"] < 0.3 for u in drawn])
        margin = 4 * np.sqrt(0.25 / 250)
        assert cold == pytest.approx(shares[0], abs=margin)
        assert hot == pytest.approx(shares[2], abs=margin)


def test_furosemide_cools_the_bladder() -> None:
    plain, given = (
        np.median([sample_uptake(random_patient(s, furosemide=f)).suv["bladder"] for s in range(150)])
        for f in (False, True)
    )
    assert plain == pytest.approx(6.0, rel=0.2)
    assert given == pytest.approx(3.0, rel=0.2)


def test_brown_fat_is_active_in_a_few() -> None:
    share = np.mean([random_patient(s).brown_fat for s in range(3000)])
    assert share == pytest.approx(0.036, abs=4 * np.sqrt(0.036 / 3000))


def test_hu_follow_age_and_contrast() -> None:
    young, old = (
        np.mean([sample_uptake(random_patient(s, age=a)).hu["vertebral-marrow"] for s in range(60)])
        for a in (25, 85)
    )
    assert young == pytest.approx(226, abs=25)
    assert old == pytest.approx(226 - 2.5 * 55, abs=30)
    spec = random_patient(1, contrast=True)
    assert (
        sample_uptake(spec).hu["blood"]
        > 100
        > sample_uptake(spec.model_copy(update={"contrast": False})).hu["blood"]
    )


def test_every_tissue_has_a_source_and_a_label() -> None:
    assert len(ORGANS) == len(TISSUES) < 256
    for tissue in TISSUES.values():
        assert tissue.source
        assert tissue.suv_sd >= 0
        assert tissue.density > 0
