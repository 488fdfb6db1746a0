"""What a round is worth: from the weights that were sent, towards what the site's training patients show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from scantwin.evaluation.measuring import measure, training_statistics
from scantwin.federation.wire import Components, Job, JobHeader
from scantwin.learning.cohort import Cohort
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import load_arrays, system_arrays
from scantwin.systems import build
from scantwin_clients.catalogue import Catalogue
from scantwin_clients.ingest import ingest
from scantwin_clients.site import Site
from scantwin_clients.site_round import take_part

from .conftest import TINY, write_studies

STEPS, RATE = 24, 3e-3


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    optimisation = {**TINY["optimisation"], "learning_rate": RATE, "discriminator_rate": RATE}
    return Recipe.read({**TINY, "steps_per_round": STEPS, "optimisation": optimisation}, "test")


@pytest.fixture(scope="module")
def cohort(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three patients to learn from and one held out."""
    home = tmp_path_factory.mktemp("home")
    site = Site.create("city", home)
    ingest(site.folder, write_studies(home / "studies", 4), workers=0)
    return Cohort.prepare(Catalogue(site.folder).usable(), recipe, site.cache)


@pytest.fixture(scope="module")
def components(recipe: Recipe) -> Components:
    return system_arrays(build(recipe, seed=3))


def job(recipe: Recipe, components: Components, number: int = 1) -> Job:
    header = JobHeader.model_validate(
        {"run": "ab" * 16, "round": number, "rounds": 2, "phase": "train", "site": "city", "seed": 9,
         "recipe": recipe.model_dump(mode="json"), "patches": dict.fromkeys(components, 8)}
    )  # fmt: skip
    return Job(header, components)


def measured(recipe: Recipe, components: Components, studies: list) -> dict[str, float]:
    system = build(recipe, seed=0)
    load_arrays(system, components)
    return measure(system, studies, trained=dict.fromkeys(components, 8), unsplit=0).metrics


def test_what_a_site_sends_is_added_to_what_it_was_sent(cohort, recipe, components) -> None:
    """The model errs less then on what was taught, and more if it went the other way."""
    deltas = take_part(cohort, recipe, job(recipe, components)).deltas
    # It began where it was told to: Adam moves a weight by at most (1 - b1) / sqrt(1 - b2) of its rate in a
    # step (arXiv 1412.6980, 2.1), here by five times the rate. Weights of another start differ by their size.
    assert max(np.abs(array).max() for of in deltas.values() for array in of.values()) < 5 * STEPS * RATE
    errors = []
    for sign in (1, 0, -1):
        moved = {
            name: {k: a + np.float32(sign) * deltas[name][k] if name in deltas else a for k, a in of.items()}
            for name, of in components.items()
        }
        errors.append(measured(recipe, moved, cohort.training)["model/whole-body/mae/sum"])
    assert errors[0] < 0.9 * errors[1] and errors[1] < errors[2]


def test_held_out_patients_are_measured_on_and_never_learnt_from(cohort, recipe, components) -> None:
    (one,) = cohort.held_out
    hotter = replace(one, suv=3 * one.suv, pet=one.pet.with_array(3 * np.asarray(one.pet.array)))
    said, other = (
        take_part(replace(cohort, held_out=[patient]), recipe, job(recipe, components, 2))
        for patient in (one, hotter)
    )
    assert said.header.metrics != other.header.metrics
    assert said.header.losses == other.header.losses
    for name, tensors in said.deltas.items():
        assert all(np.array_equal(array, other.deltas[name][key]) for key, array in tensors.items()), name
    wanted = training_statistics(build(recipe, seed=0), cohort.training)
    for reply in (said, other):
        assert all(np.array_equal(reply.statistics[name], value) for name, value in wanted.items())


def test_what_is_measured_is_the_model_as_it_came(cohort, recipe, components) -> None:
    """Not what this site alone has made of it: only the former is every site's."""
    reply = take_part(cohort, recipe, job(recipe, components, 2))
    assert reply.header.metrics == measured(recipe, components, cohort.held_out)
