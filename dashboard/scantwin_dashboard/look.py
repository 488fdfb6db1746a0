"""What things look like: colours, words and numbers. One colour means one thing on every page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

DISTRICT_COLOUR: Final = {
    "head": "#E69F00",
    "trunk": "#56B4E9",
    "arms": "#009E73",
    "legs": "#CC79A7",
    "whole-body": "#7F7F7F",
}
"""Okabe and Ito's colours, those of `scantwin.imaging.pictures`; only its yellow for the whole body, which a
white page hides, is grey here."""

_SITE_COLOURS: Final = (
    "#4477AA", "#EE6677", "#228833", "#AA3377", "#CCBB44", "#66CCEE", "#999933", "#882255",
)  # fmt: skip
"""Paul Tol's bright scheme and two of his muted one: distinct for the colour-blind, on white and on dark."""

STATUS_COLOUR: Final = {"accepted": "#2A8C82", "refused": "#D55E00", "missing": "#A7B1B7"}
"""Green-blue, vermilion, grey: different in lightness, too."""

STATUS_SIGN: Final = {"accepted": "✓", "refused": "✕", "missing": "–"}
"""So that no status is shown by its colour alone."""

REFERENCE_DASH: Final = {"training-mean": [2, 3], "training-median": [6, 3], "hu-curve": [1, 0]}
"""The dash of each simple reference [pixels on, off]."""

INK: Final = "#7A8790"
"""Rules, labels and references; legible on the light and on the dark page."""

BADGE: Final = {
    "active": "green", "enrolled": "blue", "suspended": "orange",
    "created": "gray", "running": "blue", "finished": "green", "failed": "red", "stopped": "orange",
    "aggregated": "blue", "evaluated": "green",
    "queued": "gray", "done": "green", "cancelled": "gray",
    "accepted": "green", "refused": "red", "missing": "gray",
}  # fmt: skip
"""The badge colour of each status."""


class Metric(NamedTuple):
    """How a metric is shown."""

    name: str
    unit: str
    digits: int

    @property
    def title(self) -> str:
        """Name and unit, as on an axis."""
        return f"{self.name} [{self.unit}]"


METRIC: Final = {
    "mae": Metric("MAE", "SUV", 3),
    "bias": Metric("Bias", "SUV", 3),
    "psnr": Metric("PSNR", "dB", 2),
    "ssim": Metric("SSIM", "1", 3),
}
"""The metrics of a system that makes PET."""

METRIC_OF_CT: Final = {"mae": Metric("MAE", "HU", 1), "bias": Metric("Bias", "HU", 1)}
"""Those of a system that makes CT."""

KIND: Final = {
    "cylinder": "Uniform cylinder",
    "spheres": "Sphere phantom",
    "liver": "Liver, in vivo",
    "model-residual": "Model residual, in vivo",
}
"""Kinds of calibration samples, in words."""


def site_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each site, given in order of enrolment, so that a site keeps its colour."""
    return {name: _SITE_COLOURS[i % len(_SITE_COLOURS)] for i, name in enumerate(names)}


def plain(text: str) -> str:
    """Escapes text from others for Markdown: it is shown as it is, and can neither load nor format anything.

    Only `code` in backticks keeps its form: the hints name commands that way.
    """
    parts = re.split(r"(`[^`\n]*`)", text)
    return "".join(
        part if i % 2 else re.sub(r"([\\`*_{}\[\]()#+!|<>$~:])", r"\\\1", part)
        for i, part in enumerate(parts)
    )


def number(value: float | None, digits: int = 2) -> str:
    """A number with fixed digits and a true minus sign; a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float, digits: int = 3) -> str:
    """A number that always shows its sign, with fixed digits and a true minus sign."""
    return f"{value:+.{digits}f}".replace("-", "−")


def percent(fraction: float | None, digits: int = 1) -> str:
    """A signed percentage of a fraction: +0.08 -> +8.0 %."""
    return "–" if fraction is None else f"{fraction * 100:+.{digits}f}\u00a0%".replace("-", "−")


def size(count: float | None) -> str:
    """Bytes in the unit that suits them: 12.3 MB."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5:  # what three digits round up to 1000 is 1 of the next unit
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float | None) -> str:
    """A duration in the unit that suits it: 42 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, below, part in ((86400, "d", 3600), (3600, "h", 60), (60, "min", 1)):
        if whole >= unit:
            rest = whole % unit // part
            name = {3600: "h", 60: "min", 1: "s"}[part]
            return f"{whole // unit} {below} {rest} {name}" if rest else f"{whole // unit} {below}"
    return f"{whole} s"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, roughly: 5 min ago."""
    if moment is None:
        return "never"
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{int(seconds // unit)} {name} ago"
    return "just now"


def moment(at: datetime | None) -> str:
    """A time in UTC: 2026-11-20 14:05."""
    return "–" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
