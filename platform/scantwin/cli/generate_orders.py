"""What a data set is made with and from, so that its folder can tell another order from its own.

Names do not suffice: another mask, other CTs or a retrained model often have the same names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scantwin.imaging.reading import StudySource


def made_with(model: str, version: str) -> dict[str, Any]:
    """The model that `--model` named. A folder's version is only its name; its model.json has all hashes."""
    about = Path(model) / "model.json"
    told = {"model_version": version}
    return {**told, "model_sha256": _sha256(about.read_bytes())} if about.is_file() else told


def made_of(sources: Iterable[StudySource]) -> dict[str, Any]:
    """The CTs in order, identified by file names, sizes and times: reading them all would take long."""
    return {"data_sha256": _sha256("".join(source.fingerprint() for source in sources).encode())}


def after_drawing(mask: Path) -> dict[str, Any]:
    """The drawn mask, identified by its content."""
    return {"masks_sha256": _sha256(mask.read_bytes())}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
