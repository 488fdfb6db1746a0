"""What inpainting knows of a CT before it has learnt anything: levels, noise, texture."""

from __future__ import annotations

import pytest
import torch

from scantwin.generation.class_density import TYPICAL_HU, from_deviation, levels_around
from scantwin.generation.hu_scale import to_hu, to_unit
from scantwin.generation.slice_networks import SliceDenoiser
from scantwin.generation.texture import noise_of, texture
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
    # In its middle the median of 4,000 voxels with noise of 15 HU is within 0.3 HU; four times that. At its
    # border some 25 pixels beside it count: 3 HU; four times that.
    for own, level in zip(to_hu(said), (60.0, 130.0), strict=True):
        assert own[:, 19:21, 19:21].numpy() == pytest.approx(level, abs=1.2)
        assert own[:, 12:28, 12:28].numpy() == pytest.approx(level, abs=12.0)


def test_each_side_of_a_hole_is_as_dense_as_the_tissue_on_that_side():
    image, region, classes = livers((60.0, 60.0))
    slope = torch.linspace(-30.0, 30.0, 40)  # HU, from left to right, as gravity makes it in lung
    image = to_unit(60.0 + slope.expand(SIDES))
    levels = to_hu(levels_around(image, region, classes))[..., 20, :]
    # The median alone would be 12 HU off at either side.
    assert levels[..., 12].numpy() == pytest.approx(60.0 + float(slope[12]), abs=5.0)
    assert levels[..., 27].numpy() == pytest.approx(60.0 + float(slope[27]), abs=5.0)


def test_what_is_not_known_around_is_as_in_anybody():
    image, region, classes = livers()
    classes = torch.where(region > 0, TUMOUR, classes)
    said = to_hu(from_deviation(torch.zeros(SIDES), classes, levels_around(image, region, classes)))
    assert said[region > 0].numpy() == pytest.approx(TYPICAL_HU["tumour"][0], abs=0.5)


def test_texture_is_as_around_else_as_remembered_else_the_cts_noise():
    denoiser = SliceDenoiser(2, (4, 8), 8)
    image, region, classes = livers((40.0, 40.0), 12.0)
    alone = torch.where(region > 0, TUMOUR, classes)
    noise = noise_of(image, region)

    def size(classes):
        return denoiser.sizes(image, region, classes)[:, 1, 20, 20] / noise[:, 0]

    around = size(classes)
    # Medians of some 4,000 pixels: 3 %; a mean of nine taken off: 6 %.
    assert around.numpy() == pytest.approx(0.94, abs=0.06)
    assert size(alone).numpy() == pytest.approx(1.0, abs=1e-6), "nothing was seen of it: the CT's noise"
    for _ in range(3):
        denoiser.remember(*texture(2.0 * image, region > 0, alone), noise, alone)
    assert size(alone).numpy() == pytest.approx(2.0 * 0.94, rel=0.1)
    # What is seen around comes first, whatever is remembered of others.
    assert torch.equal(size(classes), around)


def test_a_level_that_is_missed_is_not_remembered_as_texture():
    denoiser = SliceDenoiser(2, (4, 8), 8)
    image, region, classes = livers((40.0, 40.0), 12.0)
    missed = 0.3  # 45 HU on the bent scale: four times the noise
    denoiser.remember(*texture(image + missed, region > 0, classes), noise_of(image, region), classes)
    swallowed = denoiser.sizes(image, torch.ones(SIDES), classes)[:, 1, 20, 20]
    routine = noise_of(image, torch.ones(SIDES))[:, 0]
    assert (swallowed / routine).numpy() == pytest.approx(0.94, rel=0.1)
