"""Why a program ended, found in its output: the lines in which Flower or its server reports trouble."""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 300
"""Longest complaint [letters]: a line of a terminal, not a page."""

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_LEVEL: Final = re.compile(
    r"(?:\d{4}-\d\d-\d\dT\S+ )?(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b *:? *(?:\[[\w.]+\] )?(.*)"
)
"""A line of Flower's log (`INFO : words`) or of its server's (`2026-11-02T08:00:00Z INFO [name] words`)."""

_CHATTER: Final = re.compile(
    r"\s|\d{4}-\d\d-\d\d \d\d:\d\d|Traceback \(most recent|For more information, visit|$"
)
"""Traceback frames and lines of our own logs: they are about jobs and may name a study's folder."""

_SECRET: Final = re.compile(r"(?<=://)[^\s/@]+(?=@)|[A-Za-z0-9_+=-]{40,}")
"""A password in a URL, or any long unbroken string, which may be a token."""


def complaint(output: str) -> str:
    """What a program complained of in its output, as one line: "" if it did not.

    This is the last ERROR with the lines after it; without an ERROR, the last line, such as a traceback's.
    """
    heard: list[str] = []
    fault = False
    for line in _COLOURS.sub("", output).splitlines():
        level = _LEVEL.match(line)
        if level and level[1] in ("ERROR", "CRITICAL"):
            heard, fault = [level[2]], True
        elif level or _CHATTER.match(line):
            continue
        else:
            heard = [*heard, line] if fault else [line]
    return _SECRET.sub("...", " ".join(heard).strip(" ."))[:LONGEST]
