from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from scantwin import systems
from scantwin.errors import InputError, ScanTwinError
from scantwin.learning import training
from scantwin.learning.optimising import rate_factor
from scantwin.learning.patches import Sampler
from scantwin.learning.recipe_parts import Optimisation
from scantwin.learning.training import endless_turns, take_turns, train
from scantwin.learning.training_state import TrainingState
from scantwin.learning.weights import system_arrays


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def same(a, b):
    return all(np.array_equal(a[n][k], b[n][k]) for n in a for k in a[n])


def test_turns_follow_the_shares_evenly():
    turns = take_turns({"trunk": 3.0, "head": 1.0}, 40)
    assert Counter(turns) == {"trunk": 30, "head": 10}
    for start in range(0, 40, 4):  # no district waits longer than its share says
        assert turns[start : start + 4].count("head") == 1


def test_turns_are_dealt_while_the_training_goes_on(bar_cohort, tiny_recipe, monkeypatch):
    """Not before its first step: of 30 million of them that alone took half a minute."""

    class Begun(Exception):
        pass

    def end(step):
        raise Begun

    def dealt(shares):
        for turn, district in enumerate(endless_turns(shares)):
            assert turn < 100, "one step needs one, and a few more where batches are drawn ahead"
            yield district

    monkeypatch.setattr(training, "endless_turns", dealt)
    system = systems.build(tiny_recipe, seed=1)
    with pytest.raises(Begun):
        train(system, bar_cohort.training, steps=30_000_000, seed=2, after_step=end)


def test_a_batch_depends_on_seed_and_step_only(bar_cohort, tiny_recipe):
    sampler = Sampler(bar_cohort.training, tiny_recipe, "trunk", 7)
    first = sampler.batch(3)
    sampler.batch(9)
    again = Sampler(bar_cohort.training, tiny_recipe, "trunk", 7).batch(3)
    assert torch.equal(first.inputs, again.inputs) and torch.equal(first.suv, again.suv)
    other = Sampler(bar_cohort.training, tiny_recipe, "trunk", 8).batch(3)
    assert not torch.equal(first.inputs, other.inputs)


def test_training_lowers_the_error_and_counts_its_patches(bar_cohort, tiny_recipe):
    system = systems.build(tiny_recipe, seed=1)
    early = train(systems.build(tiny_recipe, seed=1), bar_cohort.training, steps=6, seed=2)
    late = train(system, bar_cohort.training, steps=90, seed=2)
    assert late.losses["trunk/l1"] < 0.7 * early.losses["trunk/l1"]
    assert late.patches["pix2pix/trunk/generator"] == 30 * tiny_recipe.optimisation.batch
    assert set(late.patches) == set(system.components())


def test_the_rate_rises_to_the_schedule_and_falls_to_a_twentieth():
    rules = Optimisation(warm_up=0.5)
    assert rate_factor(rules, 0.0) == 0.0
    assert rate_factor(rules, 0.25) == pytest.approx(0.5 * rate_factor(Optimisation(), 0.25))
    assert rate_factor(rules, 0.75) == rate_factor(Optimisation(), 0.75)
    assert rate_factor(rules, 1.0) == pytest.approx(0.05)
    assert rate_factor(Optimisation(schedule="constant"), 0.9) == 1.0


def test_a_district_that_a_site_lacks_stays_as_it_was(bar_cohort, tiny_recipe):
    recipe = tiny_recipe.model_copy(update={"districts": ("trunk", "arms")})
    system = systems.build(recipe, seed=1)
    before = system_arrays(system)
    result = train(system, bar_cohort.training, steps=4, seed=2)
    after = system_arrays(system)
    arms = [name for name in before if "/arms/" in name]
    assert arms and not any(name in result.patches for name in arms)
    assert same({n: before[n] for n in arms}, {n: after[n] for n in arms})
    assert not same({n: before[n] for n in before if n not in arms}, after)


def test_a_killed_training_goes_on_to_the_same_weights(bar_cohort, tiny_recipe, tmp_path):
    whole = systems.build(tiny_recipe, seed=1)
    train(whole, bar_cohort.training, steps=14, seed=3)

    class Killed(Exception):
        pass

    def kill(step):
        if step == 9:
            raise Killed

    state = tmp_path / "state.safetensors"
    parts = systems.build(tiny_recipe, seed=1)
    # The checkpoint of an orderly stop stands in for the timed one; then it is killed further on.

    training._CHECKPOINT_EVERY_S, before = 0.0, training._CHECKPOINT_EVERY_S
    try:
        with pytest.raises(Killed):
            train(parts, bar_cohort.training, steps=14, seed=3, resume=state, after_step=kill)
    finally:
        training._CHECKPOINT_EVERY_S = before
    resumed = systems.build(tiny_recipe, seed=99)  # its own weights must not matter
    result = train(resumed, bar_cohort.training, steps=14, seed=3, resume=state)
    assert result.steps == 14
    assert same(system_arrays(whole), system_arrays(resumed))


