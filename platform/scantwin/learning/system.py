"""The protocols: what every generative system offers, and what those that make PET or CT offer besides."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from scantwin.imaging.study import District
from scantwin.imaging.volume import Volume
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe

_ALL_BUT_BODY = 0.999
"""A body's weight of 1 is a little less after patches were turned: a sixth of its voxels had 0.99999994."""


class Movable(Protocol):
    """A batch: it is drawn on the processor and learnt from on the system's device."""

    def to(self, device: torch.device) -> Self:
        """The same batch on `device`."""


@dataclass(frozen=True)
class Tensors:
    """Tensors that go to a device together."""

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        there = {name: value.to(device) for name, value in own.items() if isinstance(value, Tensor)}
        return replace(self, **there)


@dataclass(frozen=True)
class Batch(Tensors):
    """Training patches of one district, of the systems that make PET. Axes (batch, channel, z, y, x)."""

    inputs: Tensor
    """What the network sees, channels as `prepared.INPUTS`."""
    suv: Tensor
    """Target PET [g/ml], one channel."""
    weight: Tensor
    """Weight of each voxel in the loss, one channel: 1 in the body, more in lesions, little in air."""
    lesions: Tensor
    """1 in lesions, 0 elsewhere, one channel."""
    anywhere: Tensor
    """(batch,): 1 where the patch was drawn from all of the body, 0 where for its hot spot or its lesion."""
    place: Tensor | None = None
    """Of unpaired batches: where the PET patch is in its own patient, channels as `prepared.INPUTS` with an
    empty CT. There `inputs` is another patient's CT."""

    @property
    def body(self) -> Tensor:
        """Voxels of the district's own body, its lesions too, bool."""
        return self.weight > _ALL_BUT_BODY

    def parts(self, count: int) -> list[Batch]:
        """The batch in `count` equal parts."""
        fields = [self.inputs, self.suv, self.weight, self.lesions, self.anywhere]
        fields += [] if self.place is None else [self.place]
        return [Batch(*part) for part in zip(*(tensor.chunk(count) for tensor in fields), strict=True)]


@dataclass(frozen=True)
class Prediction:
    """What a system says of a window. Axes (batch, 1, z, y, x)."""

    pet: Tensor
    """PET [g/ml]: what is delivered."""
    std: Tensor | None = None
    """Standard deviation of the system's samples [g/ml]; None where it draws none."""


class Batches(Protocol):
    """The training batches of one district: the same (seed, step) gives the same batch."""

    def __bool__(self) -> bool:
        """Whether the studies have anything of the district to learn from."""

    def batch(self, step: int) -> Movable:
        """The batch of training step `step`, of the kind that the system's own `training_step` takes.

        It is on the processor.
        """


class System(Protocol):
    """A generative system built from a recipe: what training and the federation need of it."""

    recipe: Recipe
    device: torch.device
    """Where its networks are, and where it wants batches and inputs."""
    memory: dict[str, Tensor]
    """What a training that goes on after a kill needs besides weights; it never leaves the machine."""

    def components(self) -> dict[str, nn.Module]:
        """Its named sets of weights, such as `pix2pix/trunk/generator`."""

    @property
    def settles_at(self) -> float:
        """Share of a training at which what learnt first stands still; 1 where all learn to the end, 0 where
        nothing comes first."""

    def components_of(self, district: District) -> tuple[str, ...]:
        """Names of the components that a training step on `district` moves."""

    def optimisers(self, district: District) -> dict[str, torch.optim.Optimizer]:
        """The optimisers of a district, by component; the same objects at every call."""

    def sampler(self, studies: list[PreparedStudy], district: District, seed: int) -> Batches:
        """Draws the training batches of `district` from `studies`."""

    def training_step(self, district: District, batch: Any, progress: float = 0.0) -> dict[str, float]:
        """Moves the district's weights by one step; returns the losses by name, the telling one first.

        `progress` is how much of the whole training is done (0 to 1).
        """


@runtime_checkable
class Translator(System, Protocol):
    """A system that makes PET of CT."""

    @property
    def samples(self) -> int:
        """How many noise fields a prediction needs; 0 for a system that draws nothing."""

    def predict(self, district: District, inputs: Tensor, noise: Tensor | None = None) -> Prediction:
        """PET [g/ml] of inputs (B, C, D, H, W); `noise` (samples, 1, D, H, W) is standard normal.

        No gradient is kept.
        """


@runtime_checkable
class Generator(System, Protocol):
    """A system that makes CT."""

    def figures(self, study: PreparedStudy, district: District) -> dict[str, float]:
        """What it gets wrong on a held-out patient: figures by name, such as `mae` [HU].

        The same patient gives the same figures. Empty where the patient has nothing to measure on.
        """

    def shown(self, study: PreparedStudy) -> dict[str, Volume]:
        """CTs [HU] by title for a picture of the training: what is real, what is made.

        Of one axial slice, or a volume of which the middle coronal slice is shown.
        """
