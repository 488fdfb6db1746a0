"""The `System` protocol: what every generative system offers to training, federation and scanning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from scantwin.imaging.study import District
from scantwin.learning.recipe import Recipe


@dataclass(frozen=True)
class Batch:
    """Training patches of one district. Axes (batch, channel, z, y, x)."""

    inputs: Tensor
    """What the network sees, channels as `prepared.INPUTS`."""
    suv: Tensor
    """Target PET [g/ml], one channel."""
    weight: Tensor
    """Weight of each voxel in the loss, one channel: 1 in the body, little in air."""
    lesions: Tensor
    """1 in lesions, 0 elsewhere, one channel."""


class System(Protocol):
    """A generative system built from a recipe."""

    recipe: Recipe

    def components(self) -> dict[str, nn.Module]:
        """Its named sets of weights, such as `pix2pix/trunk/generator`."""

    def components_of(self, district: District) -> tuple[str, ...]:
        """Names of the components that a training step on `district` moves."""

    def optimisers(self, district: District) -> dict[str, torch.optim.Optimizer]:
        """The optimisers of a district, by component; the same objects at every call."""

    def training_step(self, district: District, batch: Batch) -> dict[str, float]:
        """Moves the district's weights by one step; returns the losses by name."""

    def predict(self, district: District, inputs: Tensor) -> Tensor:
        """PET [g/ml] (B, 1, D, H, W) of inputs (B, C, D, H, W). No gradient is kept."""
