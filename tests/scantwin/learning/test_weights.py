from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from scantwin import systems
from scantwin.errors import InputError, ScanTwinError
from scantwin.files import sha256
from scantwin.learning.weights import Model, _belongs, system_arrays

# Keys that are numbers sort otherwise than their texts, and JSON knows no paths.
RECORD = {
    "phantoms_only": True, "steps": 12, "seconds": 0.1 + 0.2, "losses": {"trunk/l1": 1e-17},
    "scores": {9: None, 10: 0.5}, "data": Path("some/where"), "patches": {"pix2pix/trunk/generator": 8},
}  # fmt: skip


@pytest.fixture
def folder(tiny_recipe, tmp_path):
    system = systems.build(tiny_recipe, seed=5)
    statistics = {"residual/trunk": np.arange(6.0).reshape(2, 3)}
    return Model(tiny_recipe, system_arrays(system), RECORD, statistics).save(tmp_path / "model")


def about_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model.json").read_text())


def rewrite(folder: Path, about: dict[str, Any]) -> None:
    """As an editor leaves model.json."""
    (folder / "model.json").write_text(json.dumps(about))


def reseal(folder: Path, about: dict[str, Any]) -> None:
    """As one leaves the folder who knows of all digests, but not of what components say themselves."""
    for path in (folder / "components").iterdir():
        about["files"][str(path.relative_to(folder))] = sha256(path)
    path = folder / "statistics.safetensors"
    save_file(load_file(path), path, metadata={"scantwin": json.dumps(_belongs("statistics", about))})
    about["files"][path.name] = sha256(path)
    rewrite(folder, about)


def places(values: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Every value of a JSON object, as what holds it and its key there."""
    found = [(values, key) for key in values]
    return found + [place for value in values.values() if isinstance(value, dict) for place in places(value)]


def another(value: Any) -> Any:
    """Something else of the same kind; for a float, the next that there is."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return math.nextafter(value, math.inf)
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list) and value:
        return [another(value[0]), *value[1:]]
    return f"{value}x"


def test_a_model_comes_back_whole(folder, tiny_recipe):
    model = Model.load(folder)
    assert model.recipe == tiny_recipe and model.trained("trunk") and not model.trained("legs")
    fresh = system_arrays(systems.build(tiny_recipe, seed=5))
    restored = system_arrays(systems.restore(model))
    for name, arrays in fresh.items():
        for key, value in arrays.items():
            assert np.array_equal(restored[name][key], value)
    assert np.array_equal(model.statistics["residual/trunk"], np.arange(6.0).reshape(2, 3))
    assert (
        model.record == json.loads(json.dumps(RECORD, default=str)) and model.record["seconds"] == 0.1 + 0.2
    )


def test_the_same_seed_builds_the_same_and_another_does_not(tiny_recipe):
    a, b, c = (system_arrays(systems.build(tiny_recipe, seed=s)) for s in (1, 1, 2))
    key = "first.weight"
    name = "pix2pix/trunk/discriminator"
    weights = [next(iter(x[name].values())) for x in (a, b, c)]
    assert np.array_equal(weights[0], weights[1]) and not np.array_equal(weights[0], weights[2]), key


def test_each_file_says_what_it_belongs_to_and_can_be_read_by_all_who_may_read_model_json(folder):
    about = about_of(folder)
    names = {f"{name.replace('/', '.')}.safetensors": name for name in about["components"]}
    names["statistics.safetensors"] = "statistics"
    paths = list(folder.rglob("*.safetensors"))
    assert len(paths) == len(names) == 1 + 2 * 3
    for path in paths:
        with safe_open(path, framework="np") as file:
            said = json.loads(file.metadata()["scantwin"])
        assert said["component"] == names[path.name] and said["recipe"] == about["recipe"]
        assert path.stat().st_mode == (folder / "model.json").stat().st_mode


def test_a_component_left_alone_is_the_same_file_in_every_round(folder, tmp_path):
    """The registry stores by content: the record of another round must not make another file of it."""
    model = Model.load(folder)
    later = Model(model.recipe, model.components, {**model.record, "round": 2}).save(tmp_path / "later")
    for path in (folder / "components").iterdir():
        assert (later / "components" / path.name).read_bytes() == path.read_bytes()
    again = Model(model.recipe, model.components, model.record, model.statistics).save(tmp_path / "again")
    assert about_of(again) == about_of(folder), "and the same model is the same version"


def test_a_model_without_statistics_has_none(folder, tmp_path):
    model = Model.load(folder)
    bare = Model.load(Model(model.recipe, model.components, {"round": 0}).save(tmp_path / "bare"))
    assert bare.statistics == {} and bare.record == {"round": 0}


