"""A whole run through `conduct`: a real database and registry, sites in this process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Error

from scantwin.calibration.samples import CalibrationSample as Measured
from scantwin.errors import FederationError
from scantwin.federation import exchange as exchange_module
from scantwin.federation.launching import Order, create_run, publish_initial
from scantwin.federation.logbook import Logbook
from scantwin.federation.server_app import conduct
from scantwin.federation.ticket import Ticket
from scantwin.federation.wire import Job, SiteReply
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import Model
from scantwin.store.database import Database
from scantwin.store.lifecycles import transition
from scantwin.store.models import CalibrationSample, Run, Site
from scantwin.store.registry import Registry

from .conftest import HEAD, TRUNK, Answering, LocalLink, honest, small_components, sums

Conduct = Callable[..., Run]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "POLL_S", 0.01)


@pytest.fixture
def order(recipe: Recipe) -> Order:
    return Order(recipe, rounds=2, seed=5, name="first", min_sites=2, deadline_s=2.0, gather_s=0.1)


@pytest.fixture
def run_id(database: Database, registry: Registry, order: Order) -> str:
    base = publish_initial(registry, order.recipe, small_components(), name="first", seed=5)
    return create_run(database, order, base)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where the sites' training statistics are kept."""
    return tmp_path / "run" / "statistics.safetensors"


@pytest.fixture
def hold(database: Database, registry: Registry, order: Order, run_id: str, kept: Path) -> Conduct:
    """Conducts the run with the given sites and returns its row."""

    def conducted(link: LocalLink, min_sites: int = order.min_sites) -> Run:
        ticket = Ticket(
            run=run_id, rounds=order.rounds, seed=order.seed, recipe=order.recipe.model_dump(mode="json"),
            deadline_s=order.deadline_s, min_sites=min_sites, gather_s=order.gather_s,
        )  # fmt: skip
        with suppress(FederationError):
            conduct(link, ticket, database, registry, flower_run_id="42", kept=kept)
        return read(database, run_id)

    return conducted


def read(database: Database, run_id: str) -> Run:
    with database.session() as session:
        run = session.get_one(Run, run_id)
        for one in run.rounds:
            _ = [update.site.name for update in one.updates]
        return run


def model_of(registry: Registry, version: str) -> Model:
    with tempfile.TemporaryDirectory() as folder:
        return Model.load(registry.fetch(version, Path(folder)))


def three(first: Answering = honest, second: Answering = honest, third: Answering = honest) -> LocalLink:
    return LocalLink({11: first, 12: second, 13: third})


def outcomes(run: Run, number: int) -> dict[str, tuple[str, str]]:
    return {update.site.name: (update.status, update.reason) for update in run.rounds[number - 1].updates}


def test_a_run_from_start_to_end(hold: Conduct, registry: Registry, database: Database) -> None:
    run = hold(three())
    assert (run.status, run.error, run.flower_run_id) == ("finished", None, "42")
    assert [one.status for one in run.rounds] == ["evaluated", "evaluated"]
    final = model_of(registry, str(run.final_version))
    old = small_components()
    # Three sites move every trunk weight by 0.5 in each of two rounds; nobody has a head.
    np.testing.assert_allclose(
        final.components[TRUNK]["conv.weight"], old[TRUNK]["conv.weight"] + 1.0, atol=1e-6
    )
    assert final.components[HEAD]["conv.weight"].tobytes() == old[HEAD]["conv.weight"].tobytes()
    assert final.components[TRUNK]["norm.count"].tolist() == [7]
    assert final.record["patches"] == {TRUNK: 60}
    assert final.statistics["sum/trunk"].tolist() == [6.0, 12.0]
    assert final.statistics["residual/trunk"].tolist() == [[3.0] * 16] * 3
    assert registry.find("first").id == run.final_version
    with database.session() as session:
        assert {site.status for site in session.query(Site)} == {"active"}


