"""What the coarse prediction leaves over: its mean and scale are found from errors, whatever was guessed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scantwin.learning.system import Batch
from scantwin.translation.residual_denoiser import ResidualDenoiser

GUESS = (0.3, 0.4)


def batch_of(suv, anywhere=1.0):
    """Patches with this PET [g/ml], all of it body."""
    one = torch.ones_like(suv)
    return Batch(
        torch.zeros(len(suv), 7, *suv.shape[2:]), suv, one, 0 * one, torch.full((len(suv),), anywhere)
    )


def seen(start: float, growth: float, batches: int = 60, mean=lambda coarse: coarse) -> ResidualDenoiser:
    """A denoiser that was shown normal errors of SD `start + growth * coarse` [g/ml] about `mean`."""
    torch.manual_seed(1)
    denoiser = ResidualDenoiser(3, (4, 4), 8)
    for _ in range(batches):
        coarse = 5.0 * torch.rand(2, 1, 8, 8, 8)
        errors = (start + growth * coarse) * torch.randn_like(coarse)
        denoiser.remember(coarse, batch_of(mean(coarse) + errors))
    return denoiser


def test_before_anything_is_known_it_is_a_guess():
    new, coarse = ResidualDenoiser(3, (4, 4), 8), torch.tensor([0.0, 2.0])
    assert torch.allclose(new.scale(coarse, GUESS), torch.tensor([0.3, 1.1]))
    assert torch.equal(new.mean(coarse), coarse)


@pytest.mark.parametrize(("start", "growth"), [(0.1, 0.1), (0.5, 0.4), (0.3, 0.0)])
def test_the_scale_of_errors_is_found(start, growth):
    said = seen(start, growth).scale(torch.tensor([0.5, 4.0]), GUESS)
    # 60 batches of 432 errors stand behind it: a hundredth, by the errors' own spread; ten times that.
    wanted = torch.tensor([start + 0.5 * growth, start + 4.0 * growth])
    assert torch.allclose(said, wanted, rtol=0.1, atol=0.02)


def test_the_mean_is_found_where_a_median_is_too_low():
    """Patients take up half as much again as they are told to above 2: of that, and of nothing below it."""

    def uptake(coarse):
        return coarse + 0.5 * (coarse - 2.0).clamp(min=0.0)

    denoiser = seen(0.2, 0.0, mean=uptake)
    told = torch.linspace(0.2, 4.4, 40)
    # A bin of 400 voxels at least: 0.01 by chance; a bend within a bin 0.05; a hundredth of a bin's doubt.
    assert torch.allclose(denoiser.mean(told), uptake(told), atol=0.1)
    # The first of 60 batches knew no mean: it had errors of up to 1.3, which leave a sixtieth of that.
    assert torch.allclose(denoiser.scale(told, GUESS), torch.tensor(0.2), rtol=0.2), "about that mean"
    beyond = denoiser.mean(torch.tensor([9.0])) - 9.0
    assert 1.0 < float(beyond) < 1.5, "beyond what was seen, as much as at its end"


def test_a_mean_of_few_voxels_is_doubted_and_the_order_stays():
    denoiser = seen(0.1, 0.0)
    lesion = torch.full((1, 1, 8, 8, 8), 1.0)
    lesion[..., 4, 4, 4] = 7.0
    denoiser.remember(lesion, batch_of(torch.where(lesion > 5, 0.5, 1.0)))
    said = denoiser.mean(torch.tensor([4.0, 7.0]))
    assert 6.0 < float(said[1]) < 7.0, "one voxel that was told 7 and had 0.5"
    assert said[0] <= said[1]


def test_patches_around_lesions_margins_and_neighbours_do_not_count():
    denoiser = seen(0.2, 0.1)
    before = denoiser.sums.clone()
    told, true = torch.ones(2, 1, 16, 16, 16), torch.full((2, 1, 16, 16, 16), 20.0)
    denoiser.remember(told, batch_of(true, anywhere=0.0))
    denoiser.remember(told, replace(batch_of(true), weight=torch.full_like(told, 0.1)))
    assert torch.equal(denoiser.sums, before)
    margin = told.clone()
    margin[..., 2:-2, 2:-2, 2:-2] = 3.0
    alone = ResidualDenoiser(3, (4, 4), 8)
    alone.remember(margin, batch_of(true))
    assert torch.count_nonzero(alone.sums[0]) == 1, "all that counted was told 3"


def test_sites_may_average_what_they_remember():
    """Two sites with the same errors: the average says what each of them says, though one saw little."""
    one, two = (seen(0.2, 0.2, batches, lambda coarse: 1.2 * coarse) for batches in (60, 3))
    told = torch.tensor([1.0])
    scale, mean = one.scale(told, GUESS), one.mean(told)
    one.sums = (one.sums + two.sums) / 2
    assert torch.allclose(one.scale(told, GUESS), scale, rtol=0.1)
    assert torch.allclose(one.mean(told), mean, atol=0.05)


@given(
    st.lists(st.floats(0.0, 1.0, width=16), min_size=21, max_size=21),
    st.lists(st.floats(-50.0, 50.0, width=16), min_size=42, max_size=42),
)
def test_whatever_sums_come_more_is_never_made_less(share, others):
    """Rounded to half precision as a starter's are, or made up by a site: the order of uptake stays."""
    denoiser = ResidualDenoiser(3, (4, 4), 8)
    denoiser.sums[0] = torch.tensor(share)
    denoiser.sums[1:3] = torch.tensor(others).view(2, 21)
    said = denoiser.mean(torch.linspace(0.0, 20.0, 200))
    assert torch.isfinite(said).all()
    assert float(said.diff().min()) > -1e-3


def test_an_exact_prediction_leaves_a_scale_to_divide_by():
    denoiser = ResidualDenoiser(3, (4, 4), 8)
    flat = torch.ones(1, 1, 4, 4, 4)
    denoiser.remember(flat, batch_of(flat))
    assert float(denoiser.scale(flat, GUESS).min()) > 0.0
    assert torch.allclose(denoiser.mean(flat), flat)
