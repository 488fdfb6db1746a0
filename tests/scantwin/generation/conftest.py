"""Small CTs with organs, and a system that paints in a second."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from scantwin import systems
from scantwin.generation.inpainting import CTInpainting
from scantwin.generation.scene import Scene
from scantwin.imaging.organs import ORGAN_LABEL
from scantwin.imaging.study import Study
from scantwin.imaging.volume import Volume
from scantwin.learning.cohort import Cohort
from scantwin.learning.recipe import Recipe
from scantwin.learning.training import train

SPACING = (5.0, 4.0, 4.0)
PLACE = {"spacing": SPACING, "origin": (-90.0, -80.0, 30.0)}
SHAPE = (24, 44, 48)


class KnownOrgans:
    """Organ classes that need no file."""

    def __init__(self, classes: Volume) -> None:
        self.classes = classes

    def read(self) -> Volume:
        return self.classes


def torso(seed: int, *, tumour: bool = True) -> Study:
    """A body of fat with muscle, a lung and a liver; a denser ball in each of them where `tumour`."""
    random = np.random.default_rng(seed)
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    body = ((y - 22) / 19.0) ** 2 + ((x - 24) / 21.0) ** 2 + 0 * z < 1
    muscle = ((y - 22) / 16.0) ** 2 + ((x - 24) / 18.0) ** 2 + 0 * z < 1
    lung = ((y - 22) / 11.0) ** 2 + ((x - 14) / 7.0) ** 2 + ((z - 12) / 10.0) ** 2 < 1
    liver = ((y - 22) / 11.0) ** 2 + ((x - 34) / 7.0) ** 2 + ((z - 12) / 10.0) ** 2 < 1
    hu = np.full(SHAPE, -1000.0, np.float32)
    classes = np.zeros(SHAPE, np.uint8)
    parts = ((body, -105, "fat"), (muscle, 50, "soft-tissue"), (lung, -780, "lung"), (liver, 110, "liver"))
    for mask, value, name in parts:
        hu[mask], classes[mask] = value, ORGAN_LABEL[name]
    lesions = np.zeros(SHAPE, np.uint8)
    if tumour:
        for label, middle in enumerate((14, 34), start=1):
            shift = random.integers(-2, 3, 3)
            ball = sum(((axis - c) * s) ** 2 for axis, c, s in zip(
                (z, y, x), np.array((12, 22, middle)) + shift, SPACING, strict=True
            )) < 13.0**2  # fmt: skip
            hu[ball], lesions[ball], classes[ball] = 30.0, label, ORGAN_LABEL["tumour"]
    hu += random.normal(0, 12, SHAPE).astype(np.float32)
    return Study(
        f"torso-{seed}", ct=Volume(np.rint(hu).astype(np.int16), unit="HU", **PLACE),
        lesions=Volume(lesions, unit="label", **PLACE),
        organs=KnownOrgans(Volume(classes, unit="label", **PLACE)),
    )  # fmt: skip


@pytest.fixture(scope="session")
def inpainting_recipe() -> Recipe:
    """A recipe that trains in seconds on torsos."""
    return Recipe.read(
        {
            "system": "ct-inpainting", "districts": ["whole-body"], "spacing_mm": SPACING,
            "network": {"channels": [8, 16], "discriminator_channels": [8]},
            "sampling": {"patch": 24, "lesions": 0.5},
            "inpainting": {"channels": [8, 16], "sample_steps": 4, "steps": 50, "region_mm": [16, 40]},
            "optimisation": {"batch": 4, "precision": "fp32", "learning_rate": 3e-3},
            "steps_per_round": 6,
        },
        "test",
    )  # fmt: skip


@pytest.fixture(scope="session")
def torsos(inpainting_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Four torsos, one held out."""
    named = [(f"torso-{k}", lambda k=k: torso(k)) for k in range(4)]
    return Cohort.prepare(named, inpainting_recipe, tmp_path_factory.mktemp("torsos"))


@pytest.fixture(scope="session")
def painter(torsos: Cohort, inpainting_recipe: Recipe) -> CTInpainting:
    """A system that has learnt a little."""
    system = systems.build(inpainting_recipe, seed=1)
    train(system, torsos.training, steps=40, seed=1)
    assert isinstance(system, CTInpainting)
    return system


@pytest.fixture(scope="session")
def scene() -> Scene:
    """A torso without tumours that no system has seen."""
    return Scene.of(torso(77, tumour=False))


@pytest.fixture
def make_torso() -> Callable[..., Study]:
    """`torso` itself."""
    return torso
