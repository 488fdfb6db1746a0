from __future__ import annotations

import pytest
from scantwin.errors import InputError
from scantwin.learning.recipe import Recipe, shipped_recipes


def test_every_shipped_recipe_loads():
    for name in shipped_recipes():
        assert Recipe.load(name).name == name


def test_pix2pix_is_the_published_one():
    recipe = Recipe.load("pix2pix")
    assert (recipe.patch, recipe.sampling.overlap, recipe.suv_range, recipe.losses.l1) == (
        32,
        16,
        (0.0, 20.0),
        100.0,
    )
    assert set(recipe.districts) == {"head", "trunk", "arms", "legs", "whole-body"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("system = 'pix2pix'\nspeed = 3", "speed"),
        ("system = 'pix2pix'\n[sampling]\npatch = 33", "halved"),
        ("system = 'pix3pix'", "system"),
        ("system = 'pix2pix'\ndistricts = ['trunk', 'trunk']", "once each"),
        ("system = 'pix2pix'\n[sampling]\noverlap = 200", "overlap"),
        ("system =", "not TOML"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(tmp_path, text, says):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        Recipe.load(path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError) as error:
        Recipe.load("nonsense")
    assert "pix2pix" in error.value.hint
