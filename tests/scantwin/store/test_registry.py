"""The model registry: atomic, idempotent, and distrustful of what comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scantwin.errors import InputError, ScanTwinError
from scantwin.store.database import Database
from scantwin.store.models import ModelVersion
from scantwin.store.registry import Registry, _safe, content_hash


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder with one component, 3 MB so that it is read in several pieces."""
    return _model(tmp_path / "model", b"weights" * 430_000)


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> Registry:
    return Registry(database, str(tmp_path / "registry"))


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Registry]:
    """A registry in a folder and an SQLite file, for what no database changes."""
    database = Database(f"sqlite:///{tmp_path / 'local.db'}").migrate()
    yield Registry(database, str(tmp_path / "registry"))
    database.close()


class TestContract:
    """On SQLite and on PostgreSQL."""

    def test_publish_and_fetch(self, registry: Registry, model: Path, tmp_path: Path) -> None:
        version = registry.publish(model, name="demo", parent="pix2pix-000000000000", record={"rounds": 3})
        assert version.id.startswith("pix2pix-")
        assert len(version.id) == len("pix2pix-") + 12
        assert version.record == {"steps": 10, "rounds": 3}
        assert version.recipe["patch"] == 32
        assert version.size_bytes == sum(p.stat().st_size for p in model.rglob("*") if p.is_file())
        for wanted in ("demo", version.id):
            folder = registry.fetch(wanted, tmp_path / f"into-{wanted}")
            assert folder.name == version.id
            assert _bytes(folder) == _bytes(model)

    def test_the_same_files_are_the_same_version(self, registry: Registry, model: Path) -> None:
        first, again = registry.publish(model, name="demo"), registry.publish(model, name="demo")
        assert first.id == again.id
        assert len(registry.list()) == 1

    def test_a_name_means_what_was_last_published_under_it(self, registry: Registry, model: Path) -> None:
        old = registry.publish(model, name="demo")
        new = registry.publish(_model(model, b"better"), name="demo")
        assert registry.find("demo").id == new.id
        _model(model, b"weights" * 430_000)
        registry.publish(model, name="demo")  # the old one again
        assert registry.find("demo").id == old.id
        registry.publish(model, name="other")
        assert registry.find("demo").id == registry.find("other").id

    def test_publishing_at_once_makes_one_version(self, registry: Registry, model: Path) -> None:
        with ThreadPoolExecutor(4) as pool:
            ids = {v.id for v in pool.map(lambda i: registry.publish(model, name=f"n{i}"), range(4))}
        assert len(ids) == len(registry.list()) == 1


def test_a_component_left_alone_is_stored_once(local: Registry, model: Path, tmp_path: Path) -> None:
    local.publish(model, name="round-1")
    (model / "model.json").write_text(json.dumps({"recipe": {"system": "pix2pix"}, "record": {"round": 2}}))
    local.publish(model, name="round-2")
    assert len([p for p in (tmp_path / "registry").rglob("*") if p.is_file()]) == 3


@pytest.mark.parametrize("harm", ["change", "truncate", "empty", "remove"])
def test_a_harmed_file_is_refused_and_publishing_heals(
    local: Registry, model: Path, tmp_path: Path, harm: str
) -> None:
    version = local.publish(model, name="demo")
    digest = version.files["components/trunk.safetensors"]
    blob = tmp_path / "registry" / "blobs" / digest[:2] / digest
    whole = blob.read_bytes()
    if harm == "remove":
        blob.unlink()
    else:
        blob.write_bytes({"change": whole[:-1] + b"?", "truncate": whole[:-1], "empty": b""}[harm])
    with pytest.raises(ScanTwinError, match=r"components/trunk\.safetensors of pix2pix") as told:
        local.fetch("demo", tmp_path / "into")
    assert told.value.hint
    assert [*(tmp_path / "into").iterdir()] == []  # nothing half-fetched stays
    local.publish(model, name="demo")
    assert _bytes(local.fetch("demo", tmp_path / "into")) == _bytes(model)


