"""One worker makes many scans: each by the model, and with the seed, that were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scantwin.imaging.nifti import read_nifti
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import Model, system_arrays
from scantwin.systems import build
from scantwin_twin.worker import _Shelf, compute

RECIPE: dict[str, Any] = {
    "system": "coarse-diffusion", "districts": ["whole-body"], "spacing_mm": [8, 8, 8],
    "network": {"channels": [4, 8], "start": "zero"},
    "sampling": {"patch": 16, "window": 32, "overlap": 8},
    "diffusion": {"steps": 20, "channels": [4, 8], "time_features": 8, "start_step": 20, "sample_steps": 2,
                  "samples": 2, "delivered": "sample"},
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two models that draw alike, around different uptakes."""
    made, recipe = [], Recipe.read(RECIPE, "test")
    for uptake in (0.2, 0.4):
        components = system_arrays(build(recipe, seed=1))
        components["coarse-diffusion/whole-body/coarse"]["head.bias"][:] = uptake
        components["coarse-diffusion/whole-body/denoiser"]["body.head.weight"][:] = 1e-3
        model = Model(recipe, components, {"patches": dict.fromkeys(components, 1)})
        made.append(model.save(tmp_path_factory.mktemp("models") / f"model-{uptake}"))
    return made


def test_every_scan_is_by_the_model_and_with_the_seed_that_were_asked_for(ct_file, models, tmp_path):
    shelf, (one, other) = _Shelf(), models

    def pet(model: Path, seed: int) -> np.ndarray:
        out = tmp_path / f"scan-{len(list(tmp_path.iterdir()))}"
        work = {"scan": "s", "ct": str(ct_file), "model": str(model), "version": model.name, "seed": seed}
        compute({**work, "out": str(out)}, shelf, lambda fraction, stage: None)
        return np.array(read_nifti(out / "pet.nii.gz", "SUV").array)

    first, second = pet(one, 3), pet(other, 3)
    assert second.mean() > 1.5 * first.mean(), "the second model was asked for"
    assert np.array_equal(pet(one, 3), first), "and the first one again"
    assert not np.array_equal(pet(one, 4), first), "another seed draws another PET"
