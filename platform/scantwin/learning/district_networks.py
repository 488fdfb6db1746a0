"""What all systems are alike in: networks of their own for each district, and how these are moved."""

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
"""Where convolutions are fastest."""


class DistrictNetworks:
    """The part of a `System` that holds its networks, named `<system>/<district>/<part>`."""

    def __init__(
        self, recipe: Recipe, build: Callable[[], dict[str, nn.Module]], dimensions: Dimensions = 3
    ) -> None:
        """`build` makes the networks of one district, by part."""
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
        """The context of a forward pass: the recipe's precision, where the networks are."""
        return arithmetic(self.recipe.optimisation.precision, self.device)

    def _run(self, name: str, x: Tensor, *more: Tensor) -> Tensor:
        """What the network `name` makes of `x` (and of what else it takes), as float32."""
        packed = x.contiguous(memory_format=self._layout)
        with self.arithmetic():
            out = self._networks[name](packed, *more)
        return torch.as_tensor(out.float())

    @property
    def settles_at(self) -> float:
        """Share of a training at which what learnt first stands still; 1 where all learn to the end."""
        return 1.0

    def all_of(self, district: District) -> tuple[str, ...]:
        """All networks of `district`, in the order in which they were made."""
        return tuple(name for name in self._networks if name.split("/")[1] == district)

    def components_of(self, district: District) -> tuple[str, ...]:
        """The networks of `district` that the last step moved; all of them before the first.

        So each has a moving average of its own time, and a site sends what has learnt, not what stood still.
        """
        return self._moved.get(district) or self.all_of(district)

    def optimisers(self, district: District) -> dict[str, torch.optim.Optimizer]:
        """Adam for each component of `district`."""
        return {name: self._optimisers.of(name) for name in self.all_of(district)}

    def _pace(self, names: tuple[str, ...], within: float) -> None:
        """The learning rate rises and falls over a network's own time, of which the share `within` is gone.

        What stands still afterwards must have settled, and what begins late must begin gently.
        """
        factor = rate_factor(self.recipe.optimisation, within)
        for name in names:
            for group in self._optimisers.of(name).param_groups:
                group["lr"] = group.setdefault("full_rate", group["lr"]) * factor