def test_a_checkpoint_of_another_recipe_is_refused(bar_cohort, tiny_recipe, tmp_path):
    state = tmp_path / "state.safetensors"
    train(systems.build(tiny_recipe, seed=1), bar_cohort.training, steps=2, seed=3, resume=state)
    assert state.stat().st_mode & 0o777 == 0o600, "it may hold patches of patients"
    other = tiny_recipe.model_copy(update={"name": "other"})
    with pytest.raises(InputError, match="another recipe"):
        train(systems.build(other, seed=1), bar_cohort.training, steps=2, seed=3, resume=state)


def test_a_checkpoint_of_another_seed_or_other_studies_is_refused(bar_cohort, tiny_recipe, tmp_path):
    state = tmp_path / "state.safetensors"
    train(systems.build(tiny_recipe, seed=1), bar_cohort.training, steps=2, seed=3, resume=state)
    for studies, seed, says in (
        (bar_cohort.training, 4, "another seed"),
        (bar_cohort.training[1:], 3, "other studies"),
        ([*bar_cohort.training, *bar_cohort.held_out], 3, "other studies"),
    ):
        with pytest.raises(InputError, match=says):
            train(systems.build(tiny_recipe, seed=1), studies, steps=4, seed=seed, resume=state)
    system, taught = systems.build(tiny_recipe, seed=1), bar_cohort.training
    first = taught[0]
    marked = np.zeros(first.hu.shape, np.uint8)
    marked[tuple(np.argwhere(first.body)[0])] = 1
    with pytest.raises(InputError, match="other studies"):  # a lesion drawn since weighs more
        train(system, [replace(first, lesions=marked), *taught[1:]], steps=4, seed=3, resume=state)
    with pytest.raises(InputError, match="other held-out studies"):
        train(system, taught, steps=4, seed=3, resume=state, held_out=bar_cohort.held_out)
    assert train(system, taught, steps=4, seed=3, resume=state).steps == 4


def test_a_checkpoint_that_cannot_be_read_says_what_to_do(tiny_recipe, tmp_path):
    path = tmp_path / "state.safetensors"
    TrainingState(systems.build(tiny_recipe, seed=1)).save(path, 4)
    good = path.read_bytes()
    save_file({"a": torch.zeros(2)}, path)
    others = [path.read_bytes()]
    for told in ("", "7", "null"):
        save_file({"a": torch.zeros(2)}, path, metadata={"training": told})
        others.append(path.read_bytes())
    for bad in (good[:-5], good[: len(good) // 2], good[:5], b"", b"\x80\x04pickle" * 9, *others):
        path.write_bytes(bad)
        with pytest.raises(InputError, match="cannot be read as a training's checkpoint") as caught:
            TrainingState(systems.build(tiny_recipe, seed=1)).load(path)
        assert "Delete it" in caught.value.hint and "--out" in caught.value.hint
    path.write_bytes(good)
    assert TrainingState(systems.build(tiny_recipe, seed=2)).load(path) == 4


def test_a_budget_for_some_districts_only_is_refused_and_goes_on(bar_cohort, tiny_recipe, tmp_path):
    def trained(budget_s):
        return train(
            systems.build(tiny_recipe, seed=1), bar_cohort.training, steps=6, seed=3, budget_s=budget_s,
            resume=tmp_path / "state", after_step=lambda step: time.sleep(0.3 if budget_s < 1 else 0.0),
        )  # fmt: skip

    with pytest.raises(InputError, match="legs, whole-body") as caught:
        trained(0.2)
    assert "--budget" in caught.value.hint
    assert trained(60.0).steps == 6


def test_nothing_to_learn_is_said(tiny_recipe):
    with pytest.raises(InputError, match="district"):
        train(systems.build(tiny_recipe, seed=1), [], steps=2, seed=3)


@pytest.mark.parametrize("when", ["in a loss", "in the last step's weights"])
def test_a_training_that_diverges_says_so_and_leaves_the_checkpoint_before(
    bar_cohort, tiny_recipe, tmp_path, monkeypatch, when
):
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY_S", 0.0)
    state, kept = tmp_path / "state.safetensors", []
    system = systems.build(tiny_recipe, seed=1)
    generators = [network for name, network in system.components().items() if "generator" in name]

    def spoil(step):
        if step == 3:
            kept.append(state.read_bytes())
            for network in generators:
                next(iter(network.parameters())).data.fill_(torch.nan)

    steps = 12 if when == "in a loss" else 3
    says = "at step 4: the loss" if steps == 12 else "at step 3: a weight of pix2pix/trunk/generator"
    with pytest.raises(ScanTwinError, match=says) as caught:
        train(system, bar_cohort.training, steps=steps, seed=3, resume=state, after_step=spoil)
    assert "learning_rate" in caught.value.hint and caught.value.exit_code == 1
    assert state.read_bytes() == kept[0]


def test_a_rate_beyond_reason_diverges(bar_cohort, tiny_recipe):
    rules = tiny_recipe.optimisation.model_copy(update={"learning_rate": 1e12})
    recipe = tiny_recipe.model_copy(update={"optimisation": rules})
    with pytest.raises(ScanTwinError, match="diverged at step"):
        train(systems.build(recipe, seed=1), bar_cohort.training, steps=12, seed=3)
