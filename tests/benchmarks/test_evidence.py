"""The evidence: when an aim is met, what is kept, and one tiny real experiment."""

from __future__ import annotations

import importlib
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks are no part of the package

from benchmarks.evidence import (  # noqa: E402
    experiments,
    preparing,
    report,
    workshop,
)
from benchmarks.evidence.charts import Panel, chart  # noqa: E402
from benchmarks.evidence.findings import Findings, Setting  # noqa: E402
from benchmarks.evidence.measuring import Measurer, Standing  # noqa: E402
from benchmarks.evidence.pictures import most_lesions  # noqa: E402
from benchmarks.evidence.sampling import windows_of  # noqa: E402
from benchmarks.evidence.settings import (  # noqa: E402
    FULL,
    QUICK,
    recipe_for,
    steps_of,
    translation_recipe,
)
from benchmarks.evidence.workshop import Bench, key_of  # noqa: E402

from scantwin.imaging.volume import Volume  # noqa: E402
from scantwin.translation.variants import as_delivered  # noqa: E402

TINY = Setting(name="quick", training=3, held_out=2, spacing_mm=12.0, steps=8)


def test_what_is_asked_for_must_exist() -> None:
    from scantwin.errors import InputError

    assert experiments.chosen("sampling, districts") == ["sampling", "districts"]
    assert experiments.chosen(None) == list(experiments.EXPERIMENTS)
    with pytest.raises(InputError, match="nonsense"):
        experiments.chosen("nonsense")