def test_metrics_belong_to_the_model_that_was_measured(hold: Conduct) -> None:
    run = hold(three())
    level = float(np.mean(small_components()[TRUNK]["conv.weight"]))
    for one, added in zip(run.rounds, (0.5, 1.0), strict=True):
        measured = one.held_out["trunk"]["mae"]
        assert measured["mean"] == pytest.approx(level + added, abs=1e-6)
        assert measured["n"] == 3
    assert run.rounds[0].references == {}
    assert run.rounds[1].references["training-mean"]["trunk"]["mae"]["mean"] == pytest.approx(6.0)


def test_the_same_run_again_gives_the_same_bits(
    hold: Conduct, registry: Registry, database: Database, order: Order, kept: Path
) -> None:
    first = model_of(registry, str(hold(three()).final_version))
    base = publish_initial(registry, order.recipe, small_components(), name="second", seed=5)
    again_id = create_run(database, replace(order, name="second"), base)
    ticket = Ticket(
        run=again_id, rounds=2, seed=5, recipe=order.recipe.model_dump(mode="json"), deadline_s=2, min_sites=2
    )
    conduct(three(), ticket, database, registry, flower_run_id="43", kept=kept)
    second = model_of(registry, str(read(database, again_id).final_version))
    for name, tensors in first.components.items():
        for tensor, array in tensors.items():
            assert array.tobytes() == second.components[name][tensor].tobytes()


def poisoned(job: Job) -> SiteReply:
    """A site whose training diverged."""
    reply = honest(job)
    for tensors in reply.deltas.values():
        for array in tensors.values():
            array[...] = np.nan
    return reply


def test_a_site_with_not_a_number_is_left_out(hold: Conduct, registry: Registry) -> None:
    run = hold(three(third=poisoned))
    assert run.status == "finished"
    status, reason = outcomes(run, 1)["rural-2"]
    assert status == "refused" and "finite" in reason
    final = model_of(registry, str(run.final_version))
    assert np.isfinite(final.components[TRUNK]["conv.weight"]).all()
    assert run.rounds[0].held_out["trunk"]["mae"]["n"] == 2


def test_who_is_left_out_of_the_last_exchange_stands_in_the_log(
    hold: Conduct, caplog: pytest.LogCaptureFixture
) -> None:
    """The database has updates of rounds only."""

    def odd(job: Job) -> SiteReply:
        reply = honest(job)
        return replace(reply, statistics={}) if job.header.phase == "final" else reply

    run = hold(three(third=odd))
    assert run.status == "finished"
    (said,) = (one.getMessage() for one in caplog.records if "rural-2" in one.getMessage())
    assert said.startswith("rural-2 is left out of the exchange final of round 2 (refused): ")
    assert "statistic" in said


def test_statistics_of_another_shape_are_that_sites_own_business(hold: Conduct) -> None:
    """The first site by name in one round, gone in the next: sums of both rounds are added at the end."""

    def odd(job: Job) -> SiteReply | Error:
        if job.header.round > 1:
            return Error(2, "out of memory")
        return replace(honest(job), statistics=sums(job, sum=np.ones(7)))

    def late(job: Job) -> SiteReply | Error:
        return honest(job) if job.header.round > 1 else Error(2, "out of memory")

    run = hold(three(odd, honest, late), min_sites=1)
    assert run.status == "finished", run.error
    status, reason = outcomes(run, 1)["city"]
    assert status == "refused" and "(7,)" in reason
    assert outcomes(run, 1)["rural-1"][0] == "accepted"


def test_weights_count_by_patches(hold: Conduct, registry: Registry) -> None:
    def small(job: Job) -> SiteReply:
        return honest(job, change=-1.0, patches=10)

    def large(job: Job) -> SiteReply:
        return honest(job, change=1.0, patches=70)

    run = hold(LocalLink({11: small, 12: large, 13: honest}, offline={13}))
    change = model_of(registry, str(run.final_version)).components[TRUNK]["conv.weight"]
    # (-1 * 10 + 1 * 70) / 80 in each of two rounds.
    np.testing.assert_allclose(change - small_components()[TRUNK]["conv.weight"], 2 * 0.75, atol=1e-5)
    assert outcomes(run, 1)["rural-2"][0] == "missing"


