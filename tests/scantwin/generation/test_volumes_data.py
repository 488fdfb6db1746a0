"""`scantwin generate volumes`: what is written, what goes on, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from scantwin import NOTICE, systems
from scantwin.cli.evaluate import evaluate
from scantwin.cli.generate_volumes import volumes
from scantwin.errors import InputError
from scantwin.generation.volumes import LowResource3D
from scantwin.generation.volumes_masks import find_masks
from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.imaging.organs import ORGAN_LABEL, OrganFile
from scantwin.imaging.reading import find_studies, read_study
from scantwin.imaging.study import Study
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import prepare_ct
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_generation import Volumes
from scantwin.learning.training import train
from scantwin.learning.weights import Model, system_arrays
from scantwin.phantoms.dicom_out import Subject, write_dicom

SPACING = (5.0, 4.0, 4.0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, torsos: Any) -> Path:
    """Folder of a model that has learnt for some seconds."""
    recipe = Recipe.read(
        {
            "system": "low-resource-3d", "districts": ["whole-body"], "spacing_mm": SPACING,
            "network": {"discriminator_channels": [8]}, "sampling": {"patch": 16, "flip": []},
            "optimisation": {"batch": 2, "precision": "fp32", "learning_rate": 5e-3},
            "volumes": {
                "autoencoder_channels": [4, 8, 12], "levels": [5, 5], "channels": [8, 12],
                "time_features": 16, "window": [32, 48, 56], "sample_steps": 2, "steps": 20,
                "autoencoder_share": 0.6,
            },
        },
        "test",
    )  # fmt: skip
    system = cast(LowResource3D, systems.build(recipe, seed=0))
    train(system, torsos.training, steps=90, seed=0)
    return Model(recipe, system_arrays(system)).save(tmp_path_factory.mktemp("volumes") / "model")


def run(*arguments: object, command: Callable[..., None] = volumes) -> dict[str, Any]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return cast(dict[str, Any], json.loads(result.stdout))


def test_volumes_from_noise_are_studies(trained: Path, tmp_path: Path) -> None:
    said = run("--model", trained, "--out", tmp_path / "made", "--count", 2, "--seed", 5)
    assert said["notice"] == NOTICE and said["volumes"] == 2
    sources = find_studies(tmp_path / "made")
    assert len(sources) == 2
    study = read_study(sources[0])
    assert study.ct.spacing == pytest.approx(SPACING) and study.ct.unit == "HU"
    assert study.organs is not None and study.organs.read().shape == study.ct.shape
    manifest = json.loads((tmp_path / "made" / "volume-0000" / "manifest.json").read_text())
    assert manifest["notice"] == NOTICE and manifest["seed"] == 5 * 1_000_003
    assert tuple(manifest["shape_zyx"]) == study.ct.shape
    assert manifest["guidance"] == Volumes().guidance, "a model may not say it: the data set does"
    assert (tmp_path / "made" / "volume-0000" / "picture.png").stat().st_size > 500
    # Fields of view are like the training's: torsos of 24 x 44 x 48 voxels, cropped to the body.
    assert all(0.5 < a / b < 1.6 for a, b in zip(study.ct.shape, (24, 44, 48), strict=True))


def test_asked_again_it_goes_on(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "made"
    run("--model", trained, "--out", out, "--count", 1, "--shape", "16,20,24")
    first = (out / "volume-0000" / "CT.nii.gz").read_bytes()
    stamp = (out / "volume-0000" / "CT.nii.gz").stat().st_mtime_ns
    run("--model", trained, "--out", out, "--count", 2, "--shape", "16,20,24")
    assert (out / "volume-0000" / "CT.nii.gz").stat().st_mtime_ns == stamp
    other = tmp_path / "other"
    run("--model", trained, "--out", other, "--count", 2, "--shape", "16x20x24")
    assert read_nifti(other / "volume-0000" / "CT.nii.gz", "HU").shape == (16, 20, 24)
    for number in range(2):
        a, b = (read_nifti(f / f"volume-{number:04d}" / "CT.nii.gz", "HU").array for f in (out, other))
        assert (a == b).all()
    assert first
    assert run("--model", trained, "--out", out, "--count", 1, "--shape", "16,20,24")["volumes"] == 2
    assert len(json.loads((out / "dataset.json").read_text())["made"]) == 2, "those that are there stay told"
    (out / "volume-0002").mkdir()
    (out / "volume-0002" / "mine.txt").touch()
    with pytest.raises(InputError, match="volume-0002 is not empty"):
        run("--model", trained, "--out", out, "--count", 3, "--shape", "16,20,24")
    assert (out / "volume-0002" / "mine.txt").exists()
    with pytest.raises(InputError, match="which is read"):
        run("--model", trained, "--out", out, "--masks", out)
    with pytest.raises(InputError, match="another data set"):
        run("--model", trained, "--out", out, "--count", 2, "--shape", "16,20,28")


def test_masks_are_followed_and_kept(trained: Path, tmp_path: Path, make_torso: Callable[..., Study]) -> None:
    study = make_torso(5)
    assert study.organs is not None
    classes = study.organs.read()
    (tmp_path / "masks").mkdir()
    write_nifti(classes, tmp_path / "masks" / "one.nii.gz")
    said = run("--model", trained, "--out", tmp_path / "made", "--masks", tmp_path / "masks")
    assert said["volumes"] == 1 and said["masks"] == 1
    folder = tmp_path / "made" / "volume-0000"
    kept = read_nifti(folder / "organs.nii.gz", "label")
    wanted = prepare_ct(study, SPACING, districts=False)
    assert kept.shape == wanted.hu.shape  # the body and a rim
    assert set(np.unique(kept.array)) <= set(np.unique(np.asarray(classes.array)))
    assert (kept.array == ORGAN_LABEL["liver"]).sum() == (classes.array == ORGAN_LABEL["liver"]).sum()
    assert json.loads((folder / "manifest.json").read_text())["mask"] == "one.nii.gz"
    made, told = (np.asarray(one.array) for one in (read_nifti(folder / "CT.nii.gz", "HU"), kept))
    lung, liver = (float(made[told == ORGAN_LABEL[name]].mean()) for name in ("lung", "liver"))
    # Some 700 HU lie between them; a model that does not look at the mask says the same of both places.
    assert liver - lung > 200
    # What it wrote itself can be followed again, without a word about numbers.
    assert [mask.mapping.name for mask in find_masks(tmp_path / "made")] == ["organ classes"]


def test_one_mask_may_be_named_itself(
    trained: Path, tmp_path: Path, make_torso: Callable[..., Study]
) -> None:
    study = make_torso(5)
    assert study.organs is not None
    path = write_nifti(study.organs.read(), tmp_path / "masks" / "one.nii.gz")
    made = {}
    for name, masks in (("of-file", path), ("of-folder", path.parent)):
        said = run("--model", trained, "--out", tmp_path / name, "--masks", masks)
        assert said["volumes"] == said["masks"] == 1
        made[name] = read_nifti(tmp_path / name / "volume-0000" / "CT.nii.gz", "HU").array
    assert np.array_equal(made["of-file"], made["of-folder"])


OWN = {str(label): name for name, label in ORGAN_LABEL.items()}
LABELS = Volume(np.full((8, 8, 8), 5, np.uint8), (5.0, 5.0, 5.0), unit="label")
CT = LABELS.with_array(np.where(np.indices((8, 8, 8))[0] < 4, -1000, 40).astype(np.int16), "HU")


@pytest.mark.parametrize(
    ("place", "organs", "mapping"),
    [
        ("organs.nii.gz", None, "totalsegmentator-total"), ("organs.nii.gz", OWN, "organ classes"),
        ("organs.nii.gz", {"5": "lung"}, "its own"), ("organs.nii.gz", "phantom", "phantom"),
        ("truth/organs.nii.gz", None, "phantom"), ("truth/organs.nii.gz", {"5": "lung"}, "its own"),
    ],
)  # fmt: skip
def test_one_map_has_one_reading(
    tmp_path: Path, place: str, organs: str | dict[str, str] | None, mapping: str
) -> None:
    """Named itself, by its study's folder, by the folder above it, and where the study is read."""
    case = tmp_path / "case"
    path = write_nifti(LABELS, case / place)
    write_nifti(CT, case / "CT.nii.gz")
    if organs:
        (case / "study.json").write_text(json.dumps({"organs": organs}))
    study = read_study(find_studies(tmp_path)[0])
    assert isinstance(study.organs, OrganFile)
    for named in (path, case, tmp_path):
        (mask,) = find_masks(named)
        assert (mask.path, mask.mapping.name) == (path, mapping)
        assert mask.mapping.classes == study.organs.mapping.classes
        assert find_masks(named, "phantom")[0].mapping.name == "phantom"


