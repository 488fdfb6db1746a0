"""docs/imaging.md says what the code does."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from scantwin.imaging.pet_header import PetHeader, headers_of_dump
from scantwin.imaging.reasons import REASONS, reasons_table
from scantwin.imaging.suv import suv_factors
from scantwin.imaging.suv_body import SUV_TYPES
from scantwin.imaging.suv_reference_time import RULE_NUMBER

PAGE = (Path(__file__).parents[3] / "docs" / "imaging.md").read_text()


def test_the_page_lists_every_reason() -> None:
    found = re.search(r"<!-- reasons.*?-->\n(.*?)\n<!-- /reasons -->", PAGE, re.DOTALL)
    assert found
    how = "put the output of scantwin.imaging.reasons.reasons_table() between the markers of docs/imaging.md"
    assert found[1] == reasons_table(), how


def test_codes_on_the_page_exist() -> None:
    named = set(re.findall(r"`((?:suv|pet)\.[a-z0-9-]+)`", PAGE)) - {"suv.py"}
    assert named <= set(REASONS), named - set(REASONS)


def test_the_page_names_every_rule_and_type() -> None:
    for name in (*RULE_NUMBER, "administration", "each-acquisition", "already-suv", "vendor-factor"):
        assert f"`{name}`" in PAGE
    for suv_type in SUV_TYPES:
        assert suv_type in PAGE


@pytest.mark.data
@pytest.mark.parametrize("name", ["SIEMENS", "GE_MEDICAL_AND_BQML", "PHILIPS_CNTS_AND_BQML_SUV"])
def test_worked_examples_are_what_the_code_prints(shared_data: Path, name: str) -> None:
    headers = headers_of_dump(json.loads((shared_data / f"suv/headers/{name}.json").read_text()))
    assert "\n".join(suv_factors(headers).derivation) in PAGE
    if headers[0].units == "CNTS":
        through_activity: list[PetHeader] = [replace(h, philips_suv=None) for h in headers]
        assert "\n".join(suv_factors(through_activity).derivation) in PAGE


def test_every_reason_of_suv_is_used() -> None:
    folder = Path(__file__).parents[3] / "platform/scantwin/imaging"
    code = "".join(p.read_text() for p in folder.glob("*.py") if p.name != "reasons.py")
    assert [c for c in REASONS if c.startswith("suv.") and f'"{c}"' not in code] == []