@pytest.mark.parametrize("part", ["record", "recipe", "files", "components", "format"])
def test_a_description_nested_too_deeply_is_refused_with_a_sentence(folder, part):
    about = about_of(folder)
    about[part] = {"deep": "@"} if isinstance(about[part], dict) else "@"
    text = json.dumps(about)
    # Some depths can be read, and are too deep for what is worked out from them.
    for depth in (*range(960, 1000), 100_000):
        (folder / "model.json").write_text(text.replace('"@"', "[" * depth + "]" * depth))
        with pytest.raises(InputError) as caught:
            Model.load(folder)
        assert len(caught.value.message) < 400


@pytest.mark.parametrize("part", ["pix2pix/trunk/generator", "statistics", "training record"])
def test_what_is_not_a_number_is_not_saved(folder, part, tmp_path):
    model = Model.load(folder)
    components = {name: dict(arrays) for name, arrays in model.components.items()}
    statistics, record = dict(model.statistics), dict(model.record)
    if part == "training record":
        record["metrics"] = {"trunk": {"mae": math.nan}}
    else:
        arrays = statistics if part == "statistics" else components[part]
        name = next(iter(arrays))
        arrays[name] = np.full_like(arrays[name], np.inf)
    with pytest.raises(ScanTwinError, match=f"its {part} holds what is not a number"):
        Model(model.recipe, components, record, statistics).save(tmp_path / "spoilt")
    assert not (tmp_path / "spoilt").exists()


def test_tampered_truncated_missing_and_pickled_files_are_refused(folder):
    for victim in (next((folder / "components").iterdir()), folder / "statistics.safetensors"):
        good = victim.read_bytes()
        for bad in (good[:-5], good[:-1] + bytes([good[-1] ^ 1]), b"\x80\x04pickle", b""):
            victim.write_bytes(bad)
            with pytest.raises(InputError, match="checksum"):
                Model.load(folder)
        victim.unlink()
        with pytest.raises(InputError, match="lacks"):
            Model.load(folder)
        victim.write_bytes(good)


@pytest.mark.parametrize("bad", [slice(0, -5), b"\x80\x04pickle" * 9, b""], ids=["short", "pickle", "empty"])
def test_a_file_that_is_no_safetensors_is_refused_whatever_its_checksum(folder, bad):
    victim = next((folder / "components").iterdir())
    victim.write_bytes(victim.read_bytes()[bad] if isinstance(bad, slice) else bad)
    reseal(folder, about_of(folder))
    with pytest.raises(InputError, match="not a safetensors file") as caught:
        Model.load(folder)
    assert caught.value.hint


@pytest.mark.parametrize(("part", "called"), [("recipe", "recipe"), ("record", "training record")])
def test_each_value_of_model_json_that_was_changed_is_refused(folder, part, called):
    about, said = about_of(folder), []
    for holder, key in places(about[part]):
        kept, holder[key] = holder[key], another(holder[key])
        rewrite(folder, about)
        with pytest.raises(InputError) as caught:
            Model.load(folder)
        assert caught.value.hint
        said.append(caught.value.message)
        holder[key] = kept
    changed = (
        f"model.json was changed: its {called} is not the one that statistics.safetensors was saved with."
    )
    # Some of these no recipe may have at all, which is said instead; of a record nothing is asked.
    invalid = [text for text in said if not text.endswith(changed)]
    assert all("is wrong at" in text for text in invalid)
    assert len(invalid) < len(said) / 2 if part == "recipe" else not invalid
    rewrite(folder, about)
    Model.load(folder)  # as it was, in another order of spaces and lines


@pytest.mark.parametrize(
    ("place", "value"),
    [("spacing_mm", [2.0, 8.0, 8.0]), ("name", "other"), ("suv_range", [0.0, 10.0])],
)
def test_a_recipe_that_a_component_was_not_saved_with_is_refused(folder, place, value):
    about = about_of(folder)
    about["recipe"][place] = value
    reseal(folder, about)
    with pytest.raises(InputError, match=r"its recipe is not the one that components/.* was saved with"):
        Model.load(folder)


def test_a_value_that_was_added_or_taken_is_refused(folder):
    about = about_of(folder)
    for record in ({**about["record"], "more": 1}, {}, {**about["record"], "steps": 12.0}):
        rewrite(folder, {**about, "record": record})
        with pytest.raises(InputError, match="its training record is not the one"):
            Model.load(folder)
    for fewer in (about["components"][1:], [], about["components"][::-1]):
        rewrite(folder, {**about, "components": fewer})
        with pytest.raises(InputError, match="its list of components is not the one"):
            Model.load(folder)


