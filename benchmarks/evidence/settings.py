"""The two settings: what two cores manage in some 18 minutes, and what issue 4 asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks.evidence.findings import Setting

from scantwin.imaging.study import DISTRICTS
from scantwin.learning.recipe import Recipe

L1_ALONE: Final = str(Path(__file__).with_name("l1-alone.toml"))
"""Our own network with L1 and nothing else."""
PLAIN_UNET: Final = "plain U-Net"
"""Name in tables of the reference that costs as much time as a model."""

QUICK: Final = Setting(name="quick", training=24, held_out=10, spacing_mm=8.0, steps=320)
"""Coarse phantoms, hundreds of steps: shows the direction of a difference, not how well a model can do."""

FULL: Final = Setting(name="full", training=64, held_out=24, spacing_mm=5.0, steps=3000)
"""At least 60 training and 20 held-out patients (issue 4), voxels of an older PET: hours on two cores."""


def ct_spacing_of(setting: Setting) -> tuple[float, float, float]:
    """Voxel size (z, y, x) [mm] of the phantoms' CTs: finer than their PETs, as far as two cores can cope."""
    return (min(max(2 * setting.spacing_mm / 3, 2.0), 4.0),) * 3


def recipe_for(setting: Setting, name: str) -> Recipe:
    """The shipped recipe `name` for phantoms of `setting`."""
    recipe = Recipe.load(name)
    if not recipe.makes_ct:
        return translation_recipe(setting, name)
    if recipe.system != "ct-inpainting":
        return recipe
    values = {**recipe.model_dump(mode="json"), "spacing_mm": ct_spacing_of(setting)}
    return Recipe.read(values, f"{name} of the evidence")


def steps_of(setting: Setting, recipe: Recipe) -> int:
    """Training steps for `recipe`. With a diffusion there are more, so that the coarse predictor, which
    learns for a share of them, has as many as a network that learns to the end."""
    return setting.steps if recipe.diffusion is None else round(setting.steps / recipe.diffusion.coarse_share)


def translation_recipe(setting: Setting, name: str, **changes: Any) -> Recipe:
    """The shipped recipe `name` for phantoms of `setting`; `changes` are "section.key" (or a key) -> value.

    Phantoms' bodies can always be split into districts, so a district recipe has no whole-body model: the
    four districts get the whole budget. A patch spans about the same part of a body at any voxel size.
    """
    values = Recipe.load(name).model_dump(mode="json")
    values["spacing_mm"] = [setting.spacing_mm] * 3
    values["districts"] = list(DISTRICTS[:-1])
    values["shares"] = {d: share for d, share in values["shares"].items() if d != "whole-body"}
    values["sampling"]["patch"] = setting.pick(24, 32)
    values["network"]["dropout"] = 0.0
    # All bodies can be split: a scan must not average mirrored predictions that no patch taught.
    values["sampling"]["flip_unsplit"] = []
    if setting is QUICK:  # a scan then takes half the time
        values["sampling"]["average_flips"] = []
    # Many small steps learn more in minutes than few large ones.
    values["optimisation"]["batch"] = setting.pick(2, values["optimisation"]["batch"])
    if values["diffusion"]:
        rules = values["diffusion"]
        rules["samples"] = setting.pick(2, rules["samples"])
        rules["sample_steps"] = setting.pick(5, rules["sample_steps"])
    for path, value in changes.items():
        section, _, key = path.rpartition(".")
        (values[section] if section else values)[key] = value
    return Recipe.read(values, f"{name} of the evidence")
