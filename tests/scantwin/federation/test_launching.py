"""A run is followed to its end, also when its process dies without a word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.dialects import postgresql

from scantwin.errors import FederationError, InputError
from scantwin.federation import launching
from scantwin.federation.consortium import Consortium
from scantwin.federation.launching import (
    NEWEST_FIRST,
    Order,
    check_run_name,
    create_run,
    default_run_name,
    follow,
    order_again,
    publish_initial,
    submit,
)
from scantwin.interrupts import Ended
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


Flower = Callable[..., dict[str, Any]]


def flower_says(answer: dict[str, Any] | FederationError, said: list[tuple[str, ...]]) -> Flower:
    """A SuperLink that answers every question alike, and notes it; what it is told to stop, it stops."""

    def call(_home: Path, *words: str) -> dict[str, Any]:
        said.append(words)
        if words[0] == "stop":
            return {}
        if isinstance(answer, FederationError):
            raise answer
        return answer

    return call


def runs_as(database: Database, run_id: str, flower_run_id: str) -> None:
    with database.session() as session:
        run = session.get_one(Run, run_id)
        transition(run, "running")
        run.flower_run_id = flower_run_id


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"runs": [{"status": "finished:failed"}]}, "Flower says finished:failed"),
        (
            FederationError("flwr list failed: [Code: 101] Run ID not found."),
            "Flower says it knows no such run",
        ),
    ],
)
def test_a_run_that_died_while_nobody_followed_it_goes_on(
    consortium: Consortium, database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, Any] | FederationError, words: str,
) -> None:  # fmt: skip
    runs_as(database, run_id, "42")
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(launching, "call_flwr", flower_says(answer, said))
    assert order_again(consortium, database, run_id, {})[0] == run_id
    assert said == [("list", "consortium", "--run-id", "42")]
    status, error = status_of(database, run_id)
    assert status == "failed" and words in str(error)


@pytest.mark.parametrize(
    "answer", [{"runs": [{"status": "running"}]}, FederationError("flwr list failed: SuperLink unavailable")]
)
def test_a_run_that_may_still_be_trained_is_left_alone(
    consortium: Consortium, database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch,
    answer: dict[str, Any] | FederationError,
) -> None:  # fmt: skip
    runs_as(database, run_id, "42")
    monkeypatch.setattr(launching, "call_flwr", flower_says(answer, []))
    with pytest.raises(InputError, match="is running; it cannot go on"):
        order_again(consortium, database, run_id, {})
    assert status_of(database, run_id) == ("running", None)


def interrupted(_run: Run) -> None:
    raise Ended(2)


def test_an_interrupted_run_is_stopped(
    consortium: Consortium, database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_as(database, run_id, "42")
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(launching, "call_flwr", flower_says({}, said))
    with pytest.raises(Ended):
        follow(consortium, database, run_id, "42", look=interrupted)
    assert said == [("stop", "42", "consortium")]
    status, error = status_of(database, run_id)
    assert status == "stopped" and "was interrupted" in str(error)
    assert order_again(consortium, database, run_id, {})[0] == run_id


def test_a_run_that_cannot_be_stopped_is_told_of(
    consortium: Consortium, database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_home: Path, *words: str) -> dict[str, Any]:
        raise FederationError("The SuperLink is away.")

    runs_as(database, run_id, "42")
    monkeypatch.setattr(launching, "call_flwr", away)
    with pytest.raises((FederationError, Ended)) as caught:
        follow(consortium, database, run_id, "42", look=interrupted)
    assert "could not be stopped and goes on" in str(caught.value)
    assert status_of(database, run_id) == ("running", None)


@pytest.mark.parametrize("end", [None, "finished"])
def test_the_second_of_two_commands_leaves_the_run_to_the_first(
    consortium: Consortium, database: Database, run_id: str, monkeypatch: pytest.MonkeyPatch, end: str | None
) -> None:
    runs_as(database, run_id, "43")
    if end is not None:
        with database.session() as session:
            transition(session.get_one(Run, run_id), end)
    said: list[tuple[str, ...]] = []
    monkeypatch.setattr(launching, "call_flwr", flower_says({}, said))
    with pytest.raises(FederationError, match="Another command goes on with the run first"):
        follow(consortium, database, run_id, "44", look=lambda _run: None)
    assert said == [("stop", "44", "consortium")], "its own run at Flower, not the other's"
    launching._note(database, run_id, "failed", "Its ServerApp did not begin.", "44")
    assert status_of(database, run_id) == (end or "running", None)
    with database.session() as session:
        assert session.get_one(Run, run_id).flower_run_id == "43"


def test_an_order_that_no_ticket_can_hold_is_bad_input_and_ends_its_run(
    consortium: Consortium, database: Database, run_id: str, order: Order
) -> None:
    with pytest.raises(InputError, match="rounds cannot be ordered"):
        submit(consortium, database, run_id, replace(order, rounds=100_001))
    status, error = status_of(database, run_id)
    assert status == "failed" and "could not be started" in str(error)


def test_the_newest_run_is_first_on_every_database(
    consortium: Consortium, database: Database, run_id: str, order: Order
) -> None:
    others = {begun: create_run(database, order, base_of(database, run_id)) for begun in (1, 3, 2)}
    with database.session() as session:
        for day, name in others.items():
            run = session.get_one(Run, name)
            run.status = "failed"
            # The one of the third day could not be started.
            moment = datetime(2026, 1, day, tzinfo=UTC)
            run.started_at, run.finished_at = (None, moment) if day == 3 else (moment, moment)
    query = select(Run).order_by(*NEWEST_FIRST)
    with database.session() as session:
        found = [run.id for run in session.scalars(query)]
    assert found == [run_id, others[3], others[2], others[1]]
    assert "NULLS FIRST" in str(query.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    assert order_again(consortium, database, "first", {})[0] == run_id


def base_of(database: Database, run_id: str) -> str:
    with database.session() as session:
        return session.get_one(Run, run_id).base_version


@pytest.mark.parametrize(
    ("recipe_name", "stem"),
    [("pix2pix", "pix2pix"), ("My Recipe", "my-recipe"), ("Zürich_2", "z-rich_2"), ("-é-", "pix2pix"),
     ("", "pix2pix"), ("x" * 90, "x" * 40)],
)  # fmt: skip
def test_the_default_name_may_be_the_name_of_a_run(recipe_name: str, stem: str) -> None:
    name = default_run_name(Recipe.model_validate({"system": "pix2pix", "name": recipe_name}))
    assert check_run_name(name) == name
    assert name.rpartition("-")[0] == stem
