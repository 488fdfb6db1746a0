"""The plain U-Net that models stand beside."""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks are no part of the package

from benchmarks.evidence import plain_unet  # noqa: E402
from benchmarks.evidence.settings import QUICK  # noqa: E402

from scantwin.imaging.volume import Volume  # noqa: E402
from scantwin.learning.prepared import PreparedStudy  # noqa: E402
from scantwin.learning.recipe import Recipe  # noqa: E402


def patient(seed: int) -> PreparedStudy:
    """Fat with muscle in it, which takes up twice as much; air around."""
    random = np.random.default_rng(seed)
    shape = (16, 20, 20)
    body = np.zeros(shape, bool)
    body[:, 2:18, 2:18] = True
    muscle = ndimage.gaussian_filter(random.normal(size=shape), 2.0) > 0
    hu = np.where(body, np.where(muscle, 60.0, -100.0), -1000.0).astype(np.float32)
    suv = np.where(body, np.where(muscle, 1.0, 0.5), 0.0).astype(np.float32)
    grid = Volume(np.zeros(shape, np.float32), (4.0, 4.0, 4.0))
    return PreparedStudy(f"patient-{seed}", "sarcoma", grid, hu, body, body.astype(np.uint8), hu * 0, suv)


def test_it_learns_for_as_long_as_it_may_and_sees_the_ct_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = Recipe.read({"system": "pix2pix", "sampling": {"patch": 16}}, "a test")
    studies = [patient(seed) for seed in range(3)]
    seconds = itertools.count()
    monkeypatch.setattr(plain_unet.time, "monotonic", lambda: float(next(seconds)))
    network = plain_unet.train(studies, recipe, 150.0)
    monkeypatch.undo()
    assert next(seconds) == 151, "a step takes a second of this clock"

    def error(study: PreparedStudy, pet: np.ndarray) -> float:
        assert study.suv is not None
        return float(np.abs(pet - study.suv)[study.body].mean())

    said = [plain_unet.say(network, study, recipe) for study in studies]
    assert all((pet[~study.body] == 0).all() for pet, study in zip(said, studies, strict=True))
    learnt = np.mean([error(study, pet) for study, pet in zip(studies, said, strict=True)])
    # The best constant, anything between both tissues, is 0.25 off: it tells them apart.
    assert learnt < 0.2
    elsewhere = replace(studies[0], depth=studies[0].depth + 20, sides=((-50.0, 70.0), (-50.0, 70.0)))
    assert np.array_equal(plain_unet.say(network, elsewhere, recipe), said[0])


def test_what_was_learnt_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measurer = SimpleNamespace(training=[patient(0)], of_pets=lambda name, say: (name, say(patient(1))))
    taught: list[float] = []

    def train(studies: list[PreparedStudy], recipe: Recipe, budget_s: float, *, seed: int) -> object:
        taught.append(budget_s)
        return plain_unet._network()

    monkeypatch.setattr(plain_unet, "train", train)
    bench = SimpleNamespace(folder=tmp_path)
    first, again, longer = (plain_unet.standing(QUICK, bench, measurer, s) for s in (5.0, 5.0, 6.0))  # type: ignore[arg-type]
    assert taught == [5.0, 6.0] and first[0] == again[0] != longer[0]  # type: ignore[index]
    assert np.array_equal(first[1], again[1]) and not np.array_equal(first[1], longer[1])  # type: ignore[index]
