"""Whole CT volumes on small machines: a VQ-GAN, a latent diffusion, an adapter for masks (arXiv 2503.13211).

They learn one after the other. First the autoencoder learns on 3D patches; then it is frozen and the denoiser
learns what it encodes; later on, a random half of the steps train the adapter beside a frozen denoiser. What
learns depends on the share of the training done, which in a federation is the same at every site.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from scantwin.errors import InputError
from scantwin.generation import volumes_figures
from scantwin.generation.autoencoder import Autoencoder
from scantwin.generation.latent_denoiser import Adapter, LatentDenoiser
from scantwin.generation.volumes_batches import VolumeBatch, VolumeSampler, Window
from scantwin.generation.volumes_drawing import encode
from scantwin.generation.volumes_views import View, class_count
from scantwin.imaging.study import District
from scantwin.imaging.volume import Volume
from scantwin.learning.district_networks import DistrictNetworks
from scantwin.learning.optimising import backward, mean_of, standing_still
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_generation import Volumes
from scantwin.learning.schedules import Levels, Preconditioning, cosine
from scantwin.learning.unet import PatchDiscriminator

_RATE = 0.02
"""How fast the memory of what masks tell moves: it spans some fifty patients."""


@dataclass(frozen=True)
class _Guess:
    """A velocity guessed from a latent's expected value and SD, to which a network adds the remainder."""

    parts: Preconditioning
    off: Tensor
    """The noised latent minus the expected value, noised to the same level."""
    own: Tensor
    """Velocity of the expected value."""

    @classmethod
    def of(cls, levels: Levels, expected: Tensor, sd: Tensor, noised: Tensor, steps: Tensor) -> _Guess:
        """For `noised` (B, C, D, H, W) at `steps` (B,); `expected` and `sd` have as many axes."""
        expected = expected.expand(len(noised), -1, -1, -1, -1)
        nothing = torch.zeros_like(expected)
        return cls(
            Preconditioning.of(levels, steps, sd, noised),
            noised - levels.noised(expected, nothing, steps),
            levels.velocity(expected, nothing, steps),
        )

    @property
    def seen(self) -> Tensor:
        """The network's input: about as large as noise alone, whatever the place and level."""
        return self.parts.into * self.off

    def velocity(self, said: Tensor) -> Tensor:
        """The velocity if a network predicts `said`, in units of the SD that is left."""
        return torch.as_tensor(self.parts.skip * self.off + self.own + self.parts.out * said)


