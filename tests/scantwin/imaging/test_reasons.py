"""The catalogue of reasons."""

from __future__ import annotations

import re

import pytest

from scantwin.errors import Rejection
from scantwin.imaging.reasons import REASONS, code_of, reasons_table, reject, warn


@pytest.mark.parametrize("code", REASONS)
def test_every_reason_is_a_sentence_with_a_stable_code(code: str) -> None:
    reason = REASONS[code]
    assert re.fullmatch(r"[a-z]+\.[a-z0-9-]+", code)
    assert reason.code == code
    assert reason.sentence.rstrip().endswith((".", "{found}"))
    assert reason.severity == "warned" or reason.hint, "a refusal says what to do"


def test_a_refusal_carries_code_sentence_and_hint() -> None:
    error = reject("study.no-ct", path="/data/one")
    assert isinstance(error, Rejection)
    assert error.as_json() == {
        "code": "study.no-ct",
        "message": "There is no CT in /data/one.",
        "hint": "Add the CT series of the same examination.",
    }


def test_a_refusal_never_fails_on_its_own_sentence() -> None:
    for code in REASONS:
        assert "{" not in reject(code).message


def test_a_warning_gives_its_code_back() -> None:
    assert code_of(warn("suv.midnight", found="23:50:00")) == "suv.midnight"
    assert code_of("something else: that is no code") == ""


def test_values_with_braces_are_left_alone() -> None:
    assert "{path}" in reject("study.no-ct", path="{path}").message


def test_the_table_lists_every_code() -> None:
    table = reasons_table()
    assert all(f"`{code}`" in table for code in REASONS)
