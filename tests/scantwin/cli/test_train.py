"""`scantwin train` from a folder: CTs and PETs of different patients teach what needs no pairs."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors import safe_open

from scantwin.cli.evaluate import evaluate
from scantwin.cli.train import cohort_of, train
from scantwin.errors import InputError, ResourceError
from scantwin.files import at_work
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import Model

RECIPE = """
system = "{system}"
spacing_mm = [8.0, 8.0, 8.0]
network = {{channels = [4, 8], discriminator_channels = [4]}}
sampling = {{patch = 16, window = 32, overlap = 8}}
optimisation = {{batch = 2, precision = "fp32"}}
"""


@pytest.fixture
def strangers(tmp_path, make_bar):
    """Two patients with a CT and two others with a PET."""
    for number in range(4):
        folder = tmp_path / "data" / f"p{number}"
        folder.mkdir(parents=True)
        bar = make_bar(number)
        image, name = (bar.ct, "CT.nii.gz") if number < 2 else (bar.pet, "SUV.nii")
        write_nifti(image, folder / name)
    return tmp_path / "data"


def run(strangers, system: str, **more: object) -> None:
    recipe = strangers.parent / f"{system}.toml"
    recipe.write_text(RECIPE.format(system=system))
    options = {"budget": None, "steps": 3, "held_out": 0.5, "seed": 0, "threads": 1, "pictures": "0"}
    train(strangers, strangers.parent / system, str(recipe), as_json=True, **(options | more))


@pytest.mark.parametrize("options", [{}, {"budget": "2s", "steps": None}])
def test_cyclegan_learns_from_cts_and_pets_of_different_patients(strangers, capsys, options):
    run(strangers, "cyclegan", **options)
    said = json.loads(capsys.readouterr().out)
    assert said["studies"] == {"training": 4, "held_out": 0}
    model = Model.load(strangers.parent / "cyclegan")
    assert set(model.recipe.districts) == set(Recipe.model_fields["districts"].default), "all districts"
    taught = {name.split("/")[1] for name, count in model.record["patches"].items() if count}
    assert taught == {"whole-body"}, "a PET alone is not split"


def test_a_budget_in_which_nothing_can_be_learnt_makes_no_model(strangers, capsys):
    with pytest.raises(InputError, match="before there was a training step of whole-body"):
        run(strangers, "cyclegan", budget="0.0000001", steps=None)
    assert not (strangers.parent / "cyclegan").exists()
    run(strangers, "cyclegan", budget="20s", steps=2)
    assert json.loads(capsys.readouterr().out)["steps"] == 2


def test_a_paired_system_refuses_them(strangers):
    with pytest.raises(InputError, match="No study with both a CT and a PET"):
        run(strangers, "pix2pix")


def test_two_trainings_of_one_model_at_once_are_refused(strangers, capsys):
    with at_work(strangers.parent / "cyclegan", strangers.parent / ".cyclegan-lock"):
        with pytest.raises(ResourceError, match="Somebody works in"):
            run(strangers, "cyclegan")
        assert not (strangers.parent / ".cyclegan-cache").exists(), "nothing was begun"
    run(strangers, "cyclegan")
    assert json.loads(capsys.readouterr().out)["steps"] == 3
    assert not (strangers.parent / ".cyclegan-lock").exists()


def test_a_model_replaces_no_patients(strangers):
    """Before anything is learnt: whoever trains for hours must not find out at the end."""
    before = sorted(strangers.rglob("*"))
    for out in (strangers, strangers.parent):
        with pytest.raises(InputError, match="which would be replaced"):
            train(strangers, out, "no-such-recipe-is-read", threads=1)
    with pytest.raises(InputError, match=r"is not empty, and has no model\.json"):
        train(strangers.parent / "elsewhere", strangers, "no-such-recipe-is-read", threads=1)
    assert sorted(strangers.rglob("*")) == before


def test_a_held_out_patient_without_the_recipes_districts_ends_nothing(tmp_path, make_bar, capsys):
    """A piece of a leg, with a recipe of trunks: nobody can scan it, so nothing is measured on it."""
    for number in range(4):
        bar = make_bar(number)
        folder = tmp_path / "data" / f"p{number}"
        folder.mkdir(parents=True)
        legs = np.where(np.asarray(bar.districts.array) > 0, DISTRICT_LABEL["legs"], 0).astype(np.uint8)
        districts = bar.districts if number < 2 else bar.districts.with_array(legs, "label")
        for image, name in ((bar.ct, "CT"), (bar.pet, "SUV"), (districts, "districts")):
            write_nifti(image, folder / f"{name}.nii.gz")
    recipe = tmp_path / "trunks.toml"
    recipe.write_text('districts = ["trunk"]\n' + RECIPE.format(system="pix2pix"))
    options = {"budget": None, "steps": 12, "held_out": 0.5, "threads": 1, "pictures": "0", "as_json": True}
    train(tmp_path / "data", tmp_path / "model", str(recipe), **options)
    said = json.loads(capsys.readouterr().out)
    assert said["studies"]["held_out"] == 1 and said["chosen_step"], "of the two with a trunk"
    evaluate(str(tmp_path / "model"), tmp_path / "data", threads=1, as_json=True)
    shown = capsys.readouterr()
    assert json.loads(shown.out)["n"] == 2
    assert "Left out" in shown.err and "p3" in shown.err


def test_nothing_is_learnt_from_held_out_patients(tmp_path, make_bar):
    """With three times their uptake no weight is another; their errors are."""
    data, recipe = tmp_path / "data", tmp_path / "tiny.toml"
    tiny = RECIPE.format(system="pix2pix").replace("batch = 2", "batch = 8")
    recipe.write_text('districts = ["whole-body"]\n' + tiny)
    for number in range(4):
        bar, folder = make_bar(number), data / f"p{number}"
        folder.mkdir(parents=True)
        for image, name in ((bar.ct, "CT"), (bar.pet, "SUV"), (bar.districts, "districts")):
            write_nifti(image, folder / f"{name}.nii.gz")
    held = cohort_of(data, Recipe.load(str(recipe)), tmp_path / "cache", 0.5, quiet=True).held_out

    def trained(out: str) -> Model:
        # One step: there is none to choose by how it does on them.
        options = {"steps": 1, "held_out": 0.5, "seed": 0, "threads": 1, "pictures": "0", "as_json": True}
        train(data, tmp_path / out, str(recipe), budget=None, **options)
        return Model.load(tmp_path / out)

    before = trained("before")
    for study in held:
        hotter = study.pet.with_array(3 * np.asarray(study.pet.array))
        write_nifti(hotter, data / study.name / "SUV.nii.gz")
    after = trained("after")
    assert len(held) == 2 and before.record["metrics"] != after.record["metrics"], "they are measured on"
    assert any(before.record["patches"].values())
    for name, arrays in before.components.items():
        assert all(np.array_equal(array, after.components[name][key]) for key, array in arrays.items()), name
    learnt = [name for name in before.statistics if name.startswith(("curve/", "sum/", "suv/"))]
    assert learnt
    assert all(np.array_equal(before.statistics[name], after.statistics[name]) for name in learnt)


def test_a_training_that_is_ended_has_lost_no_step(tmp_path, make_bar):
    """Its first checkpoint comes within seconds, and SIGTERM leaves another of the last step."""
    for number in range(3):
        bar, folder = make_bar(number), tmp_path / "data" / f"p{number}"
        for image, name in ((bar.ct, "CT"), (bar.pet, "SUV"), (bar.districts, "districts")):
            write_nifti(image, folder / f"{name}.nii.gz")
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE.format(system="pix2pix"))
    words = ["train", "--recipe", recipe, "--data", tmp_path / "data", "--out", tmp_path / "m"]
    asked = [sys.executable, "-m", "scantwin", *words, "--threads", "1", "--pictures", "0"]
    state = tmp_path / ".m-training.safetensors"

    def step() -> int:
        with safe_open(state, framework="np") as file:
            return json.loads(file.metadata()["training"])["step"]

    child = subprocess.Popen([*map(str, asked), "--steps", "1000000"], stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 50
        while not state.exists() and time.monotonic() < end:
            time.sleep(0.1)
        first = step()
        time.sleep(3)
        child.terminate()
        _, errors = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 143 and "Interrupted." in errors
    assert (last := step()) > first
    done = subprocess.run([*map(str, asked), "--steps", "1", "--json"], capture_output=True, check=True)
    assert json.loads(done.stdout)["steps"] == last, "it went on from there, and had no more to do"