def test_claiming_more_patches_than_a_round_has_is_refused(hold: Conduct) -> None:
    # 20 steps of 4 patches: no more than 80.
    run = hold(three(third=lambda job: honest(job, patches=81)))
    assert outcomes(run, 1)["rural-2"][0] == "refused"


def test_an_update_without_weights_is_none(hold: Conduct) -> None:
    def idle(job: Job) -> SiteReply:
        reply = honest(job)
        return replace(reply, header=reply.header.model_copy(update={"patches": {}}), deltas={})

    run = hold(three(honest, idle, idle))
    assert run.status == "failed" and "1 of 2 sites" in str(run.error)
    assert "trained nothing" in outcomes(run, 1)["rural-1"][1]


def test_a_round_without_enough_sites_fails_and_says_why(hold: Conduct) -> None:
    run = hold(three(honest, poisoned, lambda job: Error(1000, "Not on Sundays.")))
    assert run.status == "failed"
    assert "1 of 2 sites" in str(run.error) and "Not on Sundays" in str(run.error)
    assert "--resume" in str(run.error)
    assert run.rounds[0].status == "failed"
    assert {name: one[0] for name, one in outcomes(run, 1).items()} == {
        "city": "accepted", "rural-1": "refused", "rural-2": "refused",
    }  # fmt: skip


def once(job: Job) -> SiteReply | Error:
    """A site that answers in the first round only."""
    return honest(job) if job.header.round == 1 else Error(2, "out of memory")


def test_a_run_goes_on_after_its_last_whole_round(hold: Conduct, registry: Registry) -> None:
    failed = hold(three(once, once, once))
    assert failed.status == "failed"
    assert [one.status for one in failed.rounds] == ["aggregated", "failed"], "nobody measured round 1"
    assert failed.rounds[0].model_version
    link = three()
    run = hold(link)
    assert run.status == "finished" and run.error is None
    assert {job.header.round for job in link.jobs} == {2}
    final = model_of(registry, str(run.final_version))
    np.testing.assert_allclose(
        final.components[TRUNK]["conv.weight"], small_components()[TRUNK]["conv.weight"] + 1.0, atol=1e-6
    )
    assert final.record["patches"] == {TRUNK: 60}
    assert [one.status for one in run.rounds] == ["evaluated", "evaluated"]


def test_every_site_that_taught_the_model_stands_in_its_record(hold: Conduct, registry: Registry) -> None:
    run = hold(three(first=once))
    record = model_of(registry, str(run.final_version)).record
    assert record["patches_by_site"] == {"city": {TRUNK: 10}, "rural-1": {TRUNK: 20}, "rural-2": {TRUNK: 20}}
    assert record["sites"] == sorted(record["losses"]) == ["city", "rural-1", "rural-2"]
    assert record["patches"] == {TRUNK: 50}
    assert record["measured_by"] == ["rural-1", "rural-2"]


def test_a_version_says_in_words_what_it_was_trained_on(hold: Conduct, registry: Registry) -> None:
    """Every scan's manifest quotes these words."""
    run = hold(three(third=lambda job: Error(2, "out of memory")))
    (early, late) = (model_of(registry, str(v)) for v in (run.rounds[0].model_version, run.final_version))
    assert early.record["trained_on"] == "2 sites (city, rural-1), 1 round"
    assert late.record["trained_on"] == "2 sites (city, rural-1), 2 rounds"


def test_what_the_base_was_trained_on_is_said_too_and_outlives_a_kill(
    hold: Conduct, database: Database, registry: Registry, order: Order, run_id: str, tmp_path: Path
) -> None:
    with database.session() as session:
        run = session.get_one(Run, run_id)
        base = model_of(registry, run.base_version)
        taught = replace(base, record={**base.record, "trained_on": "24 phantoms"})
        run.base_version = registry.publish(taught.save(tmp_path / "taught"), name="taught").id
    assert hold(three(once, once, once)).status == "failed"
    final = model_of(registry, str(hold(three()).final_version))
    assert final.record["trained_on"] == ("3 sites (city, rural-1, rural-2), 2 rounds; its base: 24 phantoms")


