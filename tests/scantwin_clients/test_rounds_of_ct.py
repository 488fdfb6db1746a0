"""A site takes part in training the systems that make CT: it needs CTs only, and answers in the same form."""

from __future__ import annotations

import numpy as np
import pytest

from scantwin.federation.codec import encode_reply
from scantwin.federation.merging import merge
from scantwin.federation.validation import Expected, read_reply
from scantwin.federation.wire import Components, Job, JobHeader, Limits, Phase, spec_of
from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.imaging.organs import ORGAN_FILE, ORGAN_LABEL
from scantwin.learning.cohort import Cohort
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import system_arrays
from scantwin.systems import build
from scantwin_clients.catalogue import Catalogue
from scantwin_clients.ingest import ingest
from scantwin_clients.site import Site
from scantwin_clients.site_round import take_part

from .conftest import tiny_values, write_studies

RUN = "cd" * 16
LIVER = 5
"""TotalSegmentator's number of the liver."""


LEARNS = {
    "ct-inpainting": (("pix2pix", "discriminator"), ("denoiser",)),
    "low-resource-3d": (("autoencoder", "discriminator"), ("denoiser", "adapter")),
}
"""System -> what learns in the first rounds, and what in the last."""


@pytest.fixture(scope="module", params=LEARNS)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return Recipe.read(tiny_values(request.param), "test")


@pytest.fixture(scope="module")
def cohort(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Four ingested studies without a PET, with organ labels."""
    home = tmp_path_factory.mktemp("home")
    studies = write_studies(home / "studies", 4)
    for folder in studies.iterdir():
        (folder / "SUV.nii.gz").unlink()
        ct = read_nifti(folder / "CT.nii.gz", "HU")
        labels = np.where(ct.array > 20, LIVER, 0).astype(np.uint8)
        write_nifti(ct.with_array(labels, "label"), folder / ORGAN_FILE)
    site = Site.create("city", home)
    taken = ingest(site.folder, studies, workers=1)
    assert taken["counts"]["accepted"] + taken["counts"]["warned"] == 4
    return Cohort.prepare(Catalogue(site.folder).usable(), recipe, site.cache)


@pytest.fixture(scope="module")
def components(recipe: Recipe) -> Components:
    return system_arrays(build(recipe, seed=3))


def job(recipe: Recipe, components: Components, number: int, phase: Phase = "train") -> Job:
    header = JobHeader.model_validate(
        {"run": RUN, "round": number, "rounds": 2, "phase": phase, "site": "city", "seed": 9,
         "recipe": recipe.model_dump(mode="json"), "patches": dict.fromkeys(components, 8)}
    )  # fmt: skip
    return Job(header, components)


def test_one_network_and_its_critic_learn_in_the_first_rounds(
    cohort: Cohort, recipe: Recipe, components: Components
) -> None:
    reply = take_part(cohort, recipe, job(recipe, components, 1))
    first, _ = LEARNS[recipe.system]
    assert set(reply.deltas) == {f"{recipe.system}/whole-body/{name}" for name in first}
    assert reply.header.patches == dict.fromkeys(reply.deltas, 4 * 2)


def test_the_diffusion_learns_in_the_last_rounds_and_the_model_is_measured_in_hu(
    cohort: Cohort, recipe: Recipe, components: Components
) -> None:
    reply = take_part(cohort, recipe, job(recipe, components, 2))
    _, last = LEARNS[recipe.system]
    assert set(reply.deltas) == {f"{recipe.system}/whole-body/{name}" for name in last}
    assert sum(reply.header.patches.values()) == 4 * 2, "they take turns"
    figures = merge([reply.header.metrics])["model"]["whole-body"]
    assert figures["mae"]["n"] == len(cohort.held_out) == 1
    assert 0 < figures["mae"]["mean"] < 2000  # [HU]
    expected = Expected(RUN, 2, "train", "city", spec_of(components))
    assert read_reply(encode_reply(reply), expected, Limits(patches=8)).header == reply.header


def test_the_final_exchange_only_measures(cohort: Cohort, recipe: Recipe, components: Components) -> None:
    reply = take_part(cohort, recipe, job(recipe, components, 2, "final"))
    assert not reply.deltas
    assert "model/whole-body/mae/sum" in reply.header.metrics


def test_the_same_job_gives_the_same_bits(cohort: Cohort, recipe: Recipe, components: Components) -> None:
    one, two = (take_part(cohort, recipe, job(recipe, components, 1)) for _ in range(2))
    for name, tensors in one.deltas.items():
        assert all(np.array_equal(array, two.deltas[name][key]) for key, array in tensors.items())


def test_organ_labels_reach_the_prepared_study(cohort: Cohort) -> None:
    assert all((study.organs == ORGAN_LABEL["liver"]).any() for study in cohort.training)
