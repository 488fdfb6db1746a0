"""A coarse predictor, then a conditional diffusion of what it leaves over (issue 4, after arXiv 2112.02475).

This residual is taken about the mean uptake at the coarse prediction and scaled by the size of errors there,
so that the denoiser sees about unit variance in fat and tumour alike.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from scantwin.imaging.study import District
from scantwin.learning import suv_aware
from scantwin.learning.district_networks import DistrictNetworks
from scantwin.learning.mirroring import averaged
from scantwin.learning.optimising import backward, mean_of
from scantwin.learning.patches import Sampler
from scantwin.learning.prepared import INPUTS, PreparedStudy
from scantwin.learning.recipe import Recipe
from scantwin.learning.recipe_parts import Diffusion
from scantwin.learning.samplers import SAMPLERS
from scantwin.learning.schedules import cosine, descent, descent_by_snr
from scantwin.learning.system import Batch, Prediction
from scantwin.translation.delivering import anchored, deliver
from scantwin.translation.pix2pix import generator_from_zero
from scantwin.translation.residual_denoiser import ResidualDenoiser
from scantwin.translation.scaling import critic_view, scaled, unscaled


class CoarseDiffusion(DistrictNetworks):
    """The `System` of recipe system `coarse-diffusion`."""

    def __init__(self, recipe: Recipe) -> None:
        self.rules = rules = recipe.diffusion or Diffusion()
        self.levels = cosine(rules.steps)

        def build() -> dict[str, nn.Module]:
            return {
                "coarse": generator_from_zero(recipe),
                "denoiser": ResidualDenoiser(len(INPUTS) + 2, rules.channels, rules.time_features),
            }

        super().__init__(recipe, build)

    @property
    def samples(self) -> int:
        """Noise fields that a prediction needs."""
        return 0 if self.rules.delivered == "coarse" else self.rules.samples

    @property
    def settles_at(self) -> float:
        """Share of a training after which the coarse predictor is frozen and the denoiser learns."""
        return self.rules.coarse_share if self.recipe.losses.denoising else 1.0

    def sampler(self, studies: list[PreparedStudy], district: District, seed: int) -> Sampler:
        """3D patches of `district`."""
        return Sampler(studies, self.recipe, district, seed)

    def training_step(self, district: District, batch: Batch, progress: float = 0.0) -> dict[str, float]:
        """One step of the coarse predictor or, once that is frozen, of the denoiser."""
        coarse, denoiser = self.all_of(district)
        parts = batch.parts(self.recipe.optimisation.accumulate)
        refines = progress >= self.settles_at
        name = denoiser if refines else coarse
        share = self.settles_at
        self._pace((name,), (progress - share) / (1 - share) if refines else progress / share)
        self._optimisers.clear(name)
        losses = []
        for part in parts:
            if refines:
                with torch.no_grad():
                    said = unscaled(self._say(coarse, part.inputs), self.recipe)
                first = said.clamp(*self.recipe.suv_range)
                losses.append(self._learn_residual(denoiser, first, part, len(parts)))
            else:
                losses.append(self._learn_coarse(self._say(coarse, part.inputs), part, len(parts)))
        self._optimisers.step(name, clip=True)
        self._moved[district] = (name,)
        return mean_of(losses)

    def _learn_coarse(self, said: Tensor, part: Batch, parts: int) -> dict[str, Tensor]:
        weights = self.recipe.losses
        losses = {
            "l1": ((said - scaled(part.suv, self.recipe)).abs() * part.weight).sum() / part.weight.sum()
        }
        total = weights.l1 * losses["l1"]
        if self.rules.coarse_aware:
            aware = suv_aware.errors(unscaled(said, self.recipe), part, weights)
            total = total + self.rules.coarse_aware * sum(suv_aware.weighted(aware, weights))
            losses.update(aware)
        backward(total, parts)
        return losses

    def _learn_residual(self, denoiser: str, coarse: Tensor, part: Batch, parts: int) -> dict[str, Tensor]:
        weights, levels = self.recipe.losses, self.levels
        self._denoiser(denoiser).remember(coarse, part)
        level, scale = self._left_over(denoiser, coarse)
        residual = ((part.suv - level) / scale).clamp(-self.rules.largest, self.rules.largest)
        # Seeded by the patch itself: a killed training that resumes draws the same noise.
        generator = torch.Generator().manual_seed(int(part.suv.double().sum().abs() * 1e6) % 2**31)
        step = torch.randint(1, self.rules.steps + 1, (len(residual),), generator=generator).to(self.device)
        noise = torch.randn(residual.shape, generator=generator).to(self.device)
        noised = levels.noised(residual, noise, step)
        raw = self._denoise(denoiser, noised, level, part.inputs, step)
        wanted = levels.velocity(residual, noise, step) if self.rules.predicts == "v" else residual
        error = (((raw - wanted) ** 2) * part.weight).sum() / part.weight.sum()
        losses = {"denoising": error}
        total = weights.denoising * error
        if weights.hottest or weights.uptake:
            clean = levels.image(noised, raw, step) if self.rules.predicts == "v" else raw
            # From pure noise a denoiser predicts a mean, without hot spots: little noise, much weight.
            share = levels.signal(step, clean)
            shown = level + scale * (share * clean + (1 - share) * residual)
            said = suv_aware.errors(shown, part, weights)
            losses.update({f"sample-{name}": value for name, value in said.items()})
            total = sum(suv_aware.weighted(said, weights), total)
        backward(total, parts)
        return losses

    @torch.no_grad()
    def predict(self, district: District, inputs: Tensor, noise: Tensor | None = None) -> Prediction:
        """PET [g/ml] and the SD of its samples from inputs (1, C, D, H, W); one sample per noise field."""
        name, denoiser = self.all_of(district)
        low, high = self.recipe.suv_range
        with self.arithmetic():
            raw = averaged(self._networks[name], inputs, self.recipe.sampling.averaged_over(district))
        coarse = unscaled(raw.float() - 1.0, self.recipe).clamp(low, high)
        if noise is None or self.rules.delivered == "coarse":
            return Prediction(coarse)
        if not self._learnt(denoiser):
            return Prediction(coarse, torch.zeros_like(coarse))
        level, scale = self._left_over(denoiser, coarse)
        drawn = [self._sample(denoiser, level, scale, inputs, field[None]) for field in noise]
        samples = torch.cat(drawn).clamp(low, high)
        # The body is where there is depth under the skin: air says nothing about a drift.
        samples = anchored(samples, level, inputs[:, 2:3] > 0, self.rules.anchor).clamp(low, high)
        return deliver(samples, coarse, level, self.rules)

    def _left_over(self, denoiser: str, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and SD [g/ml] of patients' uptake where the coarse prediction is `coarse` [g/ml]."""
        known = self._denoiser(denoiser)
        return known.mean(coarse).clamp(*self.recipe.suv_range), known.scale(coarse, self.rules.scale)

    def _sample(self, denoiser: str, level: Tensor, scale: Tensor, inputs: Tensor, noise: Tensor) -> Tensor:
        """One sample of the PET [g/ml] from `noise`, starting at the noised mean uptake `level` [g/ml]."""
        rules = self.rules

        def denoise(x: Tensor, at: int) -> Tensor:
            step = torch.full((len(x),), at, device=x.device)
            raw = self._denoise(denoiser, x, level, inputs, step)
            clean = self.levels.image(x, raw, step) if rules.predicts == "v" else raw
            # No PET is negative or beyond what training showed: errors must not feed themselves.
            return torch.maximum(clean.clamp(-rules.largest, rules.largest), -level / scale)

        # The mean uptake is a residual of zero: once noised, it is noise alone.
        x = self.levels.sigma[rules.start_step] * noise
        start, count = rules.start_step, rules.sample_steps
        by_snr = rules.spacing == "log-snr"
        steps = descent_by_snr(self.levels, start, count) if by_snr else descent(start, count)
        return level + scale * SAMPLERS[rules.sampler](denoise, x, steps, self.levels)

    def _learnt(self, denoiser: str) -> bool:
        """Whether the denoiser has learnt at all: one that has not would only add noise."""
        return bool(self._denoiser(denoiser).body.head.weight.any())

    def _denoiser(self, name: str) -> ResidualDenoiser:
        return cast(ResidualDenoiser, self._networks[name])

    def _say(self, coarse: str, inputs: Tensor) -> Tensor:
        return self._run(coarse, inputs) - 1.0

    def _denoise(self, denoiser: str, noised: Tensor, level: Tensor, inputs: Tensor, step: Tensor) -> Tensor:
        seen = torch.cat([inputs, critic_view(scaled(level, self.recipe)), noised], dim=1)
        return self._run(denoiser, seen, step / self.rules.steps)
