"""What `scantwin scan` says to people."""

from __future__ import annotations

from scantwin.cli.scan import _people


def test_a_warning_is_not_markup(capsys):
    """A warning may hold a DICOM header's text: shown as it is, whatever brackets it has."""
    text = "[/nothing] of [bold]series[/bold]"
    _people(
        {
            **dict.fromkeys(("pet_nifti", "std_nifti", "pet_dicom", "manifest", "model_version"), "x"),
            "pictures": [], "seconds": {}, "warnings": [text],
        }
    )  # fmt: skip
    assert f"warning: {text}\n" in capsys.readouterr().err
