"""Sites with small studies on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.volume import Volume
from scantwin.learning.recipe import Recipe

SPACING = (8.0, 8.0, 8.0)

TINY = {
    "system": "pix2pix", "name": "tiny", "districts": ["trunk", "whole-body"], "spacing_mm": SPACING,
    "network": {"channels": [4, 8], "discriminator_channels": [4]},
    "sampling": {"patch": 16, "window": 32, "overlap": 8},
    "optimisation": {"batch": 2, "precision": "fp32"}, "steps_per_round": 4,
}  # fmt: skip
"""A recipe that trains in a second."""

_MAKES_CT: dict[str, Any] = {"districts": ["whole-body"], "sampling": {"patch": 16}}

OTHERS: dict[str, dict[str, Any]] = {
    "cyclegan": {"unpaired": {"pool": 3, "ct_again": 0.5}},
    "coarse-diffusion": {
        "network": {"channels": [4, 8]},
        "diffusion": {
            "steps": 20, "channels": [4, 8], "time_features": 8, "start_step": 20, "sample_steps": 2,
            "samples": 2, "coarse_share": 0.3,
        },
    },
    "ct-inpainting": {
        **_MAKES_CT,
        "inpainting": {"channels": [4, 8], "sample_steps": 2, "region_mm": [20, 60]},
    },
    "low-resource-3d": {
        **_MAKES_CT,
        "network": {"discriminator_channels": [4]},
        "volumes": {
            "steps": 20, "autoencoder_channels": [4, 8, 8], "levels": [31, 9], "channels": [4, 8],
            "time_features": 8, "autoencoder_share": 0.5, "adversarial_from": 0.0, "masks_from": 0.0,
            "window": [40, 24, 28], "largest": [64, 64, 64], "overlap": 8, "tile": 32, "sample_steps": 2,
        },
    },
}  # fmt: skip
"""What the other systems need besides the tiny recipe: those that make PET, then those that make CT."""


def tiny_values(system: str) -> dict[str, Any]:
    """The tiny recipe of a system."""
    return {**TINY, **OTHERS.get(system, {}), "system": system, "name": f"tiny-{system}"}


def write_study(folder: Path, seed: int) -> Path:
    """A soft bar with a warm core in air as NIfTI: CT.nii.gz [HU] and SUV.nii.gz [g/ml]."""
    random = np.random.default_rng(seed)
    z, y, x = np.ogrid[:40, :24, :28]
    body = ((y - 12) / 9.0) ** 2 + ((x - 14) / 11.0) ** 2 < 1 + 0 * z
    core = ((y - 12) / 4.0) ** 2 + ((x - 14) / 5.0) ** 2 < 1 + 0 * z
    hu = np.where(body, np.where(core, 55.0, -90.0), -1000.0) + random.normal(0, 8, body.shape)
    suv = np.where(body, np.where(core, 2.0, 0.3), 0.0) * (1 + 0.05 * random.normal(size=body.shape))
    for name, array, unit in (("CT", hu, "HU"), ("SUV", suv, "SUV")):
        volume = Volume(array.astype(np.float32), SPACING, (1.0, 2.0, 3.0), unit=unit)
        write_nifti(volume, folder / f"{name}.nii.gz")
    return folder


def write_studies(folder: Path, count: int, seed: int = 0) -> Path:
    """`count` such studies below `folder`."""
    for number in range(count):
        made = folder / f"study-{number}"
        made.mkdir(parents=True)
        write_study(made, 100 * seed + number)
    return folder


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    """The tiny recipe."""
    return Recipe.read(TINY, "test")
