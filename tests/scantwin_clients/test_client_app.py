"""The site's app: a job in, a reply out; the same to the bit; from the outbox when it was done before."""

from __future__ import annotations

import logging
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, Metadata, RecordDict
from flwr.app.message.message import make_message

from scantwin.calibration.samples import CalibrationSample
from scantwin.federation.codec import encode_job, from_record, to_record
from scantwin.federation.exchange import REFUSED_BY_SITE
from scantwin.federation.layouts import layout_of
from scantwin.federation.validation import Expected, read_reply
from scantwin.federation.wire import (
    MOST_SAMPLES,
    Components,
    Job,
    JobHeader,
    Limits,
    Phase,
    SiteReply,
    spec_of,
)
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import system_arrays
from scantwin.systems import build
from scantwin_clients import client_app
from scantwin_clients.catalogue import Catalogue
from scantwin_clients.ingest import ingest
from scantwin_clients.samples import WaitingSamples
from scantwin_clients.site import Site
from scantwin_clients.site_round import training_seed

from .conftest import TINY, write_studies, write_study

RUN = "ab" * 16


@pytest.fixture(scope="module")
def components(tiny: Recipe) -> Components:
    return system_arrays(build(tiny, seed=3))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with four studies."""
    home = tmp_path_factory.mktemp("home")
    made = Site.create("city", home)
    taken = ingest(made.folder, write_studies(home / "studies", 4), workers=1)
    assert taken["counts"]["accepted"] + taken["counts"]["warned"] == 4
    return made


def job(tiny: Recipe, components: Components, number: int = 1, phase: Phase = "train", **more: object) -> Job:
    header = JobHeader.model_validate(
        {"run": RUN, "round": number, "rounds": 2, "phase": phase, "site": "city", "seed": 9,
         "recipe": tiny.model_dump(mode="json"), **more}
    )  # fmt: skip
    return Job(header, components)


def say(site: Site, asked: Job | dict[str, bytes]) -> Message:
    """What the app answers, as Flower would call it."""
    parts = encode_job(asked) if isinstance(asked, Job) else asked
    kind = "evaluate" if isinstance(asked, Job) and asked.header.phase == "final" else "train"
    metadata = Metadata(
        run_id=42, message_id="m1", src_node_id=1, dst_node_id=7, reply_to_message_id="", group_id="1",
        created_at=datetime.now(UTC).timestamp(), ttl=100.0, message_type=kind,
    )  # fmt: skip
    config = {"site-name": site.name, "home": str(site.folder.parents[1])}
    context = Context(run_id=42, node_id=7, node_config=config, state=RecordDict(), run_config={})
    return client_app.app(make_message(metadata, to_record(parts)), context)


def reply_of(message: Message, components: Components, number: int = 1, phase: Phase = "train") -> SiteReply:
    assert not message.has_error(), message.error
    layout = layout_of(Recipe.read(TINY, "test"), phase)
    expected = Expected(RUN, number, phase, "city", spec_of(components), layout)
    return read_reply(from_record(message.content), expected, Limits(patches=8))


def forget(site: Site) -> None:
    for path in site.outbox.rglob("*.zip"):
        path.unlink()


def test_a_round(site: Site, tiny: Recipe, components: Components) -> None:
    message = say(site, job(tiny, components))
    assert message.metadata.reply_to_message_id == "m1"
    reply = reply_of(message, components)
    assert reply.deltas and set(reply.deltas) == set(reply.header.patches) <= set(components)
    # Two districts of which the bar may show one; each step trains a generator and a discriminator.
    assert sum(n for name, n in reply.header.patches.items() if name.endswith("generator")) == 4 * 2
    assert any(np.abs(array).max() > 0 for tensors in reply.deltas.values() for array in tensors.values())
    assert reply.header.metrics == {}, "what a run starts from is nobody's result"
    assert reply.statistics["sum/whole-body"][0] > 0
    assert set(reply.header.seconds) == {"measuring", "training"}


def test_from_round_2_on_the_received_model_is_measured(
    site: Site, tiny: Recipe, components: Components
) -> None:
    message = say(site, job(tiny, components, 2, patches=dict.fromkeys(components, 4)))
    reply = reply_of(message, components, 2)
    assert reply.header.metrics["model/whole-body/mae/n"] == 1 and reply.deltas


def test_the_same_job_gives_the_same_bits(site: Site, tiny: Recipe, components: Components) -> None:
    said = []
    for _ in range(2):
        forget(site)
        said.append(from_record(say(site, job(tiny, components)).content)["arrays"])
    assert said[0] == said[1]


def test_seeds_differ_by_run_round_and_site() -> None:
    seeds = {training_seed(run, n, site) for run in (1, 2) for n in (1, 2) for site in ("city", "rural-1")}
    assert len(seeds) == 8
    assert training_seed(1, 2, "city") == training_seed(1, 2, "city")


def test_a_job_that_was_done_is_not_done_again(
    site: Site, tiny: Recipe, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = from_record(say(site, job(tiny, components)).content)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr(client_app, "take_part", never)
    again = from_record(say(site, job(tiny, components)).content)
    assert again["arrays"] == first["arrays"]


def test_the_final_exchange_measures_beside_the_references(
    site: Site, tiny: Recipe, components: Components
) -> None:
    statistics = reply_of(say(site, job(tiny, components)), components).statistics
    asked = job(tiny, components, 2, "final", patches=dict.fromkeys(components, 8))
    final = Job(asked.header, asked.components, statistics)
    reply = reply_of(say(site, final), components, 2, "final")
    assert not reply.deltas and not reply.header.patches
    who = {key.split("/")[0] for key in reply.header.metrics}
    assert who == {"model", "training-mean", "training-median", "hu-curve"}
    assert reply.statistics


def test_waiting_samples_travel_and_go_when_confirmed(
    site: Site, tiny: Recipe, components: Components
) -> None:
    waiting = WaitingSamples(site.calibration)
    one = CalibrationSample(kind="cylinder", measured_at=datetime(2026, 1, 1, tzinfo=UTC), bias=0.08, n=5000)
    waiting.add(one)
    assert reply_of(say(site, job(tiny, components)), components).header.calibration == [one]
    assert waiting.waiting() == [one]
    # Also with a reply from the outbox.
    confirmed = job(tiny, components, confirmed=[one.id])
    assert reply_of(say(site, confirmed), components).header.calibration == []
    assert waiting.waiting() == []


def test_years_of_samples_go_bit_by_bit(site: Site, tiny: Recipe, components: Components) -> None:
    """A reply has room for so many: one with more would be refused, and none ever confirmed."""
    waiting = WaitingSamples(site.calibration)
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    for day in range(MOST_SAMPLES + 5):
        waiting.add(
            CalibrationSample(kind="cylinder", measured_at=begin + timedelta(days=day), bias=0.0, n=5000)
        )
    first = reply_of(say(site, job(tiny, components)), components).header.calibration
    assert len(first) == MOST_SAMPLES
    confirmed = job(tiny, components, confirmed=[one.id for one in first])
    rest = reply_of(say(site, confirmed), components).header.calibration
    assert len(rest) == 5 and not {one.id for one in rest} & {one.id for one in first}


def test_refusals_are_one_sentence(site: Site, tiny: Recipe, components: Components) -> None:
    greedy = tiny.model_copy(update={"steps_per_round": 10**6})
    for asked, words in (
        (job(greedy, components), "steps"),
        (job(tiny, components, site="rural-1"), "is for rural-1"),
        (job(tiny, components, recipe={"system": "unheard-of"}), "recipe"),
        ({"code": b"import os"}, "header"),
        ({"header": b"{}", "arrays": b"junk"}, "header"),
    ):
        message = say(site, asked)  # type: ignore[arg-type]
        assert message.has_error()
        assert message.error.code == REFUSED_BY_SITE
        assert words in str(message.error.reason)


def test_a_site_without_studies_says_so(tmp_path: Path, tiny: Recipe, components: Components) -> None:
    empty = Site.create("city", tmp_path)
    message = say(empty, job(tiny, components))
    assert "fewer patients" in str(message.error.reason)


def test_studies_of_one_patient_are_not_enough(
    site: Site, tiny: Recipe, components: Components, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Catalogue, "usable", lambda _self, **_: [("doe-a", None), ("doe-b", None)])
    message = say(site, job(tiny, components))
    assert message.error.code == REFUSED_BY_SITE and "fewer patients" in str(message.error.reason)


def test_what_is_said_of_a_study_names_no_folder(
    tmp_path: Path, tiny: Recipe, components: Components, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site.create("city", tmp_path)
    studies = write_studies(tmp_path / "DOE^JANE", 2)
    ingest(site.folder, studies, workers=0)
    shutil.rmtree(studies)
    with caplog.at_level(logging.ERROR):
        message = say(site, job(tiny, components))
    assert message.error.code == REFUSED_BY_SITE
    assert message.error.reason == "There is no such file or folder: the study."
    assert "DOE^JANE" in caplog.text, "a person at the site must find the study"


def strangers(folder: Path, cts: int, pets: int) -> Site:
    """A site of patients with a CT and others with a PET."""
    site = Site.create("city", folder)
    studies = write_studies(folder / "DOE^JANE", cts + pets)
    for number in range(cts + pets):
        (studies / f"study-{number}" / ("SUV.nii.gz" if number < cts else "CT.nii.gz")).unlink()
    taken = ingest(site.folder, studies, workers=0)
    assert taken["counts"]["warned"] == cts + pets
    return site


@pytest.fixture(scope="module")
def unpaired(tiny: Recipe) -> Recipe:
    values = tiny.model_dump(mode="json") | {"system": "cyclegan"}
    return Recipe.read(values | {"districts": ["head", "trunk", "arms", "legs", "whole-body"]}, "test")


def test_cts_and_pets_of_different_patients_do_an_unpaired_job(tmp_path: Path, unpaired: Recipe) -> None:
    site = strangers(tmp_path, 2, 2)
    components = system_arrays(build(unpaired, seed=3))
    reply = reply_of(say(site, job(unpaired, components)), components)
    # A PET alone is not split into districts: the whole body's networks learn, and nothing else is sent.
    assert {name.split("/")[1] for name in reply.deltas} == {"whole-body"}
    assert any(np.abs(array).max() > 0 for tensors in reply.deltas.values() for array in tensors.values())
    asked = job(unpaired, components, 2, "final", patches=reply.header.patches)
    final = reply_of(say(site, Job(asked.header, components, reply.statistics)), components, 2, "final")
    assert final.header.metrics == {}, "nobody has both: nobody can be measured on"


def test_they_do_no_paired_job(tmp_path: Path, tiny: Recipe, components: Components) -> None:
    message = say(strangers(tmp_path, 2, 2), job(tiny, components))
    assert message.error.code == REFUSED_BY_SITE
    assert message.error.reason == "No study with both a CT and a PET was found. Training needs pairs."


def test_one_pair_among_many_cts_is_not_enough(tmp_path: Path, tiny: Recipe, components: Components) -> None:
    site = Site.create("city", tmp_path)
    studies = write_studies(tmp_path / "studies", 3)
    for number in (1, 2):
        (studies / f"study-{number}" / "SUV.nii.gz").unlink()
    ingest(site.folder, studies, workers=0)
    message = say(site, job(tiny, components))
    assert message.error.code == REFUSED_BY_SITE and "fewer patients" in str(message.error.reason)


@pytest.mark.parametrize(("cts", "pets"), [(3, 1), (1, 3)])
def test_one_pet_among_many_cts_is_not_enough(tmp_path: Path, unpaired: Recipe, cts: int, pets: int) -> None:
    message = say(strangers(tmp_path, cts, pets), job(unpaired, system_arrays(build(unpaired, seed=3))))
    assert message.error.code == REFUSED_BY_SITE and "fewer patients" in str(message.error.reason)


def test_pets_alone_are_no_patients_of_a_paired_job(
    tmp_path: Path, tiny: Recipe, components: Components
) -> None:
    message = say(strangers(tmp_path, 1, 3), job(tiny, components))
    assert message.error.code == REFUSED_BY_SITE and "fewer patients" in str(message.error.reason)


def test_a_pet_alone_that_cannot_be_read_is_told_without_its_folder(tmp_path: Path, unpaired: Recipe) -> None:
    site = strangers(tmp_path, 2, 2)
    for path in (tmp_path / "DOE^JANE").rglob("SUV.nii.gz"):
        path.write_bytes(b"nothing")
    message = say(site, job(unpaired, system_arrays(build(unpaired, seed=3))))
    assert message.error.reason == "The study cannot be read as NIfTI: (see the file)."


def test_a_study_that_is_gone_is_left_out_and_logged(
    tmp_path: Path, tiny: Recipe, components: Components, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site.create("city", tmp_path)
    studies = write_studies(tmp_path / "DOE^JANE", 4)
    ingest(site.folder, studies, workers=0)
    shutil.rmtree(studies / "study-2")
    with caplog.at_level(logging.WARNING):
        reply = reply_of(say(site, job(tiny, components)), components)
    assert reply.deltas and reply.statistics
    assert "left out" in caplog.text and "study-2" in caplog.text
    write_study((studies / "study-2"), 2)  # a share that was away for a moment
    caplog.clear()
    forget(site)
    reply_of(say(site, job(tiny, components)), components)
    assert "left out" not in caplog.text


def test_fewer_patients_than_the_policy_are_counted_by_what_could_be_read(
    tmp_path: Path, tiny: Recipe, components: Components
) -> None:
    site = Site.create("city", tmp_path)
    studies = write_studies(tmp_path / "studies", 3)
    ingest(site.folder, studies, workers=0)
    for number in (1, 2):
        shutil.rmtree(studies / f"study-{number}")
    for _ in range(2):
        message = say(site, job(tiny, components))
        assert message.error.code == REFUSED_BY_SITE and "fewer patients" in str(message.error.reason)


def test_cts_and_pets_that_could_be_read_are_counted_apart(tmp_path: Path, unpaired: Recipe) -> None:
    site = strangers(tmp_path, 2, 2)
    shutil.rmtree(tmp_path / "DOE^JANE" / "study-3")
    message = say(site, job(unpaired, system_arrays(build(unpaired, seed=3))))
    assert message.error.code == REFUSED_BY_SITE and "fewer patients" in str(message.error.reason)
