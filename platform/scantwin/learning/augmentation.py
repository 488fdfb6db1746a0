"""Rotates and scales training patches: a larger patch is cut and sampled at slightly shifted places."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from scantwin.learning.recipe_parts import Sampling

_LIMIT = 2.0
"""Rotations and scales are clipped at this many standard deviations: the margin of a patch depends on it."""


Spacing = tuple[float, float, float]


def margin(rules: Sampling, spacing_mm: Spacing) -> int:
    """Voxels of `spacing_mm` (z, y, x) that a patch needs on every side so that it still lies inside when
    rotated and scaled."""
    if not rules.turn_deg and not rules.stretch:
        return 0
    turn = math.radians(_LIMIT * rules.turn_deg)
    # About each of the three axes, a corner swings by at most sqrt(2) half edges times the sine; the same way
    # is more voxels along the axis of the finest ones.
    swing = math.sqrt(2) * math.sin(min(turn, math.pi / 2)) * 1.5 * max(spacing_mm) / min(spacing_mm)
    return math.ceil(rules.patch / 2 * (swing + _LIMIT * rules.stretch)) + 1


def warp(
    images: NDArray[np.float32], rules: Sampling, spacing_mm: Spacing, random: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rotates and scales all channels of `images` (channel, z, y, x): edge patch + 2 margin -> edge patch.

    Rotates in mm, with voxels of `spacing_mm` (z, y, x), since a patient is rigid and an index is not.

    Also returns where each voxel came from, (3, z, y, x) in voxels of `images`. Interpolation is linear, so
    labels come out as fractions.
    """
    turns = np.radians(np.clip(random.normal(0, 1, 3), -_LIMIT, _LIMIT) * rules.turn_deg)
    scale = 1.0 + float(np.clip(random.normal(), -_LIMIT, _LIMIT)) * rules.stretch
    wide = images.shape[-1]
    mm = np.array(spacing_mm[::-1])
    matrix = _turned(turns) * (mm[None] / mm[:, None]) * (rules.patch / wide * scale)
    theta = torch.from_numpy(np.hstack([matrix, np.zeros((3, 1))])).float()[None]
    edge = (1, 1, rules.patch, rules.patch, rules.patch)
    grid = F.affine_grid(theta, list(edge), align_corners=False)
    moved = F.grid_sample(torch.from_numpy(images)[None], grid, padding_mode="border", align_corners=False)
    # The grid has x first and runs from -1 to 1 between the outer edges of the outermost voxels.
    places = (((grid[0] + 1) * wide - 1) / 2).flip(-1).movedim(-1, 0)
    return moved[0].numpy(), places.numpy()


def _turned(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rotation matrix (3, 3) for `angles` [rad] about x, y and z."""
    out = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        out = out @ turn
    return out
