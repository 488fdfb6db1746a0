"""`scantwin consortium` where it needs no SuperLink."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from scantwin.cli.consortium import app
from scantwin.errors import ResourceError
from scantwin.federation import certificates, launching
from scantwin.federation.consortium import Consortium
from scantwin.interrupts import Ended
from scantwin.learning.recipe import Recipe
from scantwin.store.database import Database
from scantwin.store.models import ModelVersion, Run


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, [*words])


def test_a_new_certificate_says_what_it_is_for(home: Path) -> None:
    Consortium.create("Test")
    said = json.loads(invoke("certificate", "--host", "pet.example.org", "--json").stdout)
    assert said["hosts"] == ["localhost", "127.0.0.1", "pet.example.org"]
    assert invoke("gateway", "--host", "pet.example.org").exit_code == 0
    assert "start is started again" in " ".join(invoke("certificate").stdout.split())


def test_a_certificate_that_ends_soon_is_told_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_self: Consortium) -> Any:
        raise ResourceError("Far enough.")

    monkeypatch.setattr(Consortium, "children", stop)
    consortium = Consortium.create("Test", port=9)
    assert "warning" not in invoke("start").stderr
    with monkeypatch.context() as short:
        short.setattr(certificates, "SERVER_DAYS", 30)
        consortium.renew_certificate()
    assert "ends in 29 days" in invoke("start").stderr
    told = invoke("status", "--json")
    assert "ends in 29 days" in told.stderr
    assert json.loads(told.stdout)["certificate_ends"]
    invoke("certificate")
    assert "warning" not in invoke("status").stderr


def test_more_rounds_than_a_ticket_holds_are_refused_at_once(home: Path) -> None:
    refused = invoke("train", "--rounds", "100001")
    assert refused.exit_code == 2 and "100000" in refused.stderr.replace(",", "")


def test_an_interrupted_train_says_how_to_go_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def follow(*_: object, **__: object) -> Run:
        raise Ended(2)

    Consortium.create("Test")
    recipe = Recipe.model_validate({"system": "pix2pix"}).model_dump(mode="json")
    with Database.from_settings().migrate().session() as session:
        session.add(ModelVersion(id="pix2pix-0", system="pix2pix", name="base", recipe=recipe))
        session.flush()
        session.add(
            Run(id="ab" * 16, name="first", system="pix2pix", recipe=recipe, status="stopped",
                rounds_planned=2, base_version="pix2pix-0")
        )  # fmt: skip
    monkeypatch.setattr(Consortium, "require_running", lambda _self: None)
    monkeypatch.setattr(launching, "submit", lambda *_: "42")
    monkeypatch.setattr(launching, "follow", follow)
    ended = invoke("train", "--resume", "first")
    assert ended.exit_code != 0
    assert f"first is stopped; scantwin consortium train --resume {'ab' * 16}" in ended.stderr
