"""The system of whole volumes: what learns when, that chance is told, that a kill changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from scantwin import systems
from scantwin.errors import InputError
from scantwin.evaluation.measuring import measure
from scantwin.generation.fields import Field
from scantwin.generation.volumes import LowResource3D
from scantwin.generation.volumes_drawing import Order, draw, encode
from scantwin.generation.volumes_views import mask_classes
from scantwin.imaging.study import Study
from scantwin.learning.prepared import PreparedStudy, prepare_ct
from scantwin.learning.recipe import Recipe
from scantwin.learning.system import Generator
from scantwin.learning.training import train
from scantwin.learning.weights import Model, system_arrays

SPACING = (5.0, 4.0, 4.0)
WHERE = "low-resource-3d/whole-body/"


def values(**volumes: Any) -> dict[str, Any]:
    """A recipe that learns in seconds."""
    own = {
        "autoencoder_channels": [4, 8, 12], "levels": [31, 9, 9], "channels": [8, 12], "time_features": 16,
        "window": [32, 48, 56], "largest": [64, 64, 64], "overlap": 8, "tile": 32, "sample_steps": 4,
        "steps": 40,
    }  # fmt: skip
    return {
        "system": "low-resource-3d", "districts": ["whole-body"], "spacing_mm": SPACING,
        "network": {"discriminator_channels": [8]},
        "sampling": {"patch": 16, "flip": [], "hu_jitter": 0.0, "stretch": 0.05},
        "optimisation": {"batch": 2, "precision": "fp32", "learning_rate": 2e-3},
        "volumes": {**own, **volumes},
    }  # fmt: skip


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.read(values(), "test")


@pytest.fixture
def bodies(make_torso: Callable[..., Study]) -> list[PreparedStudy]:
    return [prepare_ct(make_torso(k), SPACING, districts=False) for k in range(2)]


def build(recipe: Recipe, seed: int = 0) -> LowResource3D:
    return cast(LowResource3D, systems.build(recipe, seed=seed))


def weights_of(system: LowResource3D) -> dict[str, torch.Tensor]:
    return {
        f"{name.removeprefix(WHERE)}.{key}": value.clone()
        for name, network in system.components().items()
        for key, value in network.state_dict().items()
    }


def moved_by(
    system: LowResource3D, step: Callable[[], dict[str, float]]
) -> tuple[set[str], dict[str, float]]:
    before = weights_of(system)
    losses = step()
    after = weights_of(system)
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}, losses


def test_a_district_alone_is_refused() -> None:
    for districts in (["trunk", "legs"], ["whole-body", "trunk"]):
        with pytest.raises(InputError, match="whole fields of view, and none of trunk"):
            build(Recipe.read({**values(), "districts": districts}, "test"))


def test_each_network_learns_in_its_time(recipe: Recipe, bodies: list[PreparedStudy]) -> None:
    system = build(recipe)
    assert isinstance(system, Generator)
    sampler = system.sampler(bodies, "whole-body", 0)
    mine = [k for k in range(20) if sampler.batch(k).masked]
    theirs = [k for k in range(20) if not sampler.batch(k).masked]
    for progress, step, wanted in (
        (0.0, 0, {"autoencoder"}),
        (0.19, 0, {"autoencoder", "discriminator"}),
        (0.4, mine[0], {"denoiser"}),  # the adapter's time has not come
        (0.9, theirs[0], {"denoiser"}),
        (0.9, mine[0], {"adapter"}),
    ):
        moved, losses = moved_by(
            system, lambda s=step, p=progress: system.training_step("whole-body", sampler.batch(s), p)
        )
        assert moved == wanted
        assert {name.removeprefix(WHERE) for name in system.components_of("whole-body")} == wanted
        assert all(np.isfinite(value) for value in losses.values())


def test_the_adapter_begins_as_the_denoiser(recipe: Recipe, bodies: list[PreparedStudy]) -> None:
    system = build(recipe)
    sampler = system.sampler(bodies, "whole-body", 0)
    step = next(k for k in range(20) if sampler.batch(k).masked)
    # A denoiser that has said nothing yet has nothing to be corrected: it learns first.
    system.training_step("whole-body", sampler.batch(step), 0.4)
    system.training_step("whole-body", sampler.batch(step), 0.9)
    adapter = system.adapter("whole-body")
    assert adapter is not None and adapter.learnt
    stem, original = adapter.down.stem.weight, system.denoiser("whole-body").down.stem.weight
    assert float((stem - original).detach().abs().max()) <= 2 * recipe.optimisation.learning_rate


def test_the_mask_tells_more_than_the_place(recipe: Recipe, bodies: list[PreparedStudy]) -> None:
    """Where little but noise is seen, the mask says where tissue is; a few patients teach that."""
    system = build(recipe)
    assert isinstance(system, LowResource3D)
    sampler = system.sampler(bodies, "whole-body", 0)
    masked = [k for k in range(40) if sampler.batch(k).masked]
    for step in masked[:6]:
        system.training_step("whole-body", sampler.batch(step), 0.4)
    for step in masked[:6]:
        system.training_step("whole-body", sampler.batch(step), 0.9)
    window = sampler.batch(masked[7]).windows[0]
    window = replace(window, steps=torch.full_like(window.steps, system.rules.steps * 9 // 10))
    without, after = (
        float(system.latent_loss("whole-body", window, masked=told).detach()) for told in (False, True)
    )
    assert after < 0.95 * without


@pytest.mark.parametrize("masked", [False, True])
def test_guidance_goes_on_from_what_needs_no_descent(
    recipe: Recipe, bodies: list[PreparedStudy], masked: bool
) -> None:
    system = build(recipe)
    sampler = system.sampler(bodies, "whole-body", 0)
    steps = [k for k in range(20) if sampler.batch(k).masked][:3]
    for progress in (0.4, 0.9):
        for step in steps:
            system.training_step("whole-body", sampler.batch(step), progress)
    window = sampler.batch(steps[0]).windows[0]
    mask = window.view.mask if masked else None
    if mask is not None:
        mask = mask.expand(len(window.steps), -1, -1, -1, -1)

    def said(guidance: float) -> torch.Tensor:
        with torch.no_grad():
            return system.velocity(
                "whole-body", window.noise, window.view.place, window.steps, mask, guidance=guidance
            )

    guess, as_said = said(0.0), said(1.0)
    assert float((as_said - guess).abs().max()) > 1e-3, "the networks have said nothing yet"
    assert torch.allclose(said(1.5), guess + 1.5 * (as_said - guess), atol=1e-5)


def test_samples_are_guided_as_the_recipe_says(bodies: list[PreparedStudy]) -> None:
    system = build(Recipe.read(values(guidance=1.0), "test"))
    train(system, bodies, steps=10, seed=1)
    order = Order(Field.of(bodies[0].hu.shape, SPACING), seed=3)
    plain = draw(system, "whole-body", order)
    guided = systems.restore(Model(Recipe.read(values(guidance=1.5), "test"), system_arrays(system), {}))
    assert not np.array_equal(draw(cast(LowResource3D, guided), "whole-body", order), plain)


@pytest.mark.parametrize(("error", "of"), [("squared", torch.square), ("absolute", torch.abs)])
def test_the_error_of_the_velocity_is_the_recipes(
    bodies: list[PreparedStudy], error: str, of: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    system = build(Recipe.read(values(error=error), "test"))
    window = system.sampler(bodies, "whole-body", 0).batch(0).windows[0]
    with torch.no_grad():
        latent = system.latent_of("whole-body", window.view).expand(len(window.steps), -1, -1, -1, -1)
        noised = system.schedule.noised(latent, window.noise, window.steps)
        wrong = system.velocity("whole-body", noised, window.view.place, window.steps)
        wrong = wrong - system.schedule.velocity(latent, window.noise, window.steps)
        found = system.latent_loss("whole-body", window, masked=False)
    assert float(found) == pytest.approx(float(of(wrong).mean()))


def test_a_batch_depends_on_seed_and_step_only(recipe: Recipe, bodies: list[PreparedStudy]) -> None:
    system = build(recipe)
    one, two = (system.sampler(bodies, "whole-body", 7) for _ in range(2))
    two.batch(3).windows  # noqa: B018 - what was drawn before must not matter
    assert torch.equal(one.batch(5).patches.image, two.batch(5).patches.image)
    assert torch.equal(one.batch(5).windows[0].noise, two.batch(5).windows[0].noise)
    assert not torch.equal(one.batch(6).patches.image, one.batch(5).patches.image)
    view = one.batch(5).windows[0].view
    assert view.image().shape[2:] == tuple(4 * n for n in view.place.shape[2:])
    assert view.mask is not None and view.mask.shape[1] == 15
    assert float(view.mask.sum(1).max()) <= 1.0 + 1e-6
    assert torch.equal(view.image(), two.batch(5).windows[0].view.image())


def test_views_are_encoded_once_and_forgotten_when_there_are_too_many(
    recipe: Recipe, bodies: list[PreparedStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = build(recipe)
    sampler = system.sampler(bodies, "whole-body", 0)
    encoded: list[int] = []

    def counted(*arguments: Any) -> torch.Tensor:
        encoded.append(1)
        return encode(*arguments)

    monkeypatch.setattr("scantwin.generation.volumes.encode", counted)
    for step in range(60):
        system.latent_of("whole-body", sampler.batch(step).windows[0].view)
    assert len(encoded) == 8, "two bodies, four views each"
    monkeypatch.setattr("scantwin.generation.volumes_batches._KEPT", 1)
    few = system.sampler(bodies, "whole-body", 0)
    again = [few.batch(step).windows[0].view for step in range(6)]
    assert len(few._views) == 1
    for step, view in enumerate(again):
        assert torch.equal(view.image(), sampler.batch(step).windows[0].view.image())


def test_a_field_larger_than_a_window_is_cut_anew_each_time(bodies: list[PreparedStudy]) -> None:
    system = build(Recipe.read(values(window=[16, 24, 24]), "test"))
    sampler = system.sampler(bodies, "whole-body", 0)
    parts = [sampler.batch(step).windows[0].view for step in range(30)]
    assert len({id(view) for view in parts}) == 30
    assert len({(view.study.name, str(view.part)) for view in parts}) > 10
    assert all(view.place.shape[2:] == (4, 6, 6) for view in parts)


def test_a_training_that_was_killed_goes_on_to_the_same_weights(
    recipe: Recipe, bodies: list[PreparedStudy], tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def kill(done: int) -> None:
        if done == 8:
            raise Killed

    whole = build(recipe, seed=2)
    wanted = train(whole, bodies, steps=14, seed=2)
    state = tmp_path / "state.safetensors"
    first = build(recipe, seed=2)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr("scantwin.learning.training._CHECKPOINT_EVERY_S", 0.0)
        train(first, bodies, steps=14, seed=2, resume=state, after_step=kill)
    second = build(recipe, seed=9)
    result = train(second, bodies, steps=14, seed=2, resume=state)
    assert result.losses == wanted.losses and result.patches == wanted.patches
    assert all(
        torch.equal(a, b)
        for a, b in zip(weights_of(whole).values(), weights_of(second).values(), strict=True)
    )


def test_the_autoencoder_learns_and_then_stands_still(recipe: Recipe, bodies: list[PreparedStudy]) -> None:
    """It begins as means and slopes of blocks, which is not bad; 60 steps must make it better, not worse."""
    system = build(recipe, seed=1)
    before = system.figures(bodies[0], "whole-body")
    train(system, bodies, steps=60, seed=1, span=(0.0, 0.19))
    after = system.figures(bodies[0], "whole-body")
    assert after["mae"] < before["mae"]
    settled = {k: v for k, v in weights_of(system).items() if k.startswith("autoencoder")}
    train(system, bodies, steps=30, seed=1, span=(0.21, 1.0))
    now = weights_of(system)
    assert all(torch.equal(value, now[name]) for name, value in settled.items())
    learnt = system.figures(bodies[0], "whole-body")
    assert learnt["mae"] == after["mae"] and learnt["denoising"] < after["denoising"]
    assert set(learnt) == {"mae", "bias", "soft-mae", "denoising", "masked"}


def test_figures_become_sums_that_sites_add_up(recipe: Recipe, bodies: list[PreparedStudy]) -> None:
    system = build(recipe)
    both = measure(system, bodies).metrics
    apart = [measure(system, [body]).metrics for body in bodies]
    for name, value in both.items():
        assert value == pytest.approx(sum(one[name] for one in apart))
    assert both["model/whole-body/mae/n"] == 2


def test_fields_of_view_are_remembered(recipe: Recipe, bodies: list[PreparedStudy]) -> None:
    system = build(recipe)
    train(system, bodies, steps=25, seed=0, span=(0.5, 0.7))
    weight, total, squares = system.denoiser("whole-body").fields.double()
    mean = total / weight
    wanted = np.mean([np.array(b.hu.shape) * SPACING / 1000.0 for b in bodies], axis=0)
    assert torch.allclose(mean, torch.from_numpy(wanted), rtol=0.1)
    assert bool((squares / weight - mean**2 > -1e-6).all())


@pytest.mark.parametrize("largest", [[64, 64, 64], [32, 32, 32]])
def test_a_volume_is_the_same_for_the_same_seed(bodies: list[PreparedStudy], largest: list[int]) -> None:
    """In one window and in several; in absolute HU; with the shape that was asked for."""
    system = build(Recipe.read(values(largest=largest), "test"))
    train(system, bodies, steps=20, seed=0)
    field = Field.of((30, 41, 45), SPACING)
    calls: list[tuple[float, float]] = []
    one = draw(
        system, "whole-body", Order(field, 3), lambda done, total, text="": calls.append((done, total))
    )
    two = draw(system, "whole-body", Order(field, 3))
    assert one.shape == (30, 41, 45) and one.dtype == np.int16 and (one == two).all()
    assert one.min() >= -1024 and one.max() <= 3071
    assert (one != draw(system, "whole-body", Order(field, 4))).any()
    assert calls[-1][0] == calls[-1][1] and len(calls) == int(calls[-1][1])


def test_a_mask_changes_what_is_made(recipe: Recipe, bodies: list[PreparedStudy]) -> None:
    system = build(recipe)
    train(system, bodies, steps=40, seed=0)
    classes = mask_classes(bodies[0], system.rules)
    field = Field.of(classes.shape, SPACING)
    free = draw(system, "whole-body", Order(field, 0))
    assert (draw(system, "whole-body", Order(field, 0, classes)) != free).any()


def test_a_model_comes_back_from_its_folder(
    recipe: Recipe, bodies: list[PreparedStudy], tmp_path: Path
) -> None:
    system = build(recipe)
    train(system, bodies, steps=8, seed=0)
    Model(recipe, system_arrays(system)).save(tmp_path / "model")
    again = cast(LowResource3D, systems.restore(Model.load(tmp_path / "model")))
    order = Order(Field.of(bodies[0].hu.shape, SPACING), 0)
    assert (draw(system, "whole-body", order) == draw(again, "whole-body", order)).all()
    assert set(system.shown(bodies[0])) == {"real", "reconstructed", "made", "made from the mask"}


def test_an_adapter_that_never_learnt_is_neither_shown_nor_measured(
    recipe: Recipe, bodies: list[PreparedStudy]
) -> None:
    """Until its time has come, a CT made from the mask would be the one made without."""
    system = build(recipe)
    train(system, bodies, steps=6, seed=0, span=(0.3, 0.5))
    adapter = system.adapter("whole-body")
    assert system.learnt("whole-body") and adapter is not None and not adapter.learnt
    assert set(system.shown(bodies[0])) == {"real", "reconstructed", "made"}
    assert set(system.figures(bodies[0], "whole-body")) == {"mae", "bias", "soft-mae", "denoising"}


def test_without_masks_there_is_no_adapter(bodies: list[PreparedStudy]) -> None:
    system = build(Recipe.read(values(masks="none"), "test"))
    assert {n.removeprefix(WHERE) for n in system.components()} == {
        "autoencoder",
        "denoiser",
        "discriminator",
    }
    train(system, bodies, steps=10, seed=0)
    assert "masked" not in system.figures(bodies[0], "whole-body")


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"levels": [4]}, "odd"),
        ({"window": [30, 48, 56]}, "divisible"),
        ({"sample_steps": 41}, "sample_steps"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        Recipe.read(values(**wrong), "test")


def test_a_ct_encoded_by_tiles_is_the_one_encoded_at_once(recipe: Recipe) -> None:
    autoencoder = build(recipe).autoencoder("whole-body")
    random = torch.Generator().manual_seed(3)
    image = torch.randn(1, 1, 72, 64, 96, generator=random).clamp(-1.0, 1.0)
    assert recipe.volumes is not None and recipe.volumes.tile < 64
    tiles, whole = (
        encode(autoencoder, image, recipe.volumes.model_copy(update={"tile": edge}), recipe)
        for edge in (recipe.volumes.tile, 96)
    )
    assert tiles.shape == (1, 3, 18, 16, 24) and float(tiles.std()) > 0
    # Sums in another order may fall on the other side of a level.
    assert float((tiles == whole).float().mean()) > 0.999
