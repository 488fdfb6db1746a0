"""What of a CT is told as texture: not levels, not borders, not what lies under a region."""

from __future__ import annotations

import pytest
import torch

from scantwin.generation.hu_scale import to_unit
from scantwin.generation.texture import noise_of, texture, texture_around, without_texture
from scantwin.imaging.organs import ORGAN_LABEL

LIVER, LUNG = ORGAN_LABEL["liver"], ORGAN_LABEL["lung"]
SIDES = (1, 3, 48, 48)


def beside(noise_hu=(10.0, 40.0)):
    """Liver on the left, lung on the right, each with white noise of its own, on the bent scale."""
    torch.manual_seed(5)
    left = torch.arange(48) < 24
    classes = torch.where(left, LIVER, LUNG).expand(SIDES)
    hu = torch.where(left, 60.0, -750.0) + torch.where(left, *noise_hu) * torch.randn(SIDES)
    return to_unit(hu), classes


def per_hu(hu):
    """How much the bent scale rises for 1 HU around `hu`."""
    return float(to_unit(torch.tensor(hu + 0.5)) - to_unit(torch.tensor(hu - 0.5)))


def test_a_level_is_no_texture_and_neither_is_the_border_between_two():
    image, classes = beside(noise_hu=(0.0, 0.0))
    part, told = texture(image, torch.ones(SIDES, dtype=torch.bool), classes)
    assert float(part.abs().max()) < 1e-5
    assert told[..., 2:-2, :].all(), "in corners, where two classes meet, there may be too few"


def test_texture_is_what_was_there_less_the_mean_of_nine():
    image, classes = beside()
    part, _ = texture(image, torch.ones(SIDES, dtype=torch.bool), classes)
    for label, hu, noise in ((LIVER, 60.0, 10.0), (LUNG, -750.0, 40.0)):
        # White noise less the mean of nine of it keeps sqrt(8 / 9); 3,456 pixels tell an SD within 3 %.
        # The scale bends by a few per cent within the noise of lung.
        assert float(part[classes == label].std()) == pytest.approx(noise * per_hu(hu) * 0.94, rel=0.08)


def test_a_pixel_with_little_of_its_class_around_tells_nothing():
    image, classes = beside()
    where = torch.zeros(SIDES, dtype=torch.bool)
    where[..., 20, :] = True
    part, told = texture(image, where, classes)
    assert not told.any(), "a row of three pixels in a window of nine"
    assert not part[~where].any()


def test_without_texture_there_are_levels_and_what_is_stronger():
    image, classes = beside()
    rim = (..., slice(30, 34), 30)  # a vessel in the lung, 400 HU denser
    image[rim] = to_unit(torch.tensor(-350.0))
    sizes = torch.where(classes == LIVER, 10.0 * per_hu(60.0), 40.0 * per_hu(-750.0))
    everywhere = torch.ones(SIDES, dtype=torch.bool)
    left = without_texture(image, everywhere, classes, sizes)
    assert torch.equal(left[rim], image[rim])
    for label, hu, noise in ((LIVER, 60.0, 10.0), (LUNG, -750.0, 40.0)):
        apart = (classes == label) & (torch.arange(48) < 29)  # not beside the vessel
        # The mean of nine is left, a third of white noise.
        assert float(left[apart].std()) == pytest.approx(noise * per_hu(hu) / 3, rel=0.2)
    nowhere = without_texture(image, ~everywhere, classes, sizes)
    assert torch.equal(nowhere, image)


def around(image, region, classes, otherwise=0.5):
    """SDs of liver and of lung in their middles; `otherwise` is none of theirs."""
    table = torch.full((1, max(ORGAN_LABEL.values()) + 1), otherwise)
    sizes = texture_around(image, region, classes, table)
    return float(sizes[0, 1, 24, 20]), float(sizes[0, 1, 24, 28])


def test_a_classs_texture_is_told_by_what_is_known_of_it_around_the_region():
    image, classes = beside()
    region = torch.zeros(SIDES)
    region[..., 16:32, 16:32] = 1.0
    hidden = torch.where(region > 0, 5.0 * torch.randn(SIDES), image)  # must not be looked at
    liver, lung = around(hidden, region, classes)
    # As above; medians of some 2,900 pixels are within 3 % of it.
    assert liver == pytest.approx(10.0 * per_hu(60.0) * 0.94, rel=0.1)
    assert lung == pytest.approx(40.0 * per_hu(-750.0) * 0.94, rel=0.1)


def test_vessels_do_not_make_all_of_a_lung_rough():
    image, classes = beside()
    region = torch.zeros(SIDES)
    region[..., 20:28, 16:32] = 1.0
    vessels = (torch.rand(SIDES) < 0.02) & (classes == LUNG)
    pierced = torch.where(vessels, to_unit(torch.tensor(40.0)), image)
    rough, calm = around(pierced, region, classes)[1], around(image, region, classes)[1]
    # Each touches nine pixels: less than a fifth of all, which moves a median by a third at most.
    assert rough / calm < 1.34
    assert float(pierced[classes == LUNG].std() / image[classes == LUNG].std()) > 4.0


def test_of_what_a_region_swallows_only_others_can_tell():
    image, classes = beside()
    assert around(image, torch.ones(SIDES), classes) == (0.5, 0.5)
    assert float(noise_of(image, torch.ones(SIDES))) == pytest.approx(18.0 / 150.0)


@pytest.mark.parametrize("noise_hu", [6.0, 25.0])
def test_a_cts_noise_is_told_by_its_tissue(noise_hu):
    image, _ = beside((noise_hu, 80.0))  # lung beside it is no noise
    region = torch.zeros(SIDES)
    region[..., 12:28, 4:16] = 1.0
    # On the bent scale 1 HU is 1 / 150 around soft tissue; the scale bends a little within 25 HU.
    assert float(noise_of(image, region)) * 150.0 == pytest.approx(noise_hu, rel=0.08)
