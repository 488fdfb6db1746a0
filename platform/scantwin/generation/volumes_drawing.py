"""Making a volume: noise on the latent grid, a few steps of a sampler, tiles decoded to whole numbers of HU.

What is large is held only once: the latent, 1/64 of the voxels, in fp32; the volume itself as int16. Networks
see windows and tiles of bounded size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scantwin.generation.autoencoder import DECODER_REACH, DOWN, ENCODER_REACH, Autoencoder
from scantwin.generation.fields import Field, shares
from scantwin.generation.hu_scale import to_hu
from scantwin.generation.tiling import Box, blended, tile_count, tiles, windows
from scantwin.generation.volumes_views import class_count
from scantwin.imaging.study import District
from scantwin.learning.machine import arithmetic
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_generation import Volumes
from scantwin.learning.samplers import SAMPLERS
from scantwin.learning.schedules import descent_by_snr
from scantwin.terminal import Advance, silent

if TYPE_CHECKING:
    from scantwin.generation.volumes import LowResource3D


@dataclass(frozen=True)
class Order:
    """Which volume to make."""

    field: Field
    seed: int
    """The same seed gives the same volume, whatever was drawn before."""
    classes: NDArray[np.uint8] | None = None
    """The mask to follow, voxels of the field (z, y, x)."""
    steps: int | None = None
    """Network evaluations; the recipe's by default."""


@torch.no_grad()
def draw(
    system: LowResource3D, district: District, order: Order, advance: Advance = silent
) -> NDArray[np.int16]:
    """A CT [HU] of the order's field (z, y, x)."""
    count = order.steps or system.rules.sample_steps
    total = count + tile_count(order.field.latent, system.rules.tile // DOWN)
    latent = _sample(system, district, order, lambda done: advance(done, total, "denoising"))
    return decode(
        system, district, latent, order.field, lambda done: advance(count + done, total, "decoding")
    )


def _sample(system: LowResource3D, district: District, order: Order, told: Callable[[int], None]) -> Tensor:
    """The latent at which the sampler arrives (1, C, D, H, W)."""
    rules, field, levels = system.rules, order.field, system.schedule
    generator = torch.Generator().manual_seed(order.seed)
    noise = torch.randn(1, len(rules.levels), *field.latent, generator=generator).to(system.device)
    place = field.place().to(system.device)
    mask = None
    if order.classes is not None:
        padded = np.asarray(field.pad(order.classes, 0), np.uint8)
        mask = shares(padded, class_count(rules)).to(system.device)
    z, y, x = rules.largest
    boxes = windows(field.latent, (z // DOWN, y // DOWN, x // DOWN), rules.overlap // DOWN)
    steps = descent_by_snr(levels, rules.steps, order.steps or rules.sample_steps)

    def denoise(noised: Tensor, at: int) -> Tensor:
        def say(box: Box) -> Tensor:
            near = (slice(None), slice(None), *box)
            seen = None if mask is None else mask[near]
            velocity = system.velocity(
                district, noised[near], place[near], torch.tensor([at]), seen, guidance=rules.guidance
            )
            clean = levels.image(noised[near], velocity, torch.tensor([at]))
            # No latent lies beyond its grid.
            return clean.clamp(-rules.latent_gain, rules.latent_gain)

        said = blended(noised, boxes, say)
        told(steps.index(at) + 1)
        return said

    return SAMPLERS[rules.sampler](denoise, noise, steps, levels)


@torch.no_grad()
def decode(
    system: LowResource3D, district: District, latent: Tensor, field: Field,
    told: Callable[[int], None] = lambda _: None,
) -> NDArray[np.int16]:  # fmt: skip
    """The CT [HU] of a diffusion latent (1, C, D, H, W), decoded in tiles and cropped to the field."""
    rules, autoencoder = system.rules, system.autoencoder(district)
    out = np.empty(field.padded, np.int16)
    for number, (core, seen, own) in enumerate(tiles(field.latent, rules.tile // DOWN, DECODER_REACH), 1):
        near = autoencoder.quantised(latent[(..., *seen)] / rules.latent_gain)
        tile = near.contiguous(memory_format=torch.channels_last_3d)
        with system.arithmetic():
            unit = autoencoder.decode(tile).float()
        hu = to_hu(unit[(0, 0, *_fine(own))]).round_()
        out[_fine(core)] = hu.cpu().numpy().astype(np.int16)
        told(number)
    return out[field.inside]


def _fine(box: Box) -> Box:
    """The box of voxels behind a box of latent ones."""
    z, y, x = (slice(side.start * DOWN, side.stop * DOWN) for side in box)
    return z, y, x


def encode(autoencoder: Autoencoder, image: Tensor, rules: Volumes, recipe: Recipe) -> Tensor:
    """Latents (1, C, D/4, H/4, W/4) of a CT on the bent scale (1, 1, D, H, W), in tiles, without gradient.

    They are the autoencoder's times the recipe's gain, as the diffusion uses them.
    """
    shape = [n // DOWN for n in image.shape[2:]]
    out = torch.empty(1, len(rules.levels), *shape, device=image.device)
    with torch.no_grad(), arithmetic(recipe.optimisation.precision, image.device):
        for core, seen, own in tiles(tuple(shape), rules.tile // DOWN, ENCODER_REACH):
            tile = image[(..., *_fine(seen))].contiguous(memory_format=torch.channels_last_3d)
            out[(..., *core)] = rules.latent_gain * autoencoder.encode(tile).float()[(..., *own)]
    return out
