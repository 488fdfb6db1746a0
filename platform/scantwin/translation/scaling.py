"""Between SUV [g/ml] and the scaled values that networks predict: the recipe's range becomes [-1, 1]."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from scantwin.learning.recipe import Recipe


def scaled(suv: Tensor, recipe: Recipe) -> Tensor:
    """SUV [g/ml] -> [-1, 1] over the recipe's range."""
    low, high = recipe.suv_range
    return (suv - low) * (2.0 / (high - low)) - 1.0


def unscaled(pet: Tensor, recipe: Recipe) -> Tensor:
    """[-1, 1] -> SUV [g/ml] over the recipe's range."""
    low, high = recipe.suv_range
    return (pet + 1.0) * ((high - low) / 2) + low


def critic_view(pet: Tensor) -> Tensor:
    """What a discriminator sees of a scaled PET: its square root, since uptake spans decades."""
    return (F.relu(pet + 1.0) + 1e-4).sqrt()
