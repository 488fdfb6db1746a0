"""A site's pictures of a training: in its own folder, for its owner, without a trace in what leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scantwin.federation.codec import encode_job
from scantwin.federation.wire import Job, JobHeader
from scantwin.learning.cohort import Cohort
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import system_arrays
from scantwin.systems import SYSTEMS, build
from scantwin_clients.catalogue import Catalogue
from scantwin_clients.client_app import do_job
from scantwin_clients.ingest import ingest
from scantwin_clients.site import Site
from scantwin_clients.site_round import take_part

from .conftest import tiny_values, write_studies

RUN = "ef" * 16
ALWAYS_S = 1e-9
"""A time between pictures that has always passed."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site with four studies."""
    made = Site.create("city", tmp_path / "home")
    ingest(made.folder, write_studies(tmp_path / "studies", 4), workers=0)
    return made


def job(recipe: Recipe) -> Job:
    """The only round of a run: all networks of a system learn in it."""
    header = JobHeader.model_validate(
        {"run": RUN, "round": 1, "rounds": 1, "phase": "train", "site": "city", "seed": 9,
         "recipe": recipe.model_dump(mode="json")}
    )  # fmt: skip
    return Job(header, system_arrays(build(recipe, seed=3)))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("system", SYSTEMS)
def test_pictures_change_nothing_that_is_learnt(site: Site, tmp_path: Path, system: str) -> None:
    recipe = Recipe.read(tiny_values(system), "test")
    cohort = Cohort.prepare(Catalogue(site.folder).usable(), recipe, site.cache)
    asked = job(recipe)
    without = take_part(cohort, recipe, asked)
    pictured = take_part(cohort, recipe, asked, pictures=tmp_path / RUN, pictures_every_s=ALWAYS_S)
    made = sorted(tmp_path.rglob("*.png"))
    assert [path.name for path in made] == [f"step-{step:06d}.png" for step in range(5)]
    assert {path.parent for path in made} == {tmp_path / RUN / "round-1"}
    assert mode(made[0].parent) == 0o700 and {mode(path) for path in made} == {0o600}
    assert pictured.header.losses == without.header.losses
    assert pictured.header.patches == without.header.patches
    assert set(pictured.deltas) == set(without.deltas)
    for name, tensors in without.deltas.items():
        assert all(np.array_equal(array, pictured.deltas[name][key]) for key, array in tensors.items()), name


def test_they_lie_in_the_sites_own_folder_and_do_not_leave(site: Site, tiny: Recipe) -> None:
    often = Site(site.folder, site.config.model_copy(update={"pictures_every_s": ALWAYS_S}))
    reply = do_job(often, encode_job(job(tiny)))
    made = [*site.folder.parents[2].rglob("*.png")]
    assert made and {path.parent for path in made} == {site.folder / "pictures" / RUN / "round-1"}
    assert mode(site.folder) == 0o700
    assert not any(b"PNG" in part for part in reply.values())


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_round_shorter_than_a_minute_has_none(site: Site, system: str) -> None:
    do_job(site, encode_job(job(Recipe.read(tiny_values(system), "test"))))
    assert not [*site.pictures.iterdir()]


def test_a_site_that_wants_none_has_none(site: Site, tiny: Recipe) -> None:
    never = Site(site.folder, site.config.model_copy(update={"pictures_every_s": 0.0}))
    do_job(never, encode_job(job(tiny)))
    assert not [*site.pictures.iterdir()]
