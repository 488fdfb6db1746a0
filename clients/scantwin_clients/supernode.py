"""Flower's SuperNode with some habits changed: `python -m scantwin_clients.supernode --poll S -- FLAGS`.

It asks for messages as often as the site wants instead of every 3 s, sends heartbeats more often than every
30 s, and ends when its connection is lost for good. Flower's own then keeps its HTTP server running, deaf but
apparently healthy, until someone notices.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
from typing import Any

from scantwin.federation.flower import beat_faster, wait_less

CONNECTION_LOST = 75
"""Exit code when the SuperLink was lost (EX_TEMPFAIL of sysexits.h): the supervisor restarts us."""

_FLOWERS_POLL_S = 3
"""Flower's pause between two questions for work [s]; no other pause of its loop is as long."""


class _Clock:
    """The `time` module as Flower's loop sees it, with our pause between questions."""

    def __init__(self, poll_s: float) -> None:
        self._poll_s = poll_s

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """Pauses `poll_s` between questions, and between looks for a reply no longer than Flower does."""
        time.sleep(self._poll_s if seconds == _FLOWERS_POLL_S else min(seconds, self._poll_s))


def main() -> None:
    """Entry point of the process."""
    poll_s = float(sys.argv[sys.argv.index("--poll") + 1])
    flags = sys.argv[sys.argv.index("--") + 1 :]
    sys.argv = ["flower-supernode", *flags]
    loop: Any = importlib.import_module("flwr.supernode.start_client_internal")
    loop.time = _Clock(poll_s)
    wait_less()
    beat_faster()
    from flwr.supernode.cli.flower_supernode import flower_supernode

    flower_supernode()
    # It returns only when the connection broke; the thread of its HTTP server would keep us alive.
    logging.getLogger("scantwin.site").error("The connection to the SuperLink was lost.")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(CONNECTION_LOST)


if __name__ == "__main__":
    main()
