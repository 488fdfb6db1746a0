"""A patient is forgotten: rows, files, running work; the audit log keeps that it was done."""

from __future__ import annotations

import sys
import time

import pytest
from sqlalchemy import select

from scantwin import NOTICE
from scantwin.cli.main import main
from scantwin.errors import InputError
from scantwin.learning.weights import Model
from scantwin.store.models import AuditEntry
from scantwin.store.models import Scan as ScanRow
from scantwin_twin.models import KEPT
from scantwin_twin.places import Places


def below(home) -> set[str]:
    return {path.name for part in ("uploads", "scans") for path in (home / part).iterdir()}


def test_nothing_of_a_deleted_twin_is_left_but_the_audit_entry(service, ct_file):
    done = service.client.wait(service.client.submit(ct_file, model="tiny", twin="gone").id)
    other = service.client.wait(service.client.submit(ct_file, model="tiny", twin="stays").id)
    gone = service.client.delete_twin("gone")
    assert (gone.pseudonym, gone.scans, gone.notice) == ("gone", 1, NOTICE)
    assert gone.size > ct_file.stat().st_size
    assert done.id not in below(service.home) and other.id in below(service.home)
    with pytest.raises(InputError, match="no twin"):
        service.client.twin("gone")
    with pytest.raises(InputError, match="no scan"):
        service.client.get(done.id)
    assert service.client.scans(twin="gone").scans == []
    with service.server.database.session() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "twin.delete")).one()
        assert session.get(ScanRow, done.id) is None
    assert entry.subject == "gone" and entry.detail["scans"] == 1 and entry.actor.startswith("twin-client")
    # The patient may come again, as a new twin.
    service.client.cancel(service.client.submit(ct_file, model="tiny", twin="gone").id)
    assert service.client.twin("gone").scans == 1


def test_a_running_and_a_queued_scan_are_ended_first(service, ct_file):
    first, second = (service.client.submit(ct_file, model="tiny", twin="busy").id for _ in range(2))
    until = time.monotonic() + 20
    while not (running := service.client.scans(twin="busy", status="running").scans):
        assert time.monotonic() < until, "it never ran"
        time.sleep(0.01)
    assert [scan.id for scan in running] == [first]
    assert service.client.delete_twin("busy").scans == 2
    assert not {first, second} & below(service.home)
    after = service.client.wait(service.client.submit(ct_file, model="tiny", twin="next").id)
    assert after.results, "the service goes on with the next patient"


def test_a_deletion_that_broke_off_can_be_done_again(service, ct_file):
    scan = service.client.wait(service.client.submit(ct_file, model="tiny", twin="half").id)
    Places(service.home).remove(service.server.jobs.get(scan.id))  # .. and here the power went
    assert service.client.twin("half").scans == 1, "it is still listed, so that one can see it"
    assert service.client.delete_twin("half").size == 0


def test_the_command_asks_before_it_deletes(service, ct_file, monkeypatch, capsys):
    service.client.cancel(service.client.submit(ct_file, model="tiny", twin="asked").id)

    def call(*words: str) -> tuple[int, str]:
        line = ["scantwin", "twin", "delete", *words, "--address", service.server.address]
        monkeypatch.setattr(sys, "argv", line)
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0), capsys.readouterr().err
        return 0, capsys.readouterr().out

    code, said = call("asked")
    assert code == 2 and "--yes" in said and service.client.twin("asked").scans == 1
    code, said = call("asked", "--yes")
    assert code == 0 and "forgotten: 1 scans" in said and NOTICE in said
    assert call("asked", "--yes")[0] == 2, "there is no such twin any more"


def test_copies_of_models_do_not_pile_up(service, tmp_path):
    shelf = service.server.models
    model = Model.load(shelf.folder(service.model))
    versions = []
    for number in range(KEPT + 1):
        changed = Model(model.recipe, model.components, {**model.record, "round": number}, {})
        versions.append(shelf.publish(changed.save(tmp_path / f"m{number}")).id)
        shelf.folder(versions[-1])
    kept = {path.name for path in Places(service.home).models.iterdir()}
    assert kept == set(versions[1:]), "those used last"
    assert (shelf.folder(service.model) / "model.json").is_file(), "one that went comes again"
