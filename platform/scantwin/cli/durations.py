"""Durations as people write them: 90, 90s, 5m, 1.5h."""

from __future__ import annotations

import re

from scantwin.errors import InputError

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds_of(text: str) -> float:
    """Seconds of `text`. Raises `InputError`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if match is None or float(match[1]) == 0:
        raise InputError(f"{text!r} is not a duration.", hint="Write it like 90s, 5m or 1.5h.")
    return float(match[1]) * _SECONDS[match[2]]
