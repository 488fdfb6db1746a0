"""`scantwin generate lesions` and `organs`, as a person and as a machine use them; `train` before them."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import click
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from scantwin import NOTICE, systems
from scantwin.cli.evaluate import evaluate
from scantwin.cli.generate import app
from scantwin.errors import InputError
from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.imaging.organs import ORGAN_LABEL
from scantwin.learning.training import train
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


def test_the_files_are_listed(model, studies, tmp_path):
    base = ("--model", model, "--method", "pix2pix", "--json")
    made = json.loads(run("lesions", studies, *base, "--out", tmp_path / "made", "--count", 2))
    assert [Path(case["folder"]).name for case in made["files"]] == ["case-0000", "case-0001"]
    for case in made["files"]:
        written = {str(path) for path in Path(case["folder"]).iterdir() if path.name != "study.json"}
        assert {path for what, path in case.items() if what != "folder"} == written
    assert "files" not in json.loads((tmp_path / "made" / "dataset.json").read_text()), "it may be moved"
    anew = json.loads(run("organs", studies / "torso-90", "--organ", "lung", *base, "--out", tmp_path / "o"))
    for what, unit in (("ct_nifti", "HU"), ("region_nifti", "label")):
        assert read_nifti(anew[what], unit).shape == (24, 44, 48)
    assert Path(anew["picture"]).is_file() and Path(anew["manifest"]).is_file()
    assert "ct_nifti" not in json.loads(Path(anew["manifest"]).read_text())


def test_nobody_gets_a_lesion_of_their_own_shape(model, studies, tmp_path):
    """torso-91 alone has lesions: its CT can have none, whichever of its studies they are from."""
    base = ("--model", model, "--method", "pix2pix", "--balance", "liver", "--masks", "patients", "--json")
    own = studies / "torso-91"
    alone = refused("lesions", own, *base, "--out", tmp_path / "a")
    assert "no shape is another patient's" in alone.message and "--masks-from" in alone.hint
    result = CliRunner().invoke(
        app, [str(one) for one in ("lesions", studies, *base, "--out", tmp_path / "b", "--count", 2)]
    )
    said = json.loads(result.stdout)
    assert said["cts"] == 1 and "torso-91 gets no lesion" in result.stderr
    told = [json.loads(Path(case["manifest"]).read_text()) for case in said["files"]]
    assert {case["ct"] for case in told} == {"torso-90"}
    assert {lesion["shape"] for case in told for lesion in case["lesions"]} == {"of torso-91"}
    for name in ("torso-90", "torso-91"):
        about = json.loads((studies / name / "study.json").read_text())
        (studies / name / "study.json").write_text(json.dumps({**about, "patient": "anna"}))
    assert "so are all CTs" in refused("lesions", studies, *base, "--out", tmp_path / "c").message
    assert not (tmp_path / "a").exists() and not (tmp_path / "c").exists()


def test_shapes_of_another_folder(model, studies, tmp_path):
    base = ("--model", model, "--method", "pix2pix", "--balance", "liver", "--count", 1, "--json")
    donors = tmp_path / "donors"
    shutil.copytree(studies / "torso-91", donors / "torso-91")
    other = read_nifti(donors / "torso-91" / "CT.nii.gz", "HU")
    write_nifti(other.with_array(other.array + np.int16(1)), donors / "torso-91" / "CT.nii.gz")
    order = ("lesions", studies / "torso-91", *base, "--out", tmp_path / "made", "--masks-from", donors)
    assert "Give both" in refused(*order).hint
    made = json.loads(run(*order, "--masks", "patients"))
    told = json.loads(Path(made["files"][0]["manifest"]).read_text())
    assert told["lesions"][0]["shape"] == "of torso-91", "a folder of the same name is another patient's"
    write_nifti(read_nifti(donors / "torso-91" / "SEG.nii.gz", "label"), donors / "more" / "SEG.nii.gz")
    write_nifti(read_nifti(donors / "torso-91" / "CT.nii.gz", "HU"), donors / "more" / "CT.nii.gz")
    assert "another data set" in refused(*order, "--masks", "patients").message
    same = ("--masks-from", studies, "--masks", "patients", "--out", tmp_path / "x")
    assert "are of patients whose CTs" in refused("lesions", studies, *base, *same).message


def test_a_ct_that_is_named_by_its_file_gets_no_lesion_of_its_patients_shape(model, studies, tmp_path):
    """Neither from its own study, nor another one of its patient, nor a copy of its study."""
    base = ("--model", model, "--method", "pix2pix", "--balance", "soft-tissue", "--count", 1, "--json")
    own, donors = studies / "torso-91", tmp_path / "donors"
    ct = read_nifti(own / "CT.nii.gz", "HU")
    shutil.copytree(own, donors / "copy")

    def order(masks_from):
        return ("lesions", own / "CT.nii.gz", *base, "--out", tmp_path / "x", "--masks", "patients",
                "--masks-from", masks_from)  # fmt: skip

    assert "are of patients whose CTs" in refused(*order(own)).message
    assert "are of patients whose CTs" in refused(*order(donors)).message
    write_nifti(ct.with_array(ct.array + np.int16(1)), donors / "copy" / "CT.nii.gz")
    for folder in (own, donors / "copy"):
        about = json.loads((folder / "study.json").read_text())
        (folder / "study.json").write_text(json.dumps({**about, "patient": "anna"}))
    assert "are of patients whose CTs" in refused(*order(donors)).message
    (donors / "copy" / "study.json").write_text(json.dumps({**about, "patient": "bert"}))
    assert json.loads(run(*order(donors)))["lesions"] == 1


def test_a_model_that_makes_ct_is_measured(model, studies):
    told = evaluated("--model", model, "--data", studies, "--threads", 1)
    assert (told["n"], told["system"], told["model_version"]) == (2, "ct-inpainting", "inpainting")
    for figure in ("mae", "bias", "spread", "pix2pix-mae"):
        assert told["whole_body"][figure].keys() == {"mean", "sd", "n"}
        assert told["whole_body"][figure]["n"] == 2
    assert 0 < told["whole_body"]["pix2pix-mae"]["mean"] < 500
    assert told["districts"] == {}
    assert evaluated("--model", model, "--data", studies, "--threads", 1) == told, "the same draws"


def test_a_model_of_ct_that_never_learnt_has_no_figures(inpainting_recipe, studies, tmp_path):
    """Such as the version that a run starts from: its record counts no patches."""
    arrays = system_arrays(systems.build(inpainting_recipe, seed=0))
    Model(inpainting_recipe, arrays, {"round": 0, "patches": {}}).save(tmp_path / "first-initial")
    with pytest.raises(InputError, match="has not learnt what these studies show"):
        evaluated("--model", tmp_path / "first-initial", "--data", studies, "--threads", 1)


def test_its_figures_are_shown_to_people(model, studies, monkeypatch):
    monkeypatch.setattr("scantwin.terminal.out._width", 120)
    people = evaluated("--model", model, "--data", studies / "torso-90", "--threads", 1, people=True)
    assert "pix2pix-mae" in people and "in HU" in people


@pytest.mark.parametrize(
    ("option", "word"), [(("--steps", 2), "draws no samples"), (("--extractor", "x"), "--extractor")]
)
def test_options_of_pet_are_refused_before_a_study_is_read(model, tmp_path, option, word):
    with pytest.raises(InputError, match=word):
        evaluated("--model", model, "--data", tmp_path / "nowhere", *option)


def evaluated(*arguments, people=False):
    evaluating = typer.Typer()
    evaluating.command()(evaluate)
    words = [str(one) for one in arguments] + ([] if people else ["--json"])
    result = CliRunner().invoke(evaluating, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout if people else json.loads(result.stdout)


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


@pytest.mark.parametrize("seed", [-1, 2**32, 10**13, 10**30])
@pytest.mark.parametrize("command", ["lesions", "organs", "volumes"])
def test_a_seed_that_no_generator_takes_is_refused(command, seed, tmp_path):
    data = () if command == "volumes" else (tmp_path,)
    wanted = ("--organ", "lung") if command == "organs" else ()
    arguments = (command, *data, "--model", "m", "--out", tmp_path / "x", *wanted, "--seed", seed)
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 2
    assert "0<=x<=4294967295" in click.unstyle(result.output)


def test_organs_inside_and_outside(model, studies, tmp_path):
    for where in ("inside", "outside"):
        organs = ("--organ", "liver,lung") if where == "inside" else ("--organ", "liver", "--organ", "lung")
        wanted = (*organs, "--where", where)
        base = ("--model", model, "--out", tmp_path / where, "--json")
        said = json.loads(run("organs", studies / "torso-90", *wanted, *base))
        assert (said["where"], said["notice"]) == (where, NOTICE)
        assert set(said["organs"]) == {"liver", "lung"}
        assert (Path(said["out"]) / "picture.png").is_file()


def test_what_cannot_be_done_is_one_sentence(model, studies, tmp_path, bar_folder):
    base = ("--model", model, "--out", tmp_path / "x")
    assert "balance" in refused("lesions", studies, *base, "--balance", "moon=1").message
    assert "no share" in refused("lesions", studies, *base, "--balance", "lung=x").message
    assert "balance" in refused("lesions", studies, *base, "--balance", "lung=nan").message
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "CT.nii.gz").write_bytes(b"no NIfTI")
    assert "can be used" in refused("lesions", tmp_path / "bad", *base, "--masks", "patients").message
    assert "can be used" in refused("lesions", tmp_path / "bad", *base).message
    assert "Nothing is drawn" in refused("lesions", studies, *base, "--balance", "drawn=1").message
    assert "no mask" in refused("lesions", studies / "torso-90", *base, "--masks", "nowhere.nii.gz").message
    assert "which is read" in refused("lesions", studies, "--model", model, "--out", studies).message
    assert "which is read" in refused("lesions", studies, "--model", model, "--out", model.parent).message
    ct = studies / "torso-90" / "CT.nii.gz"
    assert "is no label map" in refused("lesions", ct, *base, "--masks", ct).message
    assert "by magic" in refused("lesions", studies, *base, "--method", "magic").message
    assert "no organ class" in refused("organs", studies / "torso-90", "--organ", "leg", *base).message
    assert "class legs" in refused("organs", studies / "torso-90", "--organ", "lung, legs", *base).message
    other = refused("lesions", studies, "--model", bar_folder, "--out", tmp_path / "x")
    assert "pix2pix model" in other.message


@pytest.mark.parametrize("command", ["lesions", "organs"])
def test_networks_that_never_learnt_are_refused(command, inpainting_recipe, torsos, studies, tmp_path):
    """Such as a run's first version and an early round's."""
    wanted = ("--organ", "lung") if command == "organs" else ("--count", 1, "--balance", "liver")
    system = systems.build(inpainting_recipe, seed=0)

    def order(model, method):
        folder = model.save(tmp_path / "model")
        out = tmp_path / "out"
        return command, studies / "torso-90", "--model", folder, "--out", out, *wanted, "--method", method

    untrained = Model(inpainting_recipe, system_arrays(system), {})
    for method in ("diffusion", "pix2pix"):
        error = refused(*order(untrained, method))
        assert f"has not learnt to paint by {method}" in error.message
        assert "scantwin models list" in error.hint
    train(system, torsos.training, steps=10, seed=0, span=(0.0, 0.4))
    early = Model(inpainting_recipe, system_arrays(system), {})
    error = refused(*order(early, "diffusion"))
    assert "--method pix2pix" in error.hint and "inpainting.painter_share" in error.hint
    losses = inpainting_recipe.losses.model_copy(update={"denoising": 0.0})
    never = Model(inpainting_recipe.model_copy(update={"losses": losses}), early.components, {})
    assert "losses.denoising = 0" in refused(*order(never, "diffusion")).hint
    assert not (tmp_path / "out").exists(), "refused before anything is written"
    run(*order(early, "pix2pix"))


@pytest.fixture
def bar_folder(bar_model, tmp_path):
    """A model that makes PET."""
    return bar_model.save(tmp_path / "pet-model")


def test_train_makes_the_model_of_cts_alone(inpainting_recipe, studies, tmp_path):
    from scantwin.cli.train import train as train_command

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
    train_command(studies, tmp_path / "model", str(tmp_path / "mine.toml"), steps=3, held_out=0.5, threads=1,
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
