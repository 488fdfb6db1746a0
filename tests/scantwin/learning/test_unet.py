"""The U-Net: sizes, and what it does without while it learns."""

from __future__ import annotations

import pytest
import torch

from scantwin.learning.unet import Denoiser, UNet


@pytest.mark.parametrize("dimensions", [2, 3])
def test_it_gives_back_the_size_that_it_was_given(dimensions):
    network = UNet(3, 2, (4, 8, 6), dimensions=dimensions)
    sides = (16, 8, 24)[-dimensions:]
    assert network(torch.randn(2, 3, *sides)).shape == (2, 2, *sides)
    level = torch.tensor([0.1, 0.9])
    assert Denoiser(3, (4, 8), 8, dimensions)(torch.randn(2, 3, *sides), level).shape == (2, 1, *sides)


def test_what_was_kept_at_full_resolution_is_seen_at_the_end():
    """A pixel's own value must get through, not only what its block of 4 x 4 x 4 has on average."""
    image = torch.zeros(1, 1, 8, 8, 8)
    image[..., 4, 4, 4] = 1.0
    here = far = 0.0
    for seed in range(20):  # of one network the last layer may cancel it by chance: one in forty does
        torch.manual_seed(seed)
        network = UNet(1, 1, (8, 8, 8))
        with torch.no_grad():
            said = (network(image) - network(torch.zeros_like(image)))[0, 0].abs()
        here, far = here + float(said[4, 4, 4]), far + float(said[0, 0, 0])
    # An order of magnitude: through the coarse levels alone it is four times, with what was kept a hundred.
    assert here > 10 * far


@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_lies_deep_is_heard_before_anything_is_learnt(dimensions):
    """Signals keep their size through all levels, to an order; torch's own start leaves a sixtieth."""
    torch.manual_seed(0)
    network = UNet(9, 1, (12, 24, 48, 64), dimensions=dimensions)
    sizes: list[float] = []
    for block in [*network.down, *reversed(network.up)]:
        block.register_forward_hook(
            lambda _block, _seen, said: sizes.append(float(said.square().mean() ** 0.5))
        )
    image = torch.randn(2, 9, *[4] * dimensions)
    for axis in range(2, 2 + dimensions):  # alike over eight voxels: of white noise pooling leaves little
        image = image.repeat_interleave(8, axis)
    with torch.no_grad():
        network(image)
    assert len(sizes) == 7
    assert 0.1 < min(sizes) <= max(sizes) < 10.0, sizes


def test_channels_are_left_out_only_while_gradients_are_taken():
    network = UNet(1, 1, (4, 8, 8), dropout=0.5)
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        one, two = network(image), network(image)
    assert torch.equal(one, two)
    torch.manual_seed(1)
    learning, again = network(image), network(image)
    assert not torch.equal(learning, again) and not torch.equal(learning, one)
    torch.manual_seed(1)
    assert torch.equal(network(image), learning), "what is left out depends on the seed of the step"
