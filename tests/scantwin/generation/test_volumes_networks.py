"""The networks of whole volumes and their parts: reach, seams, place, masks, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scantwin.generation.autoencoder import AIR, DECODER_REACH, DOWN, ENCODER_REACH, Autoencoder
from scantwin.generation.fields import Field, shares
from scantwin.generation.latent_denoiser import Adapter, LatentDenoiser
from scantwin.generation.tiling import blended, tile_count, tiles, windows

LEVELS = (7, 5, 3)


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    torch.manual_seed(3)
    made = Autoencoder((4, 6, 8), LEVELS)
    for parameter in made.parameters():  # what starts at zero must be seen to do something
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return made


@pytest.fixture
def denoiser() -> LatentDenoiser:
    torch.manual_seed(4)
    made = LatentDenoiser(3, (8, 8, 8), 16)
    for parameter in made.parameters():  # what starts at zero must be seen to do something
        parameter.data += 0.05 * torch.randn(parameter.shape)
    return made


def test_latents_lie_on_the_grid_and_stay_there(autoencoder: Autoencoder) -> None:
    latent = autoencoder.encode(torch.randn(1, 1, 16, 16, 16))
    assert latent.shape == (1, 3, 4, 4, 4)
    for channel, levels in enumerate(LEVELS):
        steps = latent[0, channel].detach() * (levels - 1) / 2
        assert torch.allclose(steps, steps.round(), atol=1e-5)
        assert steps.abs().max() <= (levels - 1) / 2
    assert torch.allclose(autoencoder.quantised(latent), latent)


def test_gradients_pass_the_rounding(autoencoder: Autoencoder) -> None:
    image = torch.randn(1, 1, 16, 16, 16, requires_grad=True)
    autoencoder(image).sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


def test_before_it_learns_it_knows_means_and_slopes() -> None:
    """An edge between air and tissue: flat parts come back but for the grid and what the deep way adds."""
    torch.manual_seed(6)
    fresh = Autoencoder((4, 6, 8), (63, 15, 15, 15))
    image = torch.full((1, 1, 16, 16, 16), AIR)
    image[:, :, 6:] = 0.1  # soft tissue
    with torch.no_grad():
        said = fresh(image)
    # Of the 2.1 between them, less than a quarter is lost in air, where the grid is coarsest.
    assert (said[:, :, :4] - AIR).abs().mean() < 0.5
    assert (said[:, :, 8:] - 0.1).abs().mean() < 0.25
    assert said[0, 0, 7].mean() > said[0, 0, 4].mean() + 1.0  # the edge inside a block is not flat


def test_nothing_beyond_the_reach_matters(autoencoder: Autoencoder) -> None:
    """Latent voxels farther than DECODER_REACH, voxels farther than ENCODER_REACH change nothing."""
    size, middle = 2 * max(DECODER_REACH, ENCODER_REACH) + 3, max(DECODER_REACH, ENCODER_REACH) + 1
    latent = torch.zeros(1, 3, size, 3, 3, requires_grad=True)
    autoencoder.decode(latent)[0, 0, middle * DOWN : (middle + 1) * DOWN].sum().backward()
    assert latent.grad is not None
    felt = torch.nonzero(latent.grad.abs().sum((0, 1, 3, 4))).flatten()
    assert middle - felt.min() <= DECODER_REACH and felt.max() - middle <= DECODER_REACH
    assert felt.max() - felt.min() >= 2 * (DECODER_REACH - 1)  # and it is no larger than it need be

    image = torch.randn(1, 1, size * DOWN, 8, 8, requires_grad=True)
    autoencoder.encoder(image)[0, :, middle].sum().backward()
    assert image.grad is not None
    felt = torch.nonzero(image.grad.abs().sum((0, 1, 3, 4))).flatten()
    assert middle - felt.min() // DOWN <= ENCODER_REACH and felt.max() // DOWN - middle <= ENCODER_REACH


def test_tiles_give_what_the_whole_gives_and_no_seam(autoencoder: Autoencoder) -> None:
    latent = autoencoder.quantised(torch.randn(1, 3, 14, 6, 5))
    with torch.no_grad():
        whole = autoencoder.decode(latent)[0, 0]
        out = torch.full_like(whole, torch.nan)
        for core, seen, own in tiles((14, 6, 5), 4, DECODER_REACH):
            z, y, x = (slice(s.start * DOWN, s.stop * DOWN) for s in core)
            fine = tuple(slice(s.start * DOWN, s.stop * DOWN) for s in own)
            out[z, y, x] = autoencoder.decode(latent[(..., *seen)])[(0, 0, *fine)]
    assert torch.allclose(out, whole, atol=1e-5)  # all of it, to rounding
    jumps = (out[1:] - out[:-1]).abs().mean((1, 2))
    borders = [4 * DOWN * k - 1 for k in (1, 2, 3)]
    # Latent borders elsewhere are the fair comparison: the decoder may well have a jump at each of them.
    elsewhere = [DOWN * k - 1 for k in range(1, 14) if k % 4]
    assert jumps[borders].mean() < 1.5 * jumps[elsewhere].mean()


def test_tiles_cover_everything_once() -> None:
    covered = np.zeros((7, 5, 9), int)
    boxes = list(tiles((7, 5, 9), 4, 2))
    for core, seen, own in boxes:
        covered[core] += 1
        assert all(s.start <= c.start and c.stop <= s.stop for c, s in zip(core, seen, strict=True))
        assert all(o.stop - o.start == c.stop - c.start for c, o in zip(core, own, strict=True))
    assert (covered == 1).all() and len(boxes) == tile_count((7, 5, 9), 4)


@pytest.mark.parametrize("shape", [(8, 8, 8), (30, 17, 8), (9, 8, 23)])
def test_windows_cover_everything_and_overlap(shape: tuple[int, int, int]) -> None:
    boxes = windows(shape, (8, 8, 8), 4)
    covered = np.zeros(shape, int)
    for box in boxes:
        covered[box] += 1
        assert all(side.stop - side.start <= 8 for side in box)
    assert covered.min() == 1
    starts = sorted({box[0].start for box in boxes})
    assert all(b - a <= 4 for a, b in zip(starts, starts[1:], strict=False))


def test_blended_windows_show_no_border() -> None:
    """What windows disagree about (each its own constant) must not jump where one begins."""
    volume = torch.zeros(1, 1, 40, 8, 8)
    boxes = windows((40, 8, 8), (16, 8, 8), 8)
    said = blended(volume, boxes, lambda box: torch.full((1, 1, 16, 8, 8), float(box[0].start)))
    line = said[0, 0, :, 4, 4]
    steps = (line[1:] - line[:-1]).abs()
    borders = [side for box in boxes for side in (box[0].start - 1, box[0].stop - 1) if 0 <= side < 39]
    # Windows differ by 8 here; laid side by side they would jump by 8 at their borders.
    assert steps[borders].max() < 0.5 and steps.max() < 3.0
    same = blended(volume, boxes, lambda box: torch.ones(1, 1, 16, 8, 8))
    assert torch.allclose(same, torch.ones_like(same))


def test_place_tells_top_from_bottom_in_millimetres() -> None:
    field = Field.of((40, 13, 14), (10.0, 5.0, 5.0))
    assert field.padded == (40, 16, 16) and field.latent == (10, 4, 4)
    top, bottom, back, left = field.place()[0]
    assert torch.allclose(top + bottom, torch.tensor(40 * 10.0 / 500.0))
    assert top[-1].max() < top[0].min()  # array axis z runs to the head
    assert back[0, 0, 0] < 0 < back[0, -1, 0] and left[0, 0, 0] < 0 < left[0, 0, -1]
    # The same place in the body has the same channels, whatever the voxels are.
    fine = Field.of((80, 26, 28), (5.0, 2.5, 2.5)).place()[0, 0]
    assert abs(float(fine.mean() - top.mean())) < 0.01


def test_a_padded_array_comes_back() -> None:
    field = Field.of((5, 6, 8), (1.0, 1.0, 1.0))
    array = np.random.default_rng(0).integers(0, 9, (5, 6, 8)).astype(np.int16)
    padded = field.pad(array, -3)
    assert padded.dtype == np.int16 and (padded[field.inside] == array).all()
    assert padded.shape == (8, 8, 8) and (padded == -3).sum() == 8**3 - array.size


def test_shares_of_classes_add_up() -> None:
    classes = np.random.default_rng(1).integers(0, 4, (8, 8, 8)).astype(np.uint8)
    found = shares(classes, 3)
    assert found.shape == (1, 3, 2, 2, 2)
    inside = (classes[:4, :4, :4] > 0).mean()
    assert float(found[0, :, 0, 0, 0].sum()) == pytest.approx(inside, abs=1e-6)


@pytest.mark.parametrize("shape", [(8, 8, 8), (7, 5, 9), (2, 1, 3)])
def test_any_size_goes_through_the_denoiser(denoiser: LatentDenoiser, shape: tuple[int, int, int]) -> None:
    noised, place = torch.randn(1, 3, *shape), torch.randn(1, 4, *shape)
    assert denoiser(noised, place, torch.tensor([0.4])).shape == noised.shape


def _latent() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(5)
    noised, place = (torch.randn(1, n, 8, 8, 8, generator=random) for n in (3, 4))
    return noised, place, torch.tensor([0.4])


def test_an_adapter_that_has_not_learnt_adds_nothing(denoiser: LatentDenoiser) -> None:
    adapter = Adapter(3, 2, (8, 8, 8), 16)
    adapter.begin_as(denoiser)
    assert not adapter.learnt
    noised, place, level = _latent()
    mask = torch.rand(1, 2, 8, 8, 8)
    with torch.no_grad():
        plain = denoiser(noised, place, level)
        control = adapter(noised, place, level, mask)
        assert torch.equal(denoiser(noised, place, level, control.levels), plain)
        assert not control.said.any() and not control.trust.any()
        adapter.gates[0].weight += 0.1  # type: ignore[operator]
        control = adapter(noised, place, level, mask)
        assert not torch.equal(denoiser(noised, place, level, control.levels), plain)


def test_computing_again_gives_the_same_gradients(denoiser: LatentDenoiser) -> None:
    noised, place, level = _latent()
    gradients = []
    for sparing in (False, True):
        denoiser.zero_grad()
        denoiser(noised, place, level, sparing=sparing).abs().mean().backward()
        gradients.append([p.grad.clone() for p in denoiser.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(*gradients, strict=True))
