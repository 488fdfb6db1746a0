"""`scantwin consortium` where it needs no SuperLink."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from scantwin.cli import main as entry
from scantwin.cli.consortium import app
from scantwin.errors import InputError, ResourceError
from scantwin.federation import certificates, launching
from scantwin.federation.consortium import Consortium
from scantwin.interrupts import Ended
from scantwin.learning.recipe import Recipe
from scantwin.store.database import Database
from scantwin.store.models import ModelVersion, Run
from scantwin.terminal import LARGEST_SEED


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


def test_nothing_is_started_with_a_damaged_certificate(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    consortium = Consortium.create("Test", port=9)
    monkeypatch.setattr(Consortium, "children", lambda _self: pytest.fail("it started"))
    consortium.ca.write_text("garbage")
    assert isinstance(invoke("start").exception, InputError)
    (consortium.folder / "server.crt").write_text("garbage")
    for command in (["status"], ["certificate"], ["gateway", "--host", "localhost"]):
        assert isinstance(invoke(*command).exception, InputError), command


def test_more_rounds_than_a_ticket_holds_are_refused_at_once(home: Path) -> None:
    refused = invoke("train", "--rounds", "100001")
    assert refused.exit_code == 2 and "100000" in refused.stderr.replace(",", "")


def test_a_seed_that_no_ticket_holds_is_refused_at_once(home: Path) -> None:
    refused = invoke("train", "--seed", str(2**63))
    assert refused.exit_code == 2 and str(LARGEST_SEED) in refused.stderr


def test_an_interrupted_train_says_how_to_go_on(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
    monkeypatch.setattr(
        "sys.argv", ["scantwin", "consortium", "train", "--resume", "first", "--min-sites", "3"]
    )
    how = f"The run first is stopped; scantwin consortium train --resume {'ab' * 16} goes on with it."
    assert entry._run(as_json=False) == 130
    assert capsys.readouterr().err.strip() == f"Interrupted. {how}", "the same command would be another run"
    assert entry._run(as_json=True) == 130
    assert json.loads(capsys.readouterr().out)["error"]["hint"] == how


SMALL = """
system = "pix2pix"
districts = ["trunk"]
spacing_mm = [8.0, 8.0, 8.0]
steps_per_round = {steps}
network.channels = [{channels}]
network.discriminator_channels = [4]
sampling.patch = 16
sampling.window = 32
sampling.overlap = 8
"""


@pytest.fixture
def ordered(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[launching.Order]:
    """What `train` ordered of a consortium that runs; each run is interrupted at once."""
    orders: list[launching.Order] = []

    def submit(_consortium: Consortium, _database: Database, _run: str, order: launching.Order) -> str:
        orders.append(order)
        return "42"

    def follow(*_: object, **__: object) -> Run:
        raise Ended(2)

    Consortium.create("Test")
    monkeypatch.setattr(Consortium, "require_running", lambda _self: None)
    monkeypatch.setattr(launching, "submit", submit)
    monkeypatch.setattr(launching, "follow", follow)
    return orders


def recipe_file(folder: Path, name: str = "small", steps: int = 4, channels: str = "4, 8") -> str:
    path = folder / f"{name}.toml"
    path.write_text(SMALL.format(steps=steps, channels=channels))
    return str(path)


def versions() -> list[str]:
    with Database.from_settings().migrate().session() as session:
        return [one.id for one in session.query(ModelVersion)]


def test_a_run_takes_the_recipe_of_its_base(ordered: list[launching.Order], tmp_path: Path) -> None:
    invoke("train", "--recipe", recipe_file(tmp_path), "--name", "first")
    (base,) = versions()
    invoke("train", "--base", base)
    assert ordered[1].recipe == ordered[0].recipe
    assert (ordered[1].rounds, ordered[1].seed, ordered[1].min_sites) == (4, 0, 1)
    assert ordered[1].name.startswith("small-")
    assert versions() == [base]


def test_another_recipe_is_taken_if_it_fits_the_base(ordered: list[launching.Order], tmp_path: Path) -> None:
    invoke("train", "--recipe", recipe_file(tmp_path), "--name", "first")
    (base,) = versions()
    invoke("train", "--base", base, "--recipe", recipe_file(tmp_path, "longer", steps=9))
    assert ordered[1].recipe.steps_per_round == 9
    for recipe, words in (
        (recipe_file(tmp_path, "wider", channels="8, 16"), "does not fit the version"),
        ("coarse-diffusion", "is a pix2pix, the recipe a coarse-diffusion"),
    ):
        refused = invoke("train", "--base", base, "--recipe", recipe)
        assert isinstance(refused.exception, InputError) and words in str(refused.exception)
    assert len(ordered) == 2


def test_a_lead_is_warned_of_rounds_with_so_few_sites_that_their_updates_show(
    ordered: list[launching.Order], tmp_path: Path
) -> None:
    recipe = recipe_file(tmp_path)
    for option in ((), ("--min-sites", "2")):
        told = invoke("train", "--recipe", recipe, "--json", *option)
        assert "the other's update" in told.stderr and "--min-sites 3" in told.stderr
        assert told.stdout == "", "the run was interrupted: there is nothing for machines"
    assert "warning" not in invoke("train", "--recipe", recipe, "--min-sites", "3").stderr
    assert [order.min_sites for order in ordered] == [1, 2, 3]


@pytest.mark.parametrize(
    "option", [("--rounds", "4"), ("--recipe", "pix2pix"), ("--base", "v"), ("--seed", "0"), ("--name", "x")]
)
def test_a_run_that_goes_on_takes_no_new_order(home: Path, option: tuple[str, str]) -> None:
    refused = invoke("train", "--resume", "first", *option).exception
    assert isinstance(refused, InputError) and "as it was ordered" in str(refused)
    assert option[0] in refused.hint


def test_a_recipe_may_have_any_file_name(ordered: list[launching.Order], tmp_path: Path) -> None:
    invoke("train", "--recipe", recipe_file(tmp_path, "My Recipe"))
    assert ordered[0].name.startswith("my-recipe-")


def test_an_odd_name_is_refused_before_anything_is_published(
    ordered: list[launching.Order], tmp_path: Path
) -> None:
    refused = invoke("train", "--recipe", recipe_file(tmp_path), "--name", "My Run").exception
    assert isinstance(refused, InputError) and "'My Run' cannot be the name of a run" in str(refused)
    assert versions() == [] and ordered == []
