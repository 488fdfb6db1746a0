from __future__ import annotations

import numpy as np
import pytest
import torch

from scantwin.evaluation import image_metrics as im
from scantwin.evaluation.agreement import agreement, as_figures
from scantwin.evaluation.frechet import Gaussian, RandomFeatures, frechet_distance, gather, slices_of


def test_the_first_layer_alone_is_the_first_of_all_and_sees_grain_more():
    whole, first = RandomFeatures(), RandomFeatures(RandomFeatures().widths[:1])
    assert torch.equal(whole.layers[0].weight, first.layers[0].weight) and whole.name != first.name
    random = np.random.default_rng(6)
    flat = torch.full((1, 1, 40, 40), 0.5)
    grainy = flat + torch.from_numpy(random.normal(0, 0.03, (1, 1, 40, 40))).float()
    slope = flat + torch.linspace(-0.03, 0.03, 40) * 3**0.5  # as strong, and as coarse as can be
    for extractor, more in ((first, True), (whole, False)):
        grain, shape = (float((extractor(one) - extractor(flat)).norm()) for one in (grainy, slope))
        assert (grain > shape) is more


def test_identity_agrees_and_a_shift_is_bias():
    true = np.array([1.0, 2.0, 4.0, 3.0])
    same, moved = agreement(true, true), agreement(true + 0.5, true)
    assert (same.bias, same.low, same.high, same.ccc) == pytest.approx((0, 0, 0, 1))
    assert (moved.bias, moved.low, moved.high) == pytest.approx((0.5, 0.5, 0.5))
    variance = true.var()
    assert moved.ccc == pytest.approx(2 * variance / (2 * variance + 0.25))  # Lin 1989, eq. 3


def test_limits_hold_nineteen_of_twenty():
    random = np.random.default_rng(0)
    true = random.gamma(4, 1, 20_000)
    found = agreement(true + random.normal(0.2, 0.3, true.size), true)
    assert (found.low, found.high) == pytest.approx((0.2 - 1.96 * 0.3, 0.2 + 1.96 * 0.3), abs=0.02)


def test_what_does_not_exist_is_null():
    figures = as_figures(agreement(np.array([1.0]), np.array([2.0])))
    assert figures["bias"] == -1.0 and figures["ccc"] is None and figures["low"] is None


def gaussian(values):
    out = Gaussian()
    out.add(values)
    return out


def test_the_distance_of_two_known_gaussians():
    random = np.random.default_rng(1)
    one = random.normal(0.0, 1.0, (200_000, 2))
    two = random.normal(0.0, 1.0, (200_000, 2)) * [2.0, 1.0] + [3.0, 0.0]
    # |3|^2 + (2 - 1)^2 for independent axes; sampling moves it by about 1 %.
    assert frechet_distance(gaussian(one), gaussian(two)) == pytest.approx(10.0, rel=0.02)
    assert frechet_distance(gaussian(one), gaussian(one)) == pytest.approx(0.0, abs=1e-9)


def test_features_are_fixed_and_see_blur():
    random = np.random.default_rng(2)
    body = np.ones((20, 20, 20), bool)
    sharp = random.gamma(2, 2, body.shape).astype(np.float32)
    again = random.gamma(2, 2, body.shape).astype(np.float32)
    blurred = np.asarray(im.ndimage.gaussian_filter(again, 1.0), np.float32)
    held = {}
    for name, image in (("sharp", sharp), ("again", again), ("blurred", blurred)):
        held[name] = Gaussian()
        gather(held[name], image, body, (0.0, 20.0), RandomFeatures())
    near, far = (frechet_distance(held["sharp"], held[name]) for name in ("again", "blurred"))
    assert far > 20 * near
    repeated = Gaussian()
    gather(repeated, sharp, body, (0.0, 20.0), RandomFeatures())
    assert frechet_distance(held["sharp"], repeated) == pytest.approx(0.0, abs=1e-9)


def test_features_of_a_region_see_its_texture_in_its_surroundings():
    random = np.random.default_rng(4)
    extractor, where = RandomFeatures(), torch.zeros(1, 1, 40, 40)
    where[..., 12:28, 12:28] = 1.0
    held = {name: Gaussian() for name in ("grainy", "again", "smooth", "beside", "beside-it")}
    for _ in range(60):
        grainy, again = (torch.from_numpy(random.normal(0.5, 0.03, (1, 1, 40, 40))).float() for _ in range(2))
        smooth = torch.where(where > 0, 0.5, grainy)
        for name, image in (("grainy", grainy), ("again", again), ("smooth", smooth)):
            held[name].add(extractor(image, where).double().numpy())
        held["beside"].add(extractor(grainy, 1 - where).double().numpy())
        held["beside-it"].add(extractor(smooth, 1 - where).double().numpy())
    near, far = (frechet_distance(held["grainy"], held[name]) for name in ("again", "smooth"))
    beside = frechet_distance(held["beside"], held["beside-it"])
    # Noise that is blurred away in the region shows there, and hardly beside it.
    # `near` is what 60 slices tell apart by chance: a third of that is left with 180.
    assert far > 3 * near and far > 3 * beside


