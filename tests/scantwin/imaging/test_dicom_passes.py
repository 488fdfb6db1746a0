"""Beds that overlap, repeated passes and time frames in one DICOM series."""

from __future__ import annotations

import numpy as np
import pytest

from scantwin.errors import Rejection
from scantwin.imaging.dicom_geometry import Plane, stack_planes
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.reasons import code_of


def planes_at(heights, **said) -> list[Plane]:
    """Axial planes of 4 x 4 voxels; phase and time as functions of the plane's number."""
    when = {name: value if callable(value) else lambda i, v=value: v for name, value in said.items()}
    return [
        Plane(i, (0.0, 0.0, float(z)), (1, 0, 0, 0, 1, 0), (1.0, 1.0), (4, 4),
              **{name: value(i) for name, value in when.items()})
        for i, z in enumerate(heights)
    ]  # fmt: skip


def kinds(stack) -> list[str]:
    return [code_of(note) for note in stack.warnings]


BEDS = {
    "numbered": {"phase": lambda i: (str(1 + i // 47),)},
    "timed": {"time": lambda i: (20200101.0, 100000.0 + i // 47)},
    "numbered, every slice its time": {
        "phase": lambda i: (str(1 + i // 47),), "time": lambda i: (20200101.0, 100000.0 + i),
    },
    "every slice its time": {"time": lambda i: (20200101.0, 100000.0 + i)},
}  # fmt: skip


@pytest.mark.parametrize("name", BEDS)
def test_beds_that_overlap_in_one_series_keep_all_their_places(name):
    heights = [bed * 36 + k for bed in range(6) for k in range(47)]  # 11 of 47 slices overlap
    stack = stack_planes(planes_at(heights, **BEDS[name]))
    assert stack.slices == len(stack.order) == 5 * 36 + 47
    assert stack.order == tuple(np.unique(heights, return_index=True)[1]), "the earlier bed's where two lie"
    assert kinds(stack) == ["geometry.passes" if name == "every slice its time" else "geometry.duplicates"]


PASSES = {
    "numbered": {"phase": lambda i: (str(12 - i // 20),), "time": lambda i: (0.0, float(-(i // 20)))},
    "numbered only": {"phase": lambda i: (str(12 - i // 20),)},
    "timed": {"time": lambda i: (20200101.0, 100000.0 - i // 20)},
    "every slice its time": {"time": lambda i: (20200101.0, 100000.0 - i // 20 + 0.01 * (i % 20))},
    "numbered, every slice its time": {
        "phase": lambda i: (str(12 - i // 20),), "time": lambda i: (0.0, 100.0 * (12 - i // 20) + i % 20),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PASSES)
def test_of_several_passes_the_first_in_time_is_taken_and_all_are_counted(name):
    stack = stack_planes(planes_at([k for _ in range(4) for k in range(20)], **PASSES[name]))
    assert stack.order == tuple(range(60, 80)), "the files came in another order"
    assert kinds(stack) == ["geometry.passes"]
    assert "up to 4 passes" in stack.warnings[0]


def test_of_several_passes_over_several_beds_the_first_is_taken_whole():
    heights = [bed * 16 + k for _ in range(3) for bed in range(4) for k in range(20)]
    stack = stack_planes(planes_at(heights, time=lambda i: (0.0, float(i // 20))))
    assert stack.slices == 68
    assert max(stack.order) < 80
    assert set(kinds(stack)) == {"geometry.passes", "geometry.duplicates"}


def test_passes_that_nothing_tells_apart_are_refused():
    with pytest.raises(Rejection) as caught:
        stack_planes(planes_at([k for _ in range(4) for k in range(20)], time=(20200101.0, 100000.0)))
    assert caught.value.code == "geometry.mixed"
    assert "time" in caught.value.message
    # A slice that was sent twice does not spoil the rest.
    again = planes_at([*range(20), *range(20), 3], time=lambda i: (float(i // 20 % 2), float(i % 40)))
    assert len(stack_planes(again).order) == 20


def test_time_frames_of_one_pet_series_are_told_apart_by_their_reference_time(tmp_path, ct_maker, pet_maker):
    ct_maker().write(tmp_path / "ct")
    for k in range(3):

        def change(ds, i, k=k):
            ds.FrameReferenceTime = 60_000 * (2 - k)
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}.{i}"
            if k != 2:
                ds.PixelData = bytes(len(ds.PixelData))

        pet_maker().write(tmp_path / f"pet {k}", change=change)
    study = read_study(find_studies(tmp_path)[0])
    assert "geometry.passes" in [code_of(note) for note in study.warnings]
    assert study.pet.shape[0] == 9
    assert study.pet.array.min() > 4.0