def test_a_map_beside_dicom_series_has_the_numbers_that_its_study_says(tmp_path: Path) -> None:
    """There study.json may lie in the folder above; where that may be of another study, it is not taken."""
    path = write_nifti(LABELS, tmp_path / "p1" / "DICOM" / "organs.nii.gz")
    ct = write_nifti(CT, tmp_path / "p1" / "CT.nii.gz")
    (tmp_path / "p1" / "study.json").write_text(json.dumps({"organs": {"5": "lung"}}))
    assert find_masks(path)[0].mapping.name == "totalsegmentator-total"
    ct.unlink()
    pet = CT.with_array(np.ones(CT.shape, np.float32), "SUV")
    write_dicom(path.parent, CT, pet, Subject("p"), "ge", seed=0)
    (mask,) = find_masks(path)
    assert mask.mapping.classes == {5: "lung"} and mask.told()["mapping"] == {"5": "lung"}


def test_in_a_studys_folder_only_its_organ_map_is_one(tmp_path: Path) -> None:
    cases = {
        "phantom": ("CT", "SUV", "SEG", "truth/organs", "truth/districts", "truth/lesions"),
        "both": ("organs", "truth/organs", "SEG"),
        "killed/.part-abc-volume-0001": ("organs", "CT"),
    }
    for case, names in cases.items():
        for name in names:
            write_nifti(LABELS, tmp_path / case / f"{name}.nii.gz")
    for case, organs in (("phantom", "truth/organs.nii.gz"), ("both", "organs.nii.gz")):
        assert [mask.name for mask in find_masks(tmp_path / case)] == [organs]
    assert [mask.name for mask in find_masks(tmp_path / "phantom" / "truth")] == ["organs.nii.gz"]
    assert [m.name for m in find_masks(tmp_path)] == ["both/organs.nii.gz", "phantom/truth/organs.nii.gz"]
    with pytest.raises(InputError, match="no label map"):
        find_masks(tmp_path / "killed")
    (tmp_path / "phantom" / "truth" / "organs.nii.gz").unlink()
    with pytest.raises(InputError, match="no label map"):
        find_masks(tmp_path / "phantom")


