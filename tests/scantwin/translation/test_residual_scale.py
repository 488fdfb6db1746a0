"""The scale of what the coarse prediction leaves over: found from errors, whatever it was guessed to be."""

from __future__ import annotations

import pytest
import torch

from scantwin.translation.residual_scale import ResidualDenoiser

GUESS = (0.3, 0.4)


def seen(start: float, growth: float, patches: int = 60) -> ResidualDenoiser:
    """A denoiser that was shown normal errors of SD `start + growth * coarse` [g/ml]."""
    torch.manual_seed(1)
    denoiser = ResidualDenoiser(3, (4, 4), 8)
    for _ in range(patches):
        coarse = 5.0 * torch.rand(2, 1, 8, 8, 8)
        suv = coarse + (start + growth * coarse) * torch.randn_like(coarse)
        denoiser.remember(coarse, suv, torch.ones_like(coarse))
    return denoiser


def test_before_anything_is_known_it_is_a_guess():
    said = ResidualDenoiser(3, (4, 4), 8).scale(torch.tensor([0.0, 2.0]), GUESS)
    assert torch.allclose(said, torch.tensor([0.3, 1.1]))


@pytest.mark.parametrize(("start", "growth"), [(0.1, 0.1), (0.5, 0.4), (0.3, 0.0)])
def test_the_scale_of_errors_is_found(start, growth):
    said = seen(start, growth).scale(torch.tensor([0.5, 4.0]), GUESS)
    # Some 20 patches of 1,024 errors stand behind it: a hundredth, by the errors' own spread; ten times that.
    wanted = torch.tensor([start + 0.5 * growth, start + 4.0 * growth])
    assert torch.allclose(said, wanted, rtol=0.1, atol=0.02)


def test_air_and_neighbours_do_not_count():
    denoiser = seen(0.2, 0.1)
    before = denoiser.moments.clone()
    denoiser.remember(
        torch.ones(1, 1, 4, 4, 4), torch.full((1, 1, 4, 4, 4), 20.0), torch.full((1, 1, 4, 4, 4), 0.1)
    )
    assert torch.equal(denoiser.moments, before)


def test_sites_may_average_what_they_remember():
    """Two sites with the same errors: the average says what each of them says, though one saw little."""
    one, two = seen(0.2, 0.2), seen(0.2, 0.2, patches=3)
    wanted = one.scale(torch.tensor([1.0]), GUESS)
    one.moments = (one.moments + two.moments) / 2
    assert torch.allclose(one.scale(torch.tensor([1.0]), GUESS), wanted, rtol=0.1)


def test_an_exact_prediction_leaves_a_scale_to_divide_by():
    denoiser = ResidualDenoiser(3, (4, 4), 8)
    flat = torch.ones(1, 1, 4, 4, 4)
    denoiser.remember(flat, flat, flat)
    assert float(denoiser.scale(flat, GUESS).min()) > 0.0