def test_components_that_were_exchanged_are_refused(folder):
    about = about_of(folder)
    one, other = (f"components/pix2pix.{where}.generator.safetensors" for where in ("trunk", "legs"))
    (folder / one).rename(folder / "aside")
    (folder / other).rename(folder / one)
    (folder / "aside").rename(folder / other)
    with pytest.raises(InputError, match="checksum"):
        Model.load(folder)
    about["files"][one], about["files"][other] = about["files"][other], about["files"][one]
    rewrite(folder, about)
    with pytest.raises(InputError, match="its list of components is not the one"):
        Model.load(folder)
    reseal(folder, about)
    with pytest.raises(InputError, match=r"holds pix2pix/\w+/generator, not pix2pix/\w+/generator"):
        Model.load(folder)


def test_a_component_of_another_model_is_refused(folder, tiny_recipe, tmp_path):
    other = Model(tiny_recipe, system_arrays(systems.build(tiny_recipe, seed=6)), RECORD).save(tmp_path / "o")
    about, name = about_of(folder), "components/pix2pix.trunk.generator.safetensors"
    (folder / name).write_bytes((other / name).read_bytes())
    rewrite(folder, {**about, "files": {**about["files"], name: about_of(other)["files"][name]}})
    with pytest.raises(InputError, match="its list of components is not the one"):
        Model.load(folder)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"format": "np"}, {"scantwin": ""}, {"scantwin": "7"}, {"scantwin": "null"}]
)
@pytest.mark.parametrize("name", ["statistics", "components/pix2pix.trunk.generator"])
def test_a_file_that_does_not_say_what_it_belongs_to_is_refused(folder, metadata, name):
    path, about = folder / f"{name}.safetensors", about_of(folder)
    save_file(load_file(path), path, metadata=metadata)
    if name == "statistics":
        rewrite(folder, about | {"files": about["files"] | {path.name: sha256(path)}})
    else:
        reseal(folder, about)
    with pytest.raises(InputError, match="older ScanTwin") as caught:
        Model.load(folder)
    assert "Train it again" in str(caught.value.hint)


def test_a_model_of_the_first_format_is_refused(folder):
    """Its files had no metadata, and no statistics.safetensors was written where there were none."""
    about = about_of(folder) | {"format": 1}
    for path in folder.rglob("*.safetensors"):
        save_file(load_file(path), path)
        about["files"][str(path.relative_to(folder))] = sha256(path)
    rewrite(folder, about)
    with pytest.raises(InputError, match="format 1, this ScanTwin reads 2") as caught:
        Model.load(folder)
    assert "Train it again" in str(caught.value.hint)


def test_a_recipe_of_another_version_is_refused_and_not_to_be_mended(folder):
    about = about_of(folder)
    about["recipe"]["network"]["unheard-of"] = 1
    rewrite(folder, about)
    with pytest.raises(InputError, match="unheard-of") as caught:
        Model.load(folder)
    assert "train it again" in str(caught.value.hint)


def test_weights_that_do_not_fit_their_recipe_are_refused(folder, tiny_recipe):
    other = tiny_recipe.model_copy(
        update={"network": tiny_recipe.network.model_copy(update={"channels": (8, 32)})}
    )
    with pytest.raises(InputError, match="do not fit") as caught:
        systems.restore(Model(other, Model.load(folder).components))
    assert "own recipe" in caught.value.hint


def test_weights_of_other_districts_than_the_recipes_are_refused(folder):
    model = Model.load(folder)
    fewer = {name: arrays for name, arrays in model.components.items() if "/legs/" not in name}
    with pytest.raises(InputError, match="pix2pix/legs/discriminator is on one side only") as caught:
        systems.restore(Model(model.recipe, fewer))
    assert "own recipe" in caught.value.hint


def test_a_file_that_is_too_large_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr("scantwin.learning.weights._LARGEST_FILE", 10)
    with pytest.raises(InputError, match="too large") as caught:
        Model.load(folder)
    assert "Fetch the model again" in caught.value.hint


def test_a_component_cannot_lead_out_of_the_folder(folder, tmp_path):
    about = about_of(folder)
    victim = next((folder / "components").iterdir())
    outside = victim.rename(tmp_path / "outside.safetensors")
    victim.symlink_to(outside)
    with pytest.raises(InputError, match="outside of it") as caught:
        Model.load(folder)
    assert "not links" in caught.value.hint
    about["components"].append("x/../../../../etc/passwd")
    reseal(folder, about)
    with pytest.raises(InputError):
        Model.load(folder)


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"format": 9, "files": {}, "components": [], "record": {}}',
        '{"format": 2, "files": {}, "components": [], "record": {}, "recipe": []}',
    ],
)  # fmt: skip
def test_rubbish_is_one_sentence(tmp_path, text):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(InputError) as caught:
        Model.load(tmp_path)
    assert caught.value.hint
