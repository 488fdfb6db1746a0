"""Against a Gaussian target, whose exact denoiser is known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scantwin.learning.samplers import SAMPLERS, ddim, dpmpp_2m, unipc
from scantwin.learning.schedules import Preconditioning, cosine, descent, descent_by_snr

MEAN, SD = 1.5, 0.4
LEVELS = cosine(200)


def exact(x, step):
    """E[image | x] of an image ~ N(MEAN, SD^2): the textbook posterior mean of two Gaussians."""
    alpha, sigma = float(LEVELS.alpha[step]), float(LEVELS.sigma[step])
    return MEAN + alpha * SD**2 / (alpha**2 * SD**2 + sigma**2) * (x - alpha * MEAN)


def drawn(sampler, count, start=200):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40_000, generator=generator)
    x = float(LEVELS.alpha[start]) * MEAN + float(LEVELS.sigma[start]) * noise
    return sampler(exact, x, descent(start, count), LEVELS), noise


def test_image_and_noise_share_the_variance_and_noise_grows():
    assert torch.allclose(LEVELS.alpha**2 + LEVELS.sigma**2, torch.ones(201), atol=1e-6)
    assert LEVELS.alpha[0] == 1 and LEVELS.sigma[0] == 0 and LEVELS.alpha[-1] == pytest.approx(0.01)
    assert (LEVELS.alpha.diff() < 0).all()


def test_velocity_image_and_noise_belong_together():
    image, noise, step = torch.randn(5, 1, 4), torch.randn(5, 1, 4), torch.tensor([0, 1, 50, 150, 200])
    noised = LEVELS.noised(image, noise, step)
    assert torch.allclose(LEVELS.image(noised, LEVELS.velocity(image, noise, step), step), image, atol=1e-5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_many_steps_reach_the_targets_mean_and_spread(name):
    sample, _ = drawn(SAMPLERS[name], 200)
    assert float(sample.mean()) == pytest.approx(MEAN, abs=0.02)  # 10 standard errors of the mean
    assert float(sample.std()) == pytest.approx(SD, rel=0.03)


def flowed(noise, step, start=200):
    """Where the exact flow of that Gaussian, a straight map, has at `step` what began at `start`."""

    def spread(at):
        return (float(LEVELS.alpha[at]) ** 2 * SD**2 + float(LEVELS.sigma[at]) ** 2) ** 0.5

    return float(LEVELS.alpha[step]) * MEAN + spread(step) * float(LEVELS.sigma[start]) * noise / spread(
        start
    )


@pytest.mark.parametrize("higher", [dpmpp_2m, unipc])
def test_ten_steps_of_the_higher_orders_come_closer_than_ten_of_ddim(higher):
    errors = {}
    for sampler in (ddim, higher):
        sample, noise = drawn(sampler, 10)
        errors[sampler] = float((sample - flowed(noise, 0)).abs().mean())
    assert errors[higher] < 0.5 * errors[ddim]


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpmpp_2m, 2), (unipc, 3)])
def test_twice_the_moves_leave_the_error_that_a_methods_order_says(sampler, order):
    """UniPC's corrector gives a predictor of second order the third (arXiv 2302.04867)."""
    errors = []
    start, end = 120, 60
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)
    x = float(LEVELS.alpha[start]) * MEAN + float(LEVELS.sigma[start]) * noise
    exactly = flowed(noise, end, start)
    for stride in (10, 5):
        reached = {}

        def watched(x, step, reached=reached):
            reached[step] = x
            return exact(x, step)

        sampler(watched, x, [*range(start, end - stride, -stride), 0], LEVELS)
        errors.append(float((reached[end] - exactly).abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.5)


def test_a_start_in_the_middle_keeps_to_its_steps():
    assert descent(200, 4) == [200, 150, 100, 50, 0]
    assert descent(60, 60) == list(range(60, -1, -1))
    sample, _ = drawn(ddim, 50, start=100)
    # The start N(alpha m, sigma^2) lacks the image's own variance there: the spread must come out too small.
    assert float(sample.mean()) == pytest.approx(MEAN, abs=0.02) and float(sample.std()) < SD


def test_one_step_is_the_denoisers_word():
    x = torch.linspace(-2, 2, 9)
    for sampler in SAMPLERS.values():
        assert torch.allclose(sampler(exact, x, [120, 0], LEVELS), exact(x, 120), atol=1e-5)


def test_a_descent_makes_no_step_twice():
    assert descent(200, 4) == [200, 150, 100, 50, 0]
    assert descent(3, 12) == [3, 2, 1, 0]


@given(start=st.integers(1, 200), count=st.integers(1, 250))
def test_a_descent_by_snr_goes_down_in_as_many_moves_as_there_are_levels(start, count):
    steps = descent_by_snr(LEVELS, start, count)
    assert steps[0] == start and steps[-1] == 0 and len(steps) == min(start, count) + 1
    assert all(now > then for now, then in zip(steps, steps[1:], strict=False))


def test_a_descent_by_snr_is_even_in_it():
    steps = descent_by_snr(LEVELS, 200, 6)
    half_snr = LEVELS.alpha.double().log() - LEVELS.sigma.double().log()
    moves = half_snr[steps[:-1]].diff()
    assert float(moves.max() / moves.min()) < 1.2, "levels are whole numbers"
    assert descent_by_snr(LEVELS, 200, 200) == list(range(200, -1, -1))


@pytest.mark.parametrize("fine", [0.05, 0.2])
def test_ten_moves_by_snr_keep_what_is_fine_and_ten_even_ones_do_not(fine):
    """What varies by less than a PET's noise is lost where the last move takes much noise off at once."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(20_000, generator=generator)
    kept = {}
    for name, steps in (("even", descent(200, 10)), ("snr", descent_by_snr(LEVELS, 200, 10))):

        def denoise(x, step):
            alpha, sigma = float(LEVELS.alpha[step]), float(LEVELS.sigma[step])
            return alpha * fine**2 / (alpha**2 * fine**2 + sigma**2) * x

        kept[name] = float(dpmpp_2m(denoise, float(LEVELS.sigma[200]) * noise, steps, LEVELS).std()) / fine
    assert abs(kept["snr"] - 1) < abs(kept["even"] - 1) / 2 and kept["snr"] > 0.75


@pytest.mark.parametrize("sd", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("step", [10, 100, 200])
def test_preconditioned_a_network_says_what_is_left_in_units_of_its_sd(sd, step):
    generator = torch.Generator().manual_seed(4)
    image = sd * torch.randn(1, 200_000, generator=generator)
    noise, at = torch.randn(1, 200_000, generator=generator), torch.tensor([step])
    noised, velocity = LEVELS.noised(image, noise, at), LEVELS.velocity(image, noise, at)
    parts = Preconditioning.of(LEVELS, at, sd, image)
    assert float((parts.into * noised).std()) == pytest.approx(1.0, rel=0.01)
    left = (velocity - parts.skip * noised) / parts.out
    assert float(left.std()) == pytest.approx(1.0, rel=0.01)
    assert float((left * noised).mean() / noised.std()) == pytest.approx(0.0, abs=0.01), "no line fits better"
