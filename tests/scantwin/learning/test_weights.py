from __future__ import annotations

import json

import numpy as np
import pytest

from scantwin import systems
from scantwin.errors import InputError
from scantwin.learning.weights import Model, system_arrays


@pytest.fixture
def folder(tiny_recipe, tmp_path):
    system = systems.build(tiny_recipe, seed=5)
    statistics = {"residual/trunk": np.arange(6.0).reshape(2, 3)}
    record = {"patches": {"pix2pix/trunk/generator": 8}}
    return Model(tiny_recipe, system_arrays(system), record, statistics).save(tmp_path / "model")


def test_a_model_comes_back_whole(folder, tiny_recipe):
    model = Model.load(folder)
    assert model.recipe == tiny_recipe and model.trained("trunk") and not model.trained("legs")
    fresh = system_arrays(systems.build(tiny_recipe, seed=5))
    restored = system_arrays(systems.restore(model))
    for name, arrays in fresh.items():
        for key, value in arrays.items():
            assert np.array_equal(restored[name][key], value)
    assert np.array_equal(model.statistics["residual/trunk"], np.arange(6.0).reshape(2, 3))


def test_the_same_seed_builds_the_same_and_another_does_not(tiny_recipe):
    a, b, c = (system_arrays(systems.build(tiny_recipe, seed=s)) for s in (1, 1, 2))
    key = "first.weight"
    name = "pix2pix/trunk/discriminator"
    weights = [next(iter(x[name].values())) for x in (a, b, c)]
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2]), key


def test_tampered_truncated_missing_and_pickled_files_are_refused(folder):
    victim = next((folder / "components").iterdir())
    good = victim.read_bytes()
    for bad in (good[:-5], good[:-1] + bytes([good[-1] ^ 1]), b"\x80\x04pickle"):
        victim.write_bytes(bad)
        with pytest.raises(InputError, match="checksum"):
            Model.load(folder)
    victim.unlink()
    with pytest.raises(InputError, match="lacks"):
        Model.load(folder)


def test_a_recipe_of_another_version_is_refused_and_not_to_be_mended(folder):
    about = json.loads((folder / "model.json").read_text())
    about["recipe"]["network"]["unheard-of"] = 1
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="unheard-of") as caught:
        Model.load(folder)
    assert "train it again" in str(caught.value.hint)


def test_a_mismatched_recipe_is_refused(folder):
    about = json.loads((folder / "model.json").read_text())
    about["recipe"]["network"]["channels"] = [8, 32]
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match="do not fit"):
        systems.restore(Model.load(folder))


def test_a_component_cannot_lead_out_of_the_folder(folder):
    about = json.loads((folder / "model.json").read_text())
    about["components"].append("x/../../../../etc/passwd")
    (folder / "model.json").write_text(json.dumps(about))
    with pytest.raises(InputError):
        Model.load(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 9, "files": {}, "components": [], "record": {}}']
)
def test_rubbish_is_one_sentence(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(InputError):
        Model.load(tmp_path)
