"""Forgetting a patient: a twin, its scans, the CTs that were sent and everything that was made of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from scantwin_twin.dispatcher import Dispatcher
from scantwin_twin.jobs import Jobs
from scantwin_twin.places import Places
from scantwin_twin.refusals import refuse

log = logging.getLogger(__name__)

_END_S: Final = 20.0
"""How long a running scan may take to end; its process is killed at once [s]."""

_TRIES: Final = 5
"""How often the deletion is tried at most while CTs of the patient keep arriving."""


@dataclass(frozen=True)
class Forgotten:
    """What was deleted."""

    pseudonym: str
    scans: int
    size: int
    """Disk space that was freed [bytes]."""


def forget(pseudonym: str, *, jobs: Jobs, dispatcher: Dispatcher, places: Places, actor: str) -> Forgotten:
    """Deletes a twin with all its scans: first it ends what runs, then it removes the files, then the rows.

    In this order nothing of the patient can stay behind unnoticed: whatever interrupts it, the twin is still
    listed and can be deleted again. The audit log records that it was deleted, and by whom.
    """
    size = 0
    for _ in range(_TRIES):
        jobs.twin(pseudonym)
        scans = jobs.scans_of(pseudonym)
        for scan in scans:
            jobs.cancel(scan.id, actor)
            dispatcher.cancel(scan.id)
        ids = [scan.id for scan in scans]
        if not dispatcher.wait_until_idle(ids, _END_S):
            raise refuse("still-running", pseudonym=pseudonym)
        size += sum(places.remove(scan) for scan in scans)
        if jobs.erase(pseudonym, ids, actor, {"scans": len(ids), "bytes": size}):
            log.info("a twin was deleted with %d scans", len(ids))
            return Forgotten(pseudonym, len(ids), size)
    raise refuse("still-sending", pseudonym=pseudonym)
