"""What a person should look at first: pure rules over rows; each says what, where and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from scantwin_dashboard.drift import RECHECK, RULE, Alert
from scantwin_dashboard.look import ago, percent
from scantwin_dashboard.queries import RunRow, ScanRow, SiteRow

EARL: Final = 0.10
"""EARL: a uniform cylinder reads within 10 % of the truth (fraction)."""

QUARTER: Final = timedelta(days=92)
"""EARL asks for a cylinder each quarter."""

_RUNS: Final = 5
"""How many of the newest runs are checked: an older failure has been seen by then."""

Level = Literal["act", "look"]


@dataclass(frozen=True)
class Notice:
    """One thing to look at; `act` cannot wait, `look` should not be forgotten."""

    level: Level
    subject: str
    sentence: str
    advice: str


def notices(
    sites: Iterable[SiteRow], runs: Sequence[RunRow], scans: Iterable[ScanRow],
    drifts: Iterable[Alert] = (), *, now: datetime | None = None,
) -> list[Notice]:  # fmt: skip
    """All notices, the most urgent first."""
    at = now or datetime.now(UTC)
    sites = list(sites)
    found = [n for site in sites if (n := _calibration(site, at)) is not None]
    far = {n.subject for n in found if n.level == "act"}
    found += _drifts([alert for alert in drifts if alert.state == "open" and alert.site not in far])
    found += [
        Notice("look", s.name, "is suspended: its updates are left out.",
               f"Find out why, then readmit it: scantwin consortium readmit {s.name}.")
        for s in sites if s.status == "suspended"
    ]  # fmt: skip
    found += [
        Notice("act", r.name, f"failed {_when(r)}: {r.error or 'no reason was given'}",
               f"scantwin consortium train --resume {r.id} continues after its last complete round.")
        for r in runs[:_RUNS] if r.status == "failed"
    ]  # fmt: skip
    recent = [s for s in _recent(scans, at) if s.status == "failed"]
    found += [
        Notice("look", f"Scan of {s.pseudonym}", (s.error or {}).get("message", "failed."),
               (s.error or {}).get("hint", "See the scan's page."))
        for s in recent[:5]
    ]  # fmt: skip
    return sorted(found, key=lambda n: n.level != "act")


def looked_at(
    sites: Sequence[SiteRow], runs: Sequence[RunRow], scans: Iterable[ScanRow], *, now: datetime | None = None
) -> str:
    """What `notices` looked at, for when it found nothing."""
    good = f"{len(sites)} of {len(sites)} sites are within 5 %" if sites else "no site is enrolled"
    return (
        f"SUV calibration: {good}. 0 of the newest {len(runs[:_RUNS])} runs and"
        f" 0 of the {len(_recent(scans, now or datetime.now(UTC)))} scans of the last 7 days failed."
    )


def _recent(scans: Iterable[ScanRow], now: datetime) -> list[ScanRow]:
    return [scan for scan in scans if now - scan.created_at < timedelta(days=7)]


def zone(bias: float) -> Literal["inside", "recheck", "beyond"]:
    """Where a phantom's bias (fraction) lies between the limits."""
    if abs(bias) > EARL:
        return "beyond"
    return "recheck" if abs(bias) > RECHECK else "inside"


def _drifts(open_alerts: Sequence[Alert]) -> list[Notice]:
    """One notice per site, for its longest alert: a single cylinder within 10 % does not show a drift.

    An alert that comes from an outlier counts only if there is no other.
    """
    longest: dict[str, Alert] = {}
    for alert in sorted(open_alerts, key=lambda alert: (alert.outlier is not None, alert.since)):
        longest.setdefault(alert.site, alert)
    return [
        Notice(
            "look", site, f"has been out of control since {alert.since:%Y-%m-%d} ({RULE[alert.rule]}).",
            _what_to_do(alert),
        )
        for site, alert in longest.items()
    ]  # fmt: skip


def _what_to_do(alert: Alert) -> str:
    if alert.outlier is None:
        return "Recalibrate the scanner, then log the recalibration: scantwin consortium log."
    far, newest = alert.outlier, alert.outlier.inside
    again = "sample is" if newest == 1 else f"{newest} samples are"
    return (
        f"Its newest {again} within 5 % again: check the sample of {far.at:%Y-%m-%d} ({percent(far.bias)})."
        " If it was measured wrongly, withdraw it: scantwin consortium withdraw."
        " If the scanner has been worked on since then, log that: scantwin consortium log."
    )


def _when(run: RunRow) -> str:
    return f"after round {run.rounds_done}" if run.rounds_done else "before any round was merged"


def _calibration(site: SiteRow, now: datetime) -> Notice | None:
    if site.bias is None or site.measured_at is None:
        return Notice("look", site.name, "has measured no uniform cylinder yet.", "Scan a uniform cylinder.")
    if site.worked_on:
        return Notice(
            "look", site.name, "has been recalibrated, repaired or updated since its newest cylinder.",
            "Scan the cylinder again.",
        )  # fmt: skip
    where = zone(site.bias)
    reads = f"reads {percent(site.bias)} on its newest cylinder ({ago(site.measured_at, now)})"
    if where == "beyond":
        return Notice(
            "act", site.name, f"{reads}, beyond EARL's limit of 10\u00a0%.",
            "Recalibrate the scanner and scan the cylinder again.",
        )  # fmt: skip
    if where == "recheck":
        return Notice("look", site.name, f"{reads}, which is more than 5\u00a0%.", "Scan the cylinder again.")
    if now - site.measured_at > QUARTER:
        return Notice(
            "look", site.name, f"measured its last cylinder {ago(site.measured_at, now)}.",
            "EARL asks for one every quarter.",
        )  # fmt: skip
    return None
