"""What is usual at a place: means and SDs by sums, for tall and short, before and after anything was seen."""

from __future__ import annotations

import pytest
import torch

from scantwin.generation.fields import Field
from scantwin.generation.usual_latents import UsualLatents


def place_of(*shape: int) -> torch.Tensor:
    return Field.of(shape, (8.0, 8.0, 8.0)).place()


def test_before_anything_was_seen_nothing_is_usual() -> None:
    mean, sd = UsualLatents(3)(place_of(40, 16, 24))
    assert mean.shape == sd.shape == (1, 3, 10, 4, 6)
    assert not mean.any() and bool((sd == 1.0).all())


def test_what_was_seen_at_a_place_is_expected_there() -> None:
    """The upper half says 2 in one channel, the lower -1, with an SD of 0.5 in the other."""
    usual, random = UsualLatents(2), torch.Generator().manual_seed(0)
    for number in range(200):
        place = place_of((200, 240, 280)[number % 3], 64, 96)
        latent = torch.randn(1, 2, *place.shape[2:], generator=random) * 0.5
        latent[:, 0] = torch.where(place[:, 0] < place[:, 1], 2.0, -1.0)
        usual.remember(place, latent)
    for length in (200, 320):  # a length that was never seen, too
        place = place_of(length, 64, 96)
        mean, sd = usual(place)
        upper, lower = place[0, 0] < 0.8 * place[0, 1], place[0, 0] > 1.25 * place[0, 1]
        assert torch.allclose(mean[0, 0][upper], torch.tensor(2.0), atol=0.05)
        assert torch.allclose(mean[0, 0][lower], torch.tensor(-1.0), atol=0.05)
        assert float(mean[0, 1].abs().mean()) < 0.05
        assert float(sd[0, 1].mean()) == pytest.approx(0.5, rel=0.05)
        # A tenth of the variance of all places, 1.5 squared, at most; what never varied may vary a little.
        assert 0.05 <= float(sd[0, 0][upper].max()) < 1.5 * 0.1**0.5


def test_after_one_patient_nothing_is_certain() -> None:
    """A place that one patient was seen at knows half of itself, and half of all places."""
    usual, place = UsualLatents(1), place_of(240, 64, 96)
    latent = torch.where(place[:, :1] < place[:, 1:2], 2.0, -2.0)
    usual.remember(place, latent)
    mean, sd = usual(place)
    assert float(sd.min()) > 1.0, "the SD of all places is 2"
    assert float(mean[0, 0, -1].mean()) == pytest.approx(1.0, abs=0.3) and float(mean[0, 0, 0].mean()) < -0.7


def test_sums_of_two_sites_are_averaged_like_weights() -> None:
    place = place_of(80, 32, 32)
    sites = [UsualLatents(1) for _ in range(2)]
    for site, value in zip(sites, (1.0, 3.0), strict=True):
        for _ in range(5):
            site.remember(place, torch.full((1, 1, *place.shape[2:]), value))
    both = UsualLatents(1)
    both.load_state_dict({k: (v + sites[1].state_dict()[k]) / 2 for k, v in sites[0].state_dict().items()})
    mean, sd = both(place)
    assert torch.allclose(mean, torch.tensor(2.0), atol=1e-4) and torch.allclose(
        sd, torch.tensor(1.0), atol=1e-3
    )


def test_a_part_of_a_field_knows_where_it_is() -> None:
    usual, place = UsualLatents(1), place_of(240, 64, 96)
    for _ in range(50):
        usual.remember(place, place[:, :1].clone())
    whole, part = usual(place)[0], usual(place[:, :, 20:40])[0]
    assert torch.allclose(whole[:, :, 20:40], part, atol=1e-5)
