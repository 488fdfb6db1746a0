"""District CycleGAN (arXiv 1703.10593): CT to PET and back, from CTs and PETs of different patients."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from scantwin.imaging.study import District
from scantwin.learning.district_networks import DistrictNetworks
from scantwin.learning.mirroring import averaged
from scantwin.learning.optimising import backward, mean_of, standing_still
from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import INPUTS, PreparedStudy, channel, windows_of
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_parts import Unpaired
from scantwin.learning.system import Batch, Prediction
from scantwin.learning.unet import PatchDiscriminator, UNet
from scantwin.translation.pix2pix import generator_from_zero
from scantwin.translation.pool import pooled
from scantwin.translation.scaling import critic_view, scaled, unscaled

_CT: Final = 2
"""Leading input channels: both windows of the CT; the others say where a voxel is."""
_PLACES: Final = 4
"""Channels that a critic is told beside an image (`_at`)."""
_LEAST_HEIGHT: Final = 0.1
"""Of a district, in the unit of the channels `below-top` and `above-bottom`: one slice has none."""


class CycleGAN(DistrictNetworks):
    """The `System` of recipe system `cyclegan`."""

    samples = 0
    """It draws nothing."""

    def __init__(self, recipe: Recipe) -> None:
        def build() -> dict[str, nn.Module]:
            return {
                "generator-pet": generator_from_zero(recipe),
                "generator-ct": UNet(
                    len(INPUTS) - _CT + 1, 1, recipe.network.channels, dropout=recipe.network.dropout
                ),
                "discriminator-pet": PatchDiscriminator(1 + _PLACES, recipe.network.discriminator_channels),
                "discriminator-ct": PatchDiscriminator(_CT + _PLACES, recipe.network.discriminator_channels),
            }

        super().__init__(recipe, build)
        self.rules = recipe.unpaired or Unpaired()

    def sampler(self, studies: list[PreparedStudy], district: District, seed: int) -> Sampler:
        """3D patches of `district`."""
        return Sampler(studies, self.recipe, district, seed)

    def training_step(self, district: District, batch: Batch, progress: float = 0.0) -> dict[str, float]:
        """One step of both generators, then one of both discriminators."""
        del progress
        to_pet, to_ct, judge_pet, judge_ct = self.components_of(district)
        parts = batch.parts(self.recipe.optimisation.accumulate)
        losses, fakes = [], []
        self._optimisers.clear(to_pet, to_ct)
        with standing_still(self._networks[judge_pet], self._networks[judge_ct]):
            for part in parts:
                said, fake = self._generate(district, part, len(parts))
                losses.append(said)
                fakes.append(fake)
        self._optimisers.step(to_pet, to_ct, clip=True)
        if self.recipe.losses.adversarial:
            self._optimisers.clear(judge_pet, judge_ct)
            for part, said, (pet, ct) in zip(parts, losses, fakes, strict=True):
                real_pet = _at(critic_view(scaled(part.suv, self.recipe)), _strangers_place(part))
                real_ct = _at(part.inputs[:, :_CT], part.inputs)
                said["discriminator"] = self._doubt(judge_pet, real_pet, pet)
                said["discriminator"] = said["discriminator"] + self._doubt(judge_ct, real_ct, ct)
                backward(said["discriminator"], len(parts))
            self._optimisers.step(judge_pet, judge_ct)
        return mean_of(losses)

    def _generate(
        self, district: District, part: Batch, parts: int
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The generators' losses, and what they made as the discriminators see it."""
        to_pet, to_ct, judge_pet, judge_ct = self.components_of(district)
        weights = self.recipe.losses
        place = _strangers_place(part)
        ct, there, here = part.inputs[:, :_CT], place[:, _CT:], part.inputs[:, _CT:]
        pet = scaled(part.suv, self.recipe)
        in_ct = torch.where(here[:, :1] > 0, 1.0, weights.air)  # there is depth where there is body
        made_pet = self._pet(to_pet, part.inputs)
        made_ct = self._ct(to_ct, pet, there)
        zero = torch.zeros(())
        losses = {"cycle": zero, "identity": zero, "adversarial": zero}
        if weights.cycle:
            back_pet = self._pet(to_pet, torch.cat([made_ct, there], dim=1))
            losses["cycle"] = _mean((back_pet - pet).abs(), part.weight)
            if self.rules.ct_again:
                back_ct = self._ct(to_ct, made_pet, here)
                losses["cycle"] = losses["cycle"] + self.rules.ct_again * _mean((back_ct - ct).abs(), in_ct)
        if weights.identity:
            # A PET in the place of the CT is to stay the PET it is, and the other way round.
            same_pet = self._pet(to_pet, torch.cat([pet, pet, there], dim=1))
            same_ct = self._ct(to_ct, ct[:, 1:2], here)
            losses["identity"] = _mean((same_pet - pet).abs(), part.weight) + _mean(
                (same_ct - ct).abs(), in_ct
            )
        seen = [_at(critic_view(made_pet), part.inputs), _at(made_ct, place)]
        if weights.adversarial:
            judged = self._judge(judge_pet, seen[0]), self._judge(judge_ct, seen[1])
            losses["adversarial"] = sum((((score - 1) ** 2).mean() for score in judged), zero)
        total = sum((getattr(weights, name) * value for name, value in losses.items()), zero)
        backward(total, parts)
        kept = [
            pooled(self.memory, f"{district}/{kind}", image.detach(), self.rules.pool)
            for kind, image in zip(("pet", "ct"), seen, strict=True)
        ]
        return losses, kept

    @torch.no_grad()
    def predict(self, district: District, inputs: Tensor, noise: Tensor | None = None) -> Prediction:
        """PET [g/ml] of inputs (B, C, D, H, W); noise is not used."""
        del noise
        network = self._networks[f"cyclegan/{district}/generator-pet"]
        with self.arithmetic():
            raw = averaged(network, inputs, self.recipe.sampling.average_flips)
        return Prediction(unscaled(raw.float() - 1.0, self.recipe).clamp(*self.recipe.suv_range))

    def _pet(self, generator: str, inputs: Tensor) -> Tensor:
        """Scaled PET of inputs."""
        return self._run(generator, inputs) - 1.0

    def _ct(self, generator: str, pet: Tensor, place: Tensor) -> Tensor:
        """Both windows of the CT of a scaled PET."""
        return windows_of(self._run(generator, torch.cat([pet, place], dim=1)))

    def _doubt(self, critic: str, real: Tensor, fake: Tensor) -> Tensor:
        return (
            0.5 * ((self._judge(critic, real) - 1) ** 2).mean()
            + 0.5 * (self._judge(critic, fake) ** 2).mean()
        )

    def _judge(self, critic: str, image: Tensor) -> Tensor:
        return self._run(critic, image)

    def _run(self, name: str, x: Tensor) -> Tensor:
        with self.arithmetic():
            out = self._networks[name](x.contiguous(memory_format=torch.channels_last_3d))
        return torch.as_tensor(out.float())


def _strangers_place(part: Batch) -> Tensor:
    """Inputs (B, C, D, H, W) that say where the PETs of a batch are; without the CT."""
    if part.place is None:
        raise ValueError("a CycleGAN learns from unpaired batches")
    return part.place


def _at(image: Tensor, inputs: Tensor) -> Tensor:
    """An image as a critic sees it: behind it how deep it lies, how high in the district, how far back and
    left.

    A skull is as dense as a spine, and what is hot in a head is cold in a chest. Not how fat the patient is,
    how tall the district or how wide the field of view: a critic that knows by them who has a PET alone need
    not look at the image.
    """
    below_top, above_bottom = channel(inputs, "below-top"), channel(inputs, "above-bottom")
    height = above_bottom / (below_top + above_bottom).clamp(min=_LEAST_HEIGHT)
    places = [channel(inputs, "skin-depth"), height, channel(inputs, "back"), channel(inputs, "left")]
    return torch.cat([image, *places], dim=1)


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    return (error * weight).sum() / (weight.sum() * error.shape[1])
