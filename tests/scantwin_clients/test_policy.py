"""What a site agreed to is steps; what a step is must not be the lead's to choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scantwin.errors import FederationError
from scantwin.federation.wire import JobHeader
from scantwin.learning.recipe import Recipe, shipped_recipes
from scantwin_clients.policy import check_job
from scantwin_clients.site import Site

from .conftest import tiny_values


def check(folder: Path, recipe: Recipe, **policy: Any) -> None:
    site = Site.create("city", folder)
    config = site.config.model_copy(update={"policy": site.config.policy.model_copy(update=policy)})
    header = JobHeader(
        run="ab" * 16, round=1, rounds=1, phase="train", site="city", seed=0,
        recipe=recipe.model_dump(mode="json"),
    )  # fmt: skip
    check_job(header, recipe, Site(site.folder, config), patients=5)


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_taken(tmp_path: Path, name: str) -> None:
    recipe = Recipe.load(name)
    check(tmp_path, recipe, max_steps_per_round=recipe.steps_per_round)


@pytest.mark.parametrize(
    ("system", "section", "values", "words"),
    [
        ("pix2pix", "optimisation", {"accumulate": 1_000_000}, "patches a round"),
        ("pix2pix", "optimisation", {"batch": 65}, r"optimisation.batch = 65; 64"),
        ("pix2pix", "network", {"channels": [4096, 4096]}, r"network.channels = 4096; 512"),
        ("low-resource-3d", "volumes", {"channels": [4] * 9}, r"volumes.channels \(its length\) = 9"),
        ("pix2pix", "sampling", {"patch": 256}, r"sampling.patch = 256; 128"),
        ("pix2pix", "sampling", {"window": 1024}, r"sampling.window = 1024; 320"),
        ("pix2pix", "sampling", {"window": 32, "overlap": 31}, r"sampling.overlap = 31; 16"),
        ("pix2pix", "network", {"channels": [512, 512]}, ""),
        ("pix2pix", "sampling", {"patch": 128}, ""),
        ("cyclegan", "unpaired", {"pool": 10**9}, "unpaired.pool"),
        ("coarse-diffusion", "diffusion", {"steps": 10**6}, r"diffusion.steps = 1000000; 10000"),
        ("ct-inpainting", "inpainting", {"steps": 900, "sample_steps": 900}, "sample_steps = 900; 500"),
        ("low-resource-3d", "volumes", {"draws": 100}, "volumes.draws"),
        ("low-resource-3d", "volumes", {"largest": [64, 64, 64], "overlap": 63}, r"volumes.overlap = 63; 32"),
        ("low-resource-3d", "volumes", {"levels": [3] * 9}, r"volumes.levels \(its length\)"),
    ],
)  # fmt: skip
def test_a_job_larger_than_any_site_is_refused(
    tmp_path: Path, system: str, section: str, values: dict[str, Any], words: str
) -> None:
    wanted = tiny_values(system) | {"steps_per_round": 100}
    wanted[section] = {**wanted.get(section, {}), **values}
    recipe = Recipe.read(wanted, "test")
    if not words:
        check(tmp_path, recipe)
        return
    with pytest.raises(FederationError, match=words):
        check(tmp_path, recipe, max_steps_per_round=100)


def test_what_fits_alone_may_not_fit_together(tmp_path: Path) -> None:
    wanted = tiny_values("pix2pix")
    wanted |= {"network": {**wanted["network"], "channels": [512, 512]}}
    wanted |= {"sampling": {**wanted["sampling"], "patch": 128}}
    with pytest.raises(FederationError, match="2147 million values at once"):
        check(tmp_path, Recipe.read(wanted, "test"))


def test_voxels_may_not_be_too_fine(tmp_path: Path) -> None:
    recipe = Recipe.read(tiny_values("pix2pix") | {"spacing_mm": [4.0, 0.9, 4.0]}, "test")
    with pytest.raises(FederationError, match=r"0\.9 mm; 1 mm"):
        check(tmp_path, recipe)


def test_a_batch_within_what_was_agreed_is_taken(tmp_path: Path) -> None:
    wanted = tiny_values("pix2pix") | {"steps_per_round": 100}
    wanted["optimisation"] = {"batch": 8, "accumulate": 2}
    check(tmp_path, Recipe.read(wanted, "test"), max_steps_per_round=100)
    wanted["steps_per_round"] = 101
    with pytest.raises(FederationError, match="101 steps"):
        check(tmp_path / "other", Recipe.read(wanted, "test"), max_steps_per_round=100)
