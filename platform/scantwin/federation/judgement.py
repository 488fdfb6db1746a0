"""What becomes of each site's answer: accepted, refused or missing, always with the reason."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from scantwin.federation.exchange import Answer
from scantwin.federation.layouts import Layout
from scantwin.federation.validation import Expected, RefusalError, read_reply
from scantwin.federation.wire import Limits, Phase, SiteReply, Spec
from scantwin.store.models import UpdateStatus

log = logging.getLogger("scantwin.federation")


@dataclass(frozen=True)
class Outcome:
    """What became of one site in one exchange."""

    answer: Answer
    status: UpdateStatus
    reason: str = ""
    reply: SiteReply | None = None
    """The checked reply, if it was accepted."""

    @property
    def site(self) -> str:
        """The site's name."""
        return self.answer.site


def judge(
    answers: Iterable[Answer], *, run: str, number: int, phase: Phase, spec: Spec, layout: Layout,
    limits: Limits,
) -> list[Outcome]:  # fmt: skip
    """Checks every answer against what its site was asked for."""
    return [
        _judge_one(answer, Expected(run, number, phase, answer.site, spec, layout), limits)
        for answer in answers
    ]


def suspended(site: str) -> Outcome:
    """The outcome of a site that is left out until someone explains what is wrong with it."""
    return Outcome(Answer(site), "refused", "The site is suspended.")


def _judge_one(answer: Answer, expected: Expected, limits: Limits) -> Outcome:
    if answer.parts is None:
        return Outcome(answer, "refused" if answer.refused else "missing", _plain(answer.reason))
    try:
        return Outcome(answer, "accepted", reply=read_reply(answer.parts, expected, limits))
    except RefusalError as error:
        return Outcome(answer, "refused", _plain(str(error)))
    except Exception as error:  # whatever one site sends, the run goes on with the others
        log.exception("the reply of %s", answer.site)
        return Outcome(answer, "refused", f"The reply cannot be judged ({type(error).__name__}).")


def _plain(words: str) -> str:
    """A site's words without control characters: PostgreSQL stores no NUL, and a terminal obeys the rest."""
    return "".join(one if one.isprintable() else " " for one in words)
