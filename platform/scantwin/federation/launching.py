"""Starting a run: a base version, a row in the database, a ticket, `flwr run`; and following it."""

from __future__ import annotations

import re
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import func, select

from scantwin.errors import FederationError, InputError
from scantwin.federation.consortium import Consortium
from scantwin.federation.flower import CONNECTION, call_flwr
from scantwin.federation.ticket import Ticket, ticket_in, write_ticket
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import Model
from scantwin.store import audit
from scantwin.store.database import Database
from scantwin.store.lifecycles import transition
from scantwin.store.models import Run
from scantwin.store.registry import Registry

LOOK_EVERY_S = 0.5
"""How often we ask the database how the run is going [s]."""

START_S = 120.0
"""How long a run's ServerApp may take to begin [s]."""

_ASK_FLOWER_EVERY_S = 30.0
"""How long we wait before asking Flower again whether a run's process died silently [s]: each question starts
a Flower program, which takes seconds of a core that a site on this machine would train with."""

NEWEST_FIRST: Final = (func.coalesce(Run.started_at, Run.finished_at).desc().nulls_first(), Run.id)
"""Orders runs by their start, newest first, alike in every database; one that has not begun comes first."""

_ENDED = ("finished", "failed", "stopped")
_ENDED_SILENTLY = "Its process ended without a word (Flower says {}); see the conductor's log."
_UNKNOWN_RUN: Final = "Run ID not found"
"""Flower's message about a run that its SuperLink does not know (`flwr.supercore.error.catalog`)."""

_WAITING: Final = ("min_sites", "deadline_s", "gather_s")
"""The settings of what a run waits for; the database has no columns for them."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,47}")
_STEM: Final = 40
"""Most letters of a recipe's name in the name of a run: with the suffix they stay below a run's 48."""


@dataclass(frozen=True)
class Order:
    """What the lead of the consortium asked for."""

    recipe: Recipe
    rounds: int
    seed: int
    name: str
    min_sites: int = 1
    deadline_s: float = 1800.0
    gather_s: float = 120.0


def publish_initial(registry: Registry, recipe: Recipe, components: Any, *, name: str, seed: int) -> str:
    """Publishes untrained components as the version that a run starts from; returns its id."""
    model = Model(recipe, components, {"seed": seed, "round": 0, "patches": {}}, {})
    with tempfile.TemporaryDirectory(prefix="scantwin-") as folder:
        saved = model.save(Path(folder) / "model")
        return registry.publish(saved, name=f"{name}-initial", actor="consortium").id


def check_run_name(name: str) -> str:
    """The name, if a run may have it: it becomes the name of model versions."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a run.",
            hint="Use 1 to 48 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit.",
        )
    return name


def default_run_name(recipe: Recipe) -> str:
    """A name for a run that was given none: that of its recipe, as far as allowed, and a random suffix."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", recipe.name.lower()).strip("._-")[:_STEM]
    return f"{plain or recipe.system}-{secrets.token_hex(3)}"


def create_run(database: Database, order: Order, base_version: str) -> str:
    """Writes the run's row; returns its id."""
    check_run_name(order.name)
    with database.session() as session:
        run = Run(
            name=order.name, system=order.recipe.system, recipe=order.recipe.model_dump(mode="json"),
            status="created", rounds_planned=order.rounds, base_version=base_version, seed=order.seed,
        )  # fmt: skip
        session.add(run)
        session.flush()
        audit.record(
            session, "consortium", "run.created", run.id, {"name": order.name, "rounds": order.rounds}
        )
        return run.id


def order_again(
    consortium: Consortium, database: Database, run: str, changed: dict[str, Any]
) -> tuple[str, Order]:
    """Id and order of a failed or stopped run (by id, or by name: its last one), updated with `changed`.

    How many sites it needs and how long it waits come from the ticket with which it was started.
    """
    row = _find(database, run)
    if row is not None and row.status == "running":
        _end_if_dead(consortium, database, row)
        row = _find(database, row.id)
    if row is None or row.status not in ("created", "failed", "stopped"):
        what = "is unknown" if row is None else f"is {row.status}"
        raise InputError(f"The run {run} {what}; it cannot go on.", hint="scantwin consortium status")
    ticket = ticket_in(_ticket_folder(consortium, row.id))
    kept = ticket.model_dump(include=set(_WAITING)) if ticket is not None else {}
    recipe = Recipe.read(row.recipe, f"of the run {row.id}")
    return row.id, Order(recipe, row.rounds_planned, row.seed, row.name, **{**kept, **changed})


def _find(database: Database, run: str) -> Run | None:
    with database.session() as session:
        return session.get(Run, run) or session.scalars(
            select(Run).where(Run.name == run).order_by(*NEWEST_FIRST)
        ).first()  # fmt: skip


def _end_if_dead(consortium: Consortium, database: Database, run: Run) -> None:
    """Fails a run whose process died while nobody followed it: it would stay `running` for ever."""
    ended = _flower_says_ended(consortium, run.flower_run_id) if run.flower_run_id else "nothing of it"
    if ended is not None:
        _note(database, run.id, "failed", _ENDED_SILENTLY.format(ended), run.flower_run_id)


