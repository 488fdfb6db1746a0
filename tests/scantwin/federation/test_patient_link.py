"""A SuperLink that is slow or away for a while does not end a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from scantwin.federation.patient_link import PatientLink


class Shaky:
    """Answers each call after so many that time out."""

    def __init__(self, away: int) -> None:
        self.away = self.left = away
        self.pushed: list[list[Any]] = []

    def _answer(self, value: Any) -> Any:
        if self.left:
            self.left -= 1
            raise httpx.ConnectTimeout("the handshake operation timed out")
        self.left = self.away
        return value

    def get_node_ids(self) -> Iterable[int]:
        return self._answer([7])

    def push_messages(self, messages: Iterable[Any]) -> Iterable[str]:
        self.pushed.append(list(messages))
        return self._answer([f"id-{one}" for one in self.pushed[-1]])

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Any]:
        return self._answer([one.upper() for one in message_ids])


def test_each_call_is_tried_again_with_all_that_it_was_given() -> None:
    shaky = Shaky(away=2)
    link = PatientLink(shaky, pause_s=0.0)
    assert list(link.get_node_ids()) == [7]
    # Iterators are used up by the first try: the second must have everything too.
    assert list(link.push_messages(iter("ab"))) == ["id-a", "id-b"]  # type: ignore[arg-type]
    assert shaky.pushed == [["a", "b"]] * 3
    assert list(link.pull_messages(iter(["x"]))) == ["X"]


def test_it_ends_when_patience_does_and_other_errors_at_once() -> None:
    with pytest.raises(httpx.ConnectTimeout):
        PatientLink(Shaky(away=10**6), patience_s=0.05, pause_s=0.01).get_node_ids()

    class Broken(Shaky):
        def get_node_ids(self) -> Iterable[int]:
            raise ValueError("not the link's fault")

    with pytest.raises(ValueError, match="not the link"):
        PatientLink(Broken(0)).get_node_ids()


def failing(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://127.0.0.1:9443")
    return httpx.HTTPStatusError("it failed", request=request, response=httpx.Response(status))


def test_a_fault_of_the_superlink_may_pass_and_a_refusal_does_not() -> None:
    class Locked(Shaky):
        def __init__(self, status: int) -> None:
            super().__init__(0)
            self.calls, self.status = 0, status

        def get_node_ids(self) -> Iterable[int]:
            self.calls += 1
            if self.calls < 3:
                raise failing(self.status)
            return [7]

    assert list(PatientLink(Locked(500), pause_s=0.0).get_node_ids()) == [7]
    refused = Locked(401)
    with pytest.raises(httpx.HTTPStatusError):
        PatientLink(refused, pause_s=0.0).get_node_ids()
    assert refused.calls == 1
