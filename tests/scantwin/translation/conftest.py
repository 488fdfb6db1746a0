"""Small recipes of every system that translates CT to PET."""

from __future__ import annotations

from typing import Any

import pytest

from scantwin import systems
from scantwin.learning.recipe import GENERATORS, Recipe

SPECIAL: dict[str, dict[str, Any]] = {
    "pix2pix": {},
    "cyclegan": {"unpaired": {"pool": 3, "ct_again": 0.5, "by_place": True}},
    "coarse-diffusion": {
        "diffusion": {"steps": 20, "channels": [8, 16], "time_features": 8, "start_step": 20,
                      "sample_steps": 2, "samples": 2, "coarse_share": 0.3},
    },
}  # fmt: skip


@pytest.fixture(params=[name for name in systems.SYSTEMS if name not in GENERATORS])
def recipe(request: pytest.FixtureRequest, tiny_recipe: Recipe) -> Recipe:
    """A recipe of each system, with all that it can do switched on, that trains in a second."""
    values = tiny_recipe.model_dump(mode="json") | {"system": request.param} | SPECIAL[request.param]
    values["network"]["dropout"] = 0.25
    values["losses"]["lesions"] = 0.2
    if request.param != "cyclegan":
        values["sampling"]["swap_uptake"] = 0.5
    if request.param == "coarse-diffusion":
        del values["network"]["discriminator_channels"]
        values["losses"] |= {"hottest": 0.5, "uptake": 0.5}
    if request.param == "cyclegan":
        values["optimisation"]["accumulate"] = 2
        values["losses"]["held"] = 2.0
    return Recipe.read(values, "test")
