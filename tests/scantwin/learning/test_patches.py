"""Training patches: what is drawn of a study that could not be split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scantwin.imaging.study import DISTRICT_LABEL
from scantwin.learning.patches import Sampler
from scantwin.learning.recipe import Recipe


def test_only_a_study_that_could_not_be_split_is_turned_upside_down(bar_cohort, tiny_recipe):
    values = tiny_recipe.model_dump(mode="json")
    values["sampling"] |= {"flip": [], "flip_unsplit": ["z"]}
    recipe = Recipe.read(values, "test")
    whole = bar_cohort.training[0]
    one = np.uint8(DISTRICT_LABEL["whole-body"])
    piece = replace(whole, labels=np.where(whole.body, one, 0).astype(np.uint8))
    assert whole.split and not piece.split
    upright, either = (Sampler([study], recipe, "whole-body", seed=3) for study in (whole, piece))
    turned = []
    for step in range(12):
        # The first patch of a batch is drawn at the same place of both.
        straight, other = (sampler.batch(step).suv[0, 0].numpy() for sampler in (upright, either))
        turned.append(not np.allclose(straight, other))
        assert np.allclose(straight[::-1] if turned[-1] else straight, other)
    assert 1 <= sum(turned) <= 11  # the toss of a coin: all alike in 1 of 2000 runs
