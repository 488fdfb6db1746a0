"""Mirrors a network's input: the place channels have a direction and must follow."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from scantwin.learning.prepared import INPUTS
from scantwin.learning.recipe_parts import Axis

_DIMENSION = {"z": -3, "y": -2, "x": -1}
_SIGNED = {"y": INPUTS.index("back"), "x": INPUTS.index("left")}
"""Channels that hold a signed distance along an axis: they change sign in a mirrored patient."""
_SWAPPED = [INPUTS.index(name) for name in ("hu", "soft-tissue", "skin-depth", "above-bottom", "below-top")]
"""Order of the leading channels for a patient mirrored along z: top and bottom change places."""


def mirror(image: Tensor, axes: tuple[Axis, ...]) -> Tensor:
    """`image` (..., z, y, x) mirrored along `axes`."""
    return image.flip([_DIMENSION[axis] for axis in axes]) if axes else image


def mirror_inputs(inputs: Tensor, axes: tuple[Axis, ...]) -> Tensor:
    """The network's inputs (..., channel, z, y, x) for the mirrored patient."""
    if not axes:
        return inputs
    out = mirror(inputs, axes)
    if "z" in axes:
        rest = list(range(len(_SWAPPED), out.shape[-4]))
        out = out[..., _SWAPPED + rest, :, :, :]
    for axis in axes:
        if axis in _SIGNED:
            out[..., _SIGNED[axis], :, :, :] *= -1.0
    return out


def mirrorings(axes: tuple[Axis, ...]) -> list[tuple[Axis, ...]]:
    """All ways to mirror along some of `axes`, first along none: 2 ** len(axes) of them."""
    return [chosen for size in range(len(axes) + 1) for chosen in combinations(axes, size)]


def averaged(predict: Callable[[Tensor], Tensor], inputs: Tensor, axes: tuple[Axis, ...]) -> Tensor:
    """Mean of `predict` over all mirrorings of `inputs` (B, C, D, H, W), each mirrored back."""
    total: Tensor | None = None
    ways = mirrorings(axes)
    for way in ways:
        turned = mirror_inputs(inputs, way).contiguous(memory_format=torch.channels_last_3d)
        said = mirror(predict(turned).float(), way)
        total = said if total is None else total + said
    assert total is not None  # noqa: S101 - there is always the way that mirrors nothing
    return total / len(ways)
