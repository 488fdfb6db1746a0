"""How large errors are: remembered while training as a line over something that they grow with.

A diffusion of what a first prediction leaves over is told the size of that, so that it sees about unit
variance everywhere. Sums are kept, not a fit: sites may average them like weights.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

SUMS: Final = 5
"""Of 1, c, c * c, e, c * e, where errors e are measured at values c."""

RATE: Final = 0.05
"""How fast the memory moves: it spans some twenty steps, in which a first prediction changes little."""

_NORMAL: Final = 1.2533
"""Standard deviation of a normal distribution over its mean absolute deviation: sqrt(pi / 2)."""


def sums_of(at: Tensor, errors: Tensor) -> Tensor:
    """The sums (SUMS,) of absolute `errors` at values `at`, both flat, as means."""
    e = errors.abs()
    return torch.stack([torch.ones_like(at), at, at * at, e, at * e]).mean(1)


def known(sums: Tensor) -> Tensor:
    """Whether anything was remembered, of sums (..., SUMS)."""
    return sums[..., 0] >= RATE / 2


def line_through(sums: Tensor, least: float, steepest: float) -> tuple[Tensor, Tensor]:
    """Start and growth of the standard deviation, of sums (..., SUMS): it is start + growth * c.

    By least squares; the start is at least `least`, the growth between nothing and `steepest`.
    """
    total, c, cc, e, ce = (sums / sums[..., :1].clamp(min=1e-6)).unbind(-1)
    growth = ((ce - c * e) / (cc - c * c).clamp(min=1e-6)).clamp(0.0, steepest)
    start = (e - growth * c).clamp(min=least)
    return _NORMAL * start, _NORMAL * growth
