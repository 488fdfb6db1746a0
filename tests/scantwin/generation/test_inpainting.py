from __future__ import annotations

import numpy as np
import pytest
import torch

from scantwin import systems
from scantwin.errors import InputError
from scantwin.evaluation.measuring import PictureWatch, measure, training_statistics, watch
from scantwin.generation.inpainting import METHODS
from scantwin.generation.painting import regenerate
from scantwin.generation.slices import DRAWN, MIDDLE, SliceSampler
from scantwin.imaging.organs import ORGAN_LABEL
from scantwin.learning import training
from scantwin.learning.system import Generator, Translator
from scantwin.learning.training import train
from scantwin.learning.weights import Model, system_arrays


def test_it_makes_ct_and_is_named(inpainting_recipe):
    system = systems.build(inpainting_recipe, seed=0)
    assert isinstance(system, Generator)
    assert not isinstance(system, Translator)
    assert set(system.components()) == {
        "ct-inpainting/whole-body/denoiser", "ct-inpainting/whole-body/pix2pix",
        "ct-inpainting/whole-body/discriminator",
    }  # fmt: skip
    assert system.methods("whole-body") == METHODS


def test_a_patch_that_a_network_cannot_halve_is_refused(inpainting_recipe):
    # 24 voxels are halved three times, but not the four times of a denoiser with five levels.
    for channels, fits in (((4,) * 4, True), ((4,) * 5, False)):
        rules = inpainting_recipe.inpainting.model_copy(update={"channels": channels})
        recipe = inpainting_recipe.model_copy(update={"inpainting": rules})
        if fits:
            systems.build(recipe, seed=0)
            continue
        with pytest.raises(InputError, match="24 voxels cannot be halved 4 times") as error:
            systems.build(recipe, seed=0)
        assert "multiple of 16" in error.value.hint


