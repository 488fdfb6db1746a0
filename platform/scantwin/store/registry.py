"""The model registry: versions in the database, their files by content hash under an fsspec URL.

    <files_url>/blobs/ab/ab12...   one file per sha256, so a component that rounds leave alone is stored once

The row in the database is written last, so a version that can be seen is complete.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, make_transient

from scantwin.errors import InputError, ResourceError, ScanTwinError
from scantwin.files import sha256, whole_folder
from scantwin.settings import Settings, load_settings
from scantwin.store import audit
from scantwin.store.database import Database
from scantwin.store.models import ModelName, ModelVersion
from scantwin.store.times import utc_now

_CHUNK = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class Registry:
    """Model versions of one database, with one place for their files."""

    def __init__(self, database: Database, files_url: str) -> None:
        """`files_url`: a folder, or any URL that fsspec knows."""
        self.database = database
        try:
            self._files, root = fsspec.core.url_to_fs(files_url)
        except (ImportError, ValueError) as error:
            raise InputError(
                f"SCANTWIN_REGISTRY_URL cannot be used: {str(error).rstrip('.')}.",
                hint="Use a folder, or install the fsspec driver of that storage.",
            ) from None
        self._root = root.rstrip("/")

    @classmethod
    def from_settings(cls, database: Database, settings: Settings | None = None) -> Registry:
        """The registry of `SCANTWIN_REGISTRY_URL`, or the folder in `SCANTWIN_HOME`."""
        return cls(database, (settings or load_settings()).registry)

    def publish(
        self,
        folder: Path | str,
        *,
        name: str,
        parent: str | None = None,
        record: Mapping[str, Any] | None = None,
        actor: str = "registry",
    ) -> ModelVersion:
        """Publishes a model's folder; `name` then means this version. Equal files give the same version."""
        if not _NAME.fullmatch(name):
            raise InputError(
                f"'{name}' cannot be the name of a model version.",
                hint="Use 1 to 64 of a-z, 0-9, dot, dash and underscore, beginning with a letter or digit.",
            )
        source = Path(folder)
        recipe, own_record = _model_json(source)
        paths = _files_of(source)
        files = {relative: sha256(path) for relative, path in paths.items()}
        version_id = f"{recipe['system']}-{content_hash(files)[:12]}"
        for relative, path in paths.items():
            self._put(path, files[relative])
        version = ModelVersion(
            id=version_id, system=recipe["system"], name=name, recipe=recipe, parent=parent, files=files,
            record={**own_record, **(record or {})}, size_bytes=sum(p.stat().st_size for p in paths.values()),
        )  # fmt: skip
        try:
            return self._enter(version, name, actor)
        except IntegrityError:
            return self._enter(version, name, actor)  # another process entered it at the same moment

    def fetch(self, version_or_name: str, into: Path | str) -> Path:
        """Copies a version's files to `into/<version id>`, checks their hashes, and returns that folder."""
        version = self.find(version_or_name)
        target = Path(into) / version.id
        if target.is_dir() and _holds(target, version.files):
            return target
        with whole_folder(target) as aside:
            for relative, digest in version.files.items():
                path = aside / _safe(relative)
                path.parent.mkdir(parents=True, exist_ok=True)
                self._get(str(digest), path, f"{relative} of {version.id}")
        return target

    def find(self, version_or_name: str) -> ModelVersion:
        """The version with this id, or the one last published under this name."""
        with self.database.session() as session:
            version = session.get(ModelVersion, version_or_name)
            if version is None:
                pointer = session.get(ModelName, version_or_name)
                version = session.get(ModelVersion, pointer.version_id) if pointer else None
            if version is None:
                raise _unknown(session, version_or_name)
            return version

    def list(self, *, name: str | None = None, system: str | None = None) -> list[ModelVersion]:
        """The versions, newest first."""
        query = select(ModelVersion).order_by(ModelVersion.created_at.desc(), ModelVersion.id)
        if name is not None:
            query = query.where(ModelVersion.name == name)
        if system is not None:
            query = query.where(ModelVersion.system == system)
        with self.database.session() as session:
            return [*session.scalars(query)]

    def _enter(self, version: ModelVersion, name: str, actor: str) -> ModelVersion:
        """Writes the version's row if it is new, and points `name` at it."""
        with self.database.session() as session:
            known = session.get(ModelVersion, version.id)
            if known is None:
                make_transient(version)
                session.add(version)
            elif known.files != version.files:
                raise ScanTwinError(
                    f"Version {version.id} is in the registry with other files.",
                    hint="The first 12 digits of two hashes are equal: change the record and publish again.",
                )
            session.flush()
            session.merge(ModelName(name=name, version_id=version.id, published_at=utc_now()))
            audit.record(session, actor, "publish", version.id, {"name": name, "new": known is None})
        return known or version

    def _blob(self, digest: str) -> str:
        return f"{self._root}/blobs/{digest[:2]}/{digest}"

    def _put(self, path: Path, digest: str) -> None:
        blob = self._blob(digest)
        if self._files.exists(blob):
            with self._files.open(blob, "rb") as there:
                if _digest(there) == digest:
                    return
        aside = f"{blob}.part-{uuid.uuid4().hex}"
        self._files.makedirs(blob.rsplit("/", 1)[0], exist_ok=True)
        try:
            self._files.put_file(str(path), aside)
            self._files.mv(aside, blob)
        finally:
            if self._files.exists(aside):
                self._files.rm_file(aside)

    def _get(self, digest: str, path: Path, what: str) -> None:
        try:
            with self._files.open(self._blob(digest), "rb") as there, path.open("wb") as here:
                found = _digest(there, here)
        except FileNotFoundError:
            raise ResourceError(
                f"The registry has lost the file {what}.", hint="Publish the version again from its folder."
            ) from None
        if found != digest:
            raise ScanTwinError(
                f"The registry's file {what} is not what was published: it is damaged or was changed.",
                hint="Publish the version again from its folder; do not use this file.",
            )


