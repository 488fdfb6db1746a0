"""Which patients are held out and which are for training: decided once and remembered, whoever comes later.

Otherwise a model that is trained further, round after round and run after run, would be measured on patients
that it has learnt from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from scantwin.errors import InputError
from scantwin.files import write_json


@dataclass(frozen=True)
class Assigned:
    """Patients for training and patients who are held out, sorted."""

    training: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path | None) -> Assigned:
        """Reads what `keep` wrote; empty if there is no file. Raises `InputError` for any other file."""
        if path is None or not path.is_file():
            return cls()
        try:
            told = json.loads(path.read_text())
            return cls(*(tuple(str(one) for one in told[kind]) for kind in ("training", "held_out")))
        except (ValueError, KeyError, TypeError):
            raise InputError(
                f"{path} does not say which patients are held out.",
                hint="Restore it. Without it they are chosen anew: choose no model of before as a base then.",
            ) from None

    def held_out_of(self, patients: set[str], share: float, salt: str) -> set[str]:
        """Those of `patients` who are held out: all who were before, and as many new ones as are missing.

        They are `share` of all, at least one of two or more; names and `salt` decide which new ones.
        """
        some = share > 0 and len(patients) > 1
        count = min(max(round(len(patients) * share), 1), len(patients) - 1) if some else 0
        before = patients & set(self.held_out)
        new = sorted(
            patients - before - set(self.training),
            key=lambda name: hashlib.sha256(f"{salt}:{name}".encode()).digest(),
        )
        return before | set(new[: max(count - len(before), 0)])

    def keep(self, path: Path, training: Iterable[str], held_out: Iterable[str]) -> None:
        """Writes these assignments to `path`, together with those of patients not assigned yet."""
        held = {*self.held_out, *(set(held_out) - set(self.training))}
        learnt = {*self.training, *(set(training) - held)}
        now = Assigned(tuple(sorted(learnt)), tuple(sorted(held)))
        if now != self:
            write_json(path, asdict(now), private=True)
