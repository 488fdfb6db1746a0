"""`make starter` makes again what is shipped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks are no part of the package

from benchmarks.starter import starter_recipe  # noqa: E402

from scantwin.learning.weights import Model  # noqa: E402
from scantwin.translation.starter import STARTERS, starter_folder  # noqa: E402


@pytest.mark.parametrize("name", STARTERS)
def test_a_starter_is_shipped_with_the_recipe_that_it_is_made_with(name: str) -> None:
    assert Model.load(starter_folder(name)).recipe == starter_recipe(STARTERS[name])
