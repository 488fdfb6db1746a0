"""What a site refuses, whoever asks: bundles with code, and jobs beyond what it agreed to."""

from __future__ import annotations

from scantwin.errors import FederationError
from scantwin.federation.ticket import Ticket, read_ticket
from scantwin.federation.wire import JobHeader
from scantwin.learning.recipe import Recipe
from scantwin_clients.site import Site


def check_bundle(bundle: bytes) -> Ticket:
    """The ticket in Flower's bundle. Raises `FederationError` when the bundle is more than a ticket."""
    return read_ticket(bundle)


def check_job(job: JobHeader, recipe: Recipe, site: Site, patients: int) -> None:
    """Raises `FederationError` when the site, with studies of so many patients, does not agree to it."""
    policy = site.config.policy
    if job.site != site.name:
        raise FederationError(f"The job is for {job.site}, but this is {site.name}.")
    if policy.systems is not None and recipe.system not in policy.systems:
        raise FederationError(
            f"This site does not train {recipe.system}.", hint="Its physicist can allow it in site.json."
        )
    if recipe.steps_per_round > policy.max_steps_per_round:
        raise FederationError(
            f"The job asks for {recipe.steps_per_round} steps, more than this site's "
            f"{policy.max_steps_per_round}.",
            hint="Use fewer steps per round, or ask the site to raise max_steps_per_round.",
        )
    check_patients(site, patients)


def check_patients(site: Site, patients: int) -> None:
    """Raises `FederationError` when the site has studies of too few patients for anything to leave it."""
    least = site.config.policy.min_studies
    if patients < least:
        # Fail closed: with so few patients even sums would speak of single ones.
        raise FederationError(
            f"This site has usable studies of fewer patients than the {least} of its policy.",
            hint="Take in studies of more patients with scantwin site ingest.",
        )
