from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from scantwin import systems
from scantwin.evaluation.measuring import watch
from scantwin.evaluation.references import training_statistics
from scantwin.evaluation.watching import Watch
from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.learning import training
from scantwin.learning.cohort import Cohort
from scantwin.learning.training import train
from scantwin.learning.training_state import TrainingState
from scantwin.learning.weights import system_arrays


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def watch_over(system, cohort, **values):
    training = training_statistics(cohort.training)
    return Watch(system, cohort.held_out, training, shown=cohort.held_out[0], **values)


def score_of(told):
    """What a step is chosen by: its error in the body, and what it pays for lesions beyond 0.92."""
    return told["body"] + max(0.0, told["lesions"] - 0.92)


def test_the_step_with_the_smallest_error_is_delivered(bar_cohort, tiny_recipe):
    system = systems.build(tiny_recipe, seed=1)
    watch = watch_over(system, bar_cohort)
    untrained = watch.look(0)
    assert watch.scores[0]["lesions"] > 0.92, "it pays"
    assert untrained == pytest.approx(score_of(watch.scores.pop(0)))
    result = train(system, bar_cohort.training, steps=40, seed=2, watcher=watch)
    assert 9 <= len(watch.scores) <= 11, "ten looks over a training, the last at its end"
    assert 40 in watch.scores
    assert result.chosen_step == min(watch.scores, key=lambda step: score_of(watch.scores[step]))
    assert score_of(watch.scores[result.chosen_step]) < untrained
    # What was delivered scores as it did when it was chosen.
    assert watch.look(99) == pytest.approx(watch.look(100))
    chosen, now = watch.scores[result.chosen_step], watch.scores[99]
    assert now["body"] == pytest.approx(chosen["body"], rel=1e-5)
    assert now["lesions"] == pytest.approx(chosen["lesions"], rel=1e-5)


@pytest.mark.parametrize("killed_at", [10, 11])
def test_a_killed_training_chooses_as_a_whole_one_does(
    bar_cohort, tiny_recipe, tmp_path, monkeypatch, killed_at
):
    """Killed before a look that was due, or after it: a checkpoint lies at every step."""

    def trained(**how):
        system = systems.build(tiny_recipe, seed=1)
        watch = watch_over(system, bar_cohort)
        result = train(system, bar_cohort.training, steps=20, seed=2, watcher=watch, **how)
        return system_arrays(system), watch.scores, result.chosen_step

    def kill(step):
        if step == killed_at:
            raise KeyboardInterrupt

    arrays, scores, chosen = trained()
    assert 10 in scores
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        trained(resume=tmp_path / "state", after_step=kill)
    again, others, same = trained(resume=tmp_path / "state")
    assert others == scores and same == chosen
    assert all(np.array_equal(v, again[n][k]) for n, a in arrays.items() for k, v in a.items())


