"""Checks that a file given as a label map is one: it is easy to name a CT or a PET instead."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scantwin.errors import InputError
from scantwin.imaging.volume import Volume


def check_labels(labels: Volume, shown: Path) -> None:
    """Raises `InputError` unless all values are whole numbers >= 0; NaN (outside a field) counts as 0."""
    values = np.asarray(labels.array)
    if values.dtype.kind == "u":
        return
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), 0.0, values)
    lowest = float(values.min())
    if lowest < 0:
        raise _no_labels(shown, f"values down to {lowest:g}")
    if values.dtype.kind == "f" and (odd := values[np.isinf(values) | (values != np.rint(values))]).size:
        raise _no_labels(shown, f"values such as {float(odd[0]):g}")


def _no_labels(shown: Path, found: str) -> InputError:
    return InputError(
        f"{shown} is no label map: it holds {found}.",
        hint="Labels are whole numbers from 0 on. Is it a CT or a PET?",
    )
