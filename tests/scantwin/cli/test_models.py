"""`scantwin models`, as a person and as a machine use it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from scantwin import NOTICE
from scantwin.cli.models import app
from scantwin.errors import InputError
from scantwin.store.database import Database
from scantwin.store.models import ModelVersion


def _said(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_publish_list_show_fetch(home: Path, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.json").write_text('{"recipe": {"system": "pix2pix"}, "record": {"steps": 3}}')
    assert "empty" in _said("list")
    published = json.loads(_said("publish", str(tmp_path / "m"), "--name", "demo", "--json"))
    assert published["notice"] == NOTICE
    again = json.loads(_said("publish", str(tmp_path / "m"), "--name", "clinic", "--json"))
    assert (again["version"], again["name"]) == (published["version"], "clinic")
    listed = json.loads(_said("list", "--json"))
    assert [v["version"] for v in listed["models"]] == [published["version"]]
    assert published["version"] in _said("list", "--system", "pix2pix")
    assert published["version"] not in _said("list", "--system", "cyclegan")
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


def test_an_unknown_version_is_bad_input(home: Path) -> None:
    with pytest.raises(InputError, match="no model version or name 'nix'"):
        CliRunner().invoke(app, ["show", "nix"], catch_exceptions=False)
