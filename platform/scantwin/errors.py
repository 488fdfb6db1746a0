"""The one exception tree.

    ScanTwinError                 exit 1   a valid request failed
    |- InputError                 exit 2   an input cannot be used: a path, an option, a file
    |  |- Rejection               exit 2   a study or series was refused, with a code from the catalogue
    |  `- MissingExtra            exit 2   a role is not installed on this machine
    |- ResourceError              exit 1   this machine lacks something: a port, disk, memory
    |- FederationError            exit 1   a round, a site or the link between them failed
    `- ServiceError               exit 1   the twin service or the database cannot be reached

Every error has one sentence that says what failed and where, and a hint that says what to do.
"""

from __future__ import annotations

import errno
from pathlib import Path


class ScanTwinError(Exception):
    """Base of all errors that a person is meant to read."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).__name__

    def as_json(self) -> dict[str, str]:
        """The error as the JSON contracts carry it."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class InputError(ScanTwinError):
    """An input that cannot be used."""

    exit_code = 2


class Rejection(InputError):
    """A study or series that cannot be used; `code` is from the catalogue of reasons."""


class MissingExtra(InputError):
    """A command needs a role whose extra is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs parts that are not installed.", hint=f"pip install 'scantwin[{extra}]'"
        )


class ResourceError(ScanTwinError):
    """This machine lacks something: a free port, disk space, memory, a permission."""


class FederationError(ScanTwinError):
    """A round, a site, or the link between them failed."""


class ServiceError(ScanTwinError):
    """The twin service or the database cannot be reached, or it refused the call."""


def short_of_memory(error: BaseException) -> bool:
    """Whether Python, torch or a GPU reports that memory ran out; torch says so only in its message."""
    words = ("out of memory", "can't allocate memory", "Cannot allocate memory", "ALLOC_FAILED")
    said = any(one in str(error) for one in words)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and said)


_OS_REASONS = {
    errno.ENOSPC: ("The disk is full", "Free some space or choose another folder."),
    errno.EDQUOT: ("The disk quota is used up", "Free some space or choose another folder."),
    errno.EACCES: ("No permission", "Choose a folder that you may write to, or change its rights."),
    errno.EPERM: ("No permission", "Choose a folder that you may write to, or change its rights."),
    errno.EROFS: ("The file system is read-only", "Choose a folder that can be written."),
    errno.ENOENT: ("There is no such file or folder", "Check the path."),
    errno.ENOTDIR: ("A part of the path is a file, not a folder", "Check the path."),
    errno.EISDIR: ("This is a folder, not a file", "Check the path."),
    errno.EEXIST: ("Something else is there already", "Choose another path."),
    errno.EFBIG: ("A file grew beyond what this machine allows", "See ulimit -f, or choose another folder."),
    errno.EADDRINUSE: ("The address is in use", "Choose another port with --port, or stop what holds it."),
    errno.ENOMEM: ("There is not enough memory", "Close other programs or choose a smaller input."),
}


_WRONG_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def from_os_error(error: OSError) -> ScanTwinError:
    """An operating system error as one sentence; a wrong path is the caller's mistake (exit 2)."""
    reason, hint = _OS_REASONS.get(error.errno or 0, (error.strerror or "The system refused", ""))
    where = f": {Path(str(error.filename))}" if error.filename else ""
    kind = InputError if error.errno in _WRONG_PATH else ResourceError
    return kind(f"{reason}{where}.", hint=hint)
