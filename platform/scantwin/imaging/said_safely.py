"""What may be kept and shown of a refusal: sentences of the catalogue of reasons, without text from a file.

A sentence may quote a header field, and a header field may hold anything: a name, a hospital number, a date.
A sentence is therefore split along its template, and each quoted part is kept only if it is a plain number,
with or without a unit.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from scantwin.imaging.reasons import REASONS

_PLAIN: Final = re.compile(
    r"[-+]?\d{1,4}(\.\d{1,4})?( ?(%|mm|s|min|h|kg|g|m|cm|MBq|Bq|MiB|GiB|slices|files|voxels|degrees))?"
    r"( (to|of) [-+]?\d{1,4}(\.\d{1,4})?( ?(%|mm|s|min))?)?( in common along the patient)?"
)
"""Numbers of up to four digits before the point: no date, no time, no hospital number."""


def said_safely(code: str, sentence: str) -> str:
    """The sentence of a reason, without the quoted parts that are not plain numbers."""
    reason = REASONS.get(code)
    if reason is None:
        return "The study could not be read."
    match = _pattern(code).fullmatch(sentence)
    parts = match.groups() if match else ()
    found = iter(parts)

    def keep(field: re.Match[str]) -> str:
        if field.group(1) == "path":
            return "the study"
        part = next((p for p in found), "")
        return part if _PLAIN.fullmatch(part) else "(see the file)"

    text = re.sub(r"\{(\w+)\}", keep, reason.sentence)
    return text[:1].upper() + text[1:]


@cache
def _pattern(code: str) -> re.Pattern[str]:
    """A pattern that matches the reason's sentence; paths are matched but not captured."""
    pieces = re.split(r"\{(\w+)\}", REASONS[code].sentence)
    pattern = ""
    for i, piece in enumerate(pieces):
        if i % 2 == 0:
            pattern += re.escape(piece)
        else:
            pattern += "(?:.*?)" if piece == "path" else "(.*?)"
    return re.compile(pattern, re.DOTALL)
