"""Bed positions as series of their own: stitched where they make one scan, left alone where they do not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scantwin.cli.main import main
from scantwin.imaging.beds import stitch
from scantwin.imaging.nifti import read_nifti
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.reasons import code_of
from scantwin.imaging.volume import Volume
from scantwin.units import F18_HALF_LIFE_S

DOSE, WEIGHT_G = 3.5e8, 70_000.0


def suv_at(points):
    """SUV at world points (.., xyz) [mm], as in conftest."""
    return 5.0 + 0.02 * points[..., 0] + 0.01 * points[..., 1] - 0.015 * points[..., 2]


def bed(pet_maker, number: int, *, first: int, slices: int, minute: int = 0, **changes):
    """A bed of `slices` slices from slice `first` on, in Bq/ml, corrected to `minute` after 10:00."""
    left = DOSE * 2 ** (-(3600 + 60 * minute) / F18_HALF_LIFE_S)
    fields = {
        "Units": "BQML", "SUVType": "", "DecayCorrection": "START", "SeriesTime": f"10{minute:02d}00",
        "AcquisitionTime": f"10{minute:02d}00", **changes.pop("fields", {}),
    }  # fmt: skip
    start = (-14.0, -9.0, -19.0 + 4.0 * first)
    return pet_maker(
        slices=slices, origin=start, series=f"1.2.826.0.1.77.1.{10 + number}", fields=fields,
        values=lambda points: suv_at(points) * left / WEIGHT_G, **changes,
    )  # fmt: skip


def study_of(folder):
    (source,) = find_studies(folder)
    return read_study(source)


def codes(study) -> set[str]:
    return {code_of(w) for w in study.warnings}


BEDS = {
    "adjoining": [(0, 5), (5, 6), (11, 5)],
    "overlapping": [(0, 7), (5, 7), (9, 7)],
    "out of step": [(0, 7), (5.5, 7), (10, 6)],
    "half over the other": [(0, 8), (4, 8), (8, 8)],
}


@pytest.mark.parametrize("name", BEDS)
def test_beds_make_one_scan_each_with_its_own_decay(name, tmp_path, ct_maker, pet_maker):
    ct_maker(slices=26).write(tmp_path / "ct")
    for number, (first, slices) in enumerate(BEDS[name]):
        # Each bed is corrected to its own start: taken for one series, SUV would be 2 % off per bed.
        bed(pet_maker, number, first=first, slices=slices, minute=3 * number).write(tmp_path / f"pet{number}")
    study = study_of(tmp_path)
    assert "study.beds-joined" in codes(study)
    assert study.source["pet_series"] == "1"
    first, last = BEDS[name][0], BEDS[name][-1]
    assert study.pet.shape[0] == int(last[0] + last[1] - first[0])
    index = np.argwhere(np.ones(study.pet.shape, bool)).reshape(*study.pet.shape, 3)
    np.testing.assert_allclose(study.pet.array, suv_at(study.pet.world(index)), rtol=2e-4)


def test_beds_of_a_ct_are_stitched_too(tmp_path, ct_maker):
    whole = ct_maker(slices=14)
    for number, (first, slices) in enumerate([(0, 8), (6, 8)]):
        part = ct_maker(slices=slices, origin=(-15.0, -10.0, -20.0 + 3.0 * first), series=f"1.2.9.{number}")
        part.write(tmp_path / "beds" / str(number))
    whole.write(tmp_path / "whole")
    joined = study_of(tmp_path / "beds")
    alone = study_of(tmp_path / "whole")
    assert joined.ct.same_grid(alone.ct)
    assert joined.ct.array.dtype == alone.ct.array.dtype
    np.testing.assert_array_equal(joined.ct.array, alone.ct.array)


APART = {
    "a gap": {"first": 12},
    "the same place: another reconstruction": {"first": 0},
    "another frame of reference": {"first": 8, "frame": "1.2.3"},
    "other voxels": {"first": 8, "spacing": (4.0, 3.6, 3.0)},
    "shifted sideways": {"first": 8, "shift": 2.0},
    "another correction": {"first": 8, "fields": {"CorrectedImage": ["ATTN", "DECY"]}},
    "three hours later": {"first": 8, "minute": 0, "fields": {"AcquisitionTime": "133000"}},
}


@pytest.mark.parametrize(("step", "joined"), [(4.0, True), (4.005, True), (4.015, False), (4.035, False)])
def test_beds_whose_slices_drift_apart_are_not_stitched(step, joined, tmp_path, ct_maker, pet_maker):
    """0.9 % of a slice is a whole slice after 110: what fits at a bed's first slice need not at its last."""
    ct_maker(slices=90).write(tmp_path / "ct")
    bed(pet_maker, 0, first=0, slices=8).write(tmp_path / "a")
    upper = bed(pet_maker, 1, first=8, slices=40, spacing=(step, 3.5, 3.0))
    upper.write(tmp_path / "b")
    study = study_of(tmp_path)
    assert ("study.beds-joined" in codes(study)) == joined
    index = np.argwhere(np.ones(study.pet.shape, bool)).reshape(*study.pet.shape, 3)
    # SUV falls by 0.06 a slice: a tenth of one is the most that a voxel may be off.
    np.testing.assert_allclose(study.pet.array, suv_at(study.pet.world(index)), rtol=2e-4, atol=0.006)


@pytest.mark.parametrize("name", APART)
def test_what_is_not_one_scan_is_not_stitched(name, tmp_path, ct_maker, pet_maker):
    change = dict(APART[name])
    shift = change.pop("shift", 0.0)
    ct_maker(slices=26).write(tmp_path / "ct")
    bed(pet_maker, 0, first=0, slices=8).write(tmp_path / "a")
    other = bed(pet_maker, 1, slices=6, **change)
    other.origin = (other.origin[0] + shift, *other.origin[1:])
    other.write(tmp_path / "b")
    study = study_of(tmp_path)
    assert "study.beds-joined" not in codes(study)
    assert "study.several-pet" in codes(study)
    assert study.pet.shape[0] == 8


def test_a_scan_of_several_beds_is_written_by_the_command(tmp_path, pet_maker, capsys, monkeypatch):
    for number, (first, slices) in enumerate(BEDS["overlapping"]):
        bed(pet_maker, number, first=first, slices=slices, minute=3 * number).write(tmp_path / f"{number}")
    out = tmp_path / "SUV.nii.gz"
    monkeypatch.setattr("sys.argv", ["scantwin", "suv", str(tmp_path), "--json", "--out", str(out)])
    main()
    assert len(json.loads(capsys.readouterr().out)["series"]) == 3
    assert read_nifti(out, "SUV").shape[0] == 16


def test_stitching_keeps_a_volume_of_one_bed_as_it_is():
    volume = Volume(np.zeros((3, 2, 2), np.int16), (1.0, 1.0, 1.0))
    assert stitch([volume]) is volume
