"""Whatever one site sends, the others' round goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from scantwin.federation import judgement
from scantwin.federation.codec import encode_reply
from scantwin.federation.exchange import Answer
from scantwin.federation.judgement import Outcome, judge
from scantwin.federation.wire import HEADER, Limits, Parts, ReplyHeader, SiteReply, spec_of

from .conftest import TRUNK, small_components

RUN = "ab" * 16


def good(site: str) -> Parts:
    """A reply that measures nothing and changes no weight, though it trained."""
    header = ReplyHeader(run=RUN, round=1, phase="train", site=site, patches={TRUNK: 8})
    return encode_reply(SiteReply(header, {TRUNK: {"conv.weight": np.zeros((3, 2), np.float32)}}), "float32")


def with_header(site: str, **more: object) -> Parts:
    parts = good(site)
    return {**parts, HEADER: json.dumps({**json.loads(parts[HEADER]), **more}).encode()}


def judged(*answers: Answer) -> list[Outcome]:
    spec = spec_of(small_components())
    return judge(answers, run=RUN, number=1, phase="train", spec=spec, layout={}, limits=Limits())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"metrics": {"model/trunk/mae/sum": 1.7e308}}, "metrics"),
        ({"metrics": {"model/trunk/mae/sum": float("nan")}}, "metrics"),
        ({"losses": {"trunk/l1": -1.7e308}}, "losses"),
        ({"measured_at": "0001-01-01T00:00:00+14:00"}, "calendar"),
        ({"measured_at": "1066-10-14T09:00:00Z"}, "before 1990"),
        ({"n": 2**63}, "calibration/0/n"),
        ({"n": 2**31}, "calibration/0/n"),
        ({"sd": 1e300}, "calibration/0/sd"),
    ],
)
def test_numbers_that_nobody_measures_are_refused(more: dict[str, object], words: str) -> None:
    if not {"metrics", "losses"} & set(more):
        usual = {"id": "5a" * 16, "kind": "cylinder", "measured_at": "2026-01-01T12:00:00Z", "bias": 0.0}
        more = {"calibration": [{**usual, "n": 5000, **more}]}
    odd, fine = judged(Answer("city", with_header("city", **more)), Answer("rural-1", good("rural-1")))
    assert (odd.status, odd.reply) == ("refused", None) and words in odd.reason
    assert fine.status == "accepted"


def test_a_reply_that_nobody_foresaw_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> SiteReply:
        raise OverflowError("date value out of range")

    monkeypatch.setattr(judgement, "read_reply", fail)
    (odd,) = judged(Answer("city", good("city")))
    assert (odd.status, odd.reason) == ("refused", "The reply cannot be judged (OverflowError).")


def test_words_of_a_site_are_plain_text() -> None:
    said = "The site said: \x00\x1b[2Jno."
    (outcome,) = judged(Answer("city", reason=said, refused=True))
    assert outcome.reason == "The site said:   [2Jno."
