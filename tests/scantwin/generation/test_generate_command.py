"""`scantwin generate lesions` and `organs`, as a person and as a machine use them; `train` before them."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
from typer.testing import CliRunner

from scantwin import NOTICE
from scantwin.cli.generate import app
from scantwin.errors import InputError
from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.imaging.organs import ORGAN_LABEL
from scantwin.learning.weights import Model, system_arrays


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> InputError:
    with pytest.raises(InputError) as error:
        CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    return error.value


@pytest.fixture(scope="module")
def model(painter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "inpainting"
    record = {"patches": dict.fromkeys(painter.components(), 1)}
    return Model(painter.recipe, system_arrays(painter), record).save(folder)


@pytest.fixture
def studies(make_torso, tmp_path):
    """Two CTs with organ labels, one with known lesions."""
    for number in range(2):
        study = make_torso(90 + number, tumour=number == 1)
        folder = tmp_path / "studies" / study.name
        write_nifti(study.ct, folder / "CT.nii.gz")
        write_nifti(study.organs.classes, folder / "organs.nii.gz")
        mapping = {str(label): name for name, label in ORGAN_LABEL.items()}
        (folder / "study.json").write_text(json.dumps({"organs": mapping}))
        if number == 1:
            write_nifti(study.lesions, folder / "SEG.nii.gz")
    return tmp_path / "studies"


def test_lesions_for_a_machine_and_for_people(model, studies, tmp_path):
    arguments = ("lesions", studies, "--model", model, "--out", tmp_path / "made", "--count", 3,
                 "--balance", "lung=1, liver=2", "--threads", 1)  # fmt: skip
    said = json.loads(run(*arguments, "--json"))
    assert said["notice"] == NOTICE
    assert said["balance"] == {"lung": 1, "liver": 2}
    assert said["model_version"] == "inpainting"
    assert {path.name for path in (tmp_path / "made" / "case-0002").iterdir()} == {
        "CT.nii.gz", "SEG.nii.gz", "region.nii.gz", "study.json", "manifest.json", "picture.png"
    }  # fmt: skip
    people = run(*arguments)
    assert NOTICE in people
    assert "2 in liver" in people


def test_other_patients_shapes_and_a_drawn_mask(model, studies, tmp_path):
    taken = json.loads(run("lesions", studies, "--model", model, "--out", tmp_path / "a", "--count", 1,
                           "--masks", "patients", "--balance", "liver", "--json"))  # fmt: skip
    assert taken["lesions"] == 1
    ct = read_nifti(studies / "torso-90" / "CT.nii.gz", "HU")
    drawing = np.zeros(ct.shape, np.uint8)
    drawing[11:14, 20:24, 32:36] = 1
    write_nifti(ct.with_array(drawing, "label"), tmp_path / "drawn.nii.gz")
    arguments = (
        "--model",
        model,
        "--out",
        tmp_path / "b",
        "--count",
        1,
        "--masks",
        tmp_path / "drawn.nii.gz",
    )
    said = json.loads(run("lesions", studies / "torso-90", *arguments, "--json"))
    assert said["balance"] == {"liver": 1}
    label = read_nifti(tmp_path / "b" / "case-0000" / "SEG.nii.gz", "label")
    assert np.array_equal(label.array, drawing)
    assert "mask is drawn on one" in refused("lesions", studies, *arguments).message
    assert "--balance" in refused("lesions", studies / "torso-90", *arguments, "--balance", "lung=1").hint


def test_asked_again_with_other_files_of_the_same_names_it_is_another_data_set(model, studies, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(model, mine)
    case, drawing = studies / "torso-90", tmp_path / "drawn.nii.gz"
    ct = read_nifti(case / "CT.nii.gz", "HU")
    draw(ct, drawing, slice(20, 24))
    order = ("lesions", case, "--model", mine, "--out", tmp_path / "made", "--count", 1, "--masks", drawing,
             "--method", "pix2pix")  # fmt: skip
    run(*order)
    run(*order)  # the same is done already
    draw(ct, drawing, slice(16, 20))
    assert "another data set" in refused(*order).message
    draw(ct, drawing, slice(20, 24))
    run(*order)
    about = (mine / "model.json").read_text()
    (mine / "model.json").write_text(about + "\n")
    assert "another data set" in refused(*order).message
    (mine / "model.json").write_text(about)
    write_nifti(ct.with_array(ct.array + np.int16(1)), case / "CT.nii.gz")
    assert "another data set" in refused(*order).message


def draw(ct, path, rows):
    drawing = np.zeros(ct.shape, np.uint8)
    drawing[11:14, rows, 32:36] = 1
    write_nifti(ct.with_array(drawing, "label"), path)


def test_an_order_of_an_older_scantwin_is_not_gone_on_with(model, studies, tmp_path):
    order = ("lesions", studies, "--model", model, "--out", tmp_path / "made", "--count", 1)
    run(*order, "--method", "pix2pix")
    path = tmp_path / "made" / "order.json"
    older = {k: v for k, v in json.loads(path.read_text()).items() if not k.endswith("sha256")}
    path.write_text(json.dumps(older))
    assert "another data set" in refused(*order, "--method", "pix2pix").message


@pytest.mark.parametrize("command", ["lesions", "organs"])
def test_a_seed_below_0_is_refused(command, tmp_path):
    wanted = ("--organ", "lung") if command == "organs" else ()
    arguments = (command, tmp_path, "--model", "m", "--out", tmp_path / "x", *wanted, "--seed", -1)
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 2
    assert "x>=0" in click.unstyle(result.output)


def test_organs_inside_and_outside(model, studies, tmp_path):
    for where in ("inside", "outside"):
        wanted = ("--organ", "liver", "--organ", "lung", "--where", where)
        base = ("--model", model, "--out", tmp_path / where, "--json")
        said = json.loads(run("organs", studies / "torso-90", *wanted, *base))
        assert (said["where"], said["notice"]) == (where, NOTICE)
        assert set(said["organs"]) == {"liver", "lung"}
        assert (Path(said["out"]) / "picture.png").is_file()


def test_what_cannot_be_done_is_one_sentence(model, studies, tmp_path, bar_folder):
    base = ("--model", model, "--out", tmp_path / "x")
    assert "balance" in refused("lesions", studies, *base, "--balance", "moon=1").message
    assert "no share" in refused("lesions", studies, *base, "--balance", "lung=x").message
    assert "no mask" in refused("lesions", studies / "torso-90", *base, "--masks", "nowhere.nii.gz").message
    assert "by magic" in refused("lesions", studies, *base, "--method", "magic").message
    assert "no organ class" in refused("organs", studies / "torso-90", "--organ", "leg", *base).message
    other = refused("lesions", studies, "--model", bar_folder, "--out", tmp_path / "x")
    assert "pix2pix model" in other.message


@pytest.fixture
def bar_folder(bar_model, tmp_path):
    """A model that makes PET."""
    return bar_model.save(tmp_path / "pet-model")


def test_train_makes_the_model_of_cts_alone(inpainting_recipe, studies, tmp_path):
    from scantwin.cli.train import train

    text = f"""
        system = "ct-inpainting"
        districts = ["whole-body"]
        spacing_mm = {list(inpainting_recipe.spacing_mm)}
        network = {{channels = [4, 8], discriminator_channels = [4]}}
        sampling = {{patch = 16}}
        inpainting = {{channels = [4, 8], sample_steps = 2}}
        optimisation = {{batch = 2}}
    """
    tomllib.loads(text)
    (tmp_path / "mine.toml").write_text(text)
    train(studies, tmp_path / "model", str(tmp_path / "mine.toml"), steps=3, held_out=0.5, threads=1,
          budget=None, seed=0, pictures="0", as_json=True)  # fmt: skip
    model = Model.load(tmp_path / "model")
    assert model.record["steps"] == 3
    assert model.record["metrics"]["model"]["whole-body"]["mae"]["n"] == 1
    run(
        "organs",
        studies / "torso-90",
        "--organ",
        "lung",
        "--model",
        tmp_path / "model",
        "--out",
        tmp_path / "o",
    )
