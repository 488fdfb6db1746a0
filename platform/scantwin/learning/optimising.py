"""Training steps: the optimiser of each component, its gradients, and which components are frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from scantwin.learning.recipe_parts import Optimisation

_LARGEST_STEP = 5.0
"""Norm to which gradients are clipped: one odd patch must not undo a hundred good ones."""


class Optimisers:
    """The optimisers of a system's components, made when first asked for and kept from then on."""

    def __init__(self, networks: dict[str, nn.Module], rules: Optimisation) -> None:
        self._networks = networks
        self._rules = rules
        self._made: dict[str, torch.optim.Optimizer] = {}

    def of(self, name: str) -> torch.optim.Optimizer:
        """Adam for component `name`; discriminators have their own rate, and a network may be `quicker`."""
        if name not in self._made:
            rules = self._rules
            judges = name.rpartition("/")[2].startswith("discriminator")
            rate = rules.discriminator_rate if judges else rules.learning_rate
            rate *= getattr(self._networks[name], "quicker", 1.0)
            parameters = self._networks[name].parameters()
            self._made[name] = torch.optim.AdamW(
                parameters, rate, betas=rules.betas, weight_decay=rules.weight_decay
            )
        return self._made[name]

    def clear(self, *names: str) -> None:
        """Clears the gradients of these components."""
        for name in names:
            self.of(name).zero_grad(set_to_none=True)

    def step(self, *names: str, clip: bool = False) -> None:
        """Moves these components along their gradients; `clip` limits the gradients' norm."""
        for name in names:
            if clip:
                nn.utils.clip_grad_norm_(self._networks[name].parameters(), _LARGEST_STEP)
            self.of(name).step()


def rate_factor(rules: Optimisation, progress: float) -> float:
    """Factor on the learning rate when `progress` (0 to 1) of the whole training is done."""
    rising = min(1.0, progress / rules.warm_up) if rules.warm_up else 1.0
    if rules.schedule == "constant":
        return rising
    return rising * (0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))


@contextmanager
def standing_still(*networks: nn.Module) -> Iterator[None]:
    """Lets gradients pass through `networks` without keeping them for their weights."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)


def backward(loss: Tensor, parts: int = 1) -> None:
    """Adds the gradients of one of `parts` equal parts of a step."""
    (loss / parts).backward()  # type: ignore[no-untyped-call]


def mean_of(losses: list[dict[str, Tensor]]) -> dict[str, float]:
    """Means of the losses over the parts of a step, by name."""
    return {name: float(sum(part[name].detach() for part in losses) / len(losses)) for name in losses[0]}
