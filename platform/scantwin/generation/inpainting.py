"""CT inpainting: a Pix2Pix of slices inside a region, then a diffusion of the texture that it leaves out.

The Pix2Pix gives the likeliest image, which is smooth. The diffusion adds what cannot be predicted: scanner
noise and tissue grain. A network sees the neighbours of each slice, and all slices of a region are made
together: at every step of the sampler each sees what its neighbours are becoming, so that they agree.
"""

from __future__ import annotations

from typing import Final, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scantwin.errors import InputError
from scantwin.generation import inpainting_figures
from scantwin.generation.class_density import levels_around
from scantwin.generation.slice_networks import SliceDenoiser, SlicePainter, middle
from scantwin.generation.slices import INNER, NEIGHBOURS, SEEN, SliceBatch, SliceSampler
from scantwin.generation.texture import LARGEST, noise_of, texture, without_texture
from scantwin.imaging.study import District
from scantwin.imaging.volume import Volume
from scantwin.learning.district_networks import DistrictNetworks
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
"""Slices that go through the network together: more gain nothing on a CPU and cost memory."""


class CTInpainting(DistrictNetworks):
    """The `System` of recipe system `ct-inpainting`."""

    def __init__(self, recipe: Recipe) -> None:
        if len(recipe.districts) > 1:
            # A region is painted as a whole, wherever it lies: further networks would learn for nothing.
            raise InputError(
                "A ct-inpainting model paints with the networks of one district, and its recipe names "
                f"{', '.join(recipe.districts)}.",
                hint='Write districts = ["whole-body"] in the recipe.',
            )
        self.district = recipe.districts[0]
        """The district whose networks paint every region."""
        self.rules = rules = recipe.inpainting or Inpainting()
        self.levels = cosine(rules.steps)
        halvings = max(len(recipe.network.channels), len(rules.channels)) - 1
        if recipe.patch % 2**halvings:
            # Otherwise the painter learns for half of a training before the denoiser fails.
            raise InputError(
                f"A patch of {recipe.patch} voxels cannot be halved {halvings} times, as its networks do.",
                hint=f"Make sampling.patch a multiple of {2**halvings}, or give fewer channels.",
            )

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

    @property
    def settles_at(self) -> float:
        """Share of a training after which the painter is frozen and the denoiser learns."""
        if not self.recipe.losses.denoising:
            return 1.0
        return self.rules.painter_share if self.recipe.losses.l1 else 0.0

    def training_step(self, district: District, batch: SliceBatch, progress: float = 0.0) -> dict[str, float]:
        """One step of the Pix2Pix or, once that is frozen, of the denoiser of the texture it leaves out."""
        denoiser, *painter = self.all_of(district)
        parts = batch.parts(self.recipe.optimisation.accumulate)
        share = self.settles_at
        refines = progress >= share
        names = (denoiser,) if refines else tuple(painter)
        self._pace(names, (progress - share) / (1 - share) if refines else progress / share)
        self._optimisers.clear(*names)
        if refines:
            losses = [self._learn_texture(denoiser, painter, part, len(parts)) for part in parts]
        else:
            losses = [self._learn_at_once(painter, part, len(parts)) for part in parts]
        self._optimisers.step(*names, clip=True)
        self._moved[district] = names
        return mean_of(losses)

    def _learn_texture(
        self, name: str, painter: list[str], part: SliceBatch, parts: int
    ) -> dict[str, Tensor]:
        """The denoiser's part of a step: the velocity of the texture that the painter leaves out."""
        denoiser = self._denoiser(name)
        with torch.no_grad():
            painted = torch.cat([self._paint_at_once(painter, *trio) for trio in _trios(part)], dim=1)
        seen = part.inner()
        image, region, classes = seen.image, seen.region, seen.classes
        # Not the painter's errors: with those of level, samples were speckled as widely as the painter errs.
        drawn, told = texture(image, region > 0, classes)
        denoiser.remember(drawn, told, noise_of(part.image, part.region), classes)
        sizes = denoiser.sizes(part.image, part.region, part.classes)[:, INNER]
        painted, drawn = without_texture(painted, region > 0, classes, sizes), drawn / sizes
        # Anything beyond is a vessel or a border, not texture to be drawn everywhere.
        counts = region * (drawn.abs() <= LARGEST)
        drawn = drawn.clamp(-LARGEST, LARGEST)
        step = (part.level * self.rules.steps).long().clamp(max=self.rules.steps - 1) + 1
        noised = self.levels.noised(drawn, seen.noise, step)
        said = self._say(name, noised, painted, region, classes, step)
        wanted = middle(self.levels.velocity(drawn, seen.noise, step))
        error = _inside((said - wanted) ** 2, middle(counts))
        backward(self.recipe.losses.denoising * error, parts)
        return {"denoising": error}

    def _say(
        self, name: str, noised: Tensor, painted: Tensor, region: Tensor, classes: Tensor, step: Tensor
    ) -> Tensor:
        """The velocity of the middle slice of (B, slices, H, W) at noise level `step` (B,)."""
        with self.arithmetic():
            raw = self._networks[name](noised, painted, region, classes, step / self.rules.steps)
        return torch.as_tensor(raw.float())

    def _paint_at_once(
        self, painter: list[str], image: Tensor, region: Tensor, classes: Tensor, levels: Tensor
    ) -> Tensor:
        """The middle slice (B, 1, H, W) with its region from the Pix2Pix or, without one, from `levels`."""
        said = self._paint(painter[0], image, region, classes, levels) if painter else levels
        return torch.where(middle(region) > 0, said, middle(image))

    def _paint(self, name: str, image: Tensor, region: Tensor, classes: Tensor, levels: Tensor) -> Tensor:
        """What the Pix2Pix predicts for the middle slice (B, 1, H, W)."""
        with self.arithmetic():
            said = self._networks[name](image, region, classes, levels)
        return torch.as_tensor(said.float())

    def _learn_at_once(self, painter: list[str], whole: SliceBatch, parts: int) -> dict[str, Tensor]:
        """The Pix2Pix's part of a step, on the middle slices."""
        weights, part = self.recipe.losses, whole.inner()
        region, real = middle(part.region), middle(part.image)
        levels = middle(levels_around(part.image, part.region, part.classes))
        said = self._paint(painter[0], part.image, part.region, part.classes, levels)
        losses = {"l1": _inside((said - real).abs(), region)}
        total = weights.l1 * losses["l1"]
        if len(painter) > 1:
            fake = torch.where(region > 0, said, real)
            with standing_still(self._networks[painter[1]]):
                judged, where = self._judge(painter[1], fake, part)
                losses["adversarial"] = _inside((judged - 1) ** 2, where)
                total = total + weights.adversarial * losses["adversarial"]
            doubt, where = self._judge(painter[1], fake.detach(), part)
            faith, _ = self._judge(painter[1], real, part)
            losses["discriminator"] = 0.5 * (_inside(doubt**2, where) + _inside((faith - 1) ** 2, where))
            backward(losses["discriminator"], parts)
        backward(total, parts)
        return losses

    def _judge(self, critic: str, slice_: Tensor, part: SliceBatch) -> tuple[Tensor, Tensor]:
        """Scores of a middle slice between its real neighbours, and 1 for each that touches the region."""
        images = part.image * (1 - part.region)
        images = torch.cat([images[:, :NEIGHBOURS], slice_, images[:, NEIGHBOURS + 1 :], part.region], dim=1)
        score = self._run(critic, images)
        return score, F.adaptive_max_pool2d(middle(part.region), score.shape[-2:])

    @torch.no_grad()
    def paint(
        self, district: District, image: Tensor, region: Tensor, classes: Tensor, noise: Tensor,
        method: Method = "diffusion",
    ) -> Tensor:  # fmt: skip
        """Regenerates `region`. All axes are (z, y, x); y and x must halve evenly to the networks' depth.

        image: CT on the bent scale; region: 1 where it is regenerated; classes: ORGAN_LABEL, int64; noise:
        standard normal, which a Pix2Pix does not use. Outside the region the image comes back unchanged.
        """
        name, *painter = self.all_of(district)
        wanted = torch.nonzero(region.flatten(1).any(1)).flatten()
        if not len(wanted):
            return image
        painted = image.clone()
        # From all slices together: an organ that the region swallows in one slice is as dense as in others.
        levels = levels_around(image[None], region[None], classes[None])[0]
        for some in torch.split(wanted, _AT_ONCE):
            seen, inside, named = (_around(volume, some) for volume in (image, region, classes))
            painted[some] = self._paint_at_once(painter, seen, inside, named, levels[some, None])[:, 0]
        if method == "pix2pix":
            return painted
        sizes = self._denoiser(name).sizes(image[None], region[None], classes[None])[0]
        painted = without_texture(painted, region > 0, classes, sizes)

        def denoise(x: Tensor, at: int) -> Tensor:
            # Each slice sees what its neighbours are just becoming, so that they agree.
            said = torch.zeros_like(image)
            for some in torch.split(wanted, _AT_ONCE):
                step = torch.full((len(some),), at, device=x.device)
                noised, known, inside, named = (_around(v, some) for v in (x, painted, region, classes))
                velocity = self._say(name, noised, known, inside, named, step)
                said[some] = self.levels.image(middle(noised), velocity, step)[:, 0]
            return said.clamp(-LARGEST, LARGEST)

        steps = descent(self.rules.steps, self.rules.sample_steps)
        drawn = SAMPLERS[self.rules.sampler](denoise, noise, steps, self.levels)
        return torch.where(region > 0, painted + sizes * drawn, image)

    def _denoiser(self, name: str) -> SliceDenoiser:
        return cast(SliceDenoiser, self._networks[name])

    def methods(self, district: District) -> tuple[Method, ...]:
        """The methods with networks, `learnt` or not: a recipe without the L1 term has no Pix2Pix."""
        return METHODS[: len(self.all_of(district))]

    def learnt(self, district: District, method: Method) -> bool:
        """Whether the network of `method` has changed at all.

        A denoiser may have learnt beside a Pix2Pix that has not: it then starts from the levels around.
        """
        name, *painter = self.all_of(district)
        if method == "diffusion":
            return self._denoiser(name).learnt
        return bool(painter) and cast(SlicePainter, self._networks[painter[0]]).learnt

    def figures(self, study: PreparedStudy, district: District) -> dict[str, float]:
        """Errors [HU] inside regions of a held-out patient: `inpainting_figures.figures`."""
        return inpainting_figures.figures(self, study, district)

    def shown(self, study: PreparedStudy) -> dict[str, Volume]:
        """An axial slice [HU], real and made."""
        return inpainting_figures.shown(self, study)


def _inside(error: Tensor, region: Tensor) -> Tensor:
    """Mean of `error` inside `region`, both (B, 1, H, W)."""
    return (error * region).sum() / region.sum().clamp(min=1.0)


def _around(volume: Tensor, slices: Tensor) -> Tensor:
    """Each of `slices` with its neighbours: (z, y, x) -> (B, SEEN, y, x); the outermost are repeated."""
    index = slices[:, None] + torch.arange(-NEIGHBOURS, NEIGHBOURS + 1, device=slices.device)[None]
    return volume[index.clamp(0, len(volume) - 1)]


def _trios(part: SliceBatch) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Image, region and classes (B, SEEN, H, W) around each slice that the denoiser of the middle one sees,
    and the levels (B, 1, H, W) in it."""
    levels = levels_around(part.image, part.region, part.classes)
    return [
        (
            part.image[:, k : k + SEEN], part.region[:, k : k + SEEN], part.classes[:, k : k + SEEN],
            levels[:, k + NEIGHBOURS, None],
        )
        for k in range(SEEN)
    ]  # fmt: skip
