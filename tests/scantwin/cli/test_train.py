"""`scantwin train` from a folder: CTs and PETs of different patients teach what needs no pairs."""

from __future__ import annotations

import json

import pytest

from scantwin.cli.train import train
from scantwin.errors import InputError
from scantwin.imaging.nifti import write_nifti
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


def test_a_paired_system_refuses_them(strangers):
    with pytest.raises(InputError, match="No study with both a CT and a PET"):
        run(strangers, "pix2pix")
