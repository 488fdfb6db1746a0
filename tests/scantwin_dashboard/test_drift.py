"""Alerts: which samples are out of control, by which rule, until when."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from scantwin.calibration.measure import Measurement
from scantwin.errors import InputError
from scantwin.federation.enrolment import log_event, withdraw
from scantwin.imaging.study import Study, air_over
from scantwin.imaging.volume import Volume
from scantwin.store.database import Database
from scantwin.store.models import CalibrationSample, Site
from scantwin_clients import qc
from scantwin_clients.samples import WaitingSamples
from scantwin_clients.site import Site as Folder
from scantwin_dashboard import queries
from scantwin_dashboard.attention import notices
from scantwin_dashboard.drift import PHANTOM_SD, alerts, drift, in_order
from scantwin_dashboard.drift_charts import drift_chart, drift_frame

START = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING = pd.DataFrame({"at": pd.to_datetime([], utc=True), "what": []})


def samples(*sigmas: float, kind: str = "cylinder") -> pd.DataFrame:
    """A sample a week, so many standard deviations off."""
    at = pd.to_datetime([START + timedelta(weeks=k) for k in range(len(sigmas))], utc=True)
    return pd.DataFrame({"measured_at": at, "kind": kind, "bias": PHANTOM_SD * np.array(sigmas)})


def event(week: float) -> pd.DataFrame:
    return pd.DataFrame({"at": [pd.Timestamp(START + timedelta(weeks=week))], "what": ["recalibration"]})


def found(frame: pd.DataFrame, events: pd.DataFrame = NOTHING) -> dict[str, list[tuple[int, str]]]:
    said: dict[str, list[tuple[int, str]]] = {}
    for alert in alerts("a", frame, events, ("cylinder",)):
        said.setdefault(alert.rule, []).append((alert.points, alert.state))
    return said


def test_a_site_in_control_has_none() -> None:
    assert found(samples(0.4, -0.9, 1.1, -0.2, 0.6, -1.3, 0.1, 0.8)) == {}


def test_one_sample_far_off_is_shewharts_alone() -> None:
    assert found(samples(0, 0, 3.4, 0, 0, 0)) == {"shewhart": [(1, "over")]}


def test_a_shift_of_one_sd_is_seen_by_ewma_and_cusum_and_stays_open() -> None:
    said = found(samples(*[1.4] * 16))
    assert set(said) == {"ewma", "cusum"}
    assert all(states == [(points, "open")] for states in said.values() for points, _ in states)


def test_a_logged_recalibration_ends_it_and_begins_the_charts_anew() -> None:
    frame = samples(*[1.6] * 12, *[0.2] * 4)
    assert all(alert[-1] == "ended" for states in found(frame, event(11.5)).values() for alert in states)
    # Without the log the sums only come down bit by bit.
    assert any(points > 12 - 7 for points, _ in found(frame)["cusum"])
    chart, begin = drift(frame, event(11.5), "cusum")
    assert begin == [12] and abs(chart.statistic[12]) < 0.3 < abs(chart.statistic[11])
    # Logged, and nothing measured since: it is ended, but nobody knows yet whether that helped.
    assert found(samples(*[1.6] * 12), event(11.5))["cusum"][0][1] == "ended"


def test_what_an_outlier_leaves_open_is_told_from_a_drift() -> None:
    wild = 1.0 / PHANTOM_SD
    frame = samples(*[0.1] * 9, wild, wild, *[0.1] * 3)
    (alert,) = (a for a in alerts("a", frame, NOTHING, ("cylinder",)) if a.state == "open")
    assert alert.outlier is not None and alert.outlier.inside == 3
    assert alert.outlier.at == START + timedelta(weeks=9) and alert.outlier.bias == pytest.approx(1.0)
    (notice,) = notices([], [], [], [alert])
    assert "newest 3 samples are within 5 % again" in notice.advice and "2026-03-05" in notice.advice
    assert "Recalibrate" not in notice.advice
    # The newest one is it, the newest ones are off as well, or there is a drift without it: as before.
    drifts = [*[1.4] * 12, wild, *[1.4] * 3]
    for sigmas in ([0.1, 0.1, wild], [*[0.1] * 9, wild, wild, 2.0], drifts):
        still = [a for a in alerts("a", samples(*sigmas), NOTHING, ("cylinder",)) if a.state == "open"]
        assert still and all(a.outlier is None for a in still)
        assert "Recalibrate" in notices([], [], [], still)[0].advice


def test_a_sample_that_is_withdrawn_is_in_no_chart_and_stays_in_the_database(empty) -> None:
    database = Database.from_settings()
    with database.session() as session:
        session.add(Site(name="rural-1", kind="rural"))
        session.flush()
        session.add_all(
            CalibrationSample(id=one * 32, site_id=1, kind="cylinder", n=5000, bias=bias,
                              measured_at=START + timedelta(weeks=week))
            for week, (one, bias) in enumerate({"a": 0.01, "b": 1.0}.items())
        )  # fmt: skip
    for site, sample in (("nobody", "b"), ("rural-1", "c"), ("rural-1", "")):
        with pytest.raises(InputError):
            withdraw(database, site, sample, "mistyped")
    assert withdraw(database, "rural-1", "bbbbbbbb", "mistyped").bias == 1.0
    with pytest.raises(InputError, match="0 samples"):
        withdraw(database, "rural-1", "bbbbbbbb", "mistyped")
    with database.session() as session:
        assert queries.sites(session)[0].bias == 0.01
        assert list(queries.samples_frame(session, 1).id) == ["a" * 32]
        assert queries.site_alerts(session) == []
        assert session.query(CalibrationSample).count() == 2
        (entry,) = queries.audit_tail(session)
        assert (entry.action, entry.subject, entry.detail["reason"]) == (
            "sample.withdrawn", "rural-1", "mistyped"
        )  # fmt: skip


def test_open_ones_come_first() -> None:
    early, late = (samples(0, 4.0, 0), samples(0, 0, 4.0))
    both = [*alerts("old", early, NOTHING, ("cylinder",)), *alerts("new", late, NOTHING, ("cylinder",))]
    assert next((a.site, a.state) for a in in_order(both)) == ("new", "open")


def test_the_chart_draws_limits_and_breaks_at_a_restart() -> None:
    frame = drift_frame(samples(*[1.6] * 12, *[0.2] * 4), event(11.5), "ewma")
    assert list(frame.stretch) == [0] * 12 + [1] * 4 and frame.out.any() and not frame.out[12:].any()
    spec = drift_chart(frame, "ewma", "#336699").to_dict()
    assert len(spec["layer"]) == 5


def test_what_is_logged_counts_from_the_day_it_was_done(empty, monkeypatch) -> None:
    database = Database.from_settings()
    with database.session() as session:
        session.add(Site(name="rural-1", kind="rural"))
    day = datetime.now(UTC).date() - timedelta(days=20)
    log_event(database, "rural-1", "recalibration", day, "new factor")
    with database.session() as session:
        frame = queries.events_frame(session, "rural-1")
    assert list(frame.what) == ["recalibration"] and frame["at"].iloc[0].date() == day
    for name, what, when in (("nobody", "repair", day), ("rural-1", "holiday", day),
                             ("rural-1", "repair", day + timedelta(days=40))):  # fmt: skip
        with pytest.raises(InputError):
            log_event(database, name, what, when, "x")


@pytest.mark.parametrize("said", [True, False])
def test_a_cylinder_before_and_one_after_a_recalibration_on_the_same_day(said, empty, monkeypatch) -> None:
    today = datetime.now(UTC).astimezone().date()
    database, site = Database.from_settings(), Folder.create("rural-1")
    with database.session() as session:
        session.add(Site(name="rural-1", kind="rural"))
    scan(site, monkeypatch, 0.20, today - timedelta(days=30))
    scan(site, monkeypatch, 0.21, today if said else None)
    log_event(database, "rural-1", "recalibration", None, "new factor")
    scan(site, monkeypatch, 0.01, today if said else None)
    arrive(database, site)
    with database.session() as session:
        (row,) = queries.sites(session)
        frame = queries.samples_frame(session, row.id)
        events = queries.events_frame(session, "rural-1")
        states = {alert.state for alert in queries.site_alerts(session)}
    assert list(frame.bias) == [0.20, 0.21, 0.01] and row.bias == 0.01
    assert drift(frame, events, "ewma")[1] == [2]
    assert states == {"ended"}


@pytest.mark.parametrize("biases", [(0.21, 0.01), (0.01, 0.21)])
def test_cylinders_of_one_day_keep_the_order_in_which_they_were_measured(biases, empty, monkeypatch) -> None:
    day = datetime.now(UTC).date() - timedelta(days=10)
    database, site = Database.from_settings(), Folder.create("rural-1")
    with database.session() as session:
        session.add(Site(name="rural-1", kind="rural"))
    for bias in biases:
        scan(site, monkeypatch, bias, day)
        time.sleep(1.1)  # a scan takes longer to be measured
    first = WaitingSamples(site.calibration).waiting()
    scan(site, monkeypatch, biases[0], day)  # again: it is known
    assert WaitingSamples(site.calibration).waiting() == first
    arrive(database, site)
    with database.session() as session:
        (row,) = queries.sites(session)
        frame = queries.samples_frame(session, row.id)
    assert tuple(frame.bias) == biases and row.bias == biases[-1]
    assert set(frame.measured_at.dt.strftime("%F %H:%M")) == {f"{day} 12:00"}


@pytest.mark.parametrize("ids", ["ab", "ba"])
def test_of_samples_of_one_moment_no_answer_depends_on_which_came_first(ids, empty) -> None:
    database = Database.from_settings()
    with database.session() as session:
        session.add(Site(name="rural-1", kind="rural"))
        session.flush()
        for one in ids:
            session.add(CalibrationSample(id=one, site_id=1, kind="cylinder", measured_at=START, n=5000,
                                          bias={"a": 0.21, "b": 0.01}[one]))  # fmt: skip
            session.flush()
    with database.session() as session:
        assert queries.sites(session)[0].bias == 0.01
        assert list(queries.samples_frame(session, 1).bias) == [0.21, 0.01]
        found = queries.site_alerts(session)
    assert [alert.state for alert in found if alert.rule == "shewhart"] == ["over"]


def scan(site: Folder, monkeypatch, bias: float, when: date | None) -> None:
    """`scantwin site qc` of a cylinder that reads so far off."""
    measured = Measurement("cylinder", bias, 0.1, 5000, 5000)
    pet = Volume(np.full((2, 2, 2), 1 + bias, np.float32), (4.0, 4.0, 4.0), unit="SUV")
    monkeypatch.setattr(qc, "_read", lambda _: (Study("cylinder", air_over(pet), pet), pet))
    monkeypatch.setattr(qc, "_measure", lambda *_: measured)
    qc.check_scanner(site, site.folder, when=when)


def arrive(database: Database, site: Folder) -> None:
    """What waits at the site is stored, as a run stores it."""
    with database.session() as session:
        for one in WaitingSamples(site.calibration).waiting():
            session.add(CalibrationSample(site_id=1, **one.model_dump()))


def test_the_query_knows_the_site_that_drifts(filled) -> None:
    with Database.from_settings(read_only=True).session() as session:
        found = queries.site_alerts(session)
    assert found and found == in_order(found)
    assert {alert.kind for alert in found} <= set(queries.PHANTOMS)
    assert {alert.site for alert in found if alert.state == "open"} == {"Klinik Passau", "Lusaka West"}, (
        "drifts, and is low"
    )


def test_a_site_that_was_recalibrated_is_asked_for_a_cylinder(empty) -> None:
    database = Database.from_settings()
    now = datetime.now(UTC)
    with database.session() as session:
        site = Site(name="rural-1", kind="rural")
        old = now - timedelta(days=20)
        session.add_all(
            [
                site,
                CalibrationSample(site=site, kind="cylinder", measured_at=old, bias=-0.15, sd=0.01, n=5000),
            ]
        )
    log_event(database, "rural-1", "recalibration", now.date() - timedelta(days=10), "new factor")
    with database.session() as session:
        (row,) = queries.sites(session)
    assert row.worked_on and row.bias == -0.15
    with database.session() as session:
        session.add(
            CalibrationSample(site_id=row.id, kind="cylinder", measured_at=now, bias=0.01, sd=0.01, n=5000)
        )
    with database.session() as session:
        (row,) = queries.sites(session)
    assert not row.worked_on and row.bias == 0.01
