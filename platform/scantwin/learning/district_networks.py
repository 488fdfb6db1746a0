"""What all systems share: separate networks for each district, and how these are trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from scantwin.imaging.study import District
from scantwin.learning.machine import arithmetic, device
from scantwin.learning.optimising import Optimisers, rate_factor
from scantwin.learning.recipe import Recipe
from scantwin.learning.unet import Dimensions

_LAYOUT: Final = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Memory layout with which convolutions are fastest."""


class DistrictNetworks:
    """The part of a `System` that holds its networks, named `<system>/<district>/<part>`."""

    def __init__(
        self, recipe: Recipe, build: Callable[[], dict[str, nn.Module]], dimensions: Dimensions = 3
    ) -> None:
        """`build` returns the networks of one district, keyed by part."""
        self.recipe = recipe
        self.device = device()
        self.memory: dict[str, Tensor] = {}
        self._layout = _LAYOUT[dimensions]
        self._moved: dict[District, tuple[str, ...]] = {}
        self._networks = {
            f"{recipe.system}/{district}/{part}": network.to(self.device, memory_format=self._layout)  # type: ignore[call-overload]
            for district in recipe.districts
            for part, network in build().items()
        }
        self._optimisers = Optimisers(self._networks, recipe.optimisation)

    def components(self) -> dict[str, nn.Module]:
        """Named networks, such as `pix2pix/trunk/generator`."""
        return self._networks

    def arithmetic(self) -> torch.autocast:
        """The autocast context of a forward pass: the recipe's precision, on the networks' device."""
        return arithmetic(self.recipe.optimisation.precision, self.device)

    def _run(self, name: str, x: Tensor, *more: Tensor) -> Tensor:
        """The output of the network `name` for `x` (and any further inputs), as float32."""
        packed = x.contiguous(memory_format=self._layout)
        with self.arithmetic():
            out = self._networks[name](packed, *more)
        return torch.as_tensor(out.float())

    @property
    def settles_at(self) -> float:
        """Share of a training after which what learnt first is frozen; 1 if all networks learn to the end."""
        return 1.0

    def all_of(self, district: District) -> tuple[str, ...]:
        """All networks of `district`, in the order in which they were made."""
        return tuple(name for name in self._networks if name.split("/")[1] == district)

    def components_of(self, district: District) -> tuple[str, ...]:
        """The networks of `district` that the last step trained; all of them before the first.

        So each moving average spans its network's own steps, and a site sends only what has learnt.
        """
        return self._moved.get(district) or self.all_of(district)

    def optimisers(self, district: District) -> dict[str, torch.optim.Optimizer]:
        """Adam for each component of `district`."""
        return {name: self._optimisers.of(name) for name in self.all_of(district)}

    def _pace(self, names: tuple[str, ...], within: float) -> None:
        """Sets the learning rate, which rises and falls over a network's own time; `within` of it has passed.

        A network that is frozen afterwards must have settled, and one that begins late must begin gently.
        """
        factor = rate_factor(self.recipe.optimisation, within)
        for name in names:
            for group in self._optimisers.of(name).param_groups:
                group["lr"] = group.setdefault("full_rate", group["lr"]) * factor
