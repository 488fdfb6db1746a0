"""Every edge of every life cycle is walked, and every pair without an edge is refused."""

from __future__ import annotations

from typing import get_args

import pytest

from scantwin.store.database import Database
from scantwin.store.lifecycles import (
    ROUND,
    RUN,
    SCAN,
    SITE,
    TABLES,
    IllegalTransitionError,
    Table,
    transition,
)
from scantwin.store.models import Round, Run, RunStatus, Scan, ScanStatus, Site, SiteStatus, Twin
from scantwin.store.models import RoundStatus as RoundStatusType

WORDS = {Site: SiteStatus, Run: RunStatus, Round: RoundStatusType, Scan: ScanStatus}
PAIRS = [(model, old, new) for model, table in TABLES.items() for old in table for new in table]


@pytest.mark.parametrize(("model", "old", "new"), PAIRS, ids=lambda part: getattr(part, "__name__", part))
def test_every_pair(model: type, old: str, new: str) -> None:
    thing = model(id=1, status=old)
    if new in TABLES[model][old]:
        transition(thing, new)
        assert thing.status == new
    else:
        with pytest.raises(IllegalTransitionError) as told:
            transition(thing, new)
        assert told.value.hint
        assert thing.status == old


@pytest.mark.parametrize("model", list(TABLES))
def test_a_table_has_the_words_of_its_column(model: type) -> None:
    assert tuple(TABLES[model]) == get_args(WORDS[model])
    assert {new for edges in TABLES[model].values() for new in edges} <= set(TABLES[model])


@pytest.mark.parametrize("table", [SITE, RUN, ROUND, SCAN])
def test_every_status_can_be_reached(table: Table) -> None:
    reached, front = set(), [next(iter(table))]
    while front:
        reached.add(status := front.pop())
        front += [new for new in table[status] if new not in reached]
    assert reached == set(table)


def test_times_follow_the_status() -> None:
    scan = Scan(status="queued")
    transition(scan, "running")
    assert scan.started_at is not None
    assert scan.finished_at is None
    transition(scan, "queued")  # its worker died
    assert scan.started_at is None
    transition(scan, "cancelled")
    assert scan.finished_at is not None


def test_of_two_workers_one_gets_the_scan(database: Database) -> None:
    with database.session() as session:
        scan = Scan(twin=Twin(pseudonym="P"), model_version="pix2pix-0")
        session.add(scan)
    with database.session() as session:
        seen_by_the_slow_one = session.get(Scan, scan.id)
        session.commit()  # it lets go of the row, but still believes that it is queued
        with database.session() as other:
            transition(other.get(Scan, scan.id), "running")
        assert seen_by_the_slow_one.status == "queued"
        with pytest.raises(IllegalTransitionError, match="is running; it cannot become running"):
            transition(seen_by_the_slow_one, "running")
    with database.session() as session:
        assert session.get(Scan, scan.id).status == "running"


def test_a_new_object_can_move_before_it_is_stored(database: Database) -> None:
    with database.session() as session:
        scan = Scan(twin=Twin(pseudonym="P"), model_version="pix2pix-0")
        session.add(scan)
        transition(scan, "running")
    with database.session() as session:
        found = session.get(Scan, scan.id)
        assert found.status == "running"
        assert found.started_at == scan.started_at
