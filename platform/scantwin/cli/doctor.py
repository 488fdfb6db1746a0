"""`scantwin doctor`: what this machine has, and what it can be used for."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from scantwin import NOTICE, __version__
from scantwin.errors import InputError, ResourceError, ScanTwinError, ServiceError, from_os_error
from scantwin.settings import load_settings
from scantwin.terminal import Json, emit, out

_ROLES = {
    "learning": ("torch", "safetensors"),
    "dicom": ("pynetdicom", "highdicom"),
    "federation": ("flwr", "cryptography", "psutil"),
    "twin": ("grpcio", "grpcio-health-checking", "grpcio-reflection"),
    "dashboard": ("streamlit", "altair"),
    "postgresql": ("psycopg",),
}
_MEMORY_GB = 6.0
"""Enough for training the shipped recipes: about 3 GB per site, plus the system."""
_DISK_GB = 5.0
"""Enough for a demo (`scantwin.demo.beforehand` says what it needs) and a cohort's cache."""
_ELSEWHERE = "Set SCANTWIN_HOME to a folder that has space and that you may write to."


def doctor(as_json: Json = False) -> None:
    """Check this machine: installed roles, memory, disk, device, database.

    \b
    scantwin doctor
    scantwin doctor --json
    """
    settings, memory = load_settings(), _memory_gb()
    checks: list[dict[str, Any]] = [
        _check("python", sys.version_info >= (3, 11), platform.python_version()),
        *(_role(extra, packages) for extra, packages in _ROLES.items()),
        _check("cores", True, f"{len(os.sched_getaffinity(0))}"),
        _check("memory", memory >= _MEMORY_GB, f"{memory:.1f} GB", f"Training needs {_MEMORY_GB:.0f} GB."),
        _tried("home", lambda: _home(settings.home)),
        _tried("device", lambda: _device(settings.device)),
        _tried("database", lambda: _database(settings.database)),
        _program("chromium", "for the dashboard's tests", "chromium"),
        _program("dciodvfy", "for the DICOM tests", "dicom3tools"),
    ]  # fmt: skip
    said = {"notice": NOTICE, "scantwin": __version__, "home": str(settings.home), "checks": checks}
    emit(said, as_json, lambda: _people(said))
    optional = {"chromium", "dciodvfy", *_ROLES}
    if not all(check["ok"] for check in checks if check["check"] not in optional):
        raise typer.Exit(1)


def _check(name: str, ok: bool, found: str, hint: str = "") -> dict[str, Any]:
    return {"check": name, "ok": ok, "found": found, "hint": "" if ok else hint}


def _program(name: str, purpose: str, package: str) -> dict[str, Any]:
    return _check(name, bool(shutil.which(name)), purpose, f"Optional: install Debian's package {package}.")


def _role(extra: str, packages: tuple[str, ...]) -> dict[str, Any]:
    try:
        found = ", ".join(f"{name} {version(name)}" for name in packages)
    except PackageNotFoundError as error:
        return _check(extra, False, f"{error.name} is not installed", f"pip install 'scantwin[{extra}]'")
    return _check(extra, True, found)


def _memory_gb() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) / 2**30


def _home(home: Path) -> str:
    free = shutil.disk_usage(_nearest(home)).free / 2**30
    found = f"{free:.0f} GB free at {home}"
    if free < _DISK_GB:
        raise ResourceError(found, hint=_ELSEWHERE)
    return found


def _nearest(path: Path) -> Path:
    """The folder at `path`, or the one that it would be made in; raises if nothing can be made there."""
    folder = next(one for one in (path, *path.absolute().parents) if one.exists())
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, not a folder.", hint=_ELSEWHERE)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ResourceError(f"You may not write to {folder}.", hint=_ELSEWHERE)
    return folder


def _device(name: str) -> str:
    """Where networks would run."""
    from scantwin.learning.machine import check_device

    idle = name == "cpu" and shutil.which("nvidia-smi")
    return check_device() + (" (to use this machine's GPU, set SCANTWIN_DEVICE=cuda)" if idle else "")


def _database(url: str) -> str:
    """Where the database is; it is only read, never changed, since others may share it."""
    from scantwin.store import migrating
    from scantwin.store.database import Database

    database = Database(url, read_only=True)
    if database.is_missing:
        _nearest(Path(database.place.removeprefix("sqlite:")).parent)
        return f"{database.place}, not created yet"
    try:
        with database.session() as session:
            found = migrating.current(session.connection())
    finally:
        database.close()
    if found is None:
        return f"{database.place}, which has no tables yet"
    migrating.require_known(found, database.place)
    if found != migrating.head():
        raise ServiceError(
            f"The database {database.place} is from an earlier version of ScanTwin.",
            hint="Run `scantwin models list` once: it upgrades the database.",
        )
    return database.place


def _tried(name: str, what: Callable[[], str]) -> dict[str, Any]:
    try:
        return _check(name, True, what())
    except ScanTwinError as error:
        return _check(name, False, error.message, error.hint)
    except OSError as error:
        known = from_os_error(error)
        return _check(name, False, known.message, known.hint)


def _people(said: dict[str, Any]) -> None:
    table = Table("", "check", "found", "what to do", title=f"scantwin {said['scantwin']}")
    for check in said["checks"]:
        mark = "[green]✔[/green]" if check["ok"] else "[yellow]✘[/yellow]"
        table.add_row(mark, check["check"], check["found"], check["hint"])
    out.print(table)
