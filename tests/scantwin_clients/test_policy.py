"""What a site agreed to is steps; what a step is must not be the lead's to choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scantwin.errors import FederationError
from scantwin.federation.wire import JobHeader
from scantwin.learning.recipe import Recipe, shipped_recipes
from scantwin_clients.policy import MOST_AT_ONCE, check_job, layers_at_once
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


@pytest.mark.parametrize(
    ("system", "values", "words", "lower"),
    [
        # Voxels (for latents, 64 times fewer) times channels: 160^3 x 512 at the first level, 320^3 / 8 x 512
        # at the second; then 160^3 x 128, twice; 512^3 / 64 x 256; 320^3 / 64 x 64 of 16 draws.
        ("pix2pix", {"network": {"channels": [512, 512]}, "sampling": {"window": 160}},
         "2097 million values at once, for a window of a scan", "sampling.window or network.channels"),
        ("cyclegan", {"network": {"channels": [8, 512]}, "sampling": {"window": 320}},
         "2097 million values at once, for a window of a scan", "sampling.window or network.channels"),
        ("coarse-diffusion", {"diffusion": {"channels": [128, 8]}, "sampling": {"window": 160}},
         "524 million values at once, for a window of a scan", "sampling.window or diffusion.channels"),
        ("low-resource-3d", {"volumes": {"tile": 160, "autoencoder_channels": [128, 8, 8]}},
         "524 million values at once, for a tile", "volumes.tile or volumes.autoencoder_channels"),
        ("low-resource-3d", {"volumes": {"largest": [512, 512, 512], "channels": [256, 8]}},
         "537 million values at once, for a window of a volume", "volumes.largest or volumes.channels"),
        ("low-resource-3d", {"volumes": {"window": [320, 320, 320], "draws": 16, "channels": [64, 8]}},
         "524 million values at once, for a training window", "volumes.window, draws or channels"),
    ],
)  # fmt: skip
def test_what_a_scan_holds_at_once_has_bounds_too(
    tmp_path: Path, system: str, values: dict[str, Any], words: str, lower: str
) -> None:
    wanted = tiny_values(system)
    wanted |= {section: {**wanted.get(section, {}), **changes} for section, changes in values.items()}
    with pytest.raises(FederationError, match=words) as caught:
        check(tmp_path, Recipe.read(wanted, "test"))
    assert lower in caught.value.hint


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_stay_far_from_the_bound(name: str) -> None:
    """A recipe that is changed a little must not be refused, nor the evidence's largest batch (8)."""
    recipe = Recipe.load(name)
    assert all(values <= MOST_AT_ONCE / 4 for _, values, _ in layers_at_once(recipe))
    wider = recipe.model_copy(update={"optimisation": recipe.optimisation.model_copy(update={"batch": 8})})
    assert all(values <= MOST_AT_ONCE / 2 for _, values, _ in layers_at_once(wider))


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
