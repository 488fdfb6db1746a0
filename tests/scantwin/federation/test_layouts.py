"""The layout of the statistics is that of what sites really make."""

from __future__ import annotations

from typing import get_args

import pytest

from scantwin.evaluation.measuring import measure, training_statistics
from scantwin.federation.layouts import layout_of
from scantwin.learning.recipe import Recipe, SystemName
from scantwin.systems import build


@pytest.mark.parametrize("name", get_args(SystemName))
def test_what_sites_send_has_the_layout(name: SystemName) -> None:
    recipe = Recipe.model_validate({"system": name, "districts": ["whole-body"]})
    system = build(recipe, seed=0)
    train, final = training_statistics(system, []), measure(system, []).statistics
    assert {key: array.shape for key, array in train.items()} == layout_of(recipe, "train")
    assert {key: array.shape for key, array in final.items()} == layout_of(recipe, "final")
    assert not set(train) & set(final)
