"""Run by test_devices.py: systems that make CT, on the processor and elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from elsewhere import elsewhere

from scantwin import systems
from scantwin.generation.fields import Field
from scantwin.generation.inpainting import CTInpainting
from scantwin.generation.painting import regenerate
from scantwin.generation.volumes import LowResource3D
from scantwin.generation.volumes_drawing import Order, draw
from scantwin.generation.volumes_views import mask_classes
from scantwin.learning import training
from scantwin.learning.prepared import prepare_ct
from scantwin.learning.recipe import Recipe
from scantwin.learning.system import Generator, System
from scantwin.learning.training import train

SPACING = (5.0, 4.0, 4.0)
VOLUMES = {
    "system": "low-resource-3d", "districts": ["whole-body"], "spacing_mm": SPACING,
    "network": {"discriminator_channels": [8]},
    "sampling": {"patch": 16, "flip": [], "hu_jitter": 0.0},
    "optimisation": {"batch": 2, "precision": "fp32", "learning_rate": 2e-3},
    "volumes": {
        "autoencoder_channels": [4, 8, 12], "levels": [31, 9, 9], "channels": [8, 12], "time_features": 16,
        "window": [32, 48, 56], "largest": [16, 32, 32], "overlap": 8, "tile": 16, "sample_steps": 3,
        "steps": 40, "autoencoder_share": 0.4, "masks_from": 0.3,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def trained(recipe: Recipe, studies: list[Any], state: Path, steps: int) -> Iterator[tuple[System, Any]]:
    """The recipe's system on the processor and elsewhere, killed half-way, with what its training said."""

    def killed(done: int) -> None:
        if done == steps // 2:
            raise InterruptedError

    for place in (nullcontext(torch.device("cpu")), elsewhere()):
        with place as device:
            with pytest.raises(InterruptedError):
                train(
                    systems.build(recipe, seed=1), studies, steps=steps, seed=2, resume=state,
                    after_step=killed,
                )  # fmt: skip
            system = systems.build(recipe, seed=9)
            result = train(system, studies, steps=steps, seed=2, resume=state)
            assert {p.device for n in system.components().values() for p in n.parameters()} == {device}
            state.unlink()
            yield system, result


def same(one: Any, other: Any) -> bool:
    return other == pytest.approx(one, rel=1e-2, abs=1e-3)


def test_inpainting(inpainting_recipe, torsos, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY_S", 0.0)
    told = []
    for system, result in trained(inpainting_recipe, torsos.training, tmp_path / "state", 10):
        assert isinstance(system, CTInpainting) and isinstance(system, Generator)
        region = np.zeros(scene.ct.shape, np.bool_)
        region[8:14, 16:28, 20:30] = True
        made = regenerate(system, scene.ct, region, scene.classes, seed=3)
        shown = system.shown(torsos.held_out[0])
        told.append((result.losses, system.figures(torsos.held_out[0], "whole-body"), made, list(shown)))
    (losses, figures, made, titles), (other_losses, other_figures, other_made, other_titles) = told
    assert same(losses, other_losses) and same(figures, other_figures) and titles == other_titles
    assert np.abs(np.asarray(made.array, np.float32) - other_made.array).max() <= 1  # rounded to whole HU


def test_volumes(make_torso, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY_S", 0.0)
    bodies = [prepare_ct(make_torso(k), SPACING, districts=False) for k in range(2)]
    told = []
    for system, result in trained(Recipe.read(VOLUMES, "test"), bodies, tmp_path / "state", 16):
        assert isinstance(system, LowResource3D) and isinstance(system, Generator)
        classes = mask_classes(bodies[0], system.rules)
        order = Order(Field.of(bodies[0].hu.shape, SPACING), seed=4, classes=classes)
        made = draw(system, "whole-body", order)
        told.append((result.losses, system.figures(bodies[0], "whole-body"), made))
    (losses, figures, made), (other_losses, other_figures, other_made) = told
    assert {"whole-body/reconstruction", "whole-body/denoising", "whole-body/masked"} <= set(losses)
    assert same(losses, other_losses) and same(figures, other_figures)
    # What is quantised may fall to the other side of a step: a voxel here and there, no more.
    assert np.mean(np.abs(made.astype(np.float32) - other_made) > 1) < 0.01
