"""The catalogue of a site's studies: what was taken in, what was refused, and why.

`catalogue.db` (SQLite, owner only) lies in the site's folder and never leaves it. It holds pseudonyms,
codes, voxel sizes and the local path of each study - the path may name a patient, and is kept because a
person at the site must find the study that a message is about. It holds no other identifier, no UID and no
date: intervals only. Texts from files are not stored; messages are made from the catalogue of reasons.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import JSON, Boolean, Engine, String, TypeDecorator, create_engine, delete, event, select
from sqlalchemy.engine import URL, Dialect, ExceptionContext
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from scantwin.errors import InputError
from scantwin.imaging.reading import StudySource, find_studies, read_study
from scantwin.imaging.reasons import reject
from scantwin.imaging.study import Study
from scantwin.imaging.study_files import DESCRIPTION
from scantwin.store.database import explain
from scantwin_clients.pseudonyms import digest, study_pseudonym
from scantwin_clients.site import read_secret

Status = Literal["accepted", "warned", "rejected"]
"""`warned` studies are used like accepted ones; somebody should look at the warning."""

STATUSES: Final[tuple[Status, ...]] = ("accepted", "warned", "rejected")


class _Base(DeclarativeBase):
    pass


class _LocalPath(TypeDecorator[str]):
    """A path as text, or as bytes if it is not UTF-8 (an old disk's `M\\xfcller`), since no text holds it."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        name = os.fsencode(value or "")
        try:
            return name.decode()
        except UnicodeDecodeError:
            return name

    def process_result_value(self, value: Any, dialect: Dialect) -> str:  # noqa: ARG002
        return os.fsdecode(value)


class _Row(_Base):
    __tablename__ = "studies"

    study: Mapped[str] = mapped_column(String, primary_key=True)
    path: Mapped[str] = mapped_column(_LocalPath)
    place: Mapped[str] = mapped_column(_LocalPath)
    kind: Mapped[str]
    fingerprint: Mapped[str]
    status: Mapped[str] = mapped_column(index=True)
    codes: Mapped[list[str]] = mapped_column(JSON)
    message: Mapped[str]
    condition: Mapped[str]
    has_pet: Mapped[bool] = mapped_column(Boolean)
    has_lesions: Mapped[bool] = mapped_column(Boolean)
    ct_voxel_mm: Mapped[list[float] | None] = mapped_column(JSON)
    pet_voxel_mm: Mapped[list[float] | None] = mapped_column(JSON)
    facts: Mapped[dict[str, str]] = mapped_column(JSON)


@dataclass(frozen=True)
class Entry:
    """One study of the catalogue."""

    study: str
    """Its pseudonym."""
    path: str
    """Local path (`real_place`) of the study's folder, zip or file. May identify the patient."""
    place: str
    """The folder inside a zip."""
    kind: str
    fingerprint: str
    """HMAC of the names, sizes and times of its files: an unchanged study is not read again."""
    status: str
    codes: list[str]
    """Codes from the catalogue of reasons."""
    message: str
    condition: str = "unknown"
    has_pet: bool = False
    has_lesions: bool = False
    ct_voxel_mm: list[float] | None = None
    """Voxel size (z, y, x) [mm]; None for a PET alone."""
    pet_voxel_mm: list[float] | None = None
    """Voxel size (z, y, x) [mm]."""
    facts: dict[str, str] | None = None
    """Format, vendor, SUV rule, days from CT to PET: no texts from the file."""

    @property
    def has_ct(self) -> bool:
        """Whether the study, if it is usable at all, is more than a PET alone."""
        return self.ct_voxel_mm is not None

    def as_json(self) -> dict[str, Any]:
        """The entry in the JSON contract of `scantwin site ingest`."""
        return {
            "study": self.study, "status": self.status, "codes": self.codes, "message": self.message,
            "path": self.path if not self.place else f"{self.path}!{self.place}",
        }  # fmt: skip


class Catalogue:
    """The studies of one site."""

    def __init__(self, site_folder: Path | str) -> None:
        """Opens (or creates) the catalogue in a site's folder, the one that holds `secret`."""
        self.folder = Path(site_folder)
        self._secret = read_secret(self.folder)
        self._engine = _engine(self.folder / "catalogue.db")
        self._found: dict[str, list[StudySource]] = {}

    def entries(self, status: Status | Iterable[Status] | None = None) -> list[Entry]:
        """All entries, or those of the given status, sorted by pseudonym."""
        query = select(_Row).order_by(_Row.study)
        if status is not None:
            wanted = [status] if isinstance(status, str) else list(status)
            query = query.where(_Row.status.in_(wanted))
        with Session(self._engine) as session:
            return [_entry(row) for row in session.scalars(query)]

    def below(self, folder: Path | str) -> list[Entry]:
        """The entries of the studies at or below `folder`, which need not exist any more."""
        root = real_place(folder)
        return [entry for entry in self.entries() if Path(entry.path).is_relative_to(root)]

    def counts(self) -> dict[str, int]:
        """Number of studies by status."""
        found = [entry.status for entry in self.entries()]
        return {status: found.count(status) for status in STATUSES}

    def usable(self, *, ct: bool = True, pet: bool = False) -> list[tuple[str, Callable[[], Study]]]:
        """Pseudonym and reader of each accepted or warned study that has what is asked for.

        Studies of a PET alone are among them only without `ct`.
        """
        entries = self.entries(("accepted", "warned"))
        wanted = [e for e in entries if (e.has_ct or not ct) and (e.has_pet or not pet)]
        return [(entry.study, partial(self.read, entry)) for entry in wanted]

    def read(self, entry: Entry) -> Study:
        """The study of an entry; its name is the pseudonym. Raises `Rejection`."""
        start = _search_from(entry)
        if start not in self._found:
            # The index of one folder is kept: reading all studies of a mixed export searches it only once.
            self._found = {start: find_studies(start, pets_alone=True)}
        for source in self._found[start]:
            same_place = (
                source.kind != "dicom" and source.path == Path(entry.path) and source.place == entry.place
            )
            if same_place or (source.kind == "dicom" and self.pseudonym(source) == entry.study):
                return replace(read_study(source), name=entry.study)
        raise reject("study.not-found", path=entry.path)

    def pseudonym(self, source: StudySource) -> str:
        """The pseudonym of a study at this site."""
        # A folder of image files has no UID: its location is its identity, whichever folder was taken in.
        identity = source.key if source.kind == "dicom" else f"{source.path}!{source.place}"
        return study_pseudonym(self._secret, source.patient, identity)

    def mark(self, source: StudySource) -> str:
        """A digest that changes when a file of the study does; keyed, as file names may hold identifiers."""
        return digest(self._secret, "files", source.fingerprint())

    def put(self, entry: Entry) -> None:
        """Adds an entry, or replaces the one of the same study."""
        with Session(self._engine) as session:
            session.merge(_Row(**{c.key: getattr(entry, c.key) for c in _Row.__table__.columns}))
            session.commit()

    def forget(self, studies: Iterable[str]) -> None:
        """Removes entries; the studies themselves are not touched."""
        with Session(self._engine) as session:
            session.execute(delete(_Row).where(_Row.study.in_(list(studies))))
            session.commit()

    def close(self) -> None:
        """Closes the file."""
        self._engine.dispose()


def _search_from(entry: Entry) -> str:
    """Where to search so that all of a study is found: a study.json may lie above its DICOM series."""
    above = Path(entry.path).parent
    return str(above) if entry.kind == "dicom" and (above / DESCRIPTION).is_file() else entry.path


def real_place(path: Path | str) -> Path:
    """Where a folder or file lies, whichever links and `..` lead there; it need not exist any more.

    The place is a study's identity where no UID is, and two identities would make two patients of one. A
    file keeps its own name: a link into a store of contents would lose its ending and what lies beside it.
    """
    path = Path(path)
    return path.parent.resolve() / path.name if path.is_file() else path.resolve()


def _entry(row: _Row) -> Entry:
    return Entry(**{c.key: getattr(row, c.key) for c in _Row.__table__.columns})


def _engine(path: Path) -> Engine:
    if not path.exists():
        # Owner only from its first byte on: the local paths may name patients.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, connect_args={"timeout": 30}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def _secure(connection: Any, _record: Any) -> None:
        # What is deleted is overwritten, so that nothing of a forgotten study stays in free pages.
        connection.execute("PRAGMA secure_delete = ON")

    @event.listens_for(engine, "handle_error")
    def _explained(context: ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        if isinstance(error, DatabaseError):
            raise _explained_damage(error, path) or explain(error, str(path)) from None

    _Base.metadata.create_all(engine)
    return engine


def _explained_damage(error: DatabaseError, path: Path) -> InputError | None:
    """An explanation if the file is no catalogue; None for a full disk and all else that any database has."""
    damage = ("not a database", "malformed", "no such column", "no such table")
    if not any(words in str(error.orig) for words in damage):
        return None
    return InputError(
        f"{path} cannot be read as a catalogue of studies.",
        hint="Remove it and take the studies in again with scantwin site ingest: pseudonyms stay the same.",
    )
