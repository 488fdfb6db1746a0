"""What is usual where: learnt from CTs and PETs that belong to nobody in common."""

from __future__ import annotations

import pytest
import torch

from scantwin.learning.prepared import INPUTS, channel
from scantwin.translation.usual_uptake import PLACES, UsualUptake, place_of

HALVES = torch.where(torch.arange(16) < 8, 1.0, 4.0).expand(1, 1, 16, 16, 16)
"""SUV [g/ml] that is four times as much on the left."""


def inputs(size: int = 16) -> torch.Tensor:
    """A network's inputs whose `left` runs along x, below a CT that is the same everywhere."""
    out = torch.zeros(1, len(INPUTS), size, size, size)
    channel(out, "left")[:] = torch.linspace(-0.5, 0.5, size)
    channel(out, "skin-depth")[:] = 0.5
    channel(out, "below-top")[:] = channel(out, "above-bottom")[:] = 1.0
    return out


def taught(suv: torch.Tensor, weight: torch.Tensor) -> UsualUptake:
    torch.manual_seed(0)
    usual, here = UsualUptake(), inputs()
    curve = (here, torch.full_like(suv, 0.5), torch.ones_like(weight))
    optimiser = torch.optim.Adam(usual.parameters(), 5e-3)
    for _ in range(200):
        optimiser.zero_grad()
        usual.error((here, suv, weight), curve).backward()
        optimiser.step()
    return usual


def test_untaught_nothing_is_unusual():
    assert torch.equal(UsualUptake().factor(inputs()), torch.ones(1, 1, 16, 16, 16))


def test_a_place_is_as_much_hotter_than_the_curve_as_pets_are_there():
    factor = taught(HALVES, torch.ones_like(HALVES)).factor(inputs())
    # The border is soft: a place is shared by two voxels, and four numbers go in.
    assert factor[..., :6].median() == pytest.approx(1.0 / 0.5, rel=0.15)
    assert factor[..., 10:].median() == pytest.approx(4.0 / 0.5, rel=0.15)


def test_what_does_not_count_is_not_learnt_from():
    hot = torch.where(HALVES > 1, 20.0, HALVES)
    weight = (HALVES == 1).float()
    assert torch.equal(taught(hot, weight).factor(inputs()), taught(HALVES, weight).factor(inputs()))


def test_usual_is_the_mean_of_what_is_seen_at_a_place():
    some = HALVES.clone()
    pair = torch.arange(16) // 2  # voxels that share a place
    one_of_eight = (pair[:, None, None] + 3 * pair[:, None] + 5 * pair) % 8 == 0
    some[:, :, one_of_eight] = torch.where(some[:, :, one_of_eight] == 1, 9.0, 4.0)
    factor = taught(some, torch.ones_like(some)).factor(inputs())
    assert factor[..., :6].mean() == pytest.approx((7 + 9) / 8 / 0.5, rel=0.15), "a median would say 1 / 0.5"
    assert factor[..., 10:].mean() == pytest.approx(4.0 / 0.5, rel=0.15)


def test_the_place_counts_and_not_what_lies_there_or_who_it_is():
    usual, here = taught(HALVES, torch.ones_like(HALVES)), inputs()
    other = here.clone()
    for name in ("hu", "soft-tissue", "from-side", "fat"):
        channel(other, name)[:] += 0.7
    for name in ("below-top", "above-bottom"):  # a taller patient, at the same share of the height
        channel(other, name)[:] *= 2.0
    assert torch.equal(usual.factor(other), usual.factor(here))
    channel(other, "left")[:] *= -1.0
    assert not torch.allclose(usual.factor(other), usual.factor(here), rtol=0.1)


def test_windows_of_any_size_have_a_factor_for_each_voxel():
    usual = taught(HALVES, torch.ones_like(HALVES))
    whole = usual.factor(inputs())
    for size in (15, 9, 8):
        part = usual.factor(inputs()[..., :size, :size, :size])
        assert part.shape == (1, 1, size, size, size)
        # But for the last voxel of a cut window, which has no neighbour.
        inside = slice(0, size - 2)
        assert torch.allclose(part[..., inside], whole[..., :size, :size, inside], rtol=0.05)


def test_one_slice_has_a_place():
    flat = torch.zeros(1, len(INPUTS), 1, 4, 4)
    assert place_of(flat).shape == (1, PLACES, 1, 4, 4)
    assert place_of(flat).isfinite().all()