def test_slices_count_the_same_alone_and_together():
    """Many go through the extractor at once; `every=2` takes half of them."""
    random = np.random.default_rng(8)
    image, body = random.uniform(0, 20, (34, 12, 16)).astype(np.float32), np.ones((34, 12, 16), bool)
    extractor, alone, together, half = RandomFeatures(), Gaussian(), Gaussian(), Gaussian()
    slices = list(slices_of(image, body, (0.0, 20.0)))
    for one in slices:
        alone.add(extractor(torch.from_numpy(np.ascontiguousarray(one))[None, None]).double().numpy())
    gather(together, image, body, (0.0, 20.0), extractor)
    gather(half, image, body, (0.0, 20.0), extractor, every=2)
    assert (together.count, half.count) == (len(slices), len(slices) // 2) == (62, 31)
    for one, other in zip(alone.moments(), together.moments(), strict=True):
        assert np.allclose(one, other, atol=1e-5)


def test_multi_scale_similarity():
    random = np.random.default_rng(3)
    true = np.asarray(im.ndimage.gaussian_filter(random.uniform(0, 20, (112, 112, 112)), 3), np.float32)
    mask = np.ones(true.shape, bool)
    likeness = im.Likeness(true, mask)
    assert likeness.multi_scale(true) == pytest.approx(1.0)
    little, much = (
        likeness.multi_scale((true + random.normal(0, sd, true.shape)).astype(np.float32))
        for sd in (0.2, 1.0)
    )
    assert 1.0 > little > much > 0.0


def test_multi_scale_similarity_is_the_published_product():
    """Wang 2003, (7): structure at every scale, luminance at the coarsest, to the power of its weight."""
    random = np.random.default_rng(4)
    true = np.asarray(im.ndimage.gaussian_filter(random.uniform(0, 20, (112, 112, 112)), 2), np.float64)
    # Coarse and fine differences: with the weights in another order the product is another.
    other = np.clip(true + random.normal(0, 0.3, true.shape) + 0.5 * np.sign(true - 10.0), 0, 20)
    expected, a, b = 1.0, true, other
    c1, c2, inner = (0.01 * 20) ** 2, (0.03 * 20) ** 2, (slice(3, -3),) * 3
    for number, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean_a, mean_b, aa, bb, ab = (
            im.ndimage.uniform_filter(x, 7)[inner] for x in (a, b, a * a, b * b, a * b)
        )
        sample = 343 / 342
        var_a, var_b = sample * (aa - mean_a**2), sample * (bb - mean_b**2)
        structure = (2 * sample * (ab - mean_a * mean_b) + c2) / (var_a + var_b + c2)
        luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        expected *= (structure * luminance if number == 4 else structure).mean() ** weight
        if number < 4:
            half = len(a) // 2
            a, b = (x.reshape(half, 2, half, 2, half, 2).mean(axis=(1, 3, 5)) for x in (a, b))
    found = im.Likeness(true.astype(np.float32), np.ones(true.shape, bool)).multi_scale(
        other.astype(np.float32)
    )
    assert found == pytest.approx(expected, rel=1e-5)


def test_multi_scale_similarity_of_a_small_body_is_that_with_air_around_it():
    random = np.random.default_rng(5)
    true = np.asarray(im.ndimage.gaussian_filter(random.uniform(0, 20, (112, 112, 112)), 3), np.float32)
    other = (true + random.normal(0, 0.5, true.shape)).astype(np.float32)
    body = np.zeros(true.shape, bool)
    body[30:82, 40:72, 35:77] = True
    part = (slice(26, 86), slice(36, 76), slice(31, 81))
    cropped = im.Likeness(true[part], body[part]).multi_scale(other[part])
    assert cropped < 1.0 and cropped == pytest.approx(im.Likeness(true, body).multi_scale(other), rel=1e-9)
    nothing = np.zeros((20, 20, 20), bool)
    nothing[10, 10, 10] = True
    assert np.isnan(im.Likeness(true[:20, :20, :20], nothing).multi_scale(true[:20, :20, :20]))


def test_gaussians_of_patients_are_put_together_as_often_as_asked():
    random = np.random.default_rng(0)
    features = [random.normal(size=(n, 5)) for n in (3, 0, 4)]
    parts = [Gaussian() for _ in features]
    for part, values in zip(parts, features, strict=True):
        part.add(values)
    for times in (None, [2, 5, 1], [0, 0, 2]):
        at_once = Gaussian()
        for values, n in zip(features, times or [1, 1, 1], strict=True):
            for _ in range(n):
                at_once.add(values)
        together = Gaussian.together(parts, times)
        assert together.count == at_once.count
        for one, other in zip(together.moments(), at_once.moments(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-12)
    with pytest.raises(ValueError, match="two slices"):
        Gaussian.together(parts, [0, 1, 0]).moments()
