"""What the demo prints at its end."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from scantwin.demo.story import closing_tables

RESULT: dict[str, Any] = {
    "rounds": [{"held_out": {"head": {"mae": 0.5}, "trunk": {"mae": 0.25}}}],
    "baselines": {"hu-curve": {"trunk": {"mae": 0.375}}},
    "calibration": {
        "university-hospital": {"true_bias": 0.03, "measured_bias": 0.0312},
        "rural-clinic": {"true_bias": -0.15, "measured_bias": -0.1524},
    },
}


def printed(result: dict[str, Any]) -> list[list[str]]:
    """The words of each line, as on a terminal of 80 columns."""
    console = Console(file=io.StringIO(), width=80)
    console.print(closing_tables(result))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if "│" in line]


def test_the_model_stands_beside_the_simple_references() -> None:
    rows = printed(RESULT)
    assert ["model", "0.500", "0.250"] in rows
    assert ["hu-curve", "", "0.375"] in rows


def test_the_site_whose_scale_is_off_is_named() -> None:
    """EARL's limit is 10 %."""
    rows = printed(RESULT)
    assert ["university-hospital", "+3.1 %", "+3.0 %", ""] in rows
    assert ["rural-clinic", "-15.2 %", "-15.0 %", "beyond EARL's 10 %: recalibrate"] in rows


def test_real_studies_have_no_calibration_to_show() -> None:
    assert [row[0] for row in printed({**RESULT, "calibration": {}})] == ["model", "hu-curve"]
