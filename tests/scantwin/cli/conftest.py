"""A small model that draws samples, and a study on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scantwin import systems
from scantwin.evaluation.held_out import measure
from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.study import Study
from scantwin.learning.cohort import Cohort
from scantwin.learning.recipe import Recipe
from scantwin.learning.training import train
from scantwin.learning.weights import Model, system_arrays

STEPS, SAMPLES = 5, 2
"""What the recipe says."""


@pytest.fixture(scope="session")
def drawing_model(bar_cohort: Cohort, tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a coarse-diffusion model that has learnt to draw, and delivers a sample."""
    values = tiny_recipe.model_dump(mode="json")
    del values["network"]["discriminator_channels"]
    values |= {
        "system": "coarse-diffusion", "districts": ["whole-body"], "shares": {},
        "diffusion": {"steps": 20, "channels": [8, 16], "time_features": 8, "start_step": 10,
                      "sample_steps": STEPS, "samples": SAMPLES, "coarse_share": 0.5,
                      "delivered": "sample", "anchor": 0.0},
    }  # fmt: skip
    recipe = Recipe.read(values, "test")
    system = systems.build(recipe, seed=1)
    result = train(system, bar_cohort.training, steps=20, seed=3)
    statistics = measure(system, bar_cohort.held_out, trained=result.patches).statistics
    model = Model(recipe, system_arrays(system), {"patches": result.patches}, statistics)
    return model.save(tmp_path_factory.mktemp("drawing") / "model")


@pytest.fixture
def bars(make_bar: Callable[..., Study], tmp_path: Path) -> Path:
    """A folder with a study of CT, PET and lesions."""
    study = make_bar(70)
    volumes = {"CT": study.ct, "SUV": study.pet, "SEG": study.lesions, "districts": study.districts}
    for name, volume in volumes.items():
        assert volume is not None
        write_nifti(volume, tmp_path / "bars" / study.name / f"{name}.nii.gz")
    return tmp_path / "bars"
