"""District CycleGAN (arXiv 1703.10593): CT to PET and back, from CTs and PETs of different patients."""

from __future__ import annotations

from functools import partial
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scantwin.imaging.study import District
from scantwin.learning.district_networks import DistrictNetworks
from scantwin.learning.mirroring import averaged
from scantwin.learning.optimising import backward, mean_of, standing_still
from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import INPUTS, PreparedStudy, windows_of
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_parts import Unpaired
from scantwin.learning.system import Batch, Prediction
from scantwin.learning.unet import PatchDiscriminator, UNet
from scantwin.translation.pix2pix import generator_from_zero
from scantwin.translation.pool import pooled
from scantwin.translation.scaling import critic_view, scaled, unscaled
from scantwin.translation.tissue_curve import FromTissueCurve
from scantwin.translation.usual_uptake import PLACES, UsualUptake, place_of

_CT: Final = 2
"""Leading input channels: both windows of the CT; the others say where a voxel is."""
_NEIGHBOURHOOD: Final = 4
"""Edge [voxels] of neighbourhoods held to what is usual as a whole: grain within is the critic's matter."""


class CycleGAN(DistrictNetworks):
    """The `System` of recipe system `cyclegan`."""

    samples = 0
    """It draws nothing."""

    def __init__(self, recipe: Recipe) -> None:
        def build() -> dict[str, nn.Module]:
            made: dict[str, nn.Module] = {
                "generator-pet": _as_published(generator_from_zero(recipe)),
                "generator-ct": UNet(
                    len(INPUTS) - _CT + 1, 1, recipe.network.channels, dropout=recipe.network.dropout
                ),
                "discriminator-pet": PatchDiscriminator(1 + PLACES, recipe.network.discriminator_channels),
                "discriminator-ct": PatchDiscriminator(_CT + PLACES, recipe.network.discriminator_channels),
            }
            return {**made, "usual": UsualUptake()} if rules.by_place else made

        rules = recipe.unpaired or Unpaired()
        super().__init__(recipe, build)
        self.rules = rules

    def sampler(self, studies: list[PreparedStudy], district: District, seed: int) -> Sampler:
        """3D patches of `district`."""
        return Sampler(studies, self.recipe, district, seed)

    def training_step(self, district: District, batch: Batch, progress: float = 0.0) -> dict[str, float]:
        """One step of both generators and of the usual uptake, then one of both discriminators."""
        self._pace(self.all_of(district), progress)
        to_pet, to_ct, judge_pet, judge_ct, *usual = self.all_of(district)
        parts = batch.parts(self.recipe.optimisation.accumulate)
        losses, fakes = [], []
        self._optimisers.clear(to_pet, to_ct, *usual)
        with standing_still(self._networks[judge_pet], self._networks[judge_ct]):
            for part in parts:
                said, fake = self._generate(district, part, len(parts))
                losses.append(said)
                fakes.append(fake)
        self._optimisers.step(to_pet, to_ct, *usual, clip=True)
        if self.recipe.losses.adversarial:
            self._optimisers.clear(judge_pet, judge_ct)
            for part, said, (pet, ct) in zip(parts, losses, fakes, strict=True):
                real_pet = _at(critic_view(scaled(part.suv, self.recipe)), _strangers_place(part))
                real_ct = _at(part.inputs[:, :_CT], part.inputs)
                said["discriminator"] = self._doubt(judge_pet, real_pet, pet)
                said["discriminator"] = said["discriminator"] + self._doubt(judge_ct, real_ct, ct)
                backward(said["discriminator"], len(parts))
            self._optimisers.step(judge_pet, judge_ct)
        else:  # discriminators that judge nothing have not learnt
            self._moved[district] = (to_pet, to_ct, *usual)
        return mean_of(losses)

    def _generate(
        self, district: District, part: Batch, parts: int
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """The generators' losses, and their images as the discriminators see them."""
        _, to_ct, judge_pet, judge_ct, *_ = self.all_of(district)
        weights = self.recipe.losses
        place = _strangers_place(part)
        ct, there, here = part.inputs[:, :_CT], place[:, _CT:], part.inputs[:, _CT:]
        pet = scaled(part.suv, self.recipe)
        # Depth under the skin is above 0 where there is body.
        in_ct, in_pet = (torch.where(of[:, :1] > 0, 1.0, weights.air) for of in (here, there))
        typical = self._typical(district, part.inputs)
        made_pet = self._corrected(district, typical, part.inputs)
        made_ct = self._ct(to_ct, pet, there)
        zero = torch.zeros(())
        losses = {"cycle": zero, "identity": zero, "held": zero, "adversarial": zero}
        if weights.cycle:
            back_pet = self._pet(district, torch.cat([made_ct, there], dim=1))
            losses["cycle"] = _mean(back_pet - pet, part.weight)
            if self.rules.ct_again:
                back_ct = self._ct(to_ct, made_pet, here)
                losses["cycle"] = losses["cycle"] + self.rules.ct_again * _mean(back_ct - ct, in_ct)
        if weights.identity:
            # A PET given in place of the CT must stay as it is, and the other way round.
            same_pet = self._pet(district, torch.cat([pet, pet, there], dim=1))
            same_ct = self._ct(to_ct, ct[:, 1:2], here)
            losses["identity"] = _mean(same_pet - pet, part.weight) + _mean(same_ct - ct, in_ct)
        if weights.held and typical is not None:
            off = F.avg_pool3d(made_pet - scaled(typical.detach(), self.recipe), _NEIGHBOURHOOD)
            losses["held"] = _mean(off, F.avg_pool3d(in_ct, _NEIGHBOURHOOD))
        seen = [_at(critic_view(made_pet), part.inputs), _at(made_ct, place)]
        if weights.adversarial:
            judged = self._run(judge_pet, seen[0]), self._run(judge_ct, seen[1])
            losses["adversarial"] = sum((((score - 1) ** 2).mean() for score in judged), zero)
        total = sum((getattr(weights, name) * value for name, value in losses.items()), zero)
        if self.rules.by_place:  # it has weights of its own, which nothing else moves
            with torch.no_grad():
                curve = self._curve(district).prior(part.inputs)
            losses["usual"] = self._usual(district).error(
                pets=(place, part.suv, in_pet), curve=(part.inputs, curve, in_ct)
            )
            total = total + losses["usual"]
        backward(total, parts)
        pool = self.rules.pool if weights.adversarial else 0
        kept = [
            pooled(self.memory, f"{district}/{kind}", image.detach(), pool)
            for kind, image in zip(("pet", "ct"), seen, strict=True)
        ]
        return losses, kept

    @torch.no_grad()
    def predict(self, district: District, inputs: Tensor, noise: Tensor | None = None) -> Prediction:
        """PET [g/ml] from inputs (B, C, D, H, W); noise is not used."""
        del noise
        axes = self.recipe.sampling.averaged_over(district)
        pet = averaged(partial(self._pet, district), inputs, axes)
        return Prediction(unscaled(pet, self.recipe).clamp(*self.recipe.suv_range))

    def _pet(self, district: District, inputs: Tensor) -> Tensor:
        """The scaled PET from inputs."""
        return self._corrected(district, self._typical(district, inputs), inputs)

    def _corrected(self, district: District, typical: Tensor | None, inputs: Tensor) -> Tensor:
        """The scaled PET from inputs: the typical PET, as the generator corrects it."""
        generator = self._networks[f"cyclegan/{district}/generator-pet"]
        packed = inputs.contiguous(memory_format=torch.channels_last_3d)
        with self.arithmetic():
            out = generator(packed) if typical is None else self._curve(district).corrected(typical, packed)
        return torch.as_tensor(out.float()) - 1.0

    def _typical(self, district: District, inputs: Tensor) -> Tensor | None:
        """Typical PET [g/ml] by CT number, and by place if the recipe says so; None if networks start from
        nothing."""
        if self.recipe.network.start == "zero":
            return None
        prior = self._curve(district).prior(inputs)
        return prior * self._usual(district).factor(inputs) if self.rules.by_place else prior

    def _curve(self, district: District) -> FromTissueCurve:
        return cast(FromTissueCurve, self._networks[f"cyclegan/{district}/generator-pet"])

    def _usual(self, district: District) -> UsualUptake:
        return cast(UsualUptake, self._networks[f"cyclegan/{district}/usual"])

    def _ct(self, generator: str, pet: Tensor, place: Tensor) -> Tensor:
        """Both windows of the CT made from a scaled PET."""
        return windows_of(self._run(generator, torch.cat([pet, place], dim=1)))

    def _doubt(self, critic: str, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((self._run(critic, real) - 1) ** 2).mean() + 0.5 * (self._run(critic, fake) ** 2).mean()


def _as_published(generator: nn.Module) -> nn.Module:
    """The generator with its tissue curve frozen: without pairs nothing tells how to improve it."""
    if isinstance(generator, FromTissueCurve):
        for learnt in (generator.uptake, generator.per_fat, generator.blur):
            learnt.requires_grad_(False)
    return generator


def _strangers_place(part: Batch) -> Tensor:
    """Inputs (B, C, D, H, W) that say where the PETs of a batch lie, without the CT."""
    if part.place is None:
        raise ValueError("a CycleGAN learns from unpaired batches")
    return part.place


def _at(image: Tensor, inputs: Tensor) -> Tensor:
    """An image as a critic sees it: followed by where it lies.

    A skull is as dense as a spine, and what is hot in a head is cold in a chest. A critic that could tell by
    the place who has only a PET would not need to look at the image.
    """
    return torch.cat([image, place_of(inputs)], dim=1)


def _mean(error: Tensor, weight: Tensor) -> Tensor:
    return (error.abs() * weight).sum() / (weight.sum() * error.shape[1])
