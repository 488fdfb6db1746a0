"""`scantwin models`, as a person and as a machine use it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from scantwin import NOTICE
from scantwin.cli.models import app
from scantwin.errors import InputError
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import Model
from scantwin.store.database import Database
from scantwin.store.models import ModelVersion


def _said(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def model(tiny_recipe: Recipe, tmp_path: Path) -> Path:
    """A model's folder."""
    component = {"pix2pix/trunk/generator": {"weight": np.ones(3, np.float32)}}
    return Model(tiny_recipe, component, {"steps": 3}).save(tmp_path / "m")


def test_publish_list_show_fetch(home: Path, tmp_path: Path, model: Path) -> None:
    assert "empty" in _said("list")
    published = json.loads(_said("publish", str(model), "--name", "demo", "--json"))
    assert published["notice"] == NOTICE
    again = json.loads(_said("publish", str(tmp_path / "m"), "--name", "clinic", "--json"))
    assert (again["version"], again["name"]) == (published["version"], "clinic")
    listed = json.loads(_said("list", "--json"))
    assert [v["version"] for v in listed["models"]] == [published["version"]]
    assert published["version"] in _said("list", "--system", "pix2pix")
    for others in (("--system", "cyclegan"), ("--name", "other"), ("--name", "demo", "--system", "cyclegan")):
        assert _said("list", *others).strip() == "No version in the registry matches."
    shown = json.loads(_said("show", "demo", "--json"))
    assert shown["record"] == {"steps": 3}
    assert "pix2pix" in _said("show", "demo")
    fetched = json.loads(_said("fetch", "demo", "--out", str(tmp_path / "out"), "--json"))
    assert (Path(fetched["folder"]) / "model.json").exists()
    assert (home / "registry").is_dir()


def test_a_narrow_terminal_loses_no_letter_of_a_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database.from_settings().migrate()
    version, parent = "coarse-diffusion-0123456789ab", "coarse-diffusion-ba9876543210"
    with database.session() as session:
        session.add(ModelVersion(id=version, system="pix2pix", name="n" * 48, parent=parent, size_bytes=0))
    text = io.StringIO()
    monkeypatch.setattr("scantwin.cli.models.out", Console(file=text, width=80, soft_wrap=True))
    _said("list")
    columns = [line.split("│") for line in text.getvalue().splitlines() if "│" in line]
    wrapped = ["".join(cells[number].strip() for cells in columns) for number in (1, 2, 5)]
    assert wrapped == [version, "n" * 48, parent]


def _publish(folder: Path, *more: str) -> None:
    words = ["publish", str(folder), "--name", "demo", *more]
    CliRunner().invoke(app, words, catch_exceptions=False)


def test_what_is_no_model_or_more_than_one_is_not_published(home: Path, model: Path) -> None:
    (model / "notes" / "deep").mkdir(parents=True)
    (model / "notes" / "deep" / "patients.csv").write_text("a name")
    with pytest.raises(InputError, match=r"no part of its model: notes/deep/patients\.csv\."):
        _publish(model)
    shutil.rmtree(model / "notes")
    (weights,) = (model / "components").iterdir()
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(InputError, match="changed or cut short"):
        _publish(model)
    assert json.loads(_said("list", "--json"))["models"] == []


def test_the_parent_of_a_model_is_one_that_is_known(home: Path, model: Path) -> None:
    with pytest.raises(InputError, match="no model version or name 'nobody'"):
        _publish(model, "--parent", "nobody")
    first = json.loads(_said("publish", str(model), "--name", "first", "--json"))["version"]
    loaded = Model.load(model)
    later = Model(loaded.recipe, loaded.components, {"steps": 4}).save(model.parent / "later")
    said = json.loads(_said("publish", str(later), "--name", "later", "--parent", "first", "--json"))
    assert said["parent"] == first


def test_an_unknown_version_is_bad_input(home: Path) -> None:
    with pytest.raises(InputError, match="no model version or name 'nix'"):
        CliRunner().invoke(app, ["show", "nix"], catch_exceptions=False)
