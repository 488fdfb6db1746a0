"""Coarse-diffusion learns in two stages: what the second learns from stands still, as it was chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scantwin import systems
from scantwin.learning import training
from scantwin.learning.recipe import Recipe
from scantwin.learning.training import train
from scantwin.learning.weights import system_arrays

COARSE, DENOISER = "coarse-diffusion/trunk/coarse", "coarse-diffusion/trunk/denoiser"
STEPS, SETTLES = 10, 0.6


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def recipe(tiny_recipe) -> Recipe:
    values = tiny_recipe.model_dump(mode="json")
    del values["network"]["discriminator_channels"]
    values |= {
        "system": "coarse-diffusion", "districts": ["trunk"], "shares": {},
        "diffusion": {"steps": 20, "channels": [8, 16], "time_features": 8, "start_step": 20,
                      "sample_steps": 2, "samples": 2, "coarse_share": SETTLES},
    }  # fmt: skip
    return Recipe.read(values, "test")


class Prefers:
    """A watcher that looks after every step and likes the weights of one of them best."""

    def __init__(self, system, step: int) -> None:
        self.system, self.step, self.takes_s = system, step, 0.0
        self.seen: dict[int, torch.Tensor] = {}
        self.asked: list[int] = []

    def due(self, before: float, now: float) -> bool:
        return now > before

    def look(self, step: int, *, scored: bool) -> float | None:
        self.seen[step] = coarse_of(self.system)
        if not scored:
            return None
        self.asked.append(step)
        return abs(step - self.step)


def coarse_of(system) -> torch.Tensor:
    return torch.cat([p.detach().flatten().clone() for p in system.components()[COARSE].parameters()])


def test_the_coarse_predictor_is_the_chosen_one_and_the_denoiser_the_last(recipe, bar_cohort):
    system = systems.build(recipe, seed=1)
    untrained = system_arrays(system)[DENOISER]
    watcher = Prefers(system, step=3)
    result = train(system, bar_cohort.training, steps=STEPS, seed=3, watcher=watcher)
    assert result.chosen_step == 3
    assert torch.equal(coarse_of(system), watcher.seen[3])
    assert not torch.equal(watcher.seen[2], watcher.seen[3])
    # Once the coarse predictor stands still nobody asks how good it is.
    assert max(watcher.asked) == SETTLES * STEPS < max(watcher.seen)
    learnt = system_arrays(system)[DENOISER]
    # The denoiser began after step 3: the choice must not take its learning away.
    assert any((learnt[key] != untrained[key]).any() for key in learnt)


def test_a_picture_at_the_end_of_a_stage_does_not_take_the_place_of_its_score(recipe, bar_cohort):
    class Pictures(Prefers):
        def look(self, step: int, *, scored: bool) -> float | None:
            pictured, self.pictured = self.pictured, step  # every look that was due is for a picture
            return super().look(step, scored=scored) if pictured == step else None

        pictured = -1

    watcher = Pictures(systems.build(recipe, seed=1), step=3)
    result = train(watcher.system, bar_cohort.training, steps=STEPS, seed=3, watcher=watcher)
    assert watcher.asked == [SETTLES * STEPS] and result.chosen_step == SETTLES * STEPS


def test_each_step_moves_one_network_and_counts_it_alone(recipe, bar_cohort):
    system = systems.build(recipe, seed=1)
    result = train(system, bar_cohort.training, steps=STEPS, seed=3)
    assert result.patches == {
        COARSE: round(SETTLES * STEPS) * recipe.optimisation.patches,
        DENOISER: round((1 - SETTLES) * STEPS) * recipe.optimisation.patches,
    }


def test_without_a_denoiser_the_coarse_predictor_learns_to_the_end(recipe, bar_cohort):
    values = recipe.model_dump(mode="json")
    values["losses"]["denoising"] = 0.0
    system = systems.build(Recipe.read(values, "test"), seed=1)
    result = train(system, bar_cohort.training, steps=STEPS, seed=3)
    assert set(result.patches) == {COARSE}


def test_a_killed_training_goes_on_in_the_stage_and_the_time_it_was_in(
    recipe, bar_cohort, tmp_path, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])

    def eleven_seconds(done: int) -> None:
        now[0] += 11.0
        if done == 8 and now[0] < 89.0:
            raise KeyboardInterrupt

    def go_on(system):
        return train(
            system, bar_cohort.training, steps=1000, seed=1, budget_s=100.0, resume=tmp_path / "state",
            after_step=eleven_seconds,
        )  # fmt: skip

    killed = systems.build(recipe, seed=1)
    with pytest.raises(KeyboardInterrupt):
        go_on(killed)
    settled = coarse_of(killed)  # 0.6 of 100 s lie before the seventh step
    now[0] = 5000.0
    again = systems.build(recipe, seed=1)
    result = go_on(again)
    assert result.steps in (10, 11), "100 s are ten steps, one of them possibly done twice"
    assert torch.equal(coarse_of(again), settled)


def test_a_scan_holds_the_samples_slow_part_to_the_mean_uptake(recipe, bar_cohort, monkeypatch):
    """A denoiser whose samples are all 1 SUV too warm must not warm an organ's mean."""
    study = bar_cohort.held_out[0]
    inputs = torch.from_numpy(study.inputs("trunk", (0, 0, 0), (40, 24, 28)))[None]
    body = torch.from_numpy(study.body[:40, :24, :28].copy())
    means = []
    for anchor in (1.0, 0.0):
        changes = {"anchor": anchor, "delivered": "mean"}
        held = recipe.model_copy(update={"diffusion": recipe.diffusion.model_copy(update=changes)})
        system = systems.build(held, seed=1)
        monkeypatch.setattr(system, "_learnt", lambda _: True)
        monkeypatch.setattr(system, "_sample", lambda _, level, *__: level + 1.0)
        (said,) = system.predict("trunk", inputs, torch.zeros(2, 1, 40, 24, 28)).pet
        level, _ = system._left_over(DENOISER, system.predict("trunk", inputs).pet)
        means.append(float((said[0] - level[0, 0])[body].mean()))
    assert abs(means[0]) < 0.1 and means[1] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("predicts", ["v", "x0"])