def test_a_changed_copy_is_fetched_anew(local: Registry, model: Path, tmp_path: Path) -> None:
    local.publish(model, name="demo")
    folder = local.fetch("demo", tmp_path / "into")
    (folder / "model.json").write_text("{}")
    (folder / "added.txt").write_text("?")
    assert _bytes(local.fetch("demo", tmp_path / "into")) == _bytes(model)


def test_an_unsafe_path_in_the_database_writes_nothing(local: Registry, model: Path, tmp_path: Path) -> None:
    version = local.publish(model, name="demo")
    with local.database.session() as session:
        row = session.get(ModelVersion, version.id)
        row.files = {"../../escaped.txt": version.files["model.json"]}
    with pytest.raises(InputError, match="not safe"):
        local.fetch("demo", tmp_path / "a" / "b")
    assert not list(tmp_path.rglob("escaped.txt"))


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../x", "a//x", "./x", "", "a\\x", "C:x", "a/\x00", "a/\n", "a/.."]
)
def test_unsafe_paths(path: str) -> None:
    with pytest.raises(InputError):
        _safe(path)


@given(st.text())
def test_a_path_called_safe_stays_inside(path: str) -> None:
    try:
        safe = _safe(path)
    except InputError:
        return
    assert (Path("/base/folder") / safe).resolve().is_relative_to("/base/folder")
    assert (Path("/base/folder") / safe).resolve() != Path("/base/folder")


def test_links_are_refused(local: Registry, model: Path) -> None:
    (model / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="is a link"):
        local.publish(model, name="demo")


@pytest.mark.parametrize("name", ["", "../x", "Demo", "a b", "-x", "x" * 65])
def test_names_that_are_refused(local: Registry, model: Path, name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name"):
        local.publish(model, name=name)


@pytest.mark.parametrize(
    "text",
    [None, "", "[]", "{}", '{"recipe": {}}', '{"recipe": {"system": "../x"}}', '{"recipe": {"system": 1}}'],
)
def test_a_folder_that_is_no_model(local: Registry, tmp_path: Path, text: str | None) -> None:
    (tmp_path / "m").mkdir()
    if text is not None:
        (tmp_path / "m" / "model.json").write_text(text)
    with pytest.raises(InputError, match="not a model's folder"):
        local.publish(tmp_path / "m", name="demo")


def test_an_unknown_name_lists_those_that_are_known(local: Registry, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError) as told:
        local.fetch("demo", tmp_path)
    assert "empty" in told.value.hint
    local.publish(model, name="demo")
    with pytest.raises(InputError) as told:
        local.fetch("nix", tmp_path)
    assert "demo" in told.value.hint


def test_any_storage_of_fsspec_serves(local: Registry, model: Path, tmp_path: Path) -> None:
    memory = Registry(local.database, "memory://models")
    memory.publish(model, name="demo")
    assert _bytes(memory.fetch("demo", tmp_path / "into")) == _bytes(model)
    assert all(".part-" not in name for name in fsspec.filesystem("memory").find("/models"))
    fsspec.filesystem("memory").rm("/models", recursive=True)


def test_a_storage_that_fsspec_does_not_know(local: Registry) -> None:
    with pytest.raises(InputError, match="SCANTWIN_REGISTRY_URL"):
        Registry(local.database, "gopher://models")


def test_the_hash_knows_names_and_contents_but_no_order() -> None:
    one, two = "0" * 64, "1" * 64
    assert content_hash({"a": one, "b": two}) == content_hash({"b": two, "a": one})
    assert len({content_hash(f) for f in ({"a": one}, {"b": one}, {"a": two}, {"a": one, "b": one})}) == 4


def _model(folder: Path, weights: bytes) -> Path:
    (folder / "components").mkdir(parents=True, exist_ok=True)
    model = {"recipe": {"system": "pix2pix", "patch": 32}, "record": {"steps": 10}}
    (folder / "model.json").write_text(json.dumps(model))
    (folder / "components" / "trunk.safetensors").write_bytes(weights)
    return folder


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
