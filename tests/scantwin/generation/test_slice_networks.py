"""What inpainting knows of a CT before it has learnt anything: levels, noise, texture."""

from __future__ import annotations

import pytest
import torch

from scantwin.generation.class_density import TYPICAL_HU, from_deviation, levels_around
from scantwin.generation.hu_scale import to_hu, to_unit
from scantwin.generation.slice_networks import SliceDenoiser, noise_of
from scantwin.imaging.organs import ORGAN_LABEL

LIVER, TUMOUR = ORGAN_LABEL["liver"], ORGAN_LABEL["tumour"]
SIDES = (2, 3, 40, 40)


def livers(levels=(60.0, 130.0), noise_hu=0.0):
    """Two livers of other density [HU] with a hole in the middle of each, on the bent scale."""
    torch.manual_seed(3)
    hu = torch.tensor(levels).view(2, 1, 1, 1).expand(SIDES) + noise_hu * torch.randn(SIDES)
    region = torch.zeros(SIDES)
    region[..., 12:28, 12:28] = 1.0
    return to_unit(hu), region, torch.full(SIDES, LIVER)


def test_a_liver_is_as_dense_as_the_liver_around_it():
    image, region, classes = livers(noise_hu=15.0)
    image = torch.where(region > 0, to_unit(torch.tensor(-900.0)), image)  # must not be looked at
    said = from_deviation(torch.zeros(SIDES), classes, levels_around(image, region, classes))
    # The median of 4,000 voxels with noise of 15 HU is within 0.3 HU; four times that.
    for own, level in zip(to_hu(said), (60.0, 130.0), strict=True):
        assert own.flatten().numpy() == pytest.approx(level, abs=1.2)


def test_what_is_not_known_around_is_as_in_anybody():
    image, region, classes = livers()
    classes = torch.where(region > 0, TUMOUR, classes)
    said = to_hu(from_deviation(torch.zeros(SIDES), classes, levels_around(image, region, classes)))
    assert said[region > 0].numpy() == pytest.approx(TYPICAL_HU["tumour"][0], abs=0.5)


@pytest.mark.parametrize("noise_hu", [6.0, 25.0])
def test_a_cts_noise_is_told_by_its_tissue(noise_hu):
    image, region, _ = livers((40.0, 40.0), noise_hu)
    image[..., 30:] = to_unit(torch.tensor(-900.0))  # lung beside it is no noise
    # On the bent scale 1 HU is 1 / 150 around soft tissue; the scale bends a little within 25 HU.
    told = (noise_of(image, region) * 150.0).flatten().numpy()
    assert told == pytest.approx(noise_hu, rel=0.08)


def test_where_too_little_is_known_the_noise_is_a_routine_scans():
    image, region, _ = livers()
    assert float(noise_of(image, torch.ones_like(region)).max()) == pytest.approx(18.0 / 150.0)


def test_texture_is_remembered_and_a_level_that_is_missed_is_not():
    denoiser = SliceDenoiser(2, (4, 8), 8)
    image, region, classes = livers((40.0, 40.0), 12.0)
    noise = noise_of(image, region)
    assert torch.equal(denoiser.scale(noise, classes), noise.expand(SIDES)), (
        "nothing was seen: the CT's noise"
    )
    missed = 0.3  # 45 HU on the bent scale: four times the noise
    for _ in range(3):
        denoiser.remember(image + missed, noise, region, classes)
    # log of a mean over 1,300 pixels: within some per cent of the noise itself.
    assert denoiser.scale(noise, classes).mean() == pytest.approx(float(noise.mean()), rel=0.1)
    assert torch.equal(denoiser.scale(noise, torch.full(SIDES, TUMOUR)), noise.expand(SIDES))
