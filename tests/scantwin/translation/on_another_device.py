"""Run by test_devices.py: systems that translate, on the processor and elsewhere."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from elsewhere import elsewhere

from scantwin import systems
from scantwin.evaluation.held_out import measure
from scantwin.learning import training
from scantwin.learning.training import train
from scantwin.learning.weights import system_arrays
from scantwin.translation.usual_uptake import UsualUptake


def test_it_learns_goes_on_and_says_the_same(recipe, bar_cohort, tmp_path, monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY_S", 0.0)
    state, told = tmp_path / "training.safetensors", []

    def killed(done):
        if done == 5:
            raise InterruptedError

    for place in (nullcontext(torch.device("cpu")), elsewhere()):
        with place as device:
            first = systems.build(recipe, seed=1)
            with pytest.raises(InterruptedError):
                train(first, bar_cohort.training, steps=9, seed=2, resume=state, after_step=killed)
            system = systems.build(recipe, seed=9)  # another seed: all of it must come from the checkpoint
            result = train(system, bar_cohort.training, steps=9, seed=2, resume=state)
            assert {p.device for n in system.components().values() for p in n.parameters()} == {device}
            arrays = system_arrays(system)
            measured = measure(system, bar_cohort.held_out, trained=result.patches)
            state.unlink()
        told.append((result.losses, arrays, measured))
    (losses, arrays, measured), (other_losses, other_arrays, other_measured) = told
    assert other_losses == pytest.approx(losses, rel=1e-4)
    for name, component in arrays.items():
        for key, value in component.items():
            # What is usual at a place moves twenty times as far a step, and so does what rounding adds.
            far = 1e-5 * (UsualUptake.quicker if name.endswith("/usual") else 1)
            np.testing.assert_allclose(other_arrays[name][key], value, rtol=1e-3, atol=far, err_msg=name)
    assert measured.metrics
    assert other_measured.metrics == pytest.approx(measured.metrics, rel=1e-3, abs=1e-4)


def test_what_a_gpu_refuses_is_refused(recipe, bar_cohort):
    with elsewhere() as device:
        system = systems.build(recipe, seed=1)
        batch = system.sampler(bar_cohort.training, "trunk", 0).batch(0)
        with pytest.raises(RuntimeError, match="two devices"):
            system.training_step("trunk", batch)
        with pytest.raises(TypeError):
            batch.suv.to(device).numpy()
