"""Merging what the sites trained: a weighted mean per component, with numpy alone.

A component's new tensor is

    new = old + sum_i(patches_i * delta_i) / sum_i(patches_i)

over the sites that trained it, summed in float64 in the order of the sites' names, so that the same replies
give the same bits in whatever order they arrive. A component that nobody trained stays the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from scantwin.federation.wire import Components


@dataclass(frozen=True)
class Contribution:
    """What one site trained: checked deltas, and the patches behind each component."""

    site: str
    deltas: Components
    patches: dict[str, int]


def aggregate(components: Components, contributions: Iterable[Contribution]) -> Components:
    """The merged components; the inputs are not changed. Deltas must have passed `read_reply`."""
    by_name = sorted(contributions, key=lambda one: one.site)
    merged: Components = {}
    for name, tensors in components.items():
        behind = [one for one in by_name if name in one.deltas]
        total = sum(one.patches[name] for one in behind)
        if total == 0:
            merged[name] = tensors
            continue
        merged[name] = dict(tensors)
        for tensor in behind[0].deltas[name]:
            old = tensors[tensor]
            change = np.zeros(old.shape, np.float64)
            for one in behind:
                change += (one.patches[name] / total) * one.deltas[name][tensor].astype(np.float64)
            merged[name][tensor] = np.asarray(old.astype(np.float64) + change, old.dtype)
    return merged


def add_patches(before: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    """The patches behind each component after `more` are added."""
    return {name: before.get(name, 0) + more.get(name, 0) for name in sorted({*before, *more})}


def patches_per_component(contributions: Iterable[Contribution]) -> dict[str, int]:
    """The number of patches behind each component, over all sites."""
    total: dict[str, int] = {}
    for one in contributions:
        total = add_patches(total, one.patches)
    return total