def test_a_batch_depends_on_seed_and_step_only(torsos, inpainting_recipe):
    one, two = (SliceSampler(torsos.training, inpainting_recipe, "whole-body", 7) for _ in range(2))
    one.batch(9)
    first, again = one.batch(3), two.batch(3)
    for name in ("image", "region", "classes", "noise", "level"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    other = SliceSampler(torsos.training, inpainting_recipe, "whole-body", 8).batch(3)
    assert not torch.equal(first.image, other.image)


def test_batches_hold_tumours_organs_and_regions(torsos, inpainting_recipe):
    sampler = SliceSampler(torsos.training, inpainting_recipe, "whole-body", 0)
    seen = set()
    for step in range(30):
        batch = sampler.batch(step)
        assert batch.image.shape == (4, DRAWN, 24, 24)
        assert (batch.region[:, MIDDLE].sum((1, 2)) > 0).all()
        assert ((batch.level >= 0) & (batch.level < 1)).all()
        seen |= set(batch.classes[batch.region > 0].unique().tolist())
    assert {ORGAN_LABEL[name] for name in ("tumour", "lung", "liver", "fat")} <= seen


def test_outside_of_a_region_nothing_is_painted(painter, torsos):
    batch = painter.sampler(torsos.training, "whole-body", 0).batch(1)
    for method in METHODS:
        made = painter.paint(
            "whole-body", batch.image[0], batch.region[0], batch.classes[0], batch.noise[0], method
        )
        outside = batch.region[0] == 0
        assert torch.equal(made[outside], batch.image[0][outside])
        assert not torch.equal(made, batch.image[0])


def test_what_lies_under_the_region_is_never_seen(painter, torsos):
    """Whatever was there before, the same is painted: the network may not peep."""
    batch = painter.sampler(torsos.training, "whole-body", 0).batch(1)
    image, region = batch.image[0], batch.region[0]
    other = torch.where(region > 0, torch.full_like(image, 1.7), image)
    for method in METHODS:
        one, two = (
            painter.paint("whole-body", one, region, batch.classes[0], batch.noise[0], method)
            for one in (image, other)
        )
        assert torch.equal(one, two)


def test_neighbouring_slices_are_seen(painter, torsos):
    """What is painted in a slice follows what lies in the next one, where that is known."""
    batch = painter.sampler(torsos.training, "whole-body", 0).batch(1)
    image, region = batch.image[0], batch.region[0].clone()
    region[MIDDLE + 1] = 0  # all of the next slice is known
    other = image.clone()
    other[MIDDLE + 1] += 0.3
    for method in METHODS:
        one, two = (
            painter.paint("whole-body", seen, region, batch.classes[0], batch.noise[0], method)[MIDDLE]
            for seen in (image, other)
        )
        assert not torch.equal(one, two), method


def test_a_killed_training_goes_on_to_the_same_losses(torsos, inpainting_recipe, tmp_path, monkeypatch):
    whole = systems.build(inpainting_recipe, seed=2)
    expected = train(whole, torsos.training, steps=8, seed=3)
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY_S", 0.0)

    def kill(step):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(systems.build(inpainting_recipe, seed=2), torsos.training, steps=8, seed=3,
              resume=tmp_path / "state", after_step=kill)  # fmt: skip
    resumed = systems.build(inpainting_recipe, seed=9)
    result = train(resumed, torsos.training, steps=8, seed=3, resume=tmp_path / "state")
    assert result.losses == expected.losses
    assert result.patches == expected.patches
    wanted, got = system_arrays(whole), system_arrays(resumed)
    assert all(np.array_equal(v, got[n][k]) for n, a in wanted.items() for k, v in a.items())


def test_it_is_measured_in_sums_of_hu(painter, torsos):
    assert training_statistics(painter, torsos.training) == {}
    one, two = (measure(painter, torsos.held_out).metrics for _ in range(2))
    assert one == two
    n = one["model/whole-body/mae/n"]
    assert n == len(torsos.held_out)
    # Chance would be wrong by half the distance of lung and liver; noise alone by 14 HU.
    assert 5 < one["model/whole-body/mae/sum"] / n < 450
    assert {"model/whole-body/pix2pix-mae/sum", "model/whole-body/spread/sumsq"} <= set(one)
    assert measure(painter, torsos.held_out, trained={}).metrics == {}


def test_a_picture_is_taken_while_it_trains(painter, torsos, tmp_path):
    watcher = watch(painter, torsos, {}, budget_s=None, pictures=tmp_path, pictures_every_s=0.0)
    assert isinstance(watcher, PictureWatch)
    assert watcher.due(0.1, 0.2)
    assert watcher.look(12) is None
    assert (tmp_path / "step-000012.png").stat().st_size > 2000


def test_a_model_of_it_is_saved_loaded_and_refuses_to_scan(painter, torsos, tmp_path):
    record = {"patches": dict.fromkeys(painter.components(), 1)}
    Model(painter.recipe, system_arrays(painter), record).save(tmp_path / "model")
    model = Model.load(tmp_path / "model")
    again = systems.restore(model)
    batch = painter.sampler(torsos.training, "whole-body", 0).batch(0)
    patch = (batch.image[0], batch.region[0], batch.classes[0], batch.noise[0])
    assert torch.equal(painter.paint("whole-body", *patch), again.paint("whole-body", *patch))
    with pytest.raises(InputError, match="makes CT, not PET"):
        systems.scanner_for(model)


def test_a_network_that_never_moved_has_not_learnt(painter, inpainting_recipe, torsos):
    """Each method has its own: by a start or an early round the other one may paint already."""
    learnt = {method: painter.learnt("whole-body", method) for method in METHODS}
    assert learnt == {"diffusion": True, "pix2pix": True}
    fresh = systems.build(inpainting_recipe, seed=0)
    assert not any(fresh.learnt("whole-body", method) for method in METHODS)
    assert fresh.methods("whole-body") == METHODS, "it has the networks all the same"
    train(fresh, torsos.training, steps=10, seed=0, span=(0.0, 0.4))
    assert fresh.learnt("whole-body", "pix2pix") and not fresh.learnt("whole-body", "diffusion")
    losses = inpainting_recipe.losses.model_copy(update={"denoising": 0.0})
    never = systems.build(inpainting_recipe.model_copy(update={"losses": losses}), seed=0)
    train(never, torsos.training, steps=4, seed=0)
    assert never.learnt("whole-body", "pix2pix") and not never.learnt("whole-body", "diffusion")


@pytest.mark.parametrize("districts", [("head", "trunk"), ("whole-body", "trunk")])
def test_a_second_district_is_refused(inpainting_recipe, districts):
    """Every region of a CT is painted by the same networks: others would learn for nothing."""
    with pytest.raises(InputError, match=f"of one district.* names {', '.join(districts)}") as error:
        systems.build(inpainting_recipe.model_copy(update={"districts": districts}), seed=0)
    assert "whole-body" in error.value.hint


def test_a_model_of_one_district_paints_with_its_networks(inpainting_recipe, scene):
    trunk = systems.build(inpainting_recipe.model_copy(update={"districts": ("trunk",)}), seed=0)
    region = scene.organ("liver")
    made = regenerate(trunk, scene.ct, region, scene.classes, method="pix2pix")
    assert (made.array[region] != scene.ct.array[region]).any()


def test_without_the_l1_term_there_is_no_pix2pix(inpainting_recipe, torsos):
    losses = inpainting_recipe.losses.model_copy(update={"l1": 0.0})
    alone = systems.build(inpainting_recipe.model_copy(update={"losses": losses}), seed=0)
    assert alone.methods("whole-body") == ("diffusion",)
    assert not alone.learnt("whole-body", "pix2pix")
    result = train(alone, torsos.training, steps=2, seed=0)
    assert set(result.patches) == {"ct-inpainting/whole-body/denoiser"}
    assert np.isfinite(list(result.losses.values())).all()
