"""The one list of systems: name -> class, loaded when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from scantwin.errors import InputError
from scantwin.learning.recipe import Recipe
from scantwin.learning.system import System, Translator
from scantwin.learning.weights import Model, load_arrays

if TYPE_CHECKING:
    from scantwin.translation.virtual_scanner import VirtualScanner

SYSTEMS: Final = {
    "pix2pix": "scantwin.translation.pix2pix:Pix2Pix",
    "cyclegan": "scantwin.translation.cyclegan:CycleGAN",
    "coarse-diffusion": "scantwin.translation.coarse_diffusion:CoarseDiffusion",
    "ct-inpainting": "scantwin.generation.inpainting:CTInpainting",
    "low-resource-3d": "scantwin.generation.volumes:LowResource3D",
}
"""Where the class of each system lives."""


def build(recipe: Recipe, *, seed: int) -> System:
    """A new system built from `recipe`; the same seed gives the same weights, whatever was drawn before."""
    import torch

    module, name = SYSTEMS[recipe.system].split(":")
    kind = getattr(import_module(module), name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cast(System, kind(recipe))


def restore(model: Model) -> System:
    """The system of a saved model, with its weights. Raises `InputError` if they do not fit the recipe."""
    system = build(model.recipe, seed=0)
    load_arrays(system, model.components)
    return system


def scanner_for(model: Model) -> VirtualScanner:
    """The virtual scanner of a saved CT -> PET model. Raises `InputError` for a model that makes CT."""
    from scantwin.translation.virtual_scanner import VirtualScanner

    if model.recipe.makes_ct:
        raise InputError(
            f"A {model.recipe.system} model makes CT, not PET: it cannot scan.",
            hint="Use it with scantwin generate, or choose a CT -> PET model.",
        )
    return VirtualScanner(model, cast(Translator, restore(model)))
