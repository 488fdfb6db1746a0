"""The errors of the system on a held-out patient, and a picture of what it makes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from scantwin.generation.fields import Field
from scantwin.generation.hu_scale import to_unit
from scantwin.generation.volumes_batches import Window, noised
from scantwin.generation.volumes_drawing import Order, decode, draw, encode
from scantwin.generation.volumes_views import mask_classes, view_of
from scantwin.imaging.study import District
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy
from scantwin.units import AIR_HU

if TYPE_CHECKING:
    from scantwin.generation.volumes import LowResource3D

_LEVELS: Final = (0.2, 0.4, 0.6, 0.8)
"""Shares of the noise levels at which the denoiser is measured: nearly clean to nearly noise."""
_SOFT_HU: Final = (-160.0, 240.0)
"""CT numbers [HU] from fat to enhanced organs."""

_SHOWN_STEPS: Final = 8
"""Network evaluations of a volume in a training's picture: they cost seconds that it could spend learning."""


@torch.no_grad()
def figures(system: LowResource3D, study: PreparedStudy, district: District) -> dict[str, float]:
    """Errors of the reconstruction [HU], and the loss of the denoiser (`LowResource3D.latent_loss`).

    `mae` and `bias` are those in the body, `soft-mae` where the CT is between fat and enhanced organs;
    `denoising` is without and `masked` with the mask, at four noise levels of one window; there is no
    `masked` before the adapter has learnt.
    """
    if not study.has_ct or district not in study.boxes:
        return {}
    error = reconstructed(system, study, district).astype(np.float32) - study.hu
    soft = study.body & (study.hu > _SOFT_HU[0]) & (study.hu < _SOFT_HU[1])
    out = {
        "mae": float(np.abs(error[study.body]).mean()), "bias": float(error[study.body].mean()),
        "soft-mae": float(np.abs(error[soft]).mean()),
    }  # fmt: skip
    chance = np.random.default_rng(0)
    window = noised(view_of(study, system.recipe, chance, system.device), chance).to(system.device)
    for name, masked in (("denoising", False), ("masked", True)):
        if not masked or system.follows_masks(district):
            losses = [
                float(system.latent_loss(district, one, masked=masked))
                for one in _at_levels(window, system.rules.steps)
            ]
            out[name] = sum(losses) / len(losses)
    return {name: value for name, value in out.items() if np.isfinite(value)}


def _at_levels(window: Window, steps: int) -> list[Window]:
    """The window with its first noise at each of the noise levels that are compared."""
    levels = [max(round(share * steps), 1) for share in _LEVELS]
    return [replace(window, noise=window.noise[:1], steps=torch.tensor([level])) for level in levels]


def reconstructed(system: LowResource3D, study: PreparedStudy, district: District) -> np.ndarray:
    """The reconstruction of a study's CT [HU] (z, y, x), int16."""
    field = Field.of(study.hu.shape, study.grid.spacing)
    return decode(system, district, encoded(system, study, district, field), field)


def encoded(system: LowResource3D, study: PreparedStudy, district: District, field: Field) -> Tensor:
    """The latent of a study's CT (1, C, D, H, W)."""
    unit = to_unit(torch.from_numpy(np.asarray(field.pad(study.hu, AIR_HU), np.float32)))[None, None]
    return encode(system.autoencoder(district), unit.to(system.device), system.rules, system.recipe)


def shown(system: LowResource3D, study: PreparedStudy) -> dict[str, Volume]:
    """CTs [HU]: real, reconstructed and, each once its networks have learnt, made without and with mask."""
    district = next((d for d in system.recipe.districts if d in study.boxes), None)
    if district is None:
        return {}
    pictures = {"real": study.hu, "reconstructed": reconstructed(system, study, district)}
    steps = min(_SHOWN_STEPS, system.rules.sample_steps)
    order = Order(Field.of(study.hu.shape, study.grid.spacing), seed=0, steps=steps)
    if system.learnt(district):
        pictures["made"] = draw(system, district, order)
        if system.follows_masks(district):
            guided = replace(order, classes=mask_classes(study, system.rules))
            pictures["made from the mask"] = draw(system, district, guided)
    return {name: study.grid.with_array(image, "HU") for name, image in pictures.items()}
