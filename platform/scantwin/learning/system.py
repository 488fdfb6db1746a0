"""Protocols: what every generative system offers, and what those that make PET or CT offer in addition."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from scantwin.imaging.study import District
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_parts import BODY_WEIGHT


class Movable(Protocol):
    """A batch: drawn on the CPU and used on the system's device."""

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`."""


@dataclass(frozen=True)
class Tensors:
    """Tensors that move to a device together."""

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        there = {name: value.to(device) for name, value in own.items() if isinstance(value, Tensor)}
        return replace(self, **there)


@dataclass(frozen=True)
class Batch(Tensors):
    """Training patches of one district, for systems that make PET. Axes (batch, channel, z, y, x)."""

    inputs: Tensor
    """What the network sees, channels as in `prepared.INPUTS`."""
    suv: Tensor
    """Target PET [g/ml], one channel."""
    weight: Tensor
    """Weight of each voxel in the loss, one channel: 1 in the body, more in lesions, little in air."""
    lesions: Tensor
    """1 in lesions, 0 elsewhere, one channel."""
    anywhere: Tensor
    """(batch,): 1 if the patch was drawn from the whole body, 0 if for its hot spot or lesion."""
    place: Tensor | None = None
    """Only in unpaired batches: where the PET patch lies in its own patient, channels as in `prepared.INPUTS`
    with an empty CT. `inputs` is then another patient's CT."""

    @property
    def body(self) -> Tensor:
        """Voxels of the district's own body, its lesions included, bool."""
        return self.weight > BODY_WEIGHT

    def parts(self, count: int) -> list[Batch]:
        """The batch split into `count` equal parts."""
        fields = [self.inputs, self.suv, self.weight, self.lesions, self.anywhere]
        fields += [] if self.place is None else [self.place]
        return [Batch(*part) for part in zip(*(tensor.chunk(count) for tensor in fields), strict=True)]


@dataclass(frozen=True)
class Prediction:
    """What a system predicts for a window. Axes (batch, 1, z, y, x)."""

    pet: Tensor
    """The PET to deliver [g/ml]."""
    std: Tensor | None = None
    """Standard deviation of the system's samples [g/ml]; None if it draws none."""


class Batches(Protocol):
    """The training batches of one district: the same (seed, step) gives the same batch."""

    def __bool__(self) -> bool:
        """Whether the studies have anything of the district to learn from."""

    def batch(self, step: int) -> Movable:
        """The batch of training step `step`, on the CPU, of the kind that `training_step` takes."""


class System(Protocol):
    """A generative system built from a recipe: what training and federation need of it."""

    recipe: Recipe
    device: torch.device
    """Where its networks are, and where it expects batches and inputs."""
    memory: dict[str, Tensor]
    """What resuming a killed training needs besides the weights; it never leaves the machine."""

    def components(self) -> dict[str, nn.Module]:
        """Its named sets of weights, such as `pix2pix/trunk/generator`."""

    @property
    def settles_at(self) -> float:
        """Share of a training after which what learnt first is frozen; 1 if all networks learn to the end, 0
        if nothing comes first."""

    def components_of(self, district: District) -> tuple[str, ...]:
        """Names of the components that a training step on `district` trains."""

    def optimisers(self, district: District) -> dict[str, torch.optim.Optimizer]:
        """The optimisers of a district, by component; every call returns the same objects."""

    def sampler(self, studies: list[PreparedStudy], district: District, seed: int) -> Batches:
        """Draws the training batches of `district` from `studies`."""

    def training_step(self, district: District, batch: Any, progress: float = 0.0) -> dict[str, float]:
        """Trains the district's networks for one step; returns the losses by name, the main one first.

        `progress` is how much of the whole training is done (0 to 1).
        """


@runtime_checkable
class Translator(System, Protocol):
    """A system that makes PET from CT."""

    @property
    def samples(self) -> int:
        """How many noise fields a prediction needs; 0 if the system draws nothing."""

    def predict(self, district: District, inputs: Tensor, noise: Tensor | None = None) -> Prediction:
        """PET [g/ml] from inputs (B, C, D, H, W); `noise` (samples, 1, D, H, W) is standard normal.

        No gradient is kept.
        """


@runtime_checkable
class Generator(System, Protocol):
    """A system that makes CT."""

    def figures(self, study: PreparedStudy, district: District) -> dict[str, float]:
        """Its errors on a held-out patient: figures by name, such as `mae` [HU].

        The same patient gives the same figures. Empty if the patient has nothing to measure on.
        """

    def shown(self, study: PreparedStudy) -> dict[str, Volume]:
        """CTs [HU] by title for a picture of the training: the real one and what was made.

        Each is one axial slice, or a volume whose middle coronal slice is shown.
        """
