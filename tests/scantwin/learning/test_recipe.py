from __future__ import annotations

from importlib.resources import files
from pathlib import Path

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
        ("system = 'pix2pix'\nspacing_mm = [4.0, 0.0, 4.0]", "edges"),
        ("system = 'pix2pix'\nspacing_mm = [4.0, -4.0, 4.0]", "edges"),
        ("system = 'pix2pix'\nsuv_range = [20.0, 0.0]", "suv_range"),
        ("system = 'pix2pix'\n[network]\ndiscriminator_channels = [1, 2, 3, 4, 5, 6]", "discriminator"),
        ("system = 'pix2pix'\ndistricts = ['trunk', 'trunk']", "once each"),
        ("system = 'pix2pix'\n[sampling]\noverlap = 200", "overlap"),
        ("system = 'pix2pix'\nsuv_range = [1.0, 20.0]", "suv_range"),
        ("system = 'pix2pix'\nsuv_range = [0.0, 40.0]", "suv_range"),
        ("system = 'pix2pix'\nlosses = 3", "losses"),
        ("system = ['pix2pix']", "system"),
        ("system = 'pix2pix'\n[network]\nchannels = []", "channels"),
        ("system = 'pix2pix'\n[losses]\nneighbour = 1.0\nuptake = 1.0", "neighbour"),
        ("system = 'coarse-diffusion'\n[losses]\nair = 1.0", "air"),
        ("system = 'low-resource-3d'\n[network]\nchannels = [32, 64]", "network.channels"),
        ("system =", "not TOML"),
        ("system = 'pix2pix'\nx = " + "[" * 50_000 + "]" * 50_000, "nested too deeply"),
        ("system = 'pix2pix'\n[optimisation]\nbetas = [1.0, 0.99]", "betas"),
        ("system = 'pix2pix'\n[optimisation]\nbetas = [0.5, 1.0]", "betas"),
        ("system = 'pix2pix'\n[optimisation]\nlearning_rate = inf", "learning_rate"),
        ("system = 'pix2pix'\n[sampling]\nturn_deg = inf", "turn_deg"),
        ("system = 'pix2pix'\n[sampling]\nturn_deg = 1e300", "turn_deg"),
        ("system = 'pix2pix'\n[sampling]\nhu_jitter = 1e300", "hu_jitter"),
        ("system = 'pix2pix'\n[losses]\nl1 = nan", "losses.l1"),
        ("system = 'pix2pix'\n[shares]\ntrunk = inf", "shares.trunk"),
        ("system = 'pix2pix'\n[shares]\ntrunk = 1e308", "shares.trunk"),
        ("system = 'pix2pix'\n[sampling]\npatch = 1\n[network]\nchannels = [4]", "sampling.patch"),
        ("system = 'pix2pix'\n[losses]\nadversarial = 0\nl1 = 0", "must be above 0"),
        ("system = 'cyclegan'\n[losses]\nadversarial = 0\ncycle = 0\nidentity = 0", "must be above 0"),
        ("system = 'coarse-diffusion'\n[losses]\ndenoising = 0\nl1 = 0", "must be above 0"),
        ("system = 'ct-inpainting'\n[losses]\ndenoising = 0\nl1 = 0", "must be above 0"),
        ("system = 'pix2pix'\n[diffusion]\nsteps = 9", r"no section \[diffusion\]"),
        ("system = 'pix2pix'\n[losses]\ncycle = 3.0", "losses.cycle"),
        ("system = 'cyclegan'\n[losses]\nhottest = 3.0", "losses.hottest"),
        ("system = 'cyclegan'\n[losses]\nl1 = 100.0", "losses.l1"),
        ("system = 'cyclegan'\n[sampling]\nhot = 0.1", "sampling.hot"),
        ("system = 'cyclegan'\n[network]\nstart = 'zero'\n[unpaired]\nby_place = true", "tissue-curve"),
        ("system = 'cyclegan'\n[network]\nstart = 'zero'\n[losses]\nheld = 1.0", "tissue-curve"),
        ("system = 'pix2pix'\n[losses]\nheld = 1.0", "losses.held"),
        ("system = 'ct-inpainting'\n[sampling]\nflip_trunk = ['x']", "sampling.flip_trunk"),
        ("system = 'coarse-diffusion'\n[losses]\nadversarial = 1.0", "losses.adversarial"),
        ("system = 'coarse-diffusion'\n[diffusion]\nstart_step = 300", "start_step"),
        ("system = 'coarse-diffusion'\n[diffusion]\nsampler = 'euler'", "diffusion.sampler"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(tmp_path, text, says):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        Recipe.load(path)


def test_a_file_that_is_no_text_is_one_sentence(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes("system = 'pix2pix' # gr\u00f6\u00dfer".encode("latin-1"))
    with pytest.raises(InputError, match="not TOML"):
        Recipe.load(path)


def test_what_is_used_has_nothing_that_a_system_refuses():
    for name in shipped_recipes():
        used = Recipe.load(name).used()
        assert Recipe.read(used, name) == Recipe.load(name)
    assert "flip_trunk" in Recipe.load("pix2pix").used()["sampling"]
    assert "flip_trunk" not in Recipe.load("ct-inpainting").used()["sampling"]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError) as error:
        Recipe.load("nonsense")
    assert "pix2pix" in error.value.hint


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_recipe_survives_being_written_and_read(name):
    recipe = Recipe.load(name)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
    assert (recipe.unpaired is not None) == (recipe.system == "cyclegan")
    assert (recipe.diffusion is not None) == (recipe.system == "coarse-diffusion")


def test_the_recipe_of_the_docs_differs_from_the_shipped_one_where_it_says_so(tmp_path):
    text = (Path(__file__).parents[3] / "docs" / "translation.md").read_text()
    block = text.partition("## A recipe of your own")[2].partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "mine.toml").write_text(block)
    Recipe.load(tmp_path / "mine.toml")
    shipped = (files("scantwin.learning") / "recipes" / "coarse-diffusion.toml").read_text()
    lines = {line for line in shipped.splitlines() if "=" in line and not line.startswith("#")}
    own = [line for line in block.splitlines() if "=" in line]
    assert {line for line in own if "# changed" not in line} <= lines
    left_out = {line.split(" ")[0] for line in lines} - {line.split(" ")[0] for line in own}
    assert left_out == {"trunk", "average_flips"}, "of one district, which is not mirrored"