class Counting:
    """An experiment that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, *_: Any) -> Findings:
        self.runs += 1
        return Findings("A chapter", "What came out.")


def test_findings_are_kept_until_the_setting_changes_or_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    module = ModuleType("benchmarks.evidence.counting")
    module.run = counting.run  # type: ignore[attr-defined]
    monkeypatch.setattr(experiments, "module_of", lambda _: module)

    def run(setting: Setting = QUICK, again: bool = False) -> None:
        bench = Bench(setting, tmp_path, tmp_path / "pictures")
        found = experiments.run("districts", setting, bench, lambda *_: None, again=again)
        assert found is not None and found.setting["name"] == setting.name

    run()
    run()
    assert counting.runs == 1, "an interrupted run goes on with what there is"
    run(FULL)
    assert counting.runs == 2
    run(again=True)
    assert counting.runs == 3
    monkeypatch.setattr(workshop, "code", lambda: "another")
    run()
    assert counting.runs == 4, "nothing is taken from what other code made"


def test_the_code_that_figures_come_from_has_a_name_that_changes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop.scantwin, "__file__", str(tmp_path / "__init__.py"))
    before = workshop.code()
    assert workshop.code() == before
    for name in ("learning/training.py", "learning/recipes/pix2pix.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1\n")
        assert workshop.code() != before, name
        before = workshop.code()


def test_a_module_that_is_not_there_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(experiments.EXPERIMENTS, "nowhere", "what nobody wrote")
    bench = Bench(QUICK, tmp_path, tmp_path)
    assert experiments.run("nowhere", QUICK, bench, lambda *_: None) is None
    assert experiments.missing(["districts", "nowhere"]) == ["nowhere"]


def test_every_experiment_that_is_there_can_be_run() -> None:
    for name in experiments.EXPERIMENTS:
        module = experiments.module_of(name)
        assert module is None or callable(module.run), name


def test_the_full_setting_is_what_was_asked_for() -> None:
    assert FULL.training >= 60 and FULL.held_out >= 20
    recipe = translation_recipe(QUICK, "coarse-diffusion", **{"losses.hottest": 0.0})
    assert recipe.losses.hottest == 0.0 and recipe.spacing_mm == (8.0, 8.0, 8.0)
    assert "whole-body" not in recipe.districts and "whole-body" not in recipe.shares


def test_keys_follow_their_parts() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of(1, 2) != key_of(2, 1)


def test_a_model_is_the_same_however_its_scans_are_made(tmp_path: Path) -> None:
    bench = Bench(QUICK, tmp_path, tmp_path)
    recipe = translation_recipe(QUICK, "coarse-diffusion")
    key = bench.model_key(recipe, 10, 0)
    for value in ({"delivered": "sample"}, {"sample_steps": 9}, {"samples": 1}):
        assert bench.model_key(as_delivered(recipe, **value), 10, 0) == key, value
    assert bench.model_key(as_delivered(recipe, scale=(0.4, 0.4)), 10, 0) != key, (
        "it learns with another scale"
    )
    assert bench.model_key(recipe, 11, 0) != key and bench.model_key(recipe, 10, 1) != key
    wider = translation_recipe(QUICK, "coarse-diffusion", **{"diffusion.channels": [4, 8]})
    assert bench.model_key(wider, 10, 0) != key


def test_two_stages_have_as_many_steps_for_the_first_as_one_network_has() -> None:
    recipe = translation_recipe(QUICK, "coarse-diffusion")
    assert recipe.diffusion is not None
    assert steps_of(QUICK, recipe) * recipe.diffusion.coarse_share == pytest.approx(QUICK.steps, abs=1)
    assert steps_of(QUICK, translation_recipe(QUICK, "pix2pix")) == QUICK.steps


def test_a_study_is_read_once_for_all_that_it_is_prepared_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scantwin.imaging import study as studies
    from scantwin.imaging.reading import StudySource
    from scantwin.imaging.volume import Volume

    hu = np.full((24, 24, 24), -1000.0, np.float32)
    hu[4:20, 4:20, 4:20] = 40.0
    ct = Volume(hu, (8.0, 8.0, 8.0), unit="HU")
    pet = ct.with_array(np.where(hu > 0, np.float32(1.0), np.float32(0.0)), "SUV")
    reads, bodies = [], []
    body_mask = studies.body_mask
    monkeypatch.setattr(studies, "body_mask", lambda ct: bodies.append(ct) or body_mask(ct))
    monkeypatch.setattr(
        preparing, "read_study", lambda source: reads.append(source) or studies.Study("a", ct, pet)
    )
    names = ("pix2pix", "coarse-diffusion", "ct-inpainting", "low-resource-3d")
    bench = Bench(TINY, tmp_path, tmp_path)
    kinds = {
        bench._place("training", recipe): recipe for name in names for recipe in [recipe_for(TINY, name)]
    }
    assert len(kinds) == 3, "what makes PET is prepared in one way"
    preparing._into_caches(list(kinds.items()), StudySource(tmp_path / "a", "nifti", "a"))
    assert len(reads) == len(bodies) == 1
    assert [len(list(place.glob("*.safetensors"))) for place in kinds] == [1, 1, 1]


def test_curves_and_points_are_drawn_even_of_nothing(tmp_path: Path) -> None:
    bench = Bench(QUICK, tmp_path, tmp_path / "pictures")
    lines = {"one": [(2.0, 0.5), (200.0, 0.4)], "odd": [(5.0, math.nan)]}
    steps = Panel(lines, "steps", "MAE", (2, 20, 200), logarithmic=True, names={"one": ["two"]})
    chart(bench, "lines.png", [steps], "")
    chart(bench, "two.png", [steps, Panel({}, "x", "y", joined=False, level={"mean": 0.0})], "")
    drawn, two = (
        np.asarray(Image.open(tmp_path / "pictures" / name).convert("RGB")).astype(int)
        for name in ("lines.png", "two.png")
    )
    blue = (abs(drawn - np.array([0, 114, 178])) < 3).all(2)
    assert blue.sum() > 400, "a line of two pixels' width across the plot"
    assert two.shape[1] > 1.5 * drawn.shape[1], "side by side"
    chart(bench, "points.png", [Panel(lines, "steps", "MAE", joined=False)], "")
    points = np.asarray(Image.open(tmp_path / "pictures" / "points.png").convert("RGB")).astype(int)
    assert 0 < (abs(points - np.array([0, 114, 178])) < 3).all(2).sum() < blue.sum() / 2, "no line"


def test_a_window_lies_around_the_hottest_lesion_in_its_own_district() -> None:
    from scantwin.learning.prepared import PreparedStudy

    shape = (20, 20, 20)
    suv, lesions = np.ones(shape, np.float32), np.zeros(shape, np.uint8)
    labels = np.full(shape, 2, np.uint8)
    labels[15:] = 1
    lesions[3, 4, 5], lesions[16, 10, 10] = 1, 1
    suv[3, 4, 5], suv[16, 10, 10], suv[0, 0, 0] = 6.0, 9.0, 30.0  # the last one is no lesion
    grid = Volume(np.broadcast_to(np.uint8(0), shape), (8.0, 8.0, 8.0), unit="SUV")
    body = np.ones(shape, bool)
    study = PreparedStudy("one", "melanoma", grid, suv, body, labels, suv, suv, lesions)
    (window,) = windows_of([study], ("head", "trunk"), 8)
    assert window.district == "head" and window.start == (12, 6, 6)
    assert window.true[4, 4, 4] == 9.0 and window.lesion.sum() == 1
    assert window.mask[3:].any() and not window.mask[:3].any(), "the trunk is not its business"
    assert windows_of([study], ("arms",), 8) == []


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("evidence")
    return Bench(TINY, folder / "work", folder / "pictures")


@pytest.mark.slow
def test_patients_of_the_two_roles_differ_and_models_are_trained_once(bench: Bench) -> None:
    recipe = translation_recipe(TINY, "pix2pix")
    names = {role: {s.name for s in bench.studies(role, recipe)} for role in ("training", "held-out")}  # type: ignore[arg-type]
    assert len(names["training"]) == 3 and len(names["held-out"]) == 2
    assert not names["training"] & names["held-out"]
    specs = [
        one["seed"] for path in bench.folder.rglob("cohort.json")
        for one in json.loads(path.read_text())["studies"]
    ]  # fmt: skip
    assert len(set(specs)) == 5, "no held-out patient is a training patient"
    first = bench.trained(recipe, steps=2)
    again = bench.trained(recipe, steps=2)
    assert first.record["seconds"] == again.record["seconds"] > 0, "kept, not trained again"
    assert bench.trained(recipe, steps=3).record["steps"] == 3


@pytest.mark.slow
def test_a_tiny_experiment_ends_in_a_report(bench: Bench, tmp_path: Path) -> None:
    module = importlib.import_module("benchmarks.evidence.districts")
    found = module.run(TINY, bench, lambda *_: None)
    assert {aim.name for aim in found.aims} >= {f"district-beats-whole-body/{d}" for d in ("head", "trunk")}
    by_region = {(row[0], row[1]): row[2] for row in found.tables[0].rows}
    assert by_region["whole-body", "district"].n == TINY.held_out
    assert by_region["whole-body", "training-median"].mean > 0
    assert (bench.pictures / "districts.png").stat().st_size > 10_000
    kept = experiments.Kept("districts", found, asdict(TINY), 12.0, "2 cores", "2026-11-20T12:00:00+00:00")
    data = report.write(tmp_path, {"districts": kept})
    assert data["aims_of"] == len(found.aims)


@pytest.mark.slow
def test_coverage_is_of_patients_that_did_not_calibrate_it(bench: Bench) -> None:
    """Two equal patients calibrate each other: 80 % of the voxels are inside, by construction."""
    recipe = translation_recipe(TINY, "pix2pix")
    measurer = Measurer.of(TINY, bench, recipe)
    scans = measurer.scans(bench.trained(recipe, steps=TINY.steps))  # every district has learnt something
    twins = Measurer.__new__(Measurer)
    twins.studies, twins.cases = [measurer.studies[0]] * 2, [measurer.cases[0]] * 2
    twins.__dict__["organs"] = [measurer.organs[0]] * 2
    standing = Standing()
    twins._cover(standing, [scans[0]] * 2, recipe)
    assert standing.intervals.voxels == [pytest.approx(0.8, abs=0.03)] * 2
    body = measurer.studies[0].body
    voxels, squares, inside = standing.intervals.by_sigma
    assert voxels.sum() == 2 * body.sum()
    assert inside.sum() / voxels.sum() == pytest.approx(standing.intervals.voxels[0])
    off = np.clip(scans[0].pet, 0, 20) - np.clip(measurer.studies[0].suv, 0, 20)  # type: ignore[arg-type]
    assert squares.sum() == pytest.approx(2 * float((off[body] ** 2).sum()), rel=1e-4)


def test_the_picture_is_of_who_has_the_most_lesions() -> None:
    def study(*places: tuple[int, int, int]) -> SimpleNamespace:
        marked = np.zeros((9, 9, 9), np.uint8)
        for place in places:
            marked[place] = 1
        return SimpleNamespace(pet_lesions=marked)

    three = study((1, 1, 1), (4, 4, 4), (7, 7, 7))
    one = study((1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2))
    nobody = SimpleNamespace(pet_lesions=None)
    assert most_lesions(cast(Measurer, SimpleNamespace(studies=[nobody, one, three]))) == 2
