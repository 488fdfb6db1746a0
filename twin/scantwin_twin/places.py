"""Where the service keeps what it was sent and what it made, below one home.

    uploads/ID/ct.nii.gz   or ct.nii or ct.zip: kept, so that a scan can be repeated
    scans/ID/              the results, as `scantwin scan --out` writes them, and dicom.zip
    twin-models/VERSION/   copies of the registry's models

The database names scans and CTs relative to the home, which can therefore be moved.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scantwin_twin.jobs import ScanState

log = logging.getLogger(__name__)

_SCAN: Final = re.compile(r"[0-9a-f]{32}")
"""The name of a scan's folder: no other folder is ever removed."""


@dataclass(frozen=True)
class Places:
    """The folders of one home."""

    home: Path
    """Absolute."""

    @property
    def uploads(self) -> Path:
        """The CTs, one folder per scan."""
        return self.home / "uploads"

    @property
    def scans(self) -> Path:
        """The results, one folder per scan."""
        return self.home / "scans"

    @property
    def models(self) -> Path:
        """Copies of models, one folder per version."""
        return self.home / "twin-models"

    def prepare(self) -> None:
        """Makes the folders, for their owner only, and removes what a crash left half-written in them."""
        for folder in (self.uploads, self.scans, self.models):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            for left in (*folder.glob(".upload-*"), *folder.glob(".part-*"), *folder.glob(".old-*")):
                shutil.rmtree(left, ignore_errors=True)

    def sweep(self, scans: Collection[str]) -> None:
        """Removes the CTs and results of all but these scans, which are all that the database has.

        If the service ended between a CT's arrival and its row, no deletion would find that CT. If the
        database knows none of the folders, it may be the wrong one: then they stay, and the log says so.
        """
        folders = [
            folder
            for room in (self.uploads, self.scans)
            for folder in room.iterdir()
            if _SCAN.fullmatch(folder.name) and folder.is_dir()
        ]
        lost = [folder for folder in folders if folder.name not in scans]
        if lost and len(lost) == len(folders):
            log.warning(
                "the database knows none of the %d folders in %s and %s: check SCANTWIN_DATABASE_URL, "
                "or remove them by hand", len(lost), self.uploads, self.scans,
            )  # fmt: skip
            return
        for folder in lost:
            log.info("%s is removed: the database has no such scan", folder)
            shutil.rmtree(folder, ignore_errors=True)

    def ct(self, scan: ScanState) -> Path:
        """The CT that was sent."""
        return self.home / str(scan.request["input"])

    def results(self, scan: ScanState) -> Path:
        """The folder of the results; there is none unless the scan is done."""
        return self.home / scan.folder

    def remove(self, scan: ScanState) -> int:
        """Removes a scan's CT and results; returns what that frees [bytes]."""
        folders = [self.ct(scan).parent, self.results(scan), *self.scans.glob(f".part-*-{scan.id}")]
        size = 0
        for folder in folders:
            if folder.is_dir():
                size += sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
                shutil.rmtree(folder)
        return size

    def tidy(self, scan: ScanState) -> None:
        """Removes what the scan's writer left half-written, and the results if the scan is not done."""
        for path in self.scans.glob(f".part-*-{scan.id}"):
            shutil.rmtree(path, ignore_errors=True)
        if scan.status != "done":
            shutil.rmtree(self.results(scan), ignore_errors=True)
