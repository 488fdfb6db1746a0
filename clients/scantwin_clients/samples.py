"""Calibration samples that wait at the site until the consortium has confirmed them."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from scantwin.calibration.samples import CalibrationSample
from scantwin.files import write_json

log = logging.getLogger("scantwin.site")


class WaitingSamples:
    """One JSON file per sample that is still to be sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, sample: CalibrationSample) -> Path:
        """Keeps a sample until it is confirmed; the same id is kept once."""
        return write_json(self.folder / f"{sample.id}.json", sample.model_dump(mode="json"))

    def waiting(self) -> list[CalibrationSample]:
        """The samples to send, oldest first; a file that cannot be read is left alone and logged."""
        found = []
        for path in sorted(self.folder.glob("*.json")):
            try:
                found.append(CalibrationSample.model_validate_json(path.read_bytes()))
            except (ValidationError, OSError) as error:
                log.warning("%s is not a calibration sample and stays here: %s", path, error)
        return sorted(found, key=lambda sample: (sample.measured_at, sample.id))

    def confirm(self, ids: list[str]) -> None:
        """Forgets the samples that the consortium has stored."""
        for name in ids:
            (self.folder / f"{name}.json").unlink(missing_ok=True)
