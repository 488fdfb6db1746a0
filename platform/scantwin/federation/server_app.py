"""The consortium's ServerApp: one exchange per round, then one that only measures.

In exchange r every site trains the model that it receives and answers once; from exchange 2 on, it first
measures that model, which came out of round r - 1. `conduct` is the whole story, from top to bottom.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.serverapp import ServerApp

from scantwin.errors import FederationError, ScanTwinError
from scantwin.federation.aggregation import Contribution, add_patches, aggregate
from scantwin.federation.codec import encode_job, with_header
from scantwin.federation.consortium import Consortium
from scantwin.federation.exchange import GRACE_S, Answer, Link, exchange, wait_for_sites
from scantwin.federation.judgement import Outcome, judge, suspended
from scantwin.federation.kept_statistics import keep_statistics, kept_statistics
from scantwin.federation.layouts import layout_of
from scantwin.federation.logbook import Logbook
from scantwin.federation.merging import Merged, add_statistics, merge
from scantwin.federation.patient_link import PatientLink
from scantwin.federation.ticket import Ticket, ticket_from_config
from scantwin.federation.wire import (
    Job,
    JobHeader,
    Limits,
    Parts,
    Phase,
    SiteReply,
    Statistics,
    spec_of,
)
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import Model
from scantwin.store.database import Database
from scantwin.store.registry import Registry

if TYPE_CHECKING:
    from flwr.app import Context
    from flwr.serverapp import Grid

log = logging.getLogger("scantwin.federation")
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry point: the ticket comes as run configuration, everything else from the database."""
    ticket = ticket_from_config(dict(context.run_config))
    database = Database.from_settings().migrate()
    registry = Registry.from_settings(database)
    kept = Consortium.open().statistics_of(ticket.run)
    conduct(PatientLink(grid), ticket, database, registry, flower_run_id=str(context.run_id), kept=kept)


def conduct(
    link: Link, ticket: Ticket, database: Database, registry: Registry, *, flower_run_id: str, kept: Path
) -> None:
    """Conducts a whole run. Whatever happens, the database says how it ended.

    The file `kept` holds the sites' training statistics, in case the run is resumed.
    """
    book = Logbook(database, ticket.run)
    run = book.begin(flower_run_id)
    state = _State(link, ticket, book, registry, run.name, kept)
    try:
        done, version = book.last_version()
        state.number = max(done, 1)
        state.load(version or run.base_version)
        for number in range(done + 1, ticket.rounds + 1):
            state.number = number
            book.open_round(number)
            replies = state.ask("train")
            if number > 1:
                book.measured(number - 1, state.measured(replies))
            state.learn(replies)
            book.aggregated(number, None if number == ticket.rounds else state.publish())
        if done < ticket.rounds:
            state.publish_final(state.ask("final"))
        # All that follows is in the version: a run that was ended here finishes from it.
        book.aggregated(ticket.rounds, state.version)
        book.measured(ticket.rounds, state.figures())
        book.finish(state.version, state.remark())
        kept.unlink(missing_ok=True)
    except ScanTwinError as error:
        book.end_early("failed", f"{error.message} {error.hint}".strip(), state.number)
        raise
    except Exception as error:
        book.end_early("failed", f"{type(error).__name__}: {error}", state.number)
        raise
    except (KeyboardInterrupt, SystemExit):
        book.end_early("stopped", "The run was stopped.", state.number)
        raise