def test_a_denoiser_adds_what_the_coarse_prediction_lacks(recipe, bar_cohort, predicts):
    """And does not take it away: what is hot by its CT is drawn hotter than what is cold by it."""
    values = recipe.model_dump(mode="json")
    values["network"]["start"] = "zero"
    values["diffusion"] |= {"predicts": predicts, "delivered": "mean", "anchor": 0.0}
    values["sampling"] |= {"hot": 0.0, "lesions": 0.0, "hu_jitter": 0.0}
    bar, steps = bar_cohort.training[0], 100
    blocks = np.random.default_rng(4).random([n // 4 for n in bar.hu.shape]) > 0.5
    dense = np.kron(blocks, np.ones((4, 4, 4))) > 0
    hu, suv = (np.where(dense, *said).astype(np.float32) for said in ((900, -500), (3, 1)))
    system = systems.build(Recipe.read(values, "test"), seed=1)
    sampler = system.sampler([replace(bar, hu=hu, suv=suv, lesions=None)], "trunk", 5)
    for step in range(steps):
        system.training_step("trunk", sampler.batch(step), progress=SETTLES)  # the coarse one says 0 for ever
    batch = sampler.batch(steps)
    noise = torch.randn((4, *batch.suv.shape[1:]), generator=torch.Generator().manual_seed(6))
    said = system.predict("trunk", batch.inputs[:1], noise).pet[0]
    own = batch.weight[0] > 0
    hot, cold = (said[own & (batch.suv[0] == uptake)].mean() for uptake in (3, 1))
    assert hot > cold + 1, "half of what they differ by"
