"""What all systems are alike in: networks of their own for each district, and how these are moved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from scantwin.imaging.study import District
from scantwin.learning.optimising import Optimisers
from scantwin.learning.recipe import Recipe
from scantwin.learning.unet import Dimensions

_LAYOUT: Final = {2: torch.channels_last, 3: torch.channels_last_3d}
"""Where convolutions are fastest on a processor."""


class DistrictNetworks:
    """The part of a `System` that holds its networks, named `<system>/<district>/<part>`."""

    def __init__(
        self, recipe: Recipe, build: Callable[[], dict[str, nn.Module]], dimensions: Dimensions = 3
    ) -> None:
        """`build` makes the networks of one district, by part."""
        self.recipe = recipe
        self.memory: dict[str, Tensor] = {}
        self._networks = {
            f"{recipe.system}/{district}/{part}": network.to(memory_format=_LAYOUT[dimensions])  # type: ignore[call-overload]
            for district in recipe.districts
            for part, network in build().items()
        }
        self._optimisers = Optimisers(self._networks, recipe.optimisation)

    def components(self) -> dict[str, nn.Module]:
        """Named networks, such as `pix2pix/trunk/generator`."""
        return self._networks

    def components_of(self, district: District) -> tuple[str, ...]:
        """All networks of `district`."""
        return tuple(name for name in self._networks if name.split("/")[1] == district)

    def optimisers(self, district: District) -> dict[str, torch.optim.Optimizer]:
        """Adam for each component of `district`."""
        return {name: self._optimisers.of(name) for name in self.components_of(district)}
