from __future__ import annotations

import pytest
import torch

from scantwin.learning.recipe_parts import Diffusion
from scantwin.translation.delivering import anchored, deliver
from scantwin.translation.pool import pooled


def fields(drift):
    """Four samples about a coarse prediction of 1, all off by `drift`, each with its own noise."""
    coarse = torch.ones(1, 1, 24, 24, 24)
    noise = torch.randn(4, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    return coarse + drift + 0.2 * noise, coarse


def test_a_drift_of_the_mean_is_taken_off_and_the_texture_stays():
    samples, coarse = fields(0.5)
    body = torch.ones_like(coarse)
    body[..., :6] = 0
    held = anchored(samples, coarse, body, 1.0)
    inside = body[0] > 0
    # What is left of the drift is the noise of a mean over a box of 343 voxels and four samples.
    assert float((held.mean(0) - coarse[0])[inside].mean()) == pytest.approx(0.0, abs=0.01)
    assert float(held[0][inside].std()) == pytest.approx(0.2, rel=0.1)
    assert torch.equal(held[..., :6], samples[..., :6]), "air is left alone"
    half = anchored(samples, coarse, body, 0.5)
    assert float((half.mean(0) - coarse[0])[inside].mean()) == pytest.approx(0.25, abs=0.02)
    assert anchored(samples, coarse, body, 0.0) is samples


def test_what_is_delivered_follows_the_recipe():
    samples, coarse = fields(0.0)
    hot = (slice(None), slice(None), slice(10, 14), slice(10, 14), slice(10, 14))
    samples[hot] += 7.0
    coarse[hot] += 4.0
    level = coarse + 0.25
    level[hot] += 1.75
    samples[0, 0, 2, 2, 2] = 9.0  # hot in one sample, cold in the coarse prediction: a guess
    blend = deliver(
        samples, coarse, level, Diffusion(delivered="blend", blend_from=(2.0, 4.0), blend_share=0.7)
    )
    assert torch.allclose(blend.pet[hot], 0.7 * samples[:1][hot] + 0.3 * level[hot])
    assert blend.pet[0, 0, 2, 2, 2] == coarse[0, 0, 2, 2, 2] and blend.pet[0, 0, 20, 20, 20] == 1.0
    smooth = deliver(samples, coarse, level, Diffusion(blend_from=(2.0, 4.0), blend_share=0.0))
    assert torch.allclose(smooth.pet[hot], level[hot]), "the mean uptake where it is hot"
    assert torch.equal(deliver(samples, coarse, level, Diffusion(delivered="sample")).pet, samples[:1])
    mean = deliver(samples, coarse, level, Diffusion(delivered="mean"))
    assert torch.allclose(mean.pet[0], samples.mean(0))
    assert mean.std is not None and float(mean.std.mean()) == pytest.approx(0.2, rel=0.1)
    alone = deliver(samples[:1], coarse, level, Diffusion())
    assert alone.std is not None and float(alone.std.max()) == 0.0


def test_a_pool_gives_back_what_was_made_before_and_forgets_nothing_in_a_kill():
    patches = [torch.full((2, 1, 2, 2, 2), float(k)) for k in range(12)]
    memory, shown = {}, []
    for patch in patches:
        shown.append(pooled(memory, "trunk/pet", patch, 3))
    assert memory["trunk/pet/pool"].shape[0] == 3 and int(memory["trunk/pet/seen"]) == 24
    assert torch.equal(shown[0], patches[0]), "a pool that is not full shows what was made"
    old = [bool((a != b).any()) for a, b in zip(shown, patches, strict=True)]
    assert any(old[3:]) and not all(old[3:])
    memory = {}
    for number, patch in enumerate(patches):
        memory = {key: value.clone() for key, value in memory.items()}  # as a checkpoint would bring it back
        assert torch.equal(pooled(memory, "trunk/pet", patch, 3), shown[number])
    assert torch.equal(pooled({}, "trunk/pet", patches[5], 0), patches[5])
