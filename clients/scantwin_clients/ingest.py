"""Taking in a site's studies: find, read once in parallel, note what is usable and why the rest is not.

Unchanged studies are not read again, an interrupted run continues where it stopped, and a study that crashes
its reader is refused like any other. Workers return summaries only, so memory is bounded by one study each.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scantwin import NOTICE
from scantwin.errors import InputError, Rejection
from scantwin.imaging.reading import StudySource, find_studies, read_study
from scantwin.imaging.reasons import REASONS, code_of, reject, warn
from scantwin.imaging.said_safely import said_safely
from scantwin.imaging.study import Study
from scantwin.learning.cohort import forget_prepared
from scantwin.terminal import Advance, silent
from scantwin_clients.catalogue import STATUSES, Catalogue, Entry, Status, real_place
from scantwin_clients.reading_pool import ReadingPool


@dataclass(frozen=True)
class Reading:
    """What a worker found out about one study: no voxels, no identifiers."""

    warnings: list[str] = field(default_factory=list)
    refusal: tuple[str, str] | None = None
    """Code and sentence."""
    condition: str = "unknown"
    has_pet: bool = False
    has_lesions: bool = False
    ct_voxel_mm: list[float] | None = None
    pet_voxel_mm: list[float] | None = None
    facts: dict[str, str] = field(default_factory=dict)


def ingest(
    site_folder: Path | str, folder: Path | str, workers: int | None = None, advance: Advance = silent
) -> dict[str, Any]:
    """Takes in all studies below `folder` and returns the JSON contract of `scantwin site ingest`.

    `workers` processes read at the same time (default: all cores but one); 0 reads in this process, for
    debugging. In the counts, `read` is how many were read now and `total` how many lie below the folder.
    Raises `InputError` if there is no such folder or nothing in it.
    """
    root = real_place(folder)
    catalogue = Catalogue(site_folder)
    pool = ReadingPool(_cores() if workers is None else workers, read_one, _crashed())
    try:
        if not root.exists():
            hint = _how_to_forget(catalogue, root) or "Check the path."
            raise InputError(f"There is no such file or folder: {folder}.", hint=hint)
        sources = _find(root, pool, catalogue)
        known = {entry.study: entry for entry in catalogue.entries()}
        named = {catalogue.pseudonym(source): source for source in sources}
        marks = {name: catalogue.mark(source) for name, source in named.items()}
        waiting = {n: s for n, s in named.items() if n not in known or known[n].fingerprint != marks[n]}
        gone = [entry.study for entry in catalogue.below(root) if entry.study not in named]
        # Prepared studies are named by pseudonym, not by content.
        forget_prepared(catalogue.folder / "cache", [n for n in (*waiting, *gone) if n in known])
        catalogue.forget(gone)
        done = len(named) - len(waiting)
        advance(done, len(named))
        for name, reading in pool.answers(waiting):
            catalogue.put(_entry_of(name, named[name], marks[name], reading))
            done += 1
            advance(done, len(named), name)
        entries = [entry for entry in catalogue.entries() if entry.study in named]
    except BaseException:
        pool.abandon()
        raise
    finally:
        pool.close()
        catalogue.close()
    counts = {status: sum(entry.status == status for entry in entries) for status in STATUSES}
    return {
        "studies": [entry.as_json() for entry in entries],
        "counts": {**counts, "total": len(entries), "read": len(waiting)},
        "notice": NOTICE,
    }


def forget(site_folder: Path | str, folder: Path | str) -> dict[str, Any]:
    """Removes the studies at or below `folder` from the catalogue, and deletes what was prepared from them.

    The folder need not exist any more; the studies themselves are not touched. Returns their pseudonyms, and
    the counts of those that are left. Raises `InputError` if none was taken in from there.
    """
    catalogue = Catalogue(site_folder)
    try:
        studies = [entry.study for entry in catalogue.below(folder)]
        if not studies:
            raise InputError(
                f"No study was taken in from {folder}.",
                hint="Give the folder that was taken in, or one above it; for a lost link, where it led.",
            )
        # The entries go last: an interrupted forgetting can be repeated.
        forget_prepared(catalogue.folder / "cache", studies)
        catalogue.forget(studies)
        return {"forgotten": len(studies), "studies": studies, "counts": catalogue.counts()}
    finally:
        catalogue.close()


def read_one(source: StudySource) -> Reading:
    """Reads one study and returns what the catalogue keeps of it. Never raises for a damaged study."""
    try:
        study = read_study(source)
    except Rejection as refusal:
        return Reading(refusal=(refusal.code, refusal.message))
    return _summary(study)


def _cores() -> int:
    return max(1, len(os.sched_getaffinity(0)) - 1)


def _crashed() -> Reading:
    refusal = reject("study.reader-crashed")
    return Reading(refusal=(refusal.code, refusal.message))


def _summary(study: Study) -> Reading:
    notes = list(study.warnings)
    if study.pet is None:
        notes.append(warn("study.ct-only"))
    if not study.has_ct:
        notes.append(warn("study.pet-only"))
    lesions = study.lesions
    return Reading(
        warnings=notes, condition=study.condition, has_pet=study.pet is not None,
        has_lesions=lesions is not None and bool(lesions.array.any()),
        ct_voxel_mm=[round(s, 4) for s in study.ct.spacing] if study.has_ct else None,
        pet_voxel_mm=None if study.pet is None else [round(s, 4) for s in study.pet.spacing],
        facts=dict(study.source),
    )  # fmt: skip


def _entry_of(name: str, source: StudySource, mark: str, reading: Reading) -> Entry:
    if reading.refusal is not None:
        code, sentence = reading.refusal
        codes, message = [code], said_safely(code, sentence)
        status: Status = "rejected"
    else:
        codes = list(dict.fromkeys(code_of(note) for note in reading.warnings if code_of(note)))
        message = " ".join(said_safely(code_of(note), note.partition(": ")[2]) for note in reading.warnings)
        # A warning without a hint asks nothing of anybody.
        status = "warned" if any(REASONS[code].hint for code in codes) else "accepted"
    return Entry(
        name, str(source.path), source.place, source.kind, mark, status, codes, message,
        reading.condition, reading.has_pet, reading.has_lesions, reading.ct_voxel_mm, reading.pet_voxel_mm,
        reading.facts,
    )  # fmt: skip


def _find(root: Path, pool: ReadingPool[StudySource, Reading], catalogue: Catalogue) -> list[StudySource]:
    try:
        return find_studies(root, index=pool.index, pets_alone=True)
    except Rejection as refusal:
        if refusal.code == "study.empty-folder":
            hint = _how_to_forget(catalogue, root) or refusal.hint
            raise InputError(refusal.message, hint=hint) from None
        raise


def _how_to_forget(catalogue: Catalogue, root: Path) -> str:
    """A hint if studies of a folder that now has none are still used; otherwise ""."""
    known = len(catalogue.below(root))
    return f"Studies that were taken in from it: {known}; scantwin site forget {root}" if known else ""
