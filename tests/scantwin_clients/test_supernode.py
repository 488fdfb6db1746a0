"""How often a SuperNode asks for work is the site's to say."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

from scantwin_clients import supernode


@pytest.mark.parametrize(
    ("poll_s", "waits"),
    [(0.2, [0.2, 0.2]), (0.5, [0.5, 0.5]), (20.0, [20.0, 0.5])],  # a finished reply never waits longer
)
def test_the_pause_between_questions_is_the_one_that_was_asked_for(
    poll_s: float, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(supernode.time, "sleep", slept.append)
    clock = supernode._Clock(poll_s)
    for seconds in (3, 0.5):
        clock.sleep(seconds)
    assert slept == waits


def test_flower_sleeps_for_nothing_else() -> None:
    """The pauses of its loop; heartbeats have a thread and a clock of their own."""
    loop = importlib.import_module("flwr.supernode.start_client_internal")
    assert set(re.findall(r"time\.sleep\((.*)\)", inspect.getsource(loop))) == {"3", "0.5"}
    heartbeat = importlib.import_module("flwr.supercore.heartbeat")
    assert "time.sleep" not in inspect.getsource(heartbeat)