class LowResource3D(DistrictNetworks):
    """The `System` of recipe system `low-resource-3d`."""

    def __init__(self, recipe: Recipe) -> None:
        if recipe.districts != ("whole-body",):
            # A window is a whole field of view: a district's network would learn nothing of its own.
            raise InputError(
                f"A low-resource-3d model makes whole fields of view, and none of {_others(recipe)} alone.",
                hint='Write districts = ["whole-body"] in the recipe.',
            )
        self.rules = rules = recipe.volumes or Volumes()
        self.schedule = cosine(rules.steps)
        latents = len(rules.levels)

        def build() -> dict[str, nn.Module]:
            made: dict[str, nn.Module] = {
                "autoencoder": Autoencoder(rules.autoencoder_channels, rules.levels),
                "denoiser": LatentDenoiser(latents, rules.channels, rules.time_features),
            }
            if recipe.losses.adversarial:
                made["discriminator"] = PatchDiscriminator(1, recipe.network.discriminator_channels)
            if rules.masks != "none":
                made["adapter"] = Adapter(latents, class_count(rules), rules.channels, rules.time_features)
            return made

        super().__init__(recipe, build)

    @property
    def settles_at(self) -> float:
        """Share of a training after which the autoencoder is frozen."""
        return self.rules.autoencoder_share

    def autoencoder(self, district: District) -> Autoencoder:
        """The autoencoder of `district`."""
        return cast(Autoencoder, self._networks[f"low-resource-3d/{district}/autoencoder"])

    def denoiser(self, district: District) -> LatentDenoiser:
        """The denoiser of `district`."""
        return cast(LatentDenoiser, self._networks[f"low-resource-3d/{district}/denoiser"])

    def adapter(self, district: District) -> Adapter | None:
        """The adapter of `district`; None where the recipe has no masks."""
        return cast(Adapter | None, self._networks.get(f"low-resource-3d/{district}/adapter"))

    def learnt(self, district: District) -> bool:
        """Whether the denoiser has changed at all: one that never learnt makes noise."""
        return bool(self.denoiser(district).head.weight.any())

    def follows_masks(self, district: District) -> bool:
        """Whether the adapter has learnt: until then, and without one, a mask changes nothing."""
        adapter = self.adapter(district)
        return adapter is not None and adapter.learnt

    def sampler(self, studies: list[PreparedStudy], district: District, seed: int) -> VolumeSampler:
        """Patches and windows of `district`."""
        return VolumeSampler(studies, self.recipe, district, seed)

    def training_step(
        self, district: District, batch: VolumeBatch, progress: float = 0.0
    ) -> dict[str, float]:
        """One step of whichever network learns at `progress`."""
        share, begins = self.rules.autoencoder_share, self.rules.masks_from
        if progress < share:
            return self._learn_to_encode(district, batch, progress / share)
        within = (progress - share) / (1 - share)
        if within >= begins and batch.masked and self.adapter(district) is not None:
            return self._learn_latents(district, batch, "adapter", (within - begins) / (1 - begins))
        return self._learn_latents(district, batch, "denoiser", within)

    def _learn_to_encode(self, district: District, batch: VolumeBatch, within: float) -> dict[str, float]:
        """A step of the autoencoder and, late, its discriminator; `within` is the share of its time gone."""
        name, critic = (f"low-resource-3d/{district}/{kind}" for kind in ("autoencoder", "discriminator"))
        judged = critic in self._networks and within >= self.rules.adversarial_from
        names = (name, critic) if judged else (name,)
        self._pace(names, within)
        self._optimisers.clear(*names)
        parts, losses = self.recipe.optimisation.accumulate, []
        images, weights = batch.patches.image.chunk(parts), batch.patches.weight.chunk(parts)
        for image, weight in zip(images, weights, strict=True):
            said = self._run(name, image)
            found = {"reconstruction": ((said - image).abs() * weight).sum() / weight.sum()}
            total = self.recipe.losses.l1 * found["reconstruction"]
            if judged:
                with standing_still(self._networks[critic]):
                    found["adversarial"] = ((self._run(critic, said) - 1) ** 2).mean()
                total = total + self.recipe.losses.adversarial * found["adversarial"]
                real, fake = self._run(critic, image), self._run(critic, said.detach())
                found["discriminator"] = 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean()
                backward(found["discriminator"], parts)
            backward(total, parts)
            losses.append(found)
        self._optimisers.step(*names, clip=True)
        self._moved[district] = names
        return mean_of(losses)

    def _learn_latents(
        self, district: District, batch: VolumeBatch, kind: str, within: float
    ) -> dict[str, float]:
        """A step of the denoiser, or of the adapter beside it; `within` is the share of its time gone."""
        name = f"low-resource-3d/{district}/{kind}"
        other, adapter = self.denoiser(district), self.adapter(district)
        if kind == "adapter" and adapter is not None and not adapter.learnt:
            adapter.begin_as(other)
        self._pace((name,), within)
        self._optimisers.clear(name)
        losses = []
        for window in batch.windows:
            view, latent = window.view, self.latent_of(district, window.view)
            if kind == "denoiser":
                other.remember(view.place, view.field_m, latent)
                found = {"denoising": self.latent_loss(district, window, masked=False)}
            elif adapter is not None and view.mask is not None:
                adapter.guess.remember(view.mask, latent, _RATE)
                with standing_still(other):
                    found = {"masked": self.latent_loss(district, window, masked=True)}
            backward(self.recipe.losses.denoising * found[next(iter(found))], len(batch.windows))
            losses.append(found)
        self._optimisers.step(name, clip=True)
        self._moved[district] = (name,)
        return mean_of(losses)

    def latent_of(self, district: District, view: View) -> Tensor:
        """The autoencoder's latent of a view, for the diffusion (1, C, D, H, W): made once and kept there.

        Only valid once the autoencoder is frozen.
        """
        if view.latent is None:
            view.latent = encode(self.autoencoder(district), view.image(), self.rules, self.recipe)
        return view.latent

    def latent_loss(self, district: District, window: Window, *, masked: bool) -> Tensor:
        """Mean error of the velocity, squared or absolute as the recipe says, with or without the mask."""
        view, count = window.view, len(window.steps)
        latent = self.latent_of(district, view).expand(count, -1, -1, -1, -1)
        noised = self.schedule.noised(latent, window.noise, window.steps)
        sparing = latent[0, 0].numel() > self.rules.recompute_above
        mask = view.mask.expand(count, -1, -1, -1, -1) if masked and view.mask is not None else None
        said = self.velocity(district, noised, view.place, window.steps, mask, sparing=sparing)
        error = said - self.schedule.velocity(latent, window.noise, window.steps)
        return (error.square() if self.rules.error == "squared" else error.abs()).mean()

    def velocity(
        self, district: District, noised: Tensor, place: Tensor, steps: Tensor, mask: Tensor | None = None,
        *, sparing: bool = False, guidance: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """The velocity that the denoiser, with the adapter if there is a mask, predicts (B, C, D, H, W).

        `noised` are latents of `encode`, noised to `steps` (B,), at `place` (1, 4, D, H, W). The result goes
        `guidance` times as far from the guesses that need no descent as the networks say.
        """
        denoiser, adapter = self.denoiser(district), self.adapter(district)
        level = (steps / self.rules.steps).to(noised)
        expected, sd = denoiser.usual(place)
        usual = _Guess.of(self.schedule, expected, sd, noised, steps)
        seen = usual.seen.contiguous(memory_format=torch.channels_last_3d)
        control = None
        with self.arithmetic():
            if mask is not None and adapter is not None and adapter.learnt:
                control = adapter(seen, place, level, mask, sparing=sparing)
            said = denoiser(seen, place, level, control and control.levels, sparing=sparing).float()
        if control is None:
            return usual.velocity(guidance * said)
        # Two opinions on the same latent: the one of smaller SD, which is sigma * out, counts more.
        told = _Guess.of(self.schedule, control.expected, control.sd, noised, steps)
        share = torch.sigmoid(2 * torch.log(usual.parts.out / told.parts.out) + control.trust)
        return torch.lerp(usual.velocity(guidance * said), told.velocity(guidance * control.said), share)

    def figures(self, study: PreparedStudy, district: District) -> dict[str, float]:
        """Reconstruction errors [HU] and the denoiser's loss on a held-out patient."""
        return volumes_figures.figures(self, study, district)

    def shown(self, study: PreparedStudy) -> dict[str, Volume]:
        """CTs [HU]: real, reconstructed, and made in the ways that it has learnt."""
        return volumes_figures.shown(self, study)


def _others(recipe: Recipe) -> str:
    return ", ".join(name for name in recipe.districts if name != "whole-body")
