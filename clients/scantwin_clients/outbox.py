"""Finished replies, kept on the site's disk so that an exchange that breaks off is not trained again."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from pathlib import Path

from scantwin.federation.wire import HEADER, JobHeader, Parts
from scantwin.files import whole_file


class Outbox:
    """The replies of the current run, one file per round and phase."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, job: JobHeader, asked: Parts) -> Parts | None:
        """The finished reply to exactly this job, if there is one."""
        try:
            with zipfile.ZipFile(self._path(job, asked)) as archive:
                return {name: archive.read(name) for name in archive.namelist()}
        except (FileNotFoundError, zipfile.BadZipFile):
            return None

    def store(self, job: JobHeader, asked: Parts, reply: Parts) -> None:
        """Keeps a reply, and forgets those of other runs and earlier rounds."""
        path = self._path(job, asked)
        content = io.BytesIO()
        # Weights do not compress: stored as they are.
        with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
            for name, part in reply.items():
                archive.writestr(name, part)
        with whole_file(path) as aside:
            aside.write_bytes(content.getvalue())
        for other in self.folder.iterdir():
            if other != path.parent:
                shutil.rmtree(other, ignore_errors=True)
        for other in path.parent.iterdir():
            if other != path:
                other.unlink(missing_ok=True)

    def _path(self, job: JobHeader, asked: Parts) -> Path:
        # The same round may be asked for again with other weights, so the name covers all that was asked.
        digest = hashlib.sha256(job.model_dump_json(exclude={"confirmed"}).encode())
        for name in sorted(set(asked) - {HEADER}):
            digest.update(f"{name}:{len(asked[name])}:".encode())
            digest.update(asked[name])
        return self.folder / job.run / f"{job.round}-{job.phase}-{digest.hexdigest()[:16]}.zip"
