"""How a command ends, and what it says then."""

from __future__ import annotations

import pytest

from scantwin.cli import main as entry


@pytest.mark.parametrize("words", [(), ("consortium",), ("dicom",)])
def test_a_command_without_words_says_its_help_and_no_error(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scantwin", *words])
    assert entry._run(as_json=False) == 2
    said = capsys.readouterr()
    assert said.out.count("Usage:") == 1 and "Commands" in said.out
    assert said.err == ""
