"""What a site refuses, whoever asks: bundles with code, and jobs beyond what it agreed to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from scantwin.errors import FederationError
from scantwin.federation.ticket import Ticket, read_ticket
from scantwin.federation.wire import JobHeader
from scantwin.learning.recipe import Recipe
from scantwin_clients.site import Site

PATCHES_OF_A_STEP: Final = 16
"""Patches that a site allows per step: it agreed to steps, and those of shipped recipes have 2 to 4."""

MOST: Final = {
    "batch": 64, "channels": 512, "discriminator_channels": 512, "autoencoder_channels": 512,
    "time_features": 1024, "class_features": 1024, "draws": 16, "pool": 1000, "recompute_above": 250_000,
    "patch": 128, "window": 320, "largest": 512, "tile": 256, "steps": 10_000, "sample_steps": 500,
}  # fmt: skip
"""Largest values in a job's recipe, by name: memory and time grow with each. No shipped recipe asks for
more, and most ask for a tenth."""

MOST_LEVELS: Final = 8
"""Longest list of channels: halved at each level, 2^7 voxels become one."""

FINEST_MM: Final = 1.0
"""Finest working voxels [mm]: a whole body has 5e8 of them, 2 GB for each of its images."""

MOST_AT_ONCE: Final = 2**28
"""Most values in one layer: 1 GB. Training keeps a dozen of these, a scan three or four at a time. Shipped
recipes stay below 2^26."""

_VOXELS_OF_A_LATENT: Final = 4**3
"""Voxels behind a latent one of `low-resource-3d`."""


def check_bundle(bundle: bytes) -> Ticket:
    """The ticket in Flower's bundle. Raises `FederationError` when the bundle is more than a ticket."""
    return read_ticket(bundle)


def check_job(job: JobHeader, recipe: Recipe, site: Site, patients: int) -> None:
    """Raises `FederationError` if the site, with studies of so many patients, does not agree to the job."""
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
    _check_sizes(recipe)
    most = policy.max_steps_per_round * PATCHES_OF_A_STEP
    patches = recipe.steps_per_round * recipe.optimisation.patches
    if patches > most:
        raise FederationError(
            f"The job asks for {patches} patches a round, more than this site's {most}: "
            f"{PATCHES_OF_A_STEP} for each step that it agreed to.",
            hint="Use a smaller batch or accumulate, or ask the site to raise max_steps_per_round.",
        )
    check_patients(site, patients)


def _check_sizes(recipe: Recipe) -> None:
    """Raises `FederationError` for a job that no site's machine has the memory or the time for."""
    hint = "Mend the recipe: no site takes such a job."
    for name, asked, most in _sizes(recipe):
        if asked > most:
            raise FederationError(
                f"The job asks for {name} = {asked}; {most} are the most at any site.", hint=hint
            )
    if min(recipe.spacing_mm) < FINEST_MM:
        finest = f"{FINEST_MM:g} mm are the finest at any site"
        raise FederationError(
            f"The job asks for voxels of {min(recipe.spacing_mm):g} mm; {finest}.", hint=hint
        )
    for what, values, lower in layers_at_once(recipe):
        if values > MOST_AT_ONCE:
            raise FederationError(
                f"The job asks for a layer of {values / 1e6:.0f} million values at once, for {what}; "
                f"{MOST_AT_ONCE / 1e6:.0f} million are the most at any site.",
                hint=f"Lower {lower}: no site takes such a job.",
            )


def layers_at_once(recipe: Recipe) -> Iterator[tuple[str, float, str]]:
    """What a network sees at once, in training and when it is measured: what it is, the values in its largest
    layer, and what in the recipe makes them fewer."""
    widest = max(asked for name, asked, _ in _sizes(recipe) if name.endswith("channels"))
    batch = recipe.optimisation.batch * recipe.patch**3 * widest
    yield "a batch of patches", batch, "optimisation.batch, sampling.patch or the channels"
    if not recipe.makes_ct:
        voxels, scan = recipe.sampling.window**3, "a window of a scan"
        yield scan, _largest(voxels, recipe.network.channels), "sampling.window or network.channels"
        if recipe.diffusion:
            yield scan, _largest(voxels, recipe.diffusion.channels), "sampling.window or diffusion.channels"
    if rules := recipe.volumes:
        tile = _largest(rules.tile**3, rules.autoencoder_channels)
        yield "a tile of a volume", tile, "volumes.tile or volumes.autoencoder_channels"
        window = _largest(math.prod(rules.largest) / _VOXELS_OF_A_LATENT, rules.channels)
        yield "a window of a volume", window, "volumes.largest or volumes.channels"
        drawn = rules.draws * _largest(math.prod(rules.window) / _VOXELS_OF_A_LATENT, rules.channels)
        yield "a training window", drawn, "volumes.window, draws or channels"


def _largest(voxels: float, channels: Sequence[int]) -> float:
    """Values in the largest layer over so many voxels: each level has an eighth of those before it."""
    return max(count * voxels * 0.125**level for level, count in enumerate(channels))


def _sizes(recipe: Recipe) -> Iterator[tuple[str, int, int]]:
    """Each size that the recipe asks for: its place in the recipe, the size, and the most that it may be."""
    for title, section in recipe.model_dump(mode="json").items():
        for key, value in section.items() if isinstance(section, dict) else ():
            name = f"{title}.{key}"
            if key in MOST:
                yield name, max(value) if isinstance(value, list) else value, MOST[key]
            if key.endswith("channels") or key == "levels":
                yield f"{name} (its length)", len(value), MOST_LEVELS
            if key == "overlap":  # windows that hardly differ take more time than there is
                yield name, value, min(section.get("largest", [section["window"]])) // 2


def check_patients(site: Site, patients: int) -> None:
    """Raises `FederationError` if the site has studies of too few patients for anything to leave it."""
    least = site.config.policy.min_studies
    if patients < least:
        # Fail closed: with so few patients, even sums would speak of individuals.
        raise FederationError(
            f"This site has usable studies of fewer patients than the {least} of its policy.",
            hint="Take in studies of more patients with scantwin site ingest.",
        )
