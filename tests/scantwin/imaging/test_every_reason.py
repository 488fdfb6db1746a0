"""Every reason of the catalogue is used by the code and shown by a test; those that no other test shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scantwin.errors import Rejection
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.pet_header import PetHeader
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.reasons import REASONS, code_of
from scantwin.imaging.suv import suv_factors
from scantwin.imaging.volume import Volume

ROOT = Path(__file__).parents[3]
PET = PetHeader(
    manufacturer="SIEMENS", units="BQML", corrected=("ATTN", "DECY"), decay_correction="START", weight=70.0,
    dose=3.5e8, half_life=6586.2, start_time="090000", series_date="20200101", series_time="100000",
    acquisition_date="20200101", acquisition_time="100000",
)  # fmt: skip


def text_of(*folders: str) -> str:
    files = [p for folder in folders for p in (ROOT / folder).rglob("*.py") if p.name != "reasons.py"]
    return "\n".join(path.read_text() for path in files)


def test_every_reason_is_used_and_tested() -> None:
    code, tests = text_of("platform", "clients", "twin"), text_of("tests")
    assert [c for c in REASONS if f'"{c}"' not in code] == [], "no code gives these reasons"
    assert [c for c in REASONS if f'"{c}"' not in tests] == [], "no test shows these reasons"


def suv(**changes: object):
    from dataclasses import replace

    return suv_factors([replace(PET, **changes)] * 3)  # type: ignore[arg-type]


def refusal_of(folder: Path) -> str:
    with pytest.raises(Rejection) as caught:
        for source in find_studies(folder):
            read_study(source)
    return str(caught.value.code)


def test_an_unknown_maker_of_a_reprocessed_series() -> None:
    late = {"series_time": "110000", "frame_reference_ms": 75_000.0, "frame_duration_ms": 150_000.0}
    warned = suv(manufacturer="", **late).warnings
    assert "pet.unknown-maker" in {code_of(w) for w in warned}
    assert "pet.unknown-maker" not in {code_of(w) for w in suv(**late).warnings}


def test_an_image_in_suv_that_names_no_nuclide() -> None:
    result = suv(units="GML", half_life=None)
    assert {code_of(w) for w in result.warnings} == {"pet.nuclide-unknown"}
    assert result.factor == 1.0


def test_a_factor_beyond_all_numbers() -> None:
    with pytest.raises(Rejection) as caught:
        suv(units="CNTS", philips_activity=1e307)
    assert caught.value.code == "suv.bad-result"


def test_colour_is_no_ct(tmp_path, ct_maker) -> None:
    def coloured(ds, i):
        ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, "RGB"

    assert refusal_of(ct_maker(slices=4).write(tmp_path, change=coloured)) == "dicom.not-images"


def test_half_the_slices_of_another_voxel_size(tmp_path, ct_maker) -> None:
    def mixed(ds, i):
        ds.PixelSpacing = [2.0, 1.5] if i % 2 else [4.0, 3.0]

    assert refusal_of(ct_maker(slices=8).write(tmp_path, change=mixed)) == "geometry.mixed"


def test_negative_suv_is_set_to_zero(tmp_path) -> None:
    rng = np.random.default_rng(0)
    ct = Volume(rng.uniform(-900, 300, (5, 20, 20)).astype(np.int16), (5.0, 4.0, 4.0), unit="HU")
    write_nifti(ct, tmp_path / "CT.nii.gz")
    write_nifti(ct.with_array(rng.normal(1, 1, ct.shape).astype(np.float32), "SUV"), tmp_path / "SUV.nii.gz")
    study = read_study(find_studies(tmp_path)[0])
    assert study.pet is not None
    assert "pet.negative" in {code_of(w) for w in study.warnings}
    assert float(study.pet.array.min()) == 0.0


def test_a_fault_of_ours_costs_the_study_not_the_run(tmp_path, ct_maker, monkeypatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("scantwin.imaging.reading.read_dicom_study", broken)
    assert refusal_of(ct_maker(slices=4).write(tmp_path)) == "study.unreadable"
    monkeypatch.setenv("SCANTWIN_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        read_study(find_studies(tmp_path)[0])
