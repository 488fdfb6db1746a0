"""The models that the service offers: those of the registry, copied to this machine when first used."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from scantwin.errors import InputError
from scantwin.learning.weights import require_model_alone
from scantwin.store.models import ModelVersion
from scantwin.store.registry import Registry
from scantwin_twin.jobs import keepable
from scantwin_twin.refusals import refuse

KEPT: Final = 4
"""Number of copies kept, the most recently used. A removed copy is made again when it is asked for."""


class ModelShelf:
    """Versions by id or name, and their folders."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        """`folder`: where the copies are kept, one folder per version."""
        self._registry, self._folder = registry, folder

    def version(self, wanted: str) -> str:
        """The version that an id or a name means now, or the refusal "unknown-model"."""
        unknown = refuse("unknown-model", model=repr(wanted[:80]))
        if not keepable(wanted):
            raise unknown
        try:
            return self._registry.find(wanted).id
        except InputError:
            raise unknown from None

    def folder(self, version: str) -> Path:
        """The folder of a version, its files checked by their hashes; removes the copies used longest ago."""
        found = self._registry.fetch(version, self._folder)
        os.utime(found)  # used now
        copies = [path for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        for old in sorted(copies, key=lambda path: path.stat().st_mtime_ns, reverse=True)[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        return found

    def list(self) -> list[ModelVersion]:
        """All versions, newest first."""
        return self._registry.list()

    def publish(self, folder: Path) -> ModelVersion:
        """Takes a model's folder into the registry under the folder's name. Raises `InputError`."""
        require_model_alone(folder)
        name = "".join(c if c.isalnum() or c in "._-" else "-" for c in folder.absolute().name.lower()).strip(
            "._-"
        )
        return self._registry.publish(folder, name=name[:64] or "model", actor="twin-service")
