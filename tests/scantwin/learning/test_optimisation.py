"""What a recipe says of the arithmetic and of how weights move, for every system that heeds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from scantwin import systems
from scantwin.learning.optimising import rate_factor
from scantwin.learning.prepared import prepare, prepare_ct
from scantwin.learning.recipe import GENERATORS, Recipe
from scantwin.learning.training import train
from scantwin.learning.weights import system_arrays

STEPS = 10
"""Of which every network of every system has some."""

NETWORK = {"channels": [4, 8], "discriminator_channels": [4]}
OWN = {
    "pix2pix": {"network": NETWORK},
    "cyclegan": {"network": NETWORK},
    "coarse-diffusion": {
        "network": {"channels": [4, 8]},
        "diffusion": {"steps": 20, "channels": [4, 8], "time_features": 8, "start_step": 20,
                      "sample_steps": 2, "samples": 2, "coarse_share": 0.5},
    },
    "ct-inpainting": {
        "network": NETWORK, "inpainting": {"channels": [4, 8], "sample_steps": 2, "region_mm": [20, 60]},
    },
    "low-resource-3d": {
        "network": {"discriminator_channels": [4]},
        "volumes": {"steps": 20, "autoencoder_channels": [4, 8, 8], "levels": [31, 9], "channels": [4, 8],
                    "time_features": 8, "autoencoder_share": 0.4, "adversarial_from": 0.0, "masks_from": 0.0,
                    "window": [40, 24, 28], "largest": [64, 64, 64], "overlap": 8, "tile": 32,
                    "sample_steps": 2},
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=OWN)
def system_name(request):
    return request.param


@pytest.fixture
def learns(system_name, make_bar):
    """(optimisation) -> recipe and studies of the system."""

    def made(**optimisation):
        values = {
            "system": system_name, "districts": ["whole-body"], "spacing_mm": [8.0] * 3,
            "sampling": {"patch": 16}, "optimisation": {"batch": 2, "precision": "fp32", **optimisation},
            **OWN[system_name],
        }  # fmt: skip
        recipe = Recipe.read(values, "test")
        if system_name in GENERATORS:
            return recipe, [prepare_ct(make_bar(k), recipe.spacing_mm, districts=False) for k in range(2)]
        return recipe, [prepare(make_bar(k), recipe.spacing_mm) for k in range(2)]

    return made


def test_every_system_is_here():
    assert set(OWN) == set(systems.SYSTEMS)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_forward_pass_is_in_the_recipes_precision_and_weights_are_not(learns, precision):
    recipe, studies = learns(precision=precision)
    system = systems.build(recipe, seed=1)
    seen: dict[str, set[torch.dtype]] = {}
    for name, network in system.components().items():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                module.register_forward_hook(
                    lambda _module, _seen, out, name=name: seen.setdefault(name, set()).add(out.dtype)
                )
    result = train(system, studies, steps=STEPS, seed=2)
    wanted = torch.bfloat16 if precision == "bf16" else torch.float32
    assert seen == {name: {wanted} for name in system.components()}, "every network, in every stage"
    assert all(np.isfinite(value) for value in result.losses.values())
    arrays = system_arrays(system)
    assert all(v.dtype == np.float32 and np.isfinite(v).all() for a in arrays.values() for v in a.values())


def test_accumulated_batches_are_passes_one_after_the_other(learns):
    """Three batches of two are seen in three passes of two, not in one of six; and the weights move once."""
    (once, moved, patches), (thrice, moved_again, more) = (watched(*learns(accumulate=n)) for n in (1, 3))
    assert moved == moved_again and all(moved.values())
    assert more == {name: 3 * count for name, count in patches.items()}
    for name, sizes in once.items():
        assert max(thrice[name]) == max(sizes), "no more at a time"
        assert sum(thrice[name]) > 2 * sum(sizes), "three times as much altogether"


def watched(recipe, studies):
    """A short training: by component how many each pass took in and how often it moved; its patches."""
    system = systems.build(recipe, seed=1)
    passes: dict[str, list[int]] = {name: [] for name in system.components()}
    moves = dict.fromkeys(system.components(), 0)

    def moved(name):
        moves[name] += 1

    for name, network in system.components().items():
        first = next(m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d))
        first.register_forward_hook(lambda _module, seen, _out, name=name: passes[name].append(len(seen[0])))
        optimiser = system.optimisers("whole-body")[name]
        optimiser.register_step_post_hook(lambda *_, name=name: moved(name))
    result = train(system, studies, steps=STEPS, seed=2)
    assert all(np.isfinite(value) for value in result.losses.values())
    return passes, moves, result.patches


def test_weights_move_at_the_schedules_rate(learns):
    """Of a system with stages each has the schedule for itself."""
    recipe, studies = learns(warm_up=0.5)
    system = systems.build(recipe, seed=1)
    told: dict[str, list[float]] = {}

    def rates(_done):
        for name in system.components_of("whole-body"):  # those that the step moved
            (group,) = system.optimisers("whole-body")[name].param_groups
            told.setdefault(name, []).append(group["lr"] / group["full_rate"])

    train(system, studies, steps=STEPS, seed=2, after_step=rates)
    assert set(told) == set(system.components())
    if system.settles_at < 1.0 or recipe.system in GENERATORS:
        rising = [factors for factors in told.values() if len(factors) > 2]  # else there is no rise to see
        assert len(rising) > 1 and all(factors[0] < 0.5 * max(factors) for factors in rising), told
    else:
        schedule = [rate_factor(recipe.optimisation, step / STEPS) for step in range(STEPS)]
        assert all(factors == pytest.approx(schedule) for factors in told.values())


@pytest.mark.parametrize("ema", [0.0, 0.3])
def test_what_is_delivered_is_the_average_of_the_weights(learns, ema):
    recipe, studies = learns(ema=ema)
    system = systems.build(recipe, seed=1)
    if system.settles_at < 1.0 or recipe.system in GENERATORS:
        pytest.skip("its stages are averaged one after the other")
    means, updates = system_arrays(system), dict.fromkeys(system.components(), 0)

    def average(_done):
        now = system_arrays(system)
        for name in system.components_of("whole-body"):
            updates[name] += 1
            # A plain mean at first, so that early weights do not linger.
            decay = min(ema, (1 + updates[name]) / (10 + updates[name]))
            for key, mean in means[name].items():
                means[name][key] = decay * mean + (1 - decay) * now[name][key]

    train(system, studies, steps=STEPS, seed=2, after_step=average)
    for name, delivered in system_arrays(system).items():
        for key, value in delivered.items():
            np.testing.assert_allclose(value, means[name][key], rtol=1e-4, atol=1e-6, err_msg=name)
