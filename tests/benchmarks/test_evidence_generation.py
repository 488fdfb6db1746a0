"""The evidence of CTs that are made, and of sampling: whom it measures; its words follow its figures."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks are no part of the package

from benchmarks.evidence import (  # noqa: E402
    inpainting,
    inpainting_found,
    inpainting_words,
    sampling,
    volumes,
)
from benchmarks.evidence.by_site import in_turn, told  # noqa: E402
from benchmarks.evidence.inpainting_found import ORGANS, Made  # noqa: E402
from benchmarks.evidence.inpainting_words import TRIED  # noqa: E402
from benchmarks.evidence.settings import FULL, QUICK, recipe_for  # noqa: E402

from scantwin.evaluation.frechet import Gaussian  # noqa: E402
from scantwin.learning.recipe import Recipe  # noqa: E402
from scantwin.learning.weights import Model  # noqa: E402
from scantwin.terminal import silent  # noqa: E402


def patients(**counts: int) -> list[Any]:
    """So many of each site, in the order of their names, as a cohort gives them."""
    return [
        SimpleNamespace(name=f"{site}-held-out-{k:04d}", hu=None)
        for site, count in sorted(counts.items())
        for k in range(count)
    ]


def sites(studies: list[Any]) -> list[str]:
    return [study.name.split("-")[0] for study in studies]


def test_sites_take_turns_and_all_patients_stay() -> None:
    studies = patients(rural=3, regional=4, university=1)
    dealt = in_turn(studies)
    assert sites(dealt) == [
        "regional",
        "rural",
        "university",
        "regional",
        "rural",
        "regional",
        "rural",
        "regional",
    ]
    assert sorted(s.name for s in dealt) == sorted(s.name for s in studies)
    assert [s.name for s in dealt if "rural" in s.name] == [s.name for s in studies if "rural" in s.name]


def test_it_is_told_how_many_of_how_many_and_of_which_sites() -> None:
    studies = in_turn(patients(regional=4, rural=3, university=3))
    assert told(studies[:4], studies, "held-out patients") == "4 of 10 held-out patients, of all 3 sites"
    assert told(studies[:2], studies, "patients") == "2 of 10 patients, of 2 of 3 sites"
    assert told(studies, studies, "patients") == "all 10 patients, of all 3 sites"
    alone = patients(rural=2)
    assert told(alone[:1], alone, "patients") == "1 of 2 patients, of one site"


def test_volumes_are_measured_on_patients_of_all_sites() -> None:
    known = {
        "training": patients(regional=8, rural=8, university=8),
        "held-out": patients(regional=4, rural=6),
    }
    workshop = SimpleNamespace(studies=lambda role, *_: known[role])
    recipe = recipe_for(QUICK, "low-resource-3d")
    training, held_out, words = volumes.chosen(workshop, recipe, 4, silent)  # type: ignore[arg-type]
    assert len(training) == 24 and set(sites(training[:3])) == {"regional", "rural", "university"}
    assert sites(held_out) == ["regional", "rural"] * 2
    assert words == (
        "Measured on 4 of 10 held-out patients, of all 2 sites; the rows of real training patients are of 4 "
        "of 24 training patients, of all 3 sites."
    )
    _, every, words = volumes.chosen(workshop, recipe, None, silent)  # type: ignore[arg-type]
    assert len(every) == 10 and "all 10 held-out patients" in words


def test_what_is_said_of_volumes_says_whom_it_is_of() -> None:
    kinds = {name: volumes.Kind(distance=[40.0, 50.0]) for name in ("noise", "real, held out")}
    text = volumes._text(
        QUICK, recipe_for(QUICK, "low-resource-3d"), {"seconds": 9.0}, 400, "Measured on 4 of 10.", kinds, 0.1
    )
    assert "24 phantom patients at" in text and "Measured on 4 of 10." in text
    assert "others are held out" not in text, "ten are"


def test_windows_are_of_all_sites() -> None:
    windows = [
        sampling.Window(study, "trunk", (0, 0, 0), 8) for study in patients(regional=5, rural=2, university=2)
    ]
    some, whose = sampling.chosen(windows, 5)
    assert sites([window.study for window in some]) == [
        "regional",
        "rural",
        "university",
        "regional",
        "rural",
    ]
    assert whose == "5 of 9 held-out patients who have one, of all 3 sites"


def distances(diffusion: float, pix2pix: float, neighbour: float) -> dict[str, float]:
    return {"diffusion": diffusion, "pix2pix": pix2pix, "neighbour": neighbour}


def test_the_verdict_on_inpainting_follows_the_distances() -> None:
    far = {organ: distances(1.0, 1.0, 2.0) for organ in ORGANS}
    near = {organ: distances(0.2, 1.0, 0.1) for organ in ORGANS}
    mixed = {**far, "lung": distances(0.1, 1.0, 0.5)}
    assert "does not hold here in any organ" in inpainting_words.verdict(far)
    assert "holds here in every organ" in inpainting_words.verdict(near)
    assert "does not" not in inpainting_words.verdict(near) and "likeliest" not in inpainting_words.verdict(
        near
    )
    assert "holds in lung only" in inpainting_words.verdict(
        mixed
    ) and "lung 0.10" in inpainting_words.verdict(mixed)
    assert "No organ" in inpainting_words.verdict({organ: {} for organ in ORGANS})


def test_pix2pix_beside_the_neighbouring_slice_follows_the_distances() -> None:
    far = {organ: distances(1.0, 1.0, 2.0) for organ in ORGANS}
    assert "neighbouring slice is in every organ" in inpainting_words.beside_the_neighbour(far)
    mixed = {**far, "liver": distances(1.0, 1.0, 0.5)}
    assert "is in kidney, lung, tumour, not in the others" in inpainting_words.beside_the_neighbour(mixed)
    near = {organ: distances(1.0, 1.0, 0.5) for organ in ORGANS}
    assert "as published" in inpainting_words.beside_the_neighbour(near)


def made(count: int, seed: int = 0, **steps: float) -> dict[str, Made]:
    """Of one organ: `count` slices of 128 features of one patient, and the step between slices by method."""
    random = np.random.default_rng(seed)
    found = {way: Made(step=[steps.get(way, 1.0)]) for way in ("real", "diffusion", "pix2pix", "neighbour")}
    real = random.standard_normal((count, 128))
    for shift, one in enumerate(found.values()):
        one.features.append(Gaussian())
        one.features[0].add(real + 0.1 * shift)
    return found


def test_whose_steps_are_like_the_real_ones_follows_the_figures() -> None:
    better, worse = (made(2, diffusion=d, pix2pix=p) for d, p in ((0.9, 0.4), (1.7, 1.3)))
    assert "Pix2Pix in every organ" in inpainting_words.steps_of_slices(dict.fromkeys(ORGANS, better))
    assert "steps more" in inpainting_words.steps_of_slices(dict.fromkeys(ORGANS, better))
    assert "steps less" in inpainting_words.steps_of_slices(dict.fromkeys(ORGANS, worse))
    mixed = inpainting_words.steps_of_slices({**dict.fromkeys(ORGANS, better), "tumour": worse})
    assert "kidney, lung, liver, not in the others" in mixed


def test_the_aim_says_what_chance_of_who_was_measured_does() -> None:
    patients = [made(60, seed) for seed in range(5)]
    patients[0]["diffusion"].features = made(60, 9)["neighbour"].features  # one of them is made badly
    together = {way: Made([p[way].features[0] for p in patients]) for way in patients[0]}
    found = inpainting._aim("liver", together)  # type: ignore[arg-type]
    assert found.ratio is not None and found.ratio.n == 5 and found.value == found.ratio.value
    assert found.ratio.low < found.ratio.value < found.ratio.high
    assert inpainting_found.slices_of(together) == 300  # type: ignore[arg-type]
    assert inpainting._aim("liver", {way: Made() for way in together}).value is None  # type: ignore[arg-type]


def test_a_table_of_few_slices_says_what_its_distances_are_worth() -> None:
    found = {**dict.fromkeys(ORGANS, made(200)), "tumour": made(39)}
    far = {organ: inpainting_found.distances_of(one) for organ, one in found.items()}
    note = inpainting._frechet_table(found, far).note  # type: ignore[arg-type]
    assert "128 features" in note and "(tumour) the covariances are singular" in note
    assert "biased upwards" in note and "(1.00 to 1.00 of the distance of the diffusion" in note, (
        "shifted only"
    )
    many = {organ: made(200) for organ in ORGANS}
    far = {organ: inpainting_found.distances_of(one) for organ, one in many.items()}
    note = inpainting._frechet_table(many, far).note  # type: ignore[arg-type]
    assert "128 features" in note and "singular" not in note


def test_the_text_says_both_distances_and_the_steps() -> None:
    found = dict.fromkeys(ORGANS, made(200, diffusion=0.9, pix2pix=0.4))
    shapes, grain = ({organ: distances(d, 1.0, n) for organ in ORGANS} for d, n in ((0.9, 2.0), (0.25, 0.3)))
    model = Model(Recipe.load("ct-inpainting"), {}, {"seconds": 7.0})
    words = inpainting_words.text_of(FULL, model, model.recipe, 8000, 24, found, shapes, grain)
    assert "of Pix2Pix: kidney 0.90" in words and "Pix2Pix's distance: kidney 0.25" in words
    assert "neighbouring slice kidney 0.30" in words and "steps more" in words and "8000 steps (7 s)" in words


def test_an_aim_below_the_floor_of_the_measure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "In liver the same tissue" in inpainting_words.floor()
    monkeypatch.setattr(inpainting_words, "RESCANNED", {"kidney": 0.14, "liver": 0.1})
    assert "below what is asked for" in inpainting_words.floor()


def test_figures_of_earlier_runs_are_called_that() -> None:
    assert all(way.startswith(("quick setting, earlier: ", "full setting, ")) for way in TRIED)
