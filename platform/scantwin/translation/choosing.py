"""Which model `--model` means: a folder, or a version or name of the registry."""

from __future__ import annotations

from pathlib import Path

from scantwin.learning.weights import Model
from scantwin.settings import Settings, load_settings
from scantwin.store.database import Database
from scantwin.store.registry import Registry


def choose_model(text: str, settings: Settings | None = None) -> tuple[Model, str]:
    """The model of a folder, or of a version or name in the registry, and what to call its version.

    Raises `InputError` where there is none or its files were tampered with.
    """
    folder = Path(text)
    if (folder / "model.json").is_file():
        return Model.load(folder), folder.resolve().name
    if folder.is_dir():
        return Model.load(folder), text  # says what is missing
    settings = settings or load_settings()
    database = Database(settings.database)
    database.migrate()
    registry = Registry.from_settings(database, settings)
    found = registry.find(text)
    return Model.load(registry.fetch(found.id, settings.home / "models")), found.id
