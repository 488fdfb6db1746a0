"""The fuzz finds nothing in a sample, and finds each fault that is put into the reader on purpose."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gdcm", reason="python-gdcm writes the lossless JPEG of the fuzz")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # benchmarks are no part of the package

from benchmarks.fuzz_bases import Bases, write_bases
from benchmarks.fuzz_faults import FAULTS
from benchmarks.fuzz_imaging import judge
from benchmarks.fuzz_inputs import make

from scantwin.imaging.reading import find_studies, read_study

SEED = 3
MOST = 2000
"""SUV mutations that a fault may take to be found: 20,000 inputs hold 10,000. The rarest fault shows in 9 of
2,500, so that many of another seed would miss it once in a thousand times."""


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return write_bases(tmp_path_factory.mktemp("bases"))


def outcome(bases: Bases, place: Path, number: int) -> tuple[str, str]:
    folder = place / str(number)
    given = make(bases, folder, np.random.default_rng([SEED, number]), number)
    return judge(given, folder)


def test_the_studies_are_read_before_they_are_spoilt(bases: Bases) -> None:
    """Else a mutation of what was refused already could show nothing."""
    lesions = {}
    for place in bases.studies(""):
        (source,) = find_studies(place)
        study = read_study(source)
        assert study.pet is not None, place.name
        assert not [note for note in study.warnings if note.startswith("lesions.")]
        if study.lesions is not None:
            lesions[place.name] = int(study.lesions.array.max())
    assert lesions == {"drawn": 1}, "the contours and the voxels are of one lesion"


def test_a_sample_is_read_or_refused(bases: Bases, tmp_path: Path) -> None:
    found = [outcome(bases, tmp_path, number) for number in range(60)]
    assert [f for f in found if f[0] == "FAILURE"] == []
    assert any(f[0] == "accepted" for f in found)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[fault](monkeypatch.setattr)
    for number in range(0, 2 * MOST, 2):
        kind, what = outcome(bases, tmp_path, number)
        if kind == "FAILURE":
            assert "wrong SUV" in what
            return
    pytest.fail(f"{MOST} mutations did not show it")