@pytest.mark.parametrize(
    ("values", "word"), [(np.int16([-1000, 1, 40]), "down to -1000"), (np.float32([0.0, 1.5, 2.0]), "as 1.5")]
)
def test_what_is_no_label_map_is_refused_before_a_volume_is_made(
    trained: Path, tmp_path: Path, values: Any, word: str
) -> None:
    write_nifti(LABELS, tmp_path / "masks" / "a.nii.gz")
    write_nifti(LABELS.with_array(np.resize(values, (8, 8, 8))), tmp_path / "masks" / "b.nii.gz")
    with pytest.raises(InputError, match=f"b.nii.gz is no label map: it holds values .*{word}"):
        run("--model", trained, "--out", tmp_path / "made", "--masks", tmp_path / "masks")
    assert not (tmp_path / "made").exists()


@pytest.mark.filterwarnings("error")
def test_labels_that_no_program_has_are_none(tmp_path: Path) -> None:
    array = np.full((8, 8, 8), 4_000_000_000, np.uint32)
    array[:4] = 5
    write_nifti(LABELS.with_array(array), tmp_path / "huge.nii.gz")
    array = np.asarray(find_masks(tmp_path / "huge.nii.gz")[0].read((5.0, 5.0, 5.0)).array)
    assert set(np.unique(array)) == {0, 5}


def test_its_volumes_are_measured(trained: Path, tmp_path: Path, make_torso: Callable[..., Study]) -> None:
    write_nifti(make_torso(6).ct, tmp_path / "data" / "one" / "CT.nii.gz")
    told = run("--model", trained, "--data", tmp_path / "data", "--threads", 1, command=evaluate)
    assert (told["n"], told["system"]) == (1, "low-resource-3d")
    assert {"mae", "soft-mae", "denoising"} <= told["whole_body"].keys()
    assert 0 < told["whole_body"]["mae"]["mean"] < 500 and told["whole_body"]["mae"]["n"] == 1