def submit(consortium: Consortium, database: Database, run_id: str, order: Order) -> str:
    """Hands the run's ticket to the SuperLink; returns Flower's run id."""
    try:
        folder = write_ticket(_ticket_of(run_id, order), _ticket_folder(consortium, run_id))
        answer = call_flwr(consortium.flower_home, "run", str(folder), CONNECTION)
    except BaseException as error:
        _note(database, run_id, "failed", f"The run could not be started: {error}")
        raise
    return str(answer["run-id"])


def _ticket_of(run_id: str, order: Order) -> Ticket:
    try:
        return Ticket(
            run=run_id, rounds=order.rounds, seed=order.seed, recipe=order.recipe.model_dump(mode="json"),
            deadline_s=order.deadline_s, min_sites=order.min_sites, gather_s=order.gather_s,
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{first['loc'][0]} cannot be ordered: {first['msg']}.",
            hint="See scantwin consortium train --help.",
        ) from None


def _ticket_folder(consortium: Consortium, run_id: str) -> Path:
    return consortium.tickets / run_id / "scantwin-job"


def follow(
    consortium: Consortium,
    database: Database,
    run_id: str,
    flower_run_id: str,
    *,
    look: Callable[[Run], None],
) -> Run:
    """Waits until the run has ended, calling `look` with its row; ends it here if its process died.

    If we are interrupted, the run is stopped. Raises `FederationError` if another command has resumed it.
    """
    try:
        return _follow(consortium, database, run_id, flower_run_id, look)
    except KeyboardInterrupt:
        _stop(consortium, database, run_id, flower_run_id)
        raise


def _follow(
    consortium: Consortium, database: Database, run_id: str, flower_run_id: str, look: Callable[[Run], None]
) -> Run:
    began = asked = time.monotonic()
    while True:
        with database.session() as session:
            run = session.get_one(Run, run_id)
            _ = [
                update.site.name for one in run.rounds for update in one.updates
            ]  # read before the session ends
        look(run)
        # A resumed run keeps the status of its former end until its new process has begun.
        begun = run.flower_run_id == flower_run_id
        if begun and run.status in _ENDED:
            return run
        if _is_of_another(run, flower_run_id):
            with suppress(FederationError):  # it ends by itself when it finds the run running
                call_flwr(consortium.flower_home, "stop", flower_run_id, CONNECTION)
            raise FederationError(
                f"Another command goes on with the run {run.name}.", hint="scantwin consortium status"
            )
        if not begun and time.monotonic() - began > START_S:
            call_flwr(consortium.flower_home, "stop", flower_run_id, CONNECTION)
            words = "Its ServerApp did not begin; see the conductor's log."
            _note(database, run_id, "failed", words, flower_run_id)
        if time.monotonic() - asked > _ASK_FLOWER_EVERY_S:
            ended = _flower_says_ended(consortium, flower_run_id)
            asked = time.monotonic()
            if ended is not None:
                time.sleep(1.0)  # its last words may be on their way into the database
                _note(database, run_id, "failed", _ENDED_SILENTLY.format(ended), flower_run_id)
        time.sleep(LOOK_EVERY_S)


def _stop(consortium: Consortium, database: Database, run_id: str, flower_run_id: str) -> None:
    """Stops a run whose command was interrupted. Raises `FederationError` if it goes on all the same."""
    try:
        call_flwr(consortium.flower_home, "stop", flower_run_id, CONNECTION)
    except FederationError:
        if _flower_says_ended(consortium, flower_run_id) is None:
            raise FederationError(
                f"The run {run_id} could not be stopped and goes on.",
                hint="See scantwin consortium status; ending scantwin consortium start ends it too.",
            ) from None
    _note(database, run_id, "stopped", "The run was stopped: its command was interrupted.", flower_run_id)


def _is_of_another(run: Run, flower_run_id: str) -> bool:
    """Whether another command resumed the run: one that we resume was neither running nor finished."""
    return run.status in ("running", "finished") and run.flower_run_id != flower_run_id


def _flower_says_ended(consortium: Consortium, flower_run_id: str) -> str | None:
    """How the run ended, according to Flower; None while it goes on or when Flower does not answer."""
    try:
        runs = call_flwr(consortium.flower_home, "list", CONNECTION, "--run-id", flower_run_id)["runs"]
    except FederationError as error:
        # Otherwise the SuperLink may be restarting; the run goes on meanwhile.
        return "it knows no such run" if _UNKNOWN_RUN in error.message else None
    except KeyError:
        return None
    for run in runs:
        status = str(run.get("status", ""))
        if status.startswith("finished"):
            return status
    return None


def _note(
    database: Database, run_id: str, status: str, reason: str, flower_run_id: str | None = None
) -> None:
    """Ends a run that did not end itself; a resumed run that never began keeps its status.

    A run that another command has resumed is not ours to end.
    """
    with database.session() as session:
        run = session.get(Run, run_id)
        if run is None or (run.status in _ENDED and run.flower_run_id == flower_run_id):
            return
        if _is_of_another(run, flower_run_id or ""):
            return
        if run.status not in _ENDED:
            transition(run, status)
        run.error = reason[:2000]
        run.flower_run_id = flower_run_id or run.flower_run_id
