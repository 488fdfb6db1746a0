"""Files appear whole or not at all: they are written aside, then renamed."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from scantwin.errors import InputError, ResourceError

_ANOTHER: Final = "Choose a new or empty folder with --out."
_OS_ERROR: Final = re.compile(r"\(os error (\d+)\)")


@contextmanager
def whole_file(path: Path | str, *, private: bool = False) -> Iterator[Path]:
    """Yields a path beside `path` to write to; renames it to `path` when the block succeeds.

    If `private`, only the owner can ever read the file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The full name stays at the end: writers choose the format by the suffix (.nii.gz).
    handle, name = tempfile.mkstemp(prefix=".part-", suffix="-" + target.name, dir=target.parent)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o600 if private else 0o644 & ~_umask())
        aside.replace(target)
    except OSError as error:
        # A failed write (full disk) does not name its file.
        error.filename = error.filename or str(target)
        raise
    except Exception as error:
        # safetensors has its own exception, and reports the error number only in the message.
        if type(error).__name__ == "SafetensorError" and (said := _OS_ERROR.search(str(error))):
            raise OSError(int(said[1]), os.strerror(int(said[1])), str(target)) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()


def require_ours(folder: Path, mark: str, *reads: Path, in_place: bool = False) -> None:
    """Raises `InputError` for a folder that a result must not, or cannot, replace as a whole.

    The folder may be new, empty, or an earlier result of the same kind, which holds a file named `mark`. It
    must contain neither what the command `reads` nor the working directory. Call this before the work. If
    the result is written `in_place`, not beside the folder (`whole_folder`), it may be a mount point.
    """
    above = next(one for one in folder.absolute().parents if one.exists())
    if not in_place and (folder.resolve().is_mount() or not os.access(above, os.W_OK)):
        raise InputError(
            f"{folder} cannot be replaced: it is a mount point, or nothing can be written in {above}.",
            hint="Choose a new folder with --out, below one that you may write in.",
        )
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file, no folder.", hint=_ANOTHER)
    for lost in (Path.cwd(), *reads):
        if lost.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{lost} lies in {folder}, which would be replaced.", hint=_ANOTHER)
    if any(folder.iterdir()) and not (folder / mark).is_file():
        raise _not_ours(folder, mark)


def require_apart(folder: Path, *reads: Path) -> None:
    """Raises `InputError` if the folder to fill is, or contains, what the command `reads`."""
    for read in reads:
        if read.resolve().is_relative_to(folder.resolve()):
            raise InputError(
                f"{folder}, which is to be filled, holds {read}, which is read.",
                hint=_ANOTHER,
            )


def require_ours_to_fill(folder: Path, mark: str) -> None:
    """Raises `InputError` if the folder to fill is not empty and has no file `mark` of ours."""
    if not (folder / mark).exists() and folder.is_dir() and _shown(folder):
        raise _not_ours(folder, mark)


def _not_ours(folder: Path, mark: str) -> InputError:
    return InputError(f"{folder} is not empty, and has no {mark} of an earlier result.", hint=_ANOTHER)


def sha256(path: Path) -> str:
    """The hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shown(folder: Path) -> list[Path]:
    """The entries of a folder, except hidden ones: those are half-written, or the system's."""
    return [one for one in folder.iterdir() if not one.name.startswith(".")]


def whole_parts(folder: Path, kind: str) -> list[Path]:
    """The completely written folders `kind`-0000, .. of a data set, in order: each has its manifest."""
    found = (path.parent for path in folder.glob(f"{kind}-[0-9]*/manifest.json"))
    return sorted(found, key=lambda part: (len(part.name), part.name))


@contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Yields a folder beside `path` to fill; it replaces `path` when the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".part-", suffix="-" + target.name, dir=target.parent))
    try:
        yield aside
        aside.chmod(0o755 & ~_umask())
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=".old-", dir=target.parent))
            target.replace(old / target.name)
            aside.replace(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            aside.replace(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any]:
    """The object in one of our JSON files. Raises `InputError` if the file is damaged."""
    try:
        said = json.loads(path.read_text())
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise InputError(f"{path} is damaged.", hint="Choose another --out, or take it away.")
    return said


def write_json(path: Path | str, data: Any, *, private: bool = False) -> Path:
    """Writes `data` as JSON, whole; `private` keeps it readable by the owner only."""
    with whole_file(path, private=private) as aside:
        aside.write_text(json.dumps(data, indent=2, sort_keys=False, default=str) + "\n")
    return Path(path)


def lock(path: Path, busy: ResourceError) -> IO[str]:
    """The file at `path`, opened for appending and locked until it is closed or the process ends.

    Raises `busy` if another process holds the lock.
    """
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise busy from None
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # its last holder has deleted it: this lock keeps nobody out


@contextmanager
def at_work(folder: Path, mark: Path) -> Iterator[None]:
    """Keeps others out of `folder` by locking the file `mark`, which is removed when the work is over.

    Raises `ResourceError` if somebody is already at work.
    """
    busy = ResourceError(f"Somebody works in {folder} already.", hint="Wait, or choose another --out.")
    with lock(mark, busy):
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)


@contextmanager
def claimed_folder(folder: Path, order: Any) -> Iterator[None]:
    """Reserves the folder for what one `order` makes, now and in later runs: order.json records it.

    An order of which nothing was made is replaced. Raises `InputError` if the folder holds the work of
    another order or of somebody else, `ResourceError` if somebody is at work there.
    """
    require_ours_to_fill(folder, "order.json")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "order.json"
    with at_work(folder, folder / ".at-work"):
        made = [one for one in _shown(folder) if one != path]
        if made and read_json(path) != json.loads(json.dumps(order)):
            raise InputError(f"{folder} holds another data set.", hint="Choose another --out.")
        write_json(path, order)
        yield


def write_private(path: Path | str, data: bytes) -> Path:
    """Writes a secret that nobody but its owner can read at any moment."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        target.unlink()
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    return target


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
