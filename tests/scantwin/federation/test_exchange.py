"""An exchange ends, whatever the sites do, and every answer belongs to the site that was asked."""

from __future__ import annotations

import threading
import time

import pytest
from flwr.app import Error

from scantwin.federation import exchange as module
from scantwin.federation.codec import encode_job
from scantwin.federation.exchange import REFUSED_BY_SITE, Answer, exchange, wait_for_sites
from scantwin.federation.wire import Job, JobHeader, Parts, SiteReply

from .conftest import LocalLink, honest, small_components

MEMBERS = {"city": 11, "rural-1": 12}
RECIPE = {"system": "pix2pix"}


def jobs() -> dict[str, Parts]:
    """A job for each member."""
    return {
        site: encode_job(
            Job(
                JobHeader(run="ab" * 16, round=1, rounds=1, phase="train", site=site, seed=1, recipe=RECIPE),
                small_components(),
            )
        )
        for site in MEMBERS
    }


def hold(link: LocalLink, deadline_s: float = 20.0, return_s: float = 0.5) -> dict[str, Answer]:
    answers = exchange(
        link, MEMBERS, jobs(), kind="train", group="1", deadline_s=deadline_s, return_s=return_s
    )
    assert [answer.site for answer in answers] == sorted(MEMBERS)
    return {answer.site: answer for answer in answers}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)


def test_all_answer() -> None:
    answers = hold(LocalLink({11: honest, 12: honest}))
    for answer in answers.values():
        assert answer.parts is not None and answer.reason == ""
        assert answer.bytes_in == sum(map(len, answer.parts.values()))
        assert answer.bytes_out == sum(map(len, jobs()[answer.site].values()))


def test_a_silent_site_is_missing_after_the_deadline() -> None:
    began = time.monotonic()
    answers = hold(LocalLink({11: honest, 12: lambda job: None}), deadline_s=0.5)
    assert time.monotonic() - began < 2
    assert answers["city"].parts is not None
    assert (answers["rural-1"].parts, answers["rural-1"].refused) == (None, False)
    assert "in time" in answers["rural-1"].reason


def test_a_site_that_is_not_there_delays_nobody() -> None:
    began = time.monotonic()
    link = LocalLink({11: honest, 12: honest}, offline={12})
    answers = hold(link, deadline_s=60, return_s=60)
    assert time.monotonic() - began < 2
    assert answers["rural-1"].reason == "It was not online."
    assert answers["rural-1"].bytes_out == 0
    assert len(link.jobs) == 1  # nothing waits at Flower for a node that is away


def test_a_refusal_is_told_in_the_sites_words() -> None:
    answers = hold(LocalLink({11: honest, 12: lambda job: Error(REFUSED_BY_SITE, "Not on Sundays.")}))
    assert answers["rural-1"].refused
    assert answers["rural-1"].reason == "The site said: Not on Sundays."


def test_a_crash_of_the_app_is_told_too() -> None:
    answers = hold(LocalLink({11: honest, 12: lambda job: Error(2, "<ZeroDivisionError>")}))
    assert answers["rural-1"].refused and "ZeroDivisionError" in answers["rural-1"].reason


def test_a_lost_site_is_asked_again_when_it_returns() -> None:
    asked: list[int] = []

    def comes_back(job: Job) -> SiteReply | Error:
        asked.append(1)
        if len(asked) == 1:
            link.offline.add(12)
            return Error(5, "Node unavailable")
        return honest(job)

    link = LocalLink({11: honest, 12: comes_back})
    threading.Timer(0.3, lambda: link.offline.discard(12)).start()
    answers = hold(link, return_s=10)
    assert answers["rural-1"].parts is not None
    assert len(asked) == 2
    assert answers["rural-1"].bytes_out == 2 * sum(map(len, jobs()["rural-1"].values()))


def test_a_lost_site_that_stays_away_is_given_up() -> None:
    def vanish(job: Job) -> Error:
        link.offline.add(12)
        return Error(5, "Node unavailable")

    link = LocalLink({11: honest, 12: vanish})
    began = time.monotonic()
    answers = hold(link, deadline_s=60, return_s=0.4)
    assert 0.3 < time.monotonic() - began < 5
    assert not answers["rural-1"].refused and "lost" in answers["rural-1"].reason


def test_a_site_that_is_lost_again_and_again_is_given_up() -> None:
    link = LocalLink({11: honest, 12: lambda job: Error(8, "ClientApp stopped responding.")})
    answers = hold(link, deadline_s=60, return_s=60)
    assert answers["rural-1"].parts is None
    assert len(link.jobs) == 1 + module.ATTEMPTS


def test_a_message_that_is_not_ours_is_refused() -> None:
    link = LocalLink({11: honest, 12: lambda job: {"code": b"import os"}})
    answers = hold(link)
    # Its parts are read by the validation, which knows what was asked for.
    assert answers["rural-1"].parts == {"code": b"import os"}


def test_waiting_for_sites_ends_with_all_with_enough_or_with_time() -> None:
    link = LocalLink({11: honest, 12: honest})
    assert wait_for_sites(link, MEMBERS, quorum=1, wait_s=60, grace_s=60) == ["city", "rural-1"]
    link.offline.add(11)
    began = time.monotonic()
    assert wait_for_sites(link, MEMBERS, quorum=1, wait_s=60, grace_s=0.2) == ["rural-1"]
    assert wait_for_sites(link, MEMBERS, quorum=2, wait_s=0.2, grace_s=60) == ["rural-1"]
    assert time.monotonic() - began < 3