class Looks:
    """A watcher to whom every later look is better; it asks for none itself."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s, self.steps = takes_s, []

    def due(self, before, now):
        return False

    def look(self, step, *, scored):
        self.steps.append(step)
        return -float(step) if scored else None


def test_the_last_step_of_a_budget_is_looked_at_within_it(bar_cohort, tiny_recipe, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])

    def a_second(_done):
        now[0] += 1.0

    looks = Looks(takes_s=1000.0)
    result = train(
        systems.build(tiny_recipe, seed=1), bar_cohort.training, steps=10_000, seed=2, budget_s=1010.0,
        watcher=looks, after_step=a_second,
    )  # fmt: skip
    assert looks.steps == [result.steps] and result.chosen_step == result.steps
    assert result.steps == 10, "time was left for the look"


def test_a_look_that_only_a_picture_was_due_for_is_not_scored(bar_cohort, tiny_recipe, tmp_path):
    watch = watch_over(systems.build(tiny_recipe, seed=1), bar_cohort, pictures=tmp_path, pictures_every_s=0)
    assert watch.due(0.51, 0.52) and watch.look(7) is None
    watch.pictures = None
    assert not watch.due(0.52, 0.53)
    assert watch.look(8) is not None, "nobody asked: a stage has ended"


def test_a_worse_look_changes_nothing(tiny_recipe):
    system = systems.build(tiny_recipe, seed=1)
    state = TrainingState(system)
    state.keep_if_best(1.0, 5)
    kept = system_arrays(system)
    for network in system.components().values():
        for parameter in network.parameters():
            parameter.data.zero_()
    state.keep_if_best(1.5, 6)
    assert state.best_step == 5
    state.deliver()
    assert all(np.array_equal(kept[n][k], v) for n, a in system_arrays(system).items() for k, v in a.items())


def test_the_best_weights_survive_a_kill(tiny_recipe, tmp_path):
    state = TrainingState(systems.build(tiny_recipe, seed=1))
    state.keep_if_best(0.5, 3)
    state.save(tmp_path / "state.safetensors", 4)
    again = TrainingState(systems.build(tiny_recipe, seed=2))
    assert again.load(tmp_path / "state.safetensors") == 4
    assert (again.best_score, again.best_step) == (0.5, 3)
    name = next(iter(state.best))
    key = next(iter(state.best[name]))
    assert torch.equal(state.best[name][key], again.best[name][key])
    empty = TrainingState(systems.build(tiny_recipe, seed=1))
    assert empty.best_score == math.inf and not empty.best


def test_pictures_show_the_training(bar_cohort, tiny_recipe, tmp_path):
    system = systems.build(tiny_recipe, seed=1)
    watch = watch_over(system, bar_cohort, pictures=tmp_path / "pictures", pictures_every_s=1e-6)
    train(system, bar_cohort.training, steps=3, seed=2, watcher=watch)
    made = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in made][-1] == "step-000003.png"
    assert all(path.stat().st_size > 1000 for path in made)


def unscored(system, cohort, folder):
    return watch(system, cohort, {}, budget_s=None, pictures=folder, pictures_every_s=1e-6, scored=False)


def test_a_site_without_pairs_sees_a_ct_and_what_is_made_of_it(bar_cohort, tiny_recipe, tmp_path):
    ct_alone, pet_alone, both = bar_cohort.training
    ct_alone = replace(ct_alone, suv=None, pet=None, lesions=None)
    pet_alone = replace(pet_alone, has_ct=False)
    system = systems.build(tiny_recipe, seed=1)
    seen = {"apart": [pet_alone, ct_alone], "paired": [pet_alone, ct_alone, both]}
    for name, studies in seen.items():
        unscored(system, Cohort(studies, []), tmp_path / name).look(1)
    apart, paired = (Image.open(tmp_path / name / "step-000001.png") for name in seen)
    assert apart.width < paired.width, "the real PET is beside the others where there is one"


def test_who_could_not_be_scanned_is_not_shown(bar_cohort, tiny_recipe, tmp_path):
    whole, split, _ = bar_cohort.training
    whole = replace(whole, labels=whole.body.astype(np.uint8) * DISTRICT_LABEL["whole-body"])
    system = systems.build(tiny_recipe.model_copy(update={"districts": ("legs",)}), seed=1)
    assert unscored(system, Cohort([whole, split], []), tmp_path).shown is split
    assert unscored(system, Cohort([whole], []), tmp_path).shown is None


def test_a_watch_for_pictures_alone_chooses_no_step(bar_cohort, tiny_recipe, tmp_path):
    built = [systems.build(tiny_recipe, seed=1) for _ in range(2)]
    for system, pictures in zip(built, (None, tmp_path), strict=True):
        watcher = unscored(system, bar_cohort, pictures)
        result = train(system, bar_cohort.training, steps=4, seed=2, watcher=watcher)
        assert result.chosen_step is None and not watcher.scores
    with_none, with_some = map(system_arrays, built)
    assert all(np.array_equal(v, with_some[n][k]) for n, a in with_none.items() for k, v in a.items())
    assert len([*tmp_path.iterdir()]) == 5
