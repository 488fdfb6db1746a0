"""What a site keeps and what it refuses: outbox, waiting samples, policy."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from scantwin.calibration.samples import CalibrationSample
from scantwin.errors import FederationError
from scantwin.federation.wire import JobHeader
from scantwin.learning.recipe import Recipe
from scantwin_clients.outbox import Outbox
from scantwin_clients.policy import check_job
from scantwin_clients.samples import WaitingSamples
from scantwin_clients.site import Site, SitePolicy

JOB = JobHeader(run="ab" * 16, round=1, rounds=3, phase="train", site="city", seed=1, recipe={})
ASKED = {"header": b"{}", "arrays": b"weights"}
REPLY = {"header": b"{}", "arrays": b"\x00\xff" * 1000}


def test_a_finished_reply_is_found_again(tmp_path: Path) -> None:
    Outbox(tmp_path).store(JOB, ASKED, REPLY)
    assert Outbox(tmp_path).find(JOB, ASKED) == REPLY
    # Confirmations change in between: it is the same job all the same.
    confirmed = JOB.model_copy(update={"confirmed": ["ef" * 16]})
    assert Outbox(tmp_path).find(confirmed, {**ASKED, "header": b"other"}) == REPLY


def test_other_weights_rounds_and_phases_are_other_jobs(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.store(JOB, ASKED, REPLY)
    assert outbox.find(JOB, {**ASKED, "arrays": b"other"}) is None
    assert outbox.find(JOB.model_copy(update={"round": 2}), ASKED) is None
    assert outbox.find(JOB.model_copy(update={"phase": "final"}), ASKED) is None
    assert outbox.find(JOB.model_copy(update={"run": "cd" * 16}), ASKED) is None
    assert outbox.find(JOB.model_copy(update={"seed": 2}), ASKED) is None


def test_the_outbox_holds_one_reply(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for run in ("ab" * 16, "cd" * 16):
        for number in (1, 2):
            outbox.store(JOB.model_copy(update={"run": run, "round": number}), ASKED, REPLY)
    assert len([*tmp_path.rglob("*.zip")]) == 1


def test_a_damaged_reply_is_worked_out_anew(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.store(JOB, ASKED, REPLY)
    (path,) = tmp_path.rglob("*.zip")
    path.write_bytes(path.read_bytes()[:50])
    assert outbox.find(JOB, ASKED) is None


def sample(number: int) -> CalibrationSample:
    return CalibrationSample(
        id=f"{number:032x}",
        kind="cylinder",
        measured_at=datetime(2026, 1, number, tzinfo=UTC),
        bias=0.1,
        n=5000,
    )


def test_samples_wait_until_they_are_confirmed(tmp_path: Path) -> None:
    waiting = WaitingSamples(tmp_path)
    for number in (3, 1, 2, 1):
        waiting.add(sample(number))
    assert waiting.waiting() == [sample(1), sample(2), sample(3)]
    waiting.confirm([sample(2).id, "0" * 32])
    assert waiting.waiting() == [sample(1), sample(3)]


def test_an_odd_file_stays_and_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("{")
    waiting = WaitingSamples(tmp_path)
    waiting.add(sample(1))
    assert waiting.waiting() == [sample(1)]
    assert (tmp_path / "odd.json").exists()


def with_policy(home: Path, policy: SitePolicy) -> Site:
    site = Site.create("city")
    return Site(site.folder, site.config.model_copy(update={"policy": policy}))


def test_the_policy_is_the_sites_own(home: Path, tiny: Recipe) -> None:
    site = with_policy(home, SitePolicy(systems=("pix2pix",), max_steps_per_round=4, min_studies=3))
    check_job(JOB, tiny, site, patients=3)
    with pytest.raises(FederationError, match="fewer patients"):
        check_job(JOB, tiny, site, patients=2)
    with pytest.raises(FederationError, match="more than this site"):
        check_job(JOB, tiny.model_copy(update={"steps_per_round": 5}), site, patients=3)
    with pytest.raises(FederationError, match="is for rural-1"):
        check_job(JOB.model_copy(update={"site": "rural-1"}), tiny, site, patients=3)


def test_systems_that_were_not_agreed_are_refused(home: Path, tiny: Recipe) -> None:
    site = with_policy(home, SitePolicy(systems=()))
    with pytest.raises(FederationError, match="does not train pix2pix"):
        check_job(JOB, tiny, site, patients=9)
