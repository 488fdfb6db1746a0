"""CT inpainting: a conditional diffusion of slices inside a region, and a Pix2Pix that learns the same.

Slices are made with their neighbours in sight, all of a region at once: at every step of the sampler each
slice sees what its neighbours are becoming, so that they agree.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scantwin.generation import inpainting_figures
from scantwin.generation.class_density import LARGEST, from_deviation, to_deviation
from scantwin.generation.slice_networks import SliceDenoiser, SlicePainter, middle
from scantwin.generation.slices import NEIGHBOURS, SEEN, SliceBatch, SliceSampler
from scantwin.imaging.study import District
from scantwin.imaging.volume import Volume
from scantwin.learning.district_networks import DistrictNetworks
from scantwin.learning.machine import arithmetic
from scantwin.learning.optimising import backward, mean_of, standing_still
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_generation import Inpainting
from scantwin.learning.samplers import SAMPLERS
from scantwin.learning.schedules import cosine, descent
from scantwin.learning.unet import PatchDiscriminator

Method = Literal["diffusion", "pix2pix"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)

_AT_ONCE: Final = 32
"""Slices that go through the network together: more gain nothing on a processor and cost memory."""


class CTInpainting(DistrictNetworks):
    """The `System` of recipe system `ct-inpainting`."""

    def __init__(self, recipe: Recipe) -> None:
        self.rules = rules = recipe.inpainting or Inpainting()
        self.levels = cosine(rules.steps)

        def build() -> dict[str, nn.Module]:
            made: dict[str, nn.Module] = {
                "denoiser": SliceDenoiser(rules.class_features, rules.channels, rules.time_features)
            }
            if recipe.losses.l1:
                made["pix2pix"] = SlicePainter(rules.class_features, recipe.network.channels)
            if recipe.losses.l1 and recipe.losses.adversarial:
                judged = recipe.network.discriminator_channels
                made["discriminator"] = PatchDiscriminator(2 * SEEN, judged, dimensions=2)
            return made

        super().__init__(recipe, build, dimensions=2)

    def sampler(self, studies: list[PreparedStudy], district: District, seed: int) -> SliceSampler:
        """Patches of slices of `district`."""
        return SliceSampler(studies, self.recipe, district, seed)

    def training_step(self, district: District, batch: SliceBatch, progress: float = 0.0) -> dict[str, float]:
        """One step of the denoiser and one of the Pix2Pix, on the same patches."""
        del progress
        names = self.all_of(district)
        parts = batch.parts(self.recipe.optimisation.accumulate)
        self._optimisers.clear(*names)
        losses = []
        for part in parts:
            said = self._learn_noise(names[0], part, len(parts))
            if len(names) > 1:
                said |= self._learn_at_once(names, part, len(parts))
            losses.append(said)
        self._optimisers.step(*names, clip=True)
        return mean_of(losses)

    def _learn_noise(self, denoiser: str, part: SliceBatch, parts: int) -> dict[str, Tensor]:
        step = (part.level * self.rules.steps).long().clamp(max=self.rules.steps - 1) + 1
        deviation = to_deviation(part.image, part.classes)
        noised = self.levels.noised(deviation, part.noise, step)
        said, scale = self._denoised(denoiser, noised, (part.image, part.region, part.classes), step)
        # Pseudo-Huber (arXiv 2310.14189, 3.3): where a label misses its organ by a voxel the error is ten
        # times that of texture, and its square would be all that is learnt from.
        missed = (said - middle(deviation)) / scale
        error = _inside(2.0 * ((1.0 + missed**2).sqrt() - 1.0), middle(part.region))
        backward(self.recipe.losses.denoising * error, parts)
        return {"denoising": error}

    def _denoised(
        self, denoiser: str, noised: Tensor, known: tuple[Tensor, Tensor, Tensor], step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The clean deviation behind `noised` (B, slices, H, W), and the scale of its error (B, 1, 1, 1).

        `known` is image, region and classes. The network says what the best linear guess misses, scaled to
        unit variance (arXiv 2206.00364, 5, for alpha * image + sigma * noise): untrained, it draws tissue of
        the right grain already. A velocity would have to unlearn noise of the size of the whole class first.
        """
        alpha, sigma = (v[step].view(-1, 1, 1, 1) for v in (self.levels.alpha, self.levels.sigma))
        grain = self.rules.grain
        size = (alpha**2 * grain**2 + sigma**2).sqrt()
        with arithmetic(self.recipe.optimisation.precision):
            raw = self._networks[denoiser](noised / size, *known, step / self.rules.steps)
        scale = sigma * grain / size
        return alpha * grain**2 / size**2 * middle(noised) + scale * torch.as_tensor(raw.float()), scale

    def _learn_at_once(self, names: tuple[str, ...], part: SliceBatch, parts: int) -> dict[str, Tensor]:
        weights = self.recipe.losses
        region, real = middle(part.region), middle(part.image)
        with arithmetic(self.recipe.optimisation.precision):
            said = self._networks[names[1]](part.image, part.region, part.classes).float()
        losses = {"l1": _inside((said - real).abs(), region)}
        total = weights.l1 * losses["l1"]
        if len(names) > 2:
            fake = torch.where(region > 0, said, real)
            with standing_still(self._networks[names[2]]):
                judged, where = self._judge(names[2], fake, part)
                losses["adversarial"] = _inside((judged - 1) ** 2, where)
                total = total + weights.adversarial * losses["adversarial"]
            doubt, where = self._judge(names[2], fake.detach(), part)
            faith, _ = self._judge(names[2], real, part)
            losses["discriminator"] = 0.5 * (_inside(doubt**2, where) + _inside((faith - 1) ** 2, where))
            backward(losses["discriminator"], parts)
        backward(total, parts)
        return losses

    def _judge(self, critic: str, slice_: Tensor, part: SliceBatch) -> tuple[Tensor, Tensor]:
        """Scores of a middle slice between its real neighbours, and how much each has of the region."""
        images = part.image * (1 - part.region)
        images = torch.cat([images[:, :NEIGHBOURS], slice_, images[:, NEIGHBOURS + 1 :], part.region], dim=1)
        with arithmetic(self.recipe.optimisation.precision):
            score = self._networks[critic](images.contiguous(memory_format=torch.channels_last)).float()
        return score, F.adaptive_max_pool2d(middle(part.region), score.shape[-2:])

    @torch.no_grad()
    def paint(
        self, district: District, image: Tensor, region: Tensor, classes: Tensor, noise: Tensor,
        method: Method = "diffusion",
    ) -> Tensor:  # fmt: skip
        """Makes `region` anew. All axes are (z, y, x), y and x divisible by the networks' depth.

        image: CT on the bent scale; region: 1 where it is made; classes: ORGAN_LABEL, int64; noise: standard
        normal, which a Pix2Pix does not use. Outside of the region the image comes back as it is.
        """
        classes = torch.where(region > 0, classes, 0)
        names = self.all_of(district)
        wanted = torch.nonzero(region.flatten(1).any(1)).flatten()
        if not len(wanted):
            return image
        if method == "pix2pix":
            made = self._painted(names[1], image, region, classes, wanted)
            return torch.where(region > 0, made, image)

        def denoise(x: Tensor, at: int) -> Tensor:
            # The known pixels come in at every step: what is made must fit them, not the other way.
            said = torch.zeros_like(image)
            for some in torch.split(wanted, _AT_ONCE):
                step = torch.full((len(some),), at)
                noised, *known = (_around(volume, some) for volume in (x, image, region, classes))
                said[some] = self._denoised(names[0], noised, (known[0], known[1], known[2]), step)[0][:, 0]
            return said.clamp(-LARGEST, LARGEST)

        steps = descent(self.rules.steps, self.rules.sample_steps, self.rules.bend)
        drawn = SAMPLERS[self.rules.sampler](denoise, noise, steps, self.levels)
        return torch.where(region > 0, from_deviation(drawn, classes), image)

    def methods(self, district: District) -> tuple[Method, ...]:
        """How it can paint: a recipe without the L1 term has no Pix2Pix."""
        return METHODS[: len(self.all_of(district))]

    def figures(self, study: PreparedStudy, district: District) -> dict[str, float]:
        """Errors [HU] inside regions of a held-out patient: `inpainting_figures.figures`."""
        return inpainting_figures.figures(self, study, district)

    def shown(self, study: PreparedStudy) -> dict[str, Volume]:
        """An axial slice [HU], real and made."""
        return inpainting_figures.shown(self, study)

    def _painted(self, name: str, image: Tensor, region: Tensor, classes: Tensor, wanted: Tensor) -> Tensor:
        made = image.clone()
        for some in torch.split(wanted, _AT_ONCE):
            with arithmetic(self.recipe.optimisation.precision):
                said = self._networks[name](*(_around(volume, some) for volume in (image, region, classes)))
            made[some] = said.float()[:, 0]
        return made


def _inside(error: Tensor, region: Tensor) -> Tensor:
    """Mean of `error` inside `region`, both (B, 1, H, W)."""
    return (error * region).sum() / region.sum().clamp(min=1.0)


def _around(volume: Tensor, slices: Tensor) -> Tensor:
    """Each of `slices` with its neighbours: (z, y, x) -> (B, SEEN, y, x); the outermost are repeated."""
    index = slices[:, None] + torch.arange(-NEIGHBOURS, NEIGHBOURS + 1)[None]
    return volume[index.clamp(0, len(volume) - 1)]
