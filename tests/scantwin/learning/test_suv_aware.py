from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scantwin.learning import suv_aware
from scantwin.learning.recipe_parts import Losses
from scantwin.learning.system import Batch

BOTH = Losses(hottest=1.0, uptake=1.0)


def batch(lesion_suv=8.0):
    suv = torch.ones(2, 1, 12, 12, 12)
    lesions = torch.zeros_like(suv)
    lesions[0, 0, 4:8, 4:8, 4:8] = 1
    suv = torch.where(lesions > 0, lesion_suv, suv)
    return Batch(torch.zeros(2, 7, 12, 12, 12), suv, torch.ones_like(suv), lesions, torch.ones(2))


def test_a_true_pet_has_no_error():
    whole = batch()
    assert all(
        float(e) == pytest.approx(0.0, abs=1e-5) for e in suv_aware.errors(whole.suv, whole, BOTH).values()
    )


def test_a_body_that_was_turned_is_a_body():
    """Interpolating ones leaves some a rounding below one."""
    whole = batch()
    turned = replace(whole, weight=torch.full_like(whole.weight, 0.99999994))
    assert torch.equal(suv_aware.regions(turned), suv_aware.regions(whole)) and turned.body.all()
    neighbour = replace(whole, weight=torch.full_like(whole.weight, 0.5))
    assert not neighbour.body.any()


def test_the_error_is_that_of_the_lesion_where_there_is_one():
    whole = batch()
    said = torch.where(whole.lesions > 0, 5.0, whole.suv)
    errors = suv_aware.errors(said, whole, BOTH)
    # One patch of two has the lesion, 3 g/ml too cold; the other is right.
    assert float(errors["hottest"]) == pytest.approx(1.5, abs=1e-4)
    assert float(errors["uptake"]) == pytest.approx(1.5, abs=1e-4)


def test_a_term_without_a_weight_is_not_worked_out():
    whole = batch()
    said = whole.suv + 1.0
    weights = Losses(hottest=0.0, uptake=0.5)
    errors = suv_aware.errors(said, whole, weights)
    assert set(errors) == {"uptake"}
    assert [float(v) for v in suv_aware.weighted(errors, weights)] == pytest.approx([0.5], abs=1e-4)
    assert suv_aware.errors(said, whole, Losses(hottest=0.0, uptake=0.0)) == {}


def test_the_hottest_spot_of_one_level_is_that_level_and_pulls_on_the_hot_voxels():
    suv = torch.ones(1, 1, 10, 10, 10)
    suv[0, 0, :2, :5, :5] = 9.0
    suv.requires_grad_()
    spot = suv_aware.hottest(suv, torch.ones_like(suv))
    assert float(spot.detach()) == pytest.approx(9.0, abs=0.05)
    spot.sum().backward()
    assert suv.grad is not None
    hot, cold = suv.grad[0, 0, :2, :5, :5], suv.grad[0, 0, 5:]
    assert float(hot.min()) > 1000 * float(cold.max())