def content_hash(files: Mapping[str, str]) -> str:
    """sha256 over the sorted lines `<sha256>  <path>`: the identity of a folder, regardless of dates."""
    lines = "".join(f"{digest}  {relative}\n" for relative, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _model_json(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recipe and record of a model's folder."""
    try:
        model = json.loads((folder / "model.json").read_text())
        recipe = model["recipe"]
        if not _NAME.fullmatch(recipe["system"]):
            raise ValueError("its system has no usable name")
        return recipe, dict(model.get("record") or {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{folder} is not a model's folder: its model.json with the recipe cannot be read"
            f" ({type(error).__name__}: {error}).",
            hint="Give the folder that `scantwin train --out` wrote.",
        ) from None


def _files_of(folder: Path) -> dict[str, Path]:
    """The files of a folder by relative path; links are refused, because they can point anywhere."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise InputError(
                f"{path} is a link; a model's folder holds plain files only.", hint="Copy the file."
            )
        if path.is_file():
            relative = path.relative_to(folder).as_posix()
            _safe(relative)
            found[relative] = path
    return found


def _safe(relative: str) -> PurePosixPath:
    """The path, if it stays inside its folder on every system."""
    path = PurePosixPath(relative)
    parts = relative.split("/")
    if (
        path.is_absolute()
        or any(p in ("", ".", "..") for p in parts)
        or re.search(r"[\\:\x00-\x1f]", relative)
    ):
        raise InputError(f"The path {relative!r} is not safe in a model's folder.", hint="Rename the file.")
    return path


def _holds(folder: Path, files: Mapping[str, Any]) -> bool:
    """Whether `folder` holds exactly these files, untouched."""
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    return present == set(files) and all(sha256(folder / _safe(rel)) == sha for rel, sha in files.items())


def _digest(source: BinaryIO, copy: BinaryIO | None = None) -> str:
    """sha256 of a stream, which is also copied to `copy` if given."""
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        if copy is not None:
            copy.write(chunk)
    return digest.hexdigest()


def _unknown(session: Session, wanted: str) -> InputError:
    names = sorted(session.scalars(select(ModelName.name)))[:10]
    return InputError(
        f"The registry has no model version or name '{wanted}'.",
        hint=f"It has the names {', '.join(names)}."
        if names
        else "It is empty: publish a model, or run `scantwin demo`.",
    )
