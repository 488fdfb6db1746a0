"""The job ticket: a Flower bundle that carries configuration and no code.

Flower's SuperNodes execute what the SuperLink ships. Ours ships a bundle of two text files, which names the
apps that every machine has installed itself. Whoever receives a bundle checks that it is no more than that
before unpacking any of it (`read_ticket`; docs/decisions/0003-job-ticket.md).
"""

from __future__ import annotations

import io
import json
import tomllib
import zipfile
import zlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from scantwin import __version__
from scantwin.errors import FederationError
from scantwin.federation.wire import LARGEST_INTEGER
from scantwin.files import whole_file

SERVER_APP = "scantwin.federation.server_app:app"
"""The only ServerApp that a consortium runs."""

CLIENT_APP = "scantwin_clients.client_app:app"
"""The only ClientApp that a site runs."""

ALLOWED_FILES = frozenset({"pyproject.toml", "README.md", ".info/CONTENT"})
"""All that a ticket may hold; `.info/CONTENT` is Flower's own list of hashes."""

LARGEST_TICKET = 256_000
"""Largest ticket, packed or unpacked [bytes]: a recipe is a few kilobytes."""

_PACKED = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""How files of a ticket may be packed; Flower deflates them. `zipfile` unpacks bzip2 and LZMA without a
limit, whatever size the bundle claims."""

_BROKEN = (
    zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What `zipfile`, with these two, and `tomllib` raise on damage."""

_CODE_HINT = "Sites and the consortium run what they installed; a bundle with code is never unpacked."


class Ticket(BaseModel):
    """What a run is about. It travels as Flower's run configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str = Field(pattern=r"^[0-9a-f]{32}$")
    rounds: int = Field(ge=1, le=100_000)
    seed: int = Field(ge=0, le=LARGEST_INTEGER)
    recipe: dict[str, JsonValue]
    deadline_s: float = Field(gt=0)
    """A round ends this long after it began, with whoever has answered [s]."""
    min_sites: int = Field(ge=1)
    """A round with fewer accepted updates than this fails."""
    gather_s: float = Field(default=120.0, ge=0)
    """How long any exchange waits until `min_sites` sites are online [s]: a site that restarts between two
    rounds must not end the run either."""


def write_ticket(ticket: Ticket, folder: Path) -> Path:
    """Writes the app folder that `flwr run` bundles."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "run": ticket.run, "rounds": ticket.rounds, "seed": ticket.seed,
        "recipe": json.dumps(ticket.recipe, allow_nan=False), "deadline-s": ticket.deadline_s,
        "min-sites": ticket.min_sites, "gather-s": ticket.gather_s,
    }  # fmt: skip
    # TOML writes basic strings, integers and floats as JSON does.
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in config.items())
    with whole_file(folder / "pyproject.toml") as aside:
        aside.write_text(
            f"""[project]
name = "scantwin-job"
version = "{__version__}"
description = "A job ticket of ScanTwin: configuration, no code."
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "scantwin"
fab-include = ["README.md"]

[tool.flwr.app.components]
serverapp = "{SERVER_APP}"
clientapp = "{CLIENT_APP}"

[tool.flwr.app.config]
{lines}
"""
        )
    with whole_file(folder / "README.md") as aside:
        aside.write_text(
            "A job ticket of ScanTwin. It holds no code: sites run the package they installed.\n"
        )
    return folder


def ticket_in(folder: Path) -> Ticket | None:
    """The ticket that `write_ticket` wrote into `folder`; None where there is none."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text())
    except FileNotFoundError:
        return None
    return ticket_from_config(_table(_table(_table(_table(project, "tool"), "flwr"), "app"), "config"))


def ticket_from_config(config: dict[str, Any]) -> Ticket:
    """The ticket in Flower's run configuration. Raises `FederationError`."""
    try:
        values = {key.replace("-", "_"): value for key, value in config.items()}
        return Ticket.model_validate({**values, "recipe": json.loads(values["recipe"])})
    except (KeyError, TypeError, ValueError) as error:
        detail = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise FederationError(
            f"The run's configuration is not a job ticket: {detail}.",
            hint="Start runs with scantwin consortium train.",
        ) from None


def read_ticket(bundle: bytes) -> Ticket:
    """The ticket in a Flower bundle, read without unpacking it to disk.

    Raises `FederationError` when the bundle is anything but a ticket: any other file, other apps than ours,
    dependencies to install, or more bytes than a ticket can have; and for a ticket of another minor version.
    """
    if len(bundle) > LARGEST_TICKET:
        raise FederationError(
            f"The bundle is too large for a job ticket ({len(bundle)} bytes).", hint=_CODE_HINT
        )
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            _check_files(archive.infolist())
            project = tomllib.loads(archive.read("pyproject.toml").decode())
    except _BROKEN as error:
        found = str(error) or type(error).__name__
        raise FederationError(f"The bundle cannot be read: {found}.", hint=_CODE_HINT) from None
    app = _table(_table(_table(project, "tool"), "flwr"), "app")
    if _table(app, "components") != {"serverapp": SERVER_APP, "clientapp": CLIENT_APP}:
        raise FederationError("The bundle names other apps than ScanTwin's.", hint=_CODE_HINT)
    about = _table(project, "project")
    if about.get("dependencies", []) != []:
        raise FederationError("The bundle asks for packages to be installed.", hint=_CODE_HINT)
    _check_version(str(about.get("version", "of no version")))
    return ticket_from_config(_table(app, "config"))


def _check_version(theirs: str) -> None:
    """Refuses another minor version: a site would train on other inputs, of shapes that fit."""
    if theirs.split(".")[:2] != __version__.split(".")[:2]:
        raise FederationError(
            f"The job was written by ScanTwin {theirs[:40]} and would be done by {__version__}, "
            "which may prepare scans in another way.",
            hint="Install the same minor version at the consortium and at every site.",
        )


def _check_files(files: list[zipfile.ZipInfo]) -> None:
    names = [file.filename for file in files]
    foreign = sorted(set(names) - ALLOWED_FILES)
    if foreign:
        raise FederationError(
            f"The bundle carries files that a job ticket does not have: {', '.join(foreign[:3])[:200]}.",
            hint=_CODE_HINT,
        )
    if len(names) != len(set(names)):
        raise FederationError("The bundle holds a file twice.", hint=_CODE_HINT)
    if not {file.compress_type for file in files} <= _PACKED:
        raise FederationError("The bundle is packed in another way than a job ticket.", hint=_CODE_HINT)
    if sum(file.file_size for file in files) > LARGEST_TICKET:
        raise FederationError("The bundle unpacks to more than a job ticket can hold.", hint=_CODE_HINT)


def _table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    return value if isinstance(value, dict) else {}
