"""Which model `--model` means: a folder, a version or name of the registry, or a starter model."""

from __future__ import annotations

from pathlib import Path

from scantwin.errors import InputError
from scantwin.learning.weights import Model
from scantwin.settings import Settings, load_settings
from scantwin.store.database import Database
from scantwin.store.registry import Registry
from scantwin.translation.starter import STARTERS, starter_folder, starter_version


def choose_model(text: str, settings: Settings | None = None) -> tuple[Model, str]:
    """The model of a folder, a version or name in the registry, or a starter, and the name of its version.

    Raises `InputError` if there is none or its files were tampered with.
    """
    folder = Path(text)
    if (folder / "model.json").is_file():
        return Model.load(folder), folder.resolve().name
    if text in STARTERS:  # whatever else here has that name
        folder = starter_folder(text)
        return Model.load(folder), starter_version(folder)
    if folder.is_dir():
        return Model.load(folder), text  # its error says what is missing
    settings = settings or load_settings()
    database = Database(settings.database)
    database.migrate()
    registry = Registry.from_settings(database, settings)
    try:
        found = registry.find(text)
    except InputError as error:
        hint = f"{error.hint} The package's own models are called {' and '.join(STARTERS)}."
        raise InputError(error.message, hint=hint.strip()) from None
    return Model.load(registry.fetch(found.id, settings.home / "models")), found.id