def test_what_sites_sent_before_a_kill_is_not_lost(
    hold: Conduct, registry: Registry, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One site answers before the kill only, one has begun the second round that is done again without it."""

    def killed(self: Logbook, number: int, version: str | None) -> None:
        aggregated(self, number, version)
        if number == 2:
            raise KeyboardInterrupt

    def left(job: Job) -> SiteReply | Error:
        return honest(job) if job.header.round == 2 else Error(2, "out of memory")

    aggregated = Logbook.aggregated
    with monkeypatch.context() as patch:
        patch.setattr(Logbook, "aggregated", killed)
        with pytest.raises(KeyboardInterrupt):
            hold(three(once, honest, left), min_sites=1)
    assert kept.is_file()
    run = hold(three(once, honest, once), min_sites=1)
    assert run.status == "finished"
    final = model_of(registry, str(run.final_version))
    assert final.record["patches_by_site"] == {"city": {TRUNK: 10}, "rural-1": {TRUNK: 20}}
    assert final.statistics["sum/trunk"].tolist() == [4.0, 8.0]
    assert run.rounds[1].references["training-mean"]["trunk"]["mae"]["mean"] == pytest.approx(4.0)
    assert not kept.exists(), "a finished run needs it no more"


@pytest.mark.parametrize("step", ["aggregated", "measured", "finish"])
def test_a_run_that_ended_after_its_last_version_finishes_from_it(
    hold: Conduct, registry: Registry, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """No site needs to be there any more."""
    usual = getattr(Logbook, step)

    def killed(self: Logbook, first: object, second: object) -> None:
        if step == "finish":
            raise KeyboardInterrupt
        usual(self, first, second)
        if first == 2 and second is not None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Logbook, step, killed)
        with pytest.raises(KeyboardInterrupt):
            hold(three())
    version = registry.find("first").id
    link = three()
    run = hold(link)
    assert (run.status, run.final_version, run.error) == ("finished", version, None)
    assert link.jobs == []
    assert [one.status for one in run.rounds] == ["evaluated", "evaluated"]
    assert run.rounds[1].held_out["trunk"]["mae"]["n"] == 3
    assert run.rounds[1].references["training-mean"]["trunk"]["mae"]["mean"] == pytest.approx(6.0)
    record = model_of(registry, version).record
    assert record["sites"] == sorted(record["losses"]) == ["city", "rural-1", "rural-2"]


@pytest.mark.parametrize("spoilt", [b"nothing", b""])
def test_statistics_that_were_spoilt_end_no_run(hold: Conduct, kept: Path, spoilt: bytes) -> None:
    hold(three(honest, once, once))
    kept.write_bytes(spoilt)
    run = hold(three())
    assert run.status == "finished"


def test_a_run_that_was_resumed_is_not_ended_by_its_old_process(
    hold: Conduct, database: Database, run_id: str
) -> None:
    """It was stopped while it had much to write, and hears of it when another process is at work."""

    def late(job: Job) -> SiteReply | Error:
        with database.session() as session:
            transition(session.get_one(Run, run_id), "stopped")
        Logbook(database, run_id).begin("43")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hold(three(late, late, late))
    run = read(database, run_id)
    assert (run.status, run.flower_run_id) == ("running", "43")
    assert [one.status for one in run.rounds] == ["running"]


def test_a_suspended_site_is_not_asked(hold: Conduct, database: Database) -> None:
    with database.session() as session:
        transition(session.query(Site).filter_by(name="city").one(), "suspended")
    link = three()
    run = hold(link)
    assert run.status == "finished"
    assert outcomes(run, 1)["city"] == ("refused", "The site is suspended.")
    assert {job.header.site for job in link.jobs} == {"rural-1", "rural-2"}


def test_a_site_suspended_in_the_moment_it_would_become_active_stays_suspended(
    hold: Conduct, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(row: Site | Run, status: str) -> None:
        if isinstance(row, Site) and row.name == "city":  # between the look at the row and the change
            with database.session() as session:
                transition(session.query(Site).filter_by(name="city").one(), "suspended")
        transition(row, status)

    monkeypatch.setattr("scantwin.federation.logbook.transition", late)
    run = hold(three())
    assert run.status == "finished"
    assert outcomes(run, 1)["city"] == ("accepted", "")
    assert outcomes(run, 2)["city"] == ("refused", "The site is suspended.")
    with database.session() as session:
        assert {site.name: site.status for site in session.query(Site)}["city"] == "suspended"


SAMPLE = {
    "id": "5a" * 16, "kind": "cylinder", "measured_at": "2026-01-01T12:00:00Z", "bias": 0.08, "n": 5000,
}  # fmt: skip


def test_calibration_samples_are_stored_once_and_confirmed(hold: Conduct, database: Database) -> None:
    def with_sample(job: Job) -> SiteReply:
        reply = honest(job)
        header = reply.header.model_validate({**reply.header.model_dump(), "calibration": [SAMPLE]})
        return replace(reply, header=header)

    link = three(first=with_sample)
    hold(link)
    with database.session() as session:
        stored = session.query(CalibrationSample).all()
        assert [(one.id, one.site.name, one.bias) for one in stored] == [("5a" * 16, "city", 0.08)]
    confirmed = [job.header.confirmed for job in link.jobs if job.header.site == "city"]
    assert confirmed == [[], ["5a" * 16], ["5a" * 16]]
    assert all(not job.header.confirmed for job in link.jobs if job.header.site != "city")


def test_samples_of_two_sites_with_one_id_are_both_stored(database: Database, run_id: str) -> None:
    book, sample = Logbook(database, run_id), Measured.model_validate(SAMPLE)
    for site in ("city", "rural-1", "city", "rural-1"):
        assert book.write_samples(site, [sample, sample]) == ["5a" * 16] * 2
    with database.session() as session:
        stored = session.query(CalibrationSample).all()
        assert sorted(one.site.name for one in stored) == ["city", "rural-1"]
        assert all(len(one.id) == 32 for one in stored)


def test_a_stop_is_written_down(
    database: Database, registry: Registry, order: Order, run_id: str, kept: Path
) -> None:
    def interrupt(job: Job) -> SiteReply:
        raise KeyboardInterrupt

    ticket = Ticket(
        run=run_id, rounds=2, seed=5, recipe=order.recipe.model_dump(mode="json"), deadline_s=2, min_sites=2
    )
    with pytest.raises(KeyboardInterrupt):
        conduct(three(interrupt), ticket, database, registry, flower_run_id="42", kept=kept)
    run = read(database, run_id)
    assert (run.status, run.rounds[0].status) == ("stopped", "failed")


def test_an_unknown_run_is_refused(database: Database, registry: Registry, order: Order, kept: Path) -> None:
    ticket = Ticket(
        run="0" * 32, rounds=2, seed=5, recipe=order.recipe.model_dump(mode="json"), deadline_s=2, min_sites=2
    )
    with pytest.raises(FederationError, match="no run"):
        conduct(three(), ticket, database, registry, flower_run_id="42", kept=kept)


def test_what_is_published_has_the_recipe_that_was_trained(
    database: Database, registry: Registry, order: Order, kept: Path
) -> None:
    """The base of the run has another one, with networks of the same shapes."""
    other = order.recipe.model_copy(update={"name": "other", "steps_per_round": 1})
    base = publish_initial(registry, other, small_components(), name="other", seed=5)
    run_id = create_run(database, order, base)
    recipe = order.recipe.model_dump(mode="json")
    ticket = Ticket(run=run_id, rounds=2, seed=5, recipe=recipe, deadline_s=2, min_sites=2)
    full = 20 * 4  # patches of a round by the run's recipe, not by the base's
    link = three(*(lambda job: honest(job, patches=full) for _ in range(3)))
    conduct(link, ticket, database, registry, flower_run_id="42", kept=kept)
    run = read(database, run_id)
    assert run.status == "finished"
    for version in (str(run.rounds[0].model_version), str(run.final_version)):
        assert model_of(registry, version).recipe == order.recipe
    assert {outcome for outcome, _ in outcomes(run, 1).values()} == {"accepted"}
