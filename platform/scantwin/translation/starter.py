"""The starter models that come with the package, and what must be said about their PETs."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from scantwin.errors import InputError
from scantwin.learning.weights import Model

STARTERS: Final = {"starter": "pix2pix", "starter-diffusion": "coarse-diffusion"}
"""Their names for `--model`, and their systems."""

PHANTOMS_ONLY: Final = "phantoms_only"
"""Key of a model's record, true if no patient was among what it learnt from."""

SENTENCE: Final = (
    "This model was trained on phantoms only and has never seen a patient: its PET shows what ScanTwin does, "
    "not what a scanner would show. Train one on real studies with `scantwin train`."
)


def shipped() -> tuple[str, ...]:
    """Names of the starters that are in this installation."""
    return tuple(name for name in STARTERS if (_folder(name) / "model.json").is_file())


def starter_folder(name: str) -> Path:
    """The model folder of a starter by its name. Raises `InputError`."""
    if name not in shipped():
        raise InputError(
            f"The model {name!r} is not in this installation.",
            hint="Make it with `make starter` in a checkout, or choose another --model.",
        )
    return _folder(name)


def _folder(name: str) -> Path:
    return Path(str(files("scantwin") / "starter")) / STARTERS[name]


def starter_version(folder: Path) -> str:
    """The version name of a starter: changes with its weights, whose hashes are in model.json."""
    content = hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()
    return f"starter-{folder.name}-{content[:8]}"


def about_starter(name: str) -> dict[str, Any]:
    """About a starter: name, system, version, folder, size [bytes], what it learnt from."""
    folder = starter_folder(name)
    record = json.loads((folder / "model.json").read_text())["record"]
    return {
        "name": name, "system": STARTERS[name], "version": starter_version(folder), "folder": str(folder),
        "size_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "trained_on": record["trained_on"],
    }  # fmt: skip


def warning_of(model: Model) -> str | None:
    """What must be said with every PET that `model` makes, if anything."""
    return SENTENCE if model.record.get(PHANTOMS_ONLY) else None
