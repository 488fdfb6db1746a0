"""Numbers that no work can be done with are one sentence, before anything is read."""

from __future__ import annotations

import json
import sys

import pytest

from scantwin.cli import main as command_line


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("train", "--data", ".", "--out", "m", "--seed", f"{2**64}"), "--seed"),
        (("train", "--data", ".", "--out", "m", "--held-out", "nan"), "--held-out"),
        (("scan", "ct.nii.gz", "--threads", "2147483648"), "--threads"),
        (("scan", "ct.nii.gz", "--seed", f"{2**32}"), "--seed"),
        (("phantom", "cohort", "--out", "c", "--suv-scale", "inf"), "--suv-scale"),
        (("dicom", "send", ".", "--to", "pacs:" + "1" * 5000, "--ae", "PACS"), "HOST:PORT"),
        (("twin", "list", "--address", "127.0.0.1:5²"), "HOST:PORT"),
    ],
)
def test_what_is_no_number_to_work_with_is_refused(
    words: tuple[str, ...], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["scantwin", *words, "--json"])
    assert command_line._run(as_json=True) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert says in error["message"] and error["hint"]
