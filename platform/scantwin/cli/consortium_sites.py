"""`scantwin consortium enrol`, `suspend`, `readmit`, `log`, `withdraw`: the lead's word on a site."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from scantwin import NOTICE
from scantwin.terminal import Json, emit, out

SiteName = Annotated[str, typer.Argument(help="The site's name.")]
Reason = Annotated[str, typer.Option(help="Why; it goes into the audit log.")]


def enrol(
    site: SiteName,
    key: Annotated[Path, typer.Option(help="The site's key.pub.")],
    kind: Annotated[
        str | None,
        typer.Option(help="hospital, rural-clinic or imaging-centre (default: as before, else hospital)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Enrol a site. The consortium must be running. Run it again with another --kind to correct the kind.

    \b
    scantwin consortium enrol rural-1 --key key.pub --kind rural-clinic
    """
    from scantwin.federation.consortium import Consortium
    from scantwin.federation.enrolment import enrol as enrol_site
    from scantwin.store.database import Database

    row = enrol_site(Consortium.open(), Database.from_settings().migrate(), site, key, kind=kind)
    data = {
        "site": row.name, "kind": row.kind, "node_id": row.node_id, "status": row.status, "notice": NOTICE,
    }  # fmt: skip
    emit(data, as_json, lambda: out.print(f"{row.name} is enrolled as a {row.kind} (node {row.node_id})."))


def suspend(
    site: SiteName,
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Leave a site out of every round until it is readmitted.

    \b
    scantwin consortium suspend rural-1 --reason "cylinder reads +15 % since May"
    """
    from scantwin.federation.enrolment import suspend as suspend_site
    from scantwin.store.database import Database

    row = suspend_site(Database.from_settings().migrate(), site, reason)
    data = {"site": row.name, "status": row.status, "reason": reason, "notice": NOTICE}
    emit(data, as_json, lambda: out.print(f"{row.name} is left out until it is readmitted."))


def readmit(
    site: SiteName,
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Let a suspended site take part again.

    \b
    scantwin consortium readmit rural-1 --reason "recalibrated on 2026-11-02"
    """
    from scantwin.federation.enrolment import readmit as readmit_site
    from scantwin.store.database import Database

    row = readmit_site(Database.from_settings().migrate(), site, reason)
    data = {"site": row.name, "status": row.status, "reason": reason, "notice": NOTICE}
    emit(data, as_json, lambda: out.print(f"{row.name} takes part again."))


def log(
    site: SiteName,
    event: Annotated[str, typer.Argument(help="recalibration, repair or software-update.")],
    reason: Annotated[str, typer.Option(help="What was done; it goes into the audit log.")],
    on: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day it was done (default: now).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Note that a site's scanner was recalibrated, repaired or updated; its control charts restart there.

    \b
    scantwin consortium log rural-1 recalibration --on 2026-11-02 --reason "new factor"
    """
    from scantwin.federation.enrolment import log_event
    from scantwin.store.database import Database

    day = log_event(
        Database.from_settings().migrate(), site, event, None if on is None else on.date(), reason
    )
    data = {"site": site, "event": event, "on": day.isoformat(), "reason": reason, "notice": NOTICE}
    emit(data, as_json, lambda: out.print(f"{site}: {event} on {day} is logged."))


def withdraw(
    site: SiteName,
    sample: Annotated[
        str, typer.Argument(help="The sample's id, or the start of it; the dashboard shows ids.")
    ],
    reason: Reason,
    as_json: Json = False,
) -> None:
    """Take a wrongly measured calibration sample out of a site's charts; it stays stored.

    \b
    scantwin consortium withdraw rural-1 3f9a01c2 --reason "the activity was mistyped"
    """
    from scantwin.federation.enrolment import withdraw as withdraw_sample
    from scantwin.store.database import Database

    row = withdraw_sample(Database.from_settings().migrate(), site, sample, reason)
    data = {
        "site": site, "sample": row.id, "kind": row.kind, "measured_at": row.measured_at.isoformat(),
        "bias": row.bias, "reason": reason, "notice": NOTICE,
    }  # fmt: skip
    what = f"{row.kind} of {row.measured_at:%F} ({100 * row.bias:+.1f} %)"
    emit(data, as_json, lambda: out.print(f"{site}: the {what} is withdrawn."))
