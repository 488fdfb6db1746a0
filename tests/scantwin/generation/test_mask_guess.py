"""What a mask alone tells of latents: the regression finds what was put in, and claims no more."""

from __future__ import annotations

import pytest
import torch

from scantwin.generation.mask_guess import MaskGuess

CLASSES, LATENTS = 3, 2


def _mask(seed: int, *shape: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(1, CLASSES, *(shape or (12, 10, 14)), generator=random)


def _latent(mask: torch.Tensor) -> torch.Tensor:
    """The first channel is told by shares, the second by a slope along x; both inside."""
    first = 0.5 + mask[:, 0] - 2 * mask[:, 2]
    second = torch.zeros_like(first)
    second[..., 1:-1] = mask[:, 1, ..., 2:] - mask[:, 1, ..., :-2]
    second[..., 0] = mask[:, 1, ..., 1] - mask[:, 1, ..., 0]
    second[..., -1] = mask[:, 1, ..., -1] - mask[:, 1, ..., -2]
    return torch.stack([first, second], dim=1)


def test_it_finds_what_the_mask_tells() -> None:
    guess = MaskGuess(LATENTS, CLASSES)
    assert not guess.known
    for seed in range(3):
        guess.remember(_mask(seed), _latent(_mask(seed)), 0.1)
    new = _mask(9, 7, 9, 8)
    expected, sd = guess(new)
    assert guess.known and expected.shape == (1, LATENTS, 7, 9, 8)
    assert torch.allclose(expected, _latent(new), atol=0.02)
    assert float(sd.max()) < 0.05


def test_what_it_cannot_tell_stays_in_its_sd() -> None:
    guess = MaskGuess(LATENTS, CLASSES)
    random = torch.Generator().manual_seed(1)
    for seed in range(4):
        latent = _latent(_mask(seed))
        latent[:, 1] += 0.7 * torch.randn(latent[:, 1].shape, generator=random)
        guess.remember(_mask(seed), latent, 0.2)
    _, sd = guess(_mask(9))
    # 6720 voxels: the SD of an SD is 0.7 / sqrt(2 * 6720).
    assert float(sd[0, 1]) == pytest.approx(0.7, abs=4 * 0.7 / (2 * 6720) ** 0.5)
    assert float(sd[0, 0]) < 0.05


def test_a_class_that_was_never_seen_tells_nothing() -> None:
    guess = MaskGuess(LATENTS, CLASSES)
    seen = _mask(0)
    seen[:, 1] = 0.0
    guess.remember(seen, _latent(seen), 0.1)
    other = seen.clone()
    other[:, 1] = 1.0
    assert torch.allclose(guess(other)[0], guess(seen)[0], atol=1e-5)


def test_sites_may_average_their_sums() -> None:
    """Two halves of the patients, averaged, tell what all of them tell one site."""
    both, one, two = (MaskGuess(LATENTS, CLASSES) for _ in range(3))
    for guess, seeds in ((one, (0,)), (two, (1,))):
        for seed in seeds:
            guess.remember(_mask(seed), _latent(_mask(seed)), 1.0)
    mean = {key: (value + two.state_dict()[key]) / 2 for key, value in one.state_dict().items()}
    both.load_state_dict(mean)
    assert torch.allclose(both(_mask(5))[0], _latent(_mask(5)), atol=0.02)
