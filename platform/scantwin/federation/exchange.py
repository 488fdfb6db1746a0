"""One exchange over Flower: each site gets its job and answers once, and nothing makes us wait for ever."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from scantwin.federation.codec import PartsError, from_record, to_record
from scantwin.federation.wire import Parts

if TYPE_CHECKING:
    from flwr.app import Message

POLL_S = 0.2
"""How often we ask for replies [s]; Flower's own helper waits 3 s."""

RETURN_S = 120.0
"""How long a site that fell silent may stay away once all others have answered [s].

After a crash, Flower refuses the key of a SuperNode for up to about 70 s.
"""

GRACE_S = 10.0
"""How long the first exchange waits for the remaining sites once enough are online [s]."""

ATTEMPTS = 4
"""Most times that a site is asked in one exchange; if it had already finished, its outbox answers."""

REFUSED_BY_SITE = 1000
"""Error code of a site that refuses the job; Flower's own codes are below 100."""

# Flower's codes for a lost message or a lost node, where asking again helps:
# MESSAGE_UNAVAILABLE, REPLY_MESSAGE_UNAVAILABLE, NODE_UNAVAILABLE, CLIENT_APP_CRASHED.
_LOST = frozenset({3, 4, 5, 8})


log = logging.getLogger("scantwin.federation")


class Link(Protocol):
    """The part of Flower's Grid that we use."""

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are online."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Sends messages; returns their ids in the same order."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that have arrived for these messages."""


@dataclass(frozen=True)
class Answer:
    """What one site gave in one exchange: its parts, or the reason why there are none."""

    site: str
    parts: Parts | None = None
    reason: str = ""
    refused: bool = False
    """The site answered, but refused or failed."""
    bytes_out: int = 0
    bytes_in: int = 0
    seconds: float = 0.0


@dataclass
class _Ask:
    site: str
    node: int
    parts: Parts
    attempts: int = 0
    asked_at: float = 0.0
    last_reason: str = "It was not online."
    silent_since: float = field(default_factory=time.monotonic)


def wait_for_sites(
    link: Link, members: Mapping[str, int], *, quorum: int, wait_s: float, grace_s: float = GRACE_S
) -> list[str]:
    """The online sites, sorted: all members, or a `quorum` after a grace period, or fewer when time is up."""
    start = time.monotonic()
    enough_since: float | None = None
    while True:
        online = set(link.get_node_ids())
        present = sorted(site for site, node in members.items() if node in online)
        now = time.monotonic()
        enough_since = (enough_since or now) if len(present) >= quorum else None
        if (
            len(present) == len(members)
            or now - start >= wait_s
            or (enough_since and now - enough_since >= grace_s)
        ):
            return present
        time.sleep(POLL_S)


def exchange(
    link: Link, members: Mapping[str, int], jobs: Mapping[str, Parts], *, kind: str, group: str,
    deadline_s: float, return_s: float = RETURN_S, on_answer: Callable[[Answer], None] = lambda _answer: None,
) -> list[Answer]:  # fmt: skip
    """Sends each site its job; returns the answers, sorted by site, waiting `deadline_s` at most for them.

    A reply is attributed by the message that it answers: an error of the link itself comes from node 1. Only
    online nodes are asked, and those that were lost are asked again when they return. A site that was never
    reached is given up as soon as all others have answered.
    """
    end = time.monotonic() + deadline_s
    waiting = {site: _Ask(site, members[site], parts) for site, parts in jobs.items()}
    sent: dict[str, str] = {}  # message id -> site
    answers: list[Answer] = []

    def settle(answer: Answer) -> None:
        waiting.pop(answer.site)
        answers.append(answer)
        on_answer(answer)

    while waiting:
        now = time.monotonic()
        asked = set(sent.values())
        silent = [ask for site, ask in waiting.items() if site not in asked]
        if silent:
            online = set(link.get_node_ids())
            _send(link, [ask for ask in silent if ask.node in online], sent, kind, group, end - now)
        for reply in link.pull_messages(list(sent)) if sent else ():
            site = sent.pop(reply.metadata.reply_to_message_id, None)
            if site is not None and (answer := _read(waiting[site], reply)) is not None:
                settle(answer)
        for ask in list(waiting.values()):
            gone = ask.site not in sent.values()
            if now >= end or (ask.attempts >= ATTEMPTS and gone):
                settle(_missing(ask, "It did not answer in time." if not gone else ask.last_reason))
            elif gone and not sent and (not ask.attempts or now - ask.silent_since > return_s):
                settle(_missing(ask, ask.last_reason))
        if waiting:
            time.sleep(POLL_S)
    return sorted(answers, key=lambda answer: answer.site)


def _send(link: Link, asks: list[_Ask], sent: dict[str, str], kind: str, group: str, left_s: float) -> None:
    from flwr.app import Message

    if not asks:
        return
    messages = [
        Message(to_record(ask.parts), ask.node, kind, ttl=max(left_s, 1.0), group_id=group) for ask in asks
    ]
    began = time.monotonic()
    message_ids = list(link.push_messages(messages))
    log.info("asked %s in %.2f s", ", ".join(ask.site for ask in asks), time.monotonic() - began)
    for ask, message_id in zip(asks, message_ids, strict=True):
        ask.attempts += 1
        ask.asked_at = time.monotonic()
        if message_id:
            sent[message_id] = ask.site
        else:
            ask.last_reason = "The link would not take its job."


def _read(ask: _Ask, reply: Message) -> Answer | None:
    """The answer in a reply; None if the site has to be asked again."""
    if reply.has_error():
        code, words = reply.error.code, (reply.error.reason or "").strip()
        if code in _LOST:
            ask.last_reason = "The link to it was lost before it had answered."
            ask.silent_since = time.monotonic()
            return None
        said = f"The site said: {words}" if code == REFUSED_BY_SITE else f"The site failed: {words}"
        return Answer(ask.site, reason=said[:1000], refused=True, **_cost(ask))
    try:
        parts = from_record(reply.content)
    except PartsError as error:
        return Answer(ask.site, reason=f"The reply cannot be read: {error}.", refused=True, **_cost(ask))
    return Answer(ask.site, parts, bytes_in=sum(map(len, parts.values())), **_cost(ask))


def _missing(ask: _Ask, reason: str) -> Answer:
    return Answer(ask.site, reason=reason, **_cost(ask))


def _cost(ask: _Ask) -> dict[str, Any]:
    size = sum(map(len, ask.parts.values()))
    return {
        "bytes_out": ask.attempts * size,
        "seconds": time.monotonic() - ask.asked_at if ask.attempts else 0.0,
    }
