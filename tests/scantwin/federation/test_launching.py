"""A run is followed to its end, also when its process dies without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scantwin.errors import FederationError, InputError
from scantwin.federation import launching
from scantwin.federation.consortium import Consortium
from scantwin.federation.launching import Order, create_run, follow, order_again, publish_initial, submit
from scantwin.learning.recipe import Recipe
from scantwin.store.database import Database
from scantwin.store.lifecycles import transition
from scantwin.store.models import Run
from scantwin.store.registry import Registry

from .conftest import small_components


@pytest.fixture
def order(recipe: Recipe) -> Order:
    return Order(recipe, rounds=2, seed=5, name="first", min_sites=2, deadline_s=2.0, gather_s=0.1)


@pytest.fixture
def run_id(database: Database, registry: Registry, order: Order) -> str:
    return create_run(
        database, order, publish_initial(registry, order.recipe, small_components(), name="first", seed=5)
    )


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium.create("Test", port=9, home=tmp_path / "home")


def status_of(database: Database, run_id: str) -> tuple[str, str | None]:
    with database.session() as session:
        run = session.get_one(Run, run_id)
        return run.status, run.error


@pytest.mark.parametrize("name", ["", "First", "a b", "../up", "x" * 49])
def test_odd_names_are_refused(database: Database, order: Order, name: str) -> None:
    with pytest.raises(InputError, match="name of a run"):
        create_run(database, Order(**{**vars(order), "name": name}), "pix2pix-000000000000")


def test_a_superlink_that_is_away_fails_the_run(
    consortium: Consortium, database: Database, run_id: str, order: Order
) -> None:
    with pytest.raises(FederationError, match="flwr run failed"):
        submit(consortium, database, run_id, order)
    status, error = status_of(database, run_id)
    assert status == "failed" and "could not be started" in str(error)


def test_a_run_goes_on_as_it_was_ordered(
    consortium: Consortium, database: Database, run_id: str, order: Order
) -> None:
    with database.session() as session:
        transition(session.get_one(Run, run_id), "failed")
    assert order_again(consortium, database, run_id, {})[1].min_sites == 1, "it has no ticket yet"
    with pytest.raises(FederationError):
        submit(consortium, database, run_id, order)
    assert order_again(consortium, database, run_id, {}) == (run_id, order), "the quorum too"
    assert order_again(consortium, database, "first", {})[0] == run_id, "its name will do"
    _, changed = order_again(consortium, database, run_id, {"gather_s": 9.0})
    assert (changed.gather_s, changed.min_sites) == (9.0, 2)
    with pytest.raises(InputError, match="is unknown"):
        order_again(consortium, database, "second", {})


def test_following_ends_with_the_run(consortium: Consortium, database: Database, run_id: str) -> None:
    looks: list[str] = []

    def look(run: Run) -> None:
        looks.append(run.status)
        if len(looks) < 3:
            with database.session() as session:
                run = session.get_one(Run, run_id)
                transition(run, "running" if len(looks) == 1 else "finished")
                run.flower_run_id = "42"

    assert follow(consortium, database, run_id, "42", look=look).status == "finished"
    assert looks == ["created", "running", "finished"]


def test_a_run_whose_process_died_is_failed(
    consortium: Consortium, database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.session() as session:
        run = session.get_one(Run, run_id)
        transition(run, "running")
        run.flower_run_id = "42"
    said: list[tuple[str, ...]] = []

    def flower(_home: Path, *words: str) -> dict[str, Any]:
        said.append(words)
        if len(said) == 1:
            raise FederationError("The SuperLink is restarting.")
        return {"runs": [{"status": "finished:failed"}]}

    monkeypatch.setattr(launching, "call_flwr", flower)
    monkeypatch.setattr(launching, "_ASK_FLOWER_EVERY_S", 0.0)
    monkeypatch.setattr(launching, "LOOK_EVERY_S", 0.01)
    run = follow(consortium, database, run_id, "42", look=lambda _run: None)
    assert run.status == "failed" and "without a word (Flower says finished:failed)" in str(run.error)
    assert said[0] == ("list", "consortium", "--run-id", "42")


def test_a_run_that_never_begins_is_stopped(
    consortium: Consortium, database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(launching, "call_flwr", lambda _home, *words: said.append(words) or {})
    monkeypatch.setattr(launching, "START_S", 0.0)
    monkeypatch.setattr(launching, "LOOK_EVERY_S", 0.01)
    run = follow(consortium, database, run_id, "42", look=lambda _run: None)
    assert run.status == "failed" and "did not begin" in str(run.error)
    assert said == [("stop", "42", "consortium")]


def test_a_run_that_goes_on_is_not_taken_for_its_former_end(
    consortium: Consortium, database: Database, run_id: str
) -> None:
    def set_to(status: str, flower_run_id: str) -> None:
        with database.session() as session:
            run = session.get_one(Run, run_id)
            transition(run, status)
            run.flower_run_id = flower_run_id

    for status in ("running", "failed"):
        set_to(status, "42")
    looks: list[str] = []

    def look(run: Run) -> None:
        looks.append(run.status)
        if len(looks) < 3:
            set_to("running" if len(looks) == 1 else "finished", "43")

    assert follow(consortium, database, run_id, "43", look=look).status == "finished"
    assert looks == ["failed", "running", "finished"]


def test_a_run_that_was_to_go_on_and_never_began_says_so(
    consortium: Consortium, database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.session() as session:
        run = session.get_one(Run, run_id)
        transition(run, "failed")
        run.flower_run_id = "42"
    monkeypatch.setattr(launching, "call_flwr", lambda _home, *words: {})
    monkeypatch.setattr(launching, "START_S", 0.0)
    monkeypatch.setattr(launching, "LOOK_EVERY_S", 0.01)
    run = follow(consortium, database, run_id, "43", look=lambda _run: None)
    assert run.status == "failed" and "did not begin" in str(run.error)
