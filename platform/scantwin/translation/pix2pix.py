"""District Pix2Pix (arXiv 2503.15555, after 1611.07004): a U-Net and a patch discriminator a district."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scantwin.imaging.study import District
from scantwin.learning.machine import arithmetic
from scantwin.learning.prepared import INPUTS
from scantwin.learning.recipe import Recipe
from scantwin.learning.system import Batch
from scantwin.learning.unet import PatchDiscriminator, UNet

_SEEN = 2
"""Leading input channels that the discriminator sees beside the PET: both windows of the CT."""


class Pix2Pix:
    """The `System` of recipe system `pix2pix`."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._networks: dict[str, nn.Module] = {}
        for district in recipe.districts:
            generator = UNet(len(INPUTS), 1, recipe.network.channels)
            # Starts from a PET of zero everywhere: the first steps then learn levels, not to undo noise.
            nn.init.zeros_(generator.head.weight)
            nn.init.zeros_(generator.head.bias)  # type: ignore[arg-type]
            self._networks[f"pix2pix/{district}/generator"] = generator
            if recipe.losses.adversarial:
                critic = PatchDiscriminator(_SEEN + 1, recipe.network.discriminator_channels)
                self._networks[f"pix2pix/{district}/discriminator"] = critic
        for network in self._networks.values():
            network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._optimisers: dict[str, torch.optim.Optimizer] = {}

    def components(self) -> dict[str, nn.Module]:
        """Named networks, such as `pix2pix/trunk/generator`."""
        return self._networks

    def components_of(self, district: District) -> tuple[str, ...]:
        """The generator and discriminator of `district`."""
        return tuple(name for name in self._networks if name.split("/")[1] == district)

    def optimisers(self, district: District) -> dict[str, torch.optim.Optimizer]:
        """Adam for each component of `district`."""
        rules = self.recipe.optimisation
        for name in self.components_of(district):
            if name not in self._optimisers:
                rate = rules.discriminator_rate if name.endswith("discriminator") else rules.learning_rate
                parameters = self._networks[name].parameters()
                self._optimisers[name] = torch.optim.Adam(parameters, rate, betas=rules.betas)
        return {name: self._optimisers[name] for name in self.components_of(district)}

    def training_step(self, district: District, batch: Batch) -> dict[str, float]:
        """One step of the discriminator and one of the generator."""
        weights, optimisers = self.recipe.losses, self.optimisers(district)
        generator = f"pix2pix/{district}/generator"
        inputs = batch.inputs.contiguous(memory_format=torch.channels_last_3d)
        real = self._scaled(batch.suv)
        with arithmetic(self.recipe.optimisation.precision):
            fake = self._networks[generator](inputs)
        fake = fake.float() - 1.0  # the head's zero is SUV 0
        losses = {"l1": ((fake - real).abs() * batch.weight).sum() / batch.weight.sum()}
        if weights.adversarial:
            critic = f"pix2pix/{district}/discriminator"
            judged = self._judge(critic, inputs, real), self._judge(critic, inputs, fake.detach())
            losses["discriminator"] = 0.5 * ((judged[0] - 1) ** 2).mean() + 0.5 * (judged[1] ** 2).mean()
            _step(optimisers[critic], losses["discriminator"])
            losses["adversarial"] = ((self._judge(critic, inputs, fake) - 1) ** 2).mean()
        total = weights.l1 * losses["l1"] + weights.adversarial * losses.get("adversarial", 0.0)
        _step(optimisers[generator], total, clip=self._networks[generator])
        return {name: float(value.detach()) for name, value in losses.items()}

    @torch.no_grad()
    def predict(self, district: District, inputs: Tensor) -> Tensor:
        """PET [g/ml] (B, 1, D, H, W) of inputs (B, C, D, H, W)."""
        low, high = self.recipe.suv_range
        with arithmetic(self.recipe.optimisation.precision):
            raw = self._networks[f"pix2pix/{district}/generator"](
                inputs.contiguous(memory_format=torch.channels_last_3d)
            )
        return torch.as_tensor((raw.float() * ((high - low) / 2) + low).clamp(low, high))

    def _scaled(self, suv: Tensor) -> Tensor:
        low, high = self.recipe.suv_range
        return (suv - low) * (2.0 / (high - low)) - 1.0

    def _judge(self, critic: str, inputs: Tensor, pet: Tensor) -> Tensor:
        # Uptake spans decades; its square root shows the discriminator fat and tumour alike.
        seen = torch.cat([inputs[:, :_SEEN], (F.relu(pet + 1.0) + 1e-4).sqrt()], dim=1)
        with arithmetic(self.recipe.optimisation.precision):
            score = self._networks[critic](seen.contiguous(memory_format=torch.channels_last_3d))
        return torch.as_tensor(score.float())


def _step(optimiser: torch.optim.Optimizer, loss: Tensor, clip: nn.Module | None = None) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip is not None:
        nn.utils.clip_grad_norm_(clip.parameters(), 5.0)
    optimiser.step()
