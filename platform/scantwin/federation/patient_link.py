"""A link that keeps a run alive while the SuperLink is slow or away for some minutes.

Flower's own link gives up after two tries of about half a minute each, and the run with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from scantwin.federation.exchange import Link
from scantwin.federation.flower import may_pass

if TYPE_CHECKING:
    from flwr.app import Message

PATIENCE_S = 600.0
"""How long the SuperLink may be unreachable [s]: its supervisor restarts it within half a minute."""

_PAUSE_S = 1.0

Answer = TypeVar("Answer")

log = logging.getLogger("scantwin.federation")


class PatientLink:
    """A `Link` that retries its calls while the SuperLink cannot be reached or fails.

    A job that was pushed twice is done once: the second time, the site answers from its outbox.
    """

    def __init__(self, link: Link, *, patience_s: float = PATIENCE_S, pause_s: float = _PAUSE_S) -> None:
        self._link, self._patience_s, self._pause_s = link, patience_s, pause_s

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are online."""
        return self._try(lambda: list(self._link.get_node_ids()))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Sends messages; returns their ids in the same order."""
        kept = list(messages)
        return self._try(lambda: list(self._link.push_messages(kept)))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that have arrived for these messages."""
        kept = list(message_ids)
        return self._try(lambda: list(self._link.pull_messages(kept)))

    def _try(self, call: Callable[[], Answer]) -> Answer:
        end = time.monotonic() + self._patience_s
        while True:
            try:
                return call()
            except Exception as error:
                if not may_pass(error) or time.monotonic() > end:
                    raise
                log.warning("the SuperLink does not answer as it should, trying again: %s", error)
                time.sleep(self._pause_s)
