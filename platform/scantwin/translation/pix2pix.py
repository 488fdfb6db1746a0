"""District Pix2Pix (arXiv 2503.15555, after 1611.07004): a U-Net and a patch discriminator per district."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scantwin.imaging.study import District
from scantwin.learning import suv_aware
from scantwin.learning.district_networks import DistrictNetworks
from scantwin.learning.mirroring import averaged
from scantwin.learning.optimising import backward, mean_of, standing_still
from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import INPUTS, PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.system import Batch, Prediction
from scantwin.learning.unet import PatchDiscriminator, UNet
from scantwin.translation.scaling import critic_view, scaled, unscaled
from scantwin.translation.tissue_curve import FromTissueCurve

_SEEN = 2
"""Leading input channels that the discriminator sees besides the PET: both windows of the CT."""


class Pix2Pix(DistrictNetworks):
    """The `System` of recipe system `pix2pix`."""

    samples = 0
    """It draws nothing."""

    def __init__(self, recipe: Recipe) -> None:
        def build() -> dict[str, nn.Module]:
            made = {"generator": generator_from_zero(recipe)}
            if recipe.losses.adversarial:
                made["discriminator"] = PatchDiscriminator(_SEEN + 1, recipe.network.discriminator_channels)
            return made

        super().__init__(recipe, build)

    def sampler(self, studies: list[PreparedStudy], district: District, seed: int) -> Sampler:
        """3D patches of `district`."""
        return Sampler(studies, self.recipe, district, seed)

    def training_step(self, district: District, batch: Batch, progress: float = 0.0) -> dict[str, float]:
        """One step of the discriminator and one of the generator."""
        self._pace(self.all_of(district), progress)
        generator, critic = f"pix2pix/{district}/generator", f"pix2pix/{district}/discriminator"
        parts = batch.parts(self.recipe.optimisation.accumulate)
        weights = self.recipe.losses
        losses: list[dict[str, Tensor]] = [{} for _ in parts]
        fakes: list[Tensor] = []
        if weights.adversarial:
            self._optimisers.clear(critic)
            for part, said in zip(parts, losses, strict=True):
                fakes.append(self._say(generator, part.inputs))
                said["discriminator"] = self._doubt(critic, part, fakes[-1].detach())
                backward(said["discriminator"], len(parts))
                if len(parts) > 1:
                    fakes.clear()  # accumulation is there to save memory: rather predict it twice
            self._optimisers.step(critic)
        self._optimisers.clear(generator)
        for part, said in zip(parts, losses, strict=True):
            fake = fakes[0] if fakes else self._say(generator, part.inputs)
            said["l1"] = ((fake - self._scaled(part.suv)).abs() * part.weight).sum() / part.weight.sum()
            total = weights.l1 * said["l1"]
            if weights.adversarial:
                with standing_still(self._networks[critic]):
                    said["adversarial"] = ((self._judge(critic, part.inputs, fake) - 1) ** 2).mean()
                    total = total + weights.adversarial * said["adversarial"]
            aware = suv_aware.errors(unscaled(fake, self.recipe), part, weights)
            total = sum(suv_aware.weighted(aware, weights), total)
            said.update(aware)
            backward(total, len(parts))
        self._optimisers.step(generator, clip=True)
        return mean_of(losses)

    @torch.no_grad()
    def predict(self, district: District, inputs: Tensor, noise: Tensor | None = None) -> Prediction:
        """PET [g/ml] from inputs (B, C, D, H, W); noise is not used."""
        del noise
        network = self._networks[f"pix2pix/{district}/generator"]
        with self.arithmetic():
            raw = averaged(network, inputs, self.recipe.sampling.averaged_over(district))
        return Prediction(unscaled(raw.float() - 1.0, self.recipe).clamp(*self.recipe.suv_range))

    def _say(self, generator: str, inputs: Tensor) -> Tensor:
        """The generator's PET, scaled to [-1, 1]."""
        return self._run(generator, inputs) - 1.0  # the head's zero is SUV 0

    def _doubt(self, critic: str, part: Batch, fake: Tensor) -> Tensor:
        """The discriminator's loss; its scores should be 1 for real PETs and 0 for synthetic ones."""
        real = self._judge(critic, part.inputs, self._scaled(part.suv))
        return 0.5 * ((real - 1) ** 2).mean() + 0.5 * (self._judge(critic, part.inputs, fake) ** 2).mean()

    def _judge(self, critic: str, inputs: Tensor, pet: Tensor) -> Tensor:
        seen = torch.cat([inputs[:, :_SEEN], critic_view(pet)], dim=1)
        return self._run(critic, seen)

    def _scaled(self, suv: Tensor) -> Tensor:
        return scaled(suv, self.recipe)


def generator_from_zero(recipe: Recipe) -> nn.Module:
    """A U-Net from a network's inputs to one channel that starts as zero everywhere, or as the tissue curve.

    Zero stands for SUV 0: the first steps then learn levels instead of undoing noise.
    """
    generator = UNet(len(INPUTS), 1, recipe.network.channels, dropout=recipe.network.dropout)
    nn.init.zeros_(generator.head.weight)
    nn.init.zeros_(generator.head.bias)  # type: ignore[arg-type]
    if recipe.network.start == "zero":
        return generator
    low, high = recipe.suv_range
    return FromTissueCurve(generator, (high - low) / 2, recipe.spacing_mm)
