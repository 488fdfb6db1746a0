"""The site's ClientApp: a message in, a message out. It is ours, installed here; no bundle brings another."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Error, Message
from flwr.clientapp import ClientApp

from scantwin.errors import FederationError, InputError, Rejection, ScanTwinError
from scantwin.federation.codec import (
    PartsError,
    decode_job,
    encode_reply,
    from_record,
    reply_header,
    to_record,
    with_header,
)
from scantwin.federation.exchange import REFUSED_BY_SITE
from scantwin.federation.wire import MOST_SAMPLES, Parts
from scantwin.imaging.said_safely import said_safely
from scantwin.learning.recipe import Recipe
from scantwin_clients.outbox import Outbox
from scantwin_clients.policy import check_job, check_patients
from scantwin_clients.pseudonyms import patient_of
from scantwin_clients.samples import WaitingSamples
from scantwin_clients.site import Site
from scantwin_clients.site_round import take_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from flwr.app import Context

    from scantwin.imaging.study import Study
    from scantwin.learning.cohort import Cohort
    from scantwin_clients.catalogue import Catalogue

    Named = tuple[str, Callable[[], Study]]

log = logging.getLogger("scantwin.site")
app = ClientApp()

_cohorts: dict[tuple[str, ...], Cohort] = {}
"""The cohort that this process used last: reading it again would cost time in every round."""


@app.train()
def train(message: Message, context: Context) -> Message:
    """A round: measure, train, answer."""
    return answer(message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The final exchange: measure, answer."""
    return answer(message, context)


def answer(message: Message, context: Context) -> Message:
    """The reply to a job, or the site's refusal in one sentence."""
    site = Site.open(str(context.node_config["site-name"]), Path(str(context.node_config["home"])))
    try:
        return Message(to_record(do_job(site, from_record(message.content))), reply_to=message)
    except (ScanTwinError, PartsError) as error:
        log.error("refused: %s", error)
        return Message(Error(code=REFUSED_BY_SITE, reason=_leaving(error)), reply_to=message)


def _leaving(error: ScanTwinError | PartsError) -> str:
    """What leaves the site of a refusal: a study's own message quotes paths, which may name the patient."""
    if isinstance(error, Rejection):
        return said_safely(error.code, error.message)
    if isinstance(error, ScanTwinError):
        return f"{error.message} {error.hint}".strip()
    return str(error)


def do_job(site: Site, asked: Parts) -> Parts:
    """The parts of the reply to a job's parts, from the outbox if the job was finished before."""
    from scantwin_clients.catalogue import Catalogue

    job = decode_job(asked)
    recipe = Recipe.read(job.header.recipe, "of the job")
    studies, patients = _learning_from(Catalogue(site.folder), recipe)
    check_job(job.header, recipe, site, patients)
    samples = WaitingSamples(site.calibration)
    samples.confirm(job.header.confirmed)
    outbox = Outbox(site.outbox)
    reply = outbox.find(job.header, asked)
    if reply is None:
        reply = encode_reply(take_part(
            _cohort(site, recipe, studies), recipe, job, pictures=site.pictures / job.header.run,
            pictures_every_s=site.config.pictures_every_s,
        ))  # fmt: skip
        outbox.store(job.header, asked, reply)
    else:
        log.info("round %d was finished before: sent again from the outbox", job.header.round)
    return _with_samples(reply, samples)


def _learning_from(catalogue: Catalogue, recipe: Recipe) -> tuple[list[Named], int]:
    """The studies for a recipe (PETs alone only if it needs no pairs) and the number of patients behind them.

    Without pairs, patients with a CT and patients with a PET are counted apart, and the smaller number is
    returned: a single PET among many CTs would show through the sums over PETs.
    """
    if recipe.unpaired is None:
        studies = catalogue.usable()
        # If there is no pair at all, that is what is wrong, and the cohort says so.
        pairs = [] if recipe.makes_ct else catalogue.usable(pet=True)
        return studies, _patients(pairs or studies)
    with_ct, with_pet = catalogue.usable(), catalogue.usable(ct=False, pet=True)
    return catalogue.usable(ct=False), min(_patients(with_ct), _patients(with_pet))


def _patients(studies: list[Named]) -> int:
    return len({patient_of(name) for name, _ in studies})


def _cohort(site: Site, recipe: Recipe, studies: list[Named]) -> Cohort:
    taken_in = (site.folder / "catalogue.db").stat().st_mtime_ns
    key = (str(site.folder), str(taken_in), recipe.model_dump_json(), *(name for name, _ in studies))
    cohort = _cohorts.get(key)
    if cohort is None:
        _cohorts.clear()
        cohort, refusals = _prepared(site, recipe, studies)
        if refusals:  # not kept: what could not be read is tried again with the next job
            check_patients(site, _patients_in(cohort, recipe))
        else:
            _cohorts[key] = cohort
    if not cohort.training:
        raise FederationError("This site has no study to train on.", hint="Take in more studies.")
    return cohort


def _prepared(site: Site, recipe: Recipe, studies: list[Named]) -> tuple[Cohort, list[Rejection]]:
    """The site's cohort without the studies that could not be read, and why they could not."""
    from scantwin.learning.cohort import Cohort

    refusals: list[Rejection] = []
    try:
        cohort = Cohort.prepare(
            studies, recipe, site.cache, held_out=site.config.held_out, salt=site.name, patient_of=patient_of,
            assigned=site.held_out_patients, refused=refusals.append,
        )  # fmt: skip
    except InputError as error:
        # If too little could be read, the reason for that says more.
        raise (refusals[0] if refusals else error) from None
    for refusal in refusals:
        log.warning("left out: %s", refusal.message)
    return cohort, refusals


def _patients_in(cohort: Cohort, recipe: Recipe) -> int:
    """The number of patients behind a cohort, counted as `_learning_from` counts those of the catalogue."""
    studies = [*cohort.training, *cohort.held_out]
    if recipe.unpaired is None:
        return len({patient_of(study.name) for study in studies})
    with_ct = {patient_of(study.name) for study in studies if study.has_ct}
    with_pet = {patient_of(study.name) for study in studies if study.suv is not None}
    return min(len(with_ct), len(with_pet))


def _with_samples(reply: Parts, samples: WaitingSamples) -> Parts:
    """The reply with the samples that are waiting now: those of a reply from the outbox may be old.

    Samples beyond the limit go with the next reply, once these are confirmed.
    """
    header = reply_header(reply).model_copy(update={"calibration": samples.waiting()[:MOST_SAMPLES]})
    return with_header(reply, header)
