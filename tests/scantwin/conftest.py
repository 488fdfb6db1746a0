"""Small studies that teach and measure in a second, without a phantom's cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scantwin import systems
from scantwin.evaluation.held_out import measure
from scantwin.imaging.study import DISTRICT_LABEL, Study
from scantwin.imaging.volume import Volume
from scantwin.learning.cohort import Cohort
from scantwin.learning.recipe import Recipe
from scantwin.learning.training import train
from scantwin.learning.weights import Model, system_arrays

SPACING = (8.0, 8.0, 8.0)


def bar_study(seed: int, *, with_pet: bool = True) -> Study:
    """A soft bar with a warm core in air: legs below, trunk above. Uptake follows the CT and the place."""
    random = np.random.default_rng(seed)
    z, y, x = np.ogrid[:40, :24, :28]
    body = ((y - 12) / 9.0) ** 2 + ((x - 14) / 11.0) ** 2 < 1 + 0 * z
    core = ((y - 12) / 4.0) ** 2 + ((x - 14) / 5.0) ** 2 < 1 + 0 * z
    hu = np.where(body, np.where(core, 55.0, -90.0), -1000.0) + random.normal(0, 8, body.shape)
    suv = np.where(body, np.where(core, np.where(z > 20, 3.0, 1.0), 0.3), 0.0)
    suv = suv * (1 + 0.05 * random.normal(size=body.shape))
    labels = np.where(body, np.where(z > 20, DISTRICT_LABEL["trunk"], DISTRICT_LABEL["legs"]), 0).astype(
        np.uint8
    )
    place = {"spacing": SPACING, "origin": (1.0, 2.0, 3.0)}
    lesions = np.zeros(body.shape, np.uint8)
    lesions[28:31, 11:14, 12:15] = 1
    suv[lesions > 0] = 8.0
    return Study(
        f"bar-{seed}", ct=Volume(hu.astype(np.float32), unit="HU", **place),
        pet=Volume(suv.astype(np.float32), unit="SUV", **place) if with_pet else None,
        lesions=Volume(lesions, unit="label", **place), condition="melanoma",
        districts=Volume(labels, unit="label", **place),
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """A recipe that trains in a second."""
    return Recipe.read(
        {
            "system": "pix2pix", "districts": ["trunk", "legs", "whole-body"], "spacing_mm": SPACING,
            "network": {"channels": [8, 16], "discriminator_channels": [8]},
            "sampling": {"patch": 16, "window": 64, "overlap": 8},
            "optimisation": {"batch": 2, "precision": "fp32", "learning_rate": 3e-3},
            "steps_per_round": 12,
        },
        "test",
    )  # fmt: skip


@pytest.fixture(scope="session")
def bar_cohort(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Four bars, one of them held out."""
    cache = tmp_path_factory.mktemp("bars")
    named = [(f"bar-{k}", lambda k=k: bar_study(k)) for k in range(4)]
    return Cohort.prepare(named, tiny_recipe, cache)


@pytest.fixture(scope="session")
def bar_model(bar_cohort: Cohort, tiny_recipe: Recipe) -> Model:
    """A model trained on the bars, with its error bar."""
    system = systems.build(tiny_recipe, seed=1)
    result = train(system, bar_cohort.training, steps=60, seed=1)
    statistics = measure(system, bar_cohort.held_out, trained=result.patches).statistics
    return Model(tiny_recipe, system_arrays(system), {"patches": result.patches}, statistics)


@pytest.fixture
def make_bar() -> Callable[..., Study]:
    """`bar_study` itself, for tests that need special patients."""
    return bar_study


@pytest.fixture
def new_bar() -> Study:
    """A patient that no model has seen."""
    return bar_study(77)