def test_other_masks_of_the_same_name_are_another_data_set(trained: Path, tmp_path: Path) -> None:
    labels = Volume(np.full((4, 4, 4), 5, np.uint8), SPACING, unit="label")
    order = ("--model", trained, "--out", tmp_path / "made", "--masks", tmp_path / "masks")
    write_nifti(labels, tmp_path / "masks" / "one.nii.gz")
    run(*order)
    assert run(*order)["volumes"] == 1
    with pytest.raises(InputError, match="another data set"):
        run(*order, "--mapping", "totalsegmentator-total")
    write_nifti(labels.with_array(labels.array + np.uint8(1)), tmp_path / "masks" / "one.nii.gz")
    with pytest.raises(InputError, match="another data set"):
        run(*order)


def test_a_mask_too_large_for_the_models_voxels_is_refused(tmp_path: Path) -> None:
    labels = Volume(np.ones((80, 80, 80), np.uint8), (60.0, 60.0, 60.0), unit="label")
    write_nifti(labels, tmp_path / "far.nii.gz")
    with pytest.raises(InputError, match=r"far.nii.gz on voxels of the model's size has 960 x 1200 x 1200"):
        find_masks(tmp_path)[0].read(SPACING)


def test_whose_numbers_a_map_has(tmp_path: Path) -> None:
    labels = Volume(np.full((4, 4, 4), 5, np.uint8), (5.0, 5.0, 5.0), unit="label")
    write_nifti(labels, tmp_path / "case" / "organs.nii.gz")
    write_nifti(labels, tmp_path / "phantom" / "truth" / "organs.nii.gz")
    write_nifti(labels, tmp_path / "drawn.nii.gz")
    found = {mask.name: mask for mask in find_masks(tmp_path)}
    assert {name: mask.mapping.name for name, mask in found.items()} == {
        "case/organs.nii.gz": "totalsegmentator-total", "phantom/truth/organs.nii.gz": "phantom",
        "drawn.nii.gz": "organ classes",
    }  # fmt: skip
    assert np.asarray(found["case/organs.nii.gz"].read((5.0, 5.0, 5.0)).array).max() == ORGAN_LABEL["liver"]
    assert {mask.mapping.name for mask in find_masks(tmp_path, "phantom")} == {"phantom"}


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--shape", "16,20"], "no shape"), (["--shape", "0,4,4"], "no shape"),
        (["--shape", "1,2,²"], "no shape"), (["--shape", f"1,2,{'9' * 5000}"], "no shape"),
        (["--shape", "40000,40000,40000"], "more than can be made"),
        (["--steps", 21], "noise levels"),
        (["--district", "head"], "no head"), (["--mapping", "phantom"], "--mapping"),
        (["--masks", "nowhere"], "no folder"), (["--masks", ".", "--shape", "8,8,8"], "shape of its own"),
        (["--device", "cuda:99"], "cuda:99 cannot be used"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused(
    trained: Path, tmp_path: Path, options: list[object], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=word):
        run("--model", trained, "--out", tmp_path / "made", *options)
    assert not (tmp_path / "made").exists()


def test_the_largest_seed_makes_volumes(trained: Path, tmp_path: Path) -> None:
    said = run("--model", trained, "--out", tmp_path / "made", "--count", 1, "--seed", 2**32 - 1)
    assert said["volumes"] == 1


def test_a_model_that_has_not_learnt_is_refused(trained: Path, tmp_path: Path) -> None:
    recipe = Model.load(trained).recipe
    fresh = Model(recipe, system_arrays(systems.build(recipe, seed=0))).save(tmp_path / "fresh")
    with pytest.raises(InputError, match="not learnt"):
        run("--model", fresh, "--out", tmp_path / "made")


def test_masks_are_refused_before_the_adapter_has_learnt(trained: Path, tmp_path: Path) -> None:
    model = Model.load(trained)
    fresh = system_arrays(systems.build(model.recipe, seed=0))
    name = "low-resource-3d/whole-body/adapter"
    early = Model(model.recipe, {**model.components, name: fresh[name]})
    labels = Volume(np.ones((4, 4, 4), np.uint8), (5.0, 5.0, 5.0), unit="label")
    write_nifti(labels, tmp_path / "masks" / "one.nii.gz")
    with pytest.raises(InputError, match="not learnt to follow the masks"):
        run(
            "--model", early.save(tmp_path / "early"), "--out", tmp_path / "made",
            "--masks", tmp_path / "masks",
        )  # fmt: skip
    assert not (tmp_path / "made").exists()


def test_an_empty_map_is_refused(tmp_path: Path) -> None:
    write_nifti(Volume(np.zeros((4, 4, 4), np.uint8), (5.0, 5.0, 5.0), unit="label"), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="labelled"):
        find_masks(tmp_path)[0].read(SPACING)