@dataclass
class _State:
    """The state of a run in progress."""

    link: Link
    ticket: Ticket
    book: Logbook
    registry: Registry
    name: str
    kept: Path
    number: int = 1
    model: Model = field(init=False)
    version: str = ""
    patches: dict[str, int] = field(default_factory=dict)
    patches_by_site: dict[str, dict[str, int]] = field(default_factory=dict)
    """Site -> component -> patches, in all rounds so far and in those of the base."""
    losses: dict[str, dict[str, float]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    training_statistics: dict[str, Statistics] = field(default_factory=dict)
    confirmed: dict[str, list[str]] = field(default_factory=dict)
    base_trained_on: str = ""
    """What the run's base was trained on, in words; "" for one that is untrained or does not say."""

    def load(self, version: str) -> None:
        """Loads the weights of this version from the registry, under the run's own recipe."""
        with tempfile.TemporaryDirectory(prefix="scantwin-") as folder:
            base = Model.load(self.registry.fetch(version, folder))
        # Sites train by the ticket's recipe: what is published must say so, even if its base had another.
        self.model = replace(base, recipe=Recipe.read(self.ticket.recipe, f"of the run {self.name}"))
        self.version = version
        record = self.model.record
        self.patches = {k: int(v) for k, v in record.get("patches", {}).items()}
        self.patches_by_site = {site: dict(of) for site, of in record.get("patches_by_site", {}).items()}
        self.history = list(record.get("held_out_by_round", []))
        ours = record.get("run") == self.ticket.run
        self.base_trained_on = str(record.get("base_trained_on" if ours else "trained_on", ""))
        if ours:
            self.losses = dict(record.get("losses", {}))
            kept = kept_statistics(self.kept, layout_of(self.model.recipe, "train"))
            # An unfinished round is done again: a site that answered only in it has taught nothing yet.
            self.training_statistics = {site: of for site, of in kept.items() if site in self.patches_by_site}

    def ask(self, phase: Phase) -> list[SiteReply]:
        """Holds one exchange; returns the accepted replies, by site.

        The rest is left out, and the log says why; for a round, the database does so too.
        """
        members, left_out = self.book.members()
        quorum = self.ticket.min_sites
        if len(members) < quorum:
            raise FederationError(
                f"{len(members)} sites may take part, but {quorum} are needed.",
                hint="Enrol sites with scantwin consortium enrol, or lower --min-sites.",
            )
        # Later rounds do not wait for a site that was away in the previous one.
        grace_s = 0.0 if self.confirmed else GRACE_S
        wait_for_sites(self.link, members, quorum=quorum, wait_s=self.ticket.gather_s, grace_s=grace_s)
        answers = exchange(
            self.link, members, self.jobs(phase, members), kind="train" if phase == "train" else "evaluate",
            group=str(self.number), deadline_s=self.ticket.deadline_s, on_answer=_tell,
        )  # fmt: skip
        recipe = self.model.recipe
        outcomes = judge(
            answers, run=self.ticket.run, number=self.number, phase=phase,
            spec=spec_of(self.model.components), layout=layout_of(recipe, phase),
            limits=Limits(patches=recipe.steps_per_round * recipe.optimisation.patches),
        )  # fmt: skip
        outcomes += [suspended(site) for site in left_out]
        for one in outcomes:
            if one.reply is None:
                _tell_left_out(one, phase, self.number)
        accepted = [one.reply for one in outcomes if one.reply is not None]
        for reply in accepted:
            site = reply.header.site
            self.confirmed[site] = self.book.write_samples(site, reply.header.calibration)
        if phase == "train":
            self.book.write_outcomes(self.number, outcomes)
            if len(accepted) < quorum:
                raise FederationError(
                    f"Round {self.number} ended with {len(accepted)} of {quorum} sites that are needed: "
                    + " ".join(f"{one.site}: {one.reason}" for one in outcomes if one.reason),
                    hint=f"Go on later with scantwin consortium train --resume {self.ticket.run}.",
                )
        return accepted

    def jobs(self, phase: Phase, sites: Iterable[str]) -> dict[str, Parts]:
        """Each site's job in this exchange; the arrays are packed once, since all sites get the same."""
        headers = {
            site: JobHeader(
                run=self.ticket.run, round=self.number, rounds=self.ticket.rounds, phase=phase, site=site,
                seed=self.ticket.seed, recipe=self.ticket.recipe, patches=self.patches,
                confirmed=self.confirmed.get(site, []),
            )
            for site in sites
        }  # fmt: skip
        statistics = self.references() if phase == "final" else {}
        shared = encode_job(Job(next(iter(headers.values())), self.model.components, statistics))
        return {site: with_header(shared, header) for site, header in headers.items()}

    def learn(self, replies: list[SiteReply]) -> None:
        """Merges the sites' deltas into the model."""
        contributions = [Contribution(r.header.site, r.deltas, dict(r.header.patches)) for r in replies]
        components = aggregate(self.model.components, contributions)
        for one in contributions:
            self.patches = add_patches(self.patches, one.patches)
            self.patches_by_site[one.site] = add_patches(self.patches_by_site.get(one.site, {}), one.patches)
        self.losses.update({r.header.site: dict(r.header.losses) for r in replies})
        self.training_statistics.update({r.header.site: r.statistics for r in replies if r.statistics})
        keep_statistics(self.kept, self.training_statistics)
        self.model = Model(self.model.recipe, components, self.record(), {})

    def references(self) -> Statistics:
        """The sites' training statistics, summed in the order of their names."""
        return add_statistics(self.training_statistics[site] for site in sorted(self.training_statistics))

    def measured(self, replies: list[SiteReply]) -> Merged:
        """What all sites together measured of the model that they received."""
        merged = merge([reply.header.metrics for reply in replies])
        if merged:
            self.history.append(merged.get("model", {}))
        return merged

    def record(self, **more: Any) -> dict[str, Any]:
        """The training record of the present model."""
        return {
            "run": self.ticket.run, "name": self.name, "round": self.number, "rounds": self.ticket.rounds,
            "seed": self.ticket.seed, "sites": sorted(self.patches_by_site), "patches": self.patches,
            "patches_by_site": dict(sorted(self.patches_by_site.items())),
            "losses": self.losses, "held_out_by_round": list(self.history),
            "trained_on": self.trained_on(), "base_trained_on": self.base_trained_on, **more,
        }  # fmt: skip

    def trained_on(self) -> str:
        """What the present model was trained on, in words for the manifest of every scan."""
        sites = sorted(self.patches_by_site)
        taught = f"{_some(len(sites), 'site')} ({', '.join(sites)}), {_some(self.number, 'round')}"
        return f"{taught}; its base: {self.base_trained_on}" if self.base_trained_on else taught

    def publish(self) -> str:
        """Publishes the present round's model; returns its version."""
        return self._publish(self.model, f"{self.name}-round-{self.number}")

    def publish_final(self, replies: list[SiteReply]) -> str:
        """Publishes the last model with what was measured of it and the sums behind its error bar."""
        merged = self.measured(replies)
        residuals = add_statistics(reply.statistics for reply in replies)
        record = self.record(
            held_out=merged.get("model", {}), references={k: v for k, v in merged.items() if k != "model"},
            measured_by=[reply.header.site for reply in replies],
        )  # fmt: skip
        statistics = {**self.references(), **residuals}
        self.model = Model(self.model.recipe, self.model.components, record, statistics)
        return self._publish(self.model, self.name)

    def figures(self) -> Merged:
        """What was measured of the final model, according to its version."""
        record = self.model.record
        figures = {"model": record["held_out"], **record["references"]}
        return {who: values for who, values in figures.items() if values}

    def remark(self) -> str | None:
        """What a person should know about a run that went well."""
        sites = self.model.record.get("measured_by")
        if sites is None or len(sites) >= self.ticket.min_sites:
            return None
        return f"The final model was measured by {len(sites)} sites only."

    def _publish(self, model: Model, name: str) -> str:
        with tempfile.TemporaryDirectory(prefix="scantwin-") as folder:
            saved = model.save(Path(folder) / "model")
            published = self.registry.publish(saved, name=name, parent=self.version, actor="consortium")
        self.version = published.id
        return published.id


def _some(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _tell(answer: Answer) -> None:
    log.info("%s: %s", answer.site, answer.reason or f"answered after {answer.seconds:.1f} s")


def _tell_left_out(outcome: Outcome, phase: Phase, number: int) -> None:
    log.warning(
        "%s is left out of the exchange %s of round %d (%s): %s",
        outcome.site, phase, number, outcome.status, outcome.reason,
    )  # fmt: skip
