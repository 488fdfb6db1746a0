"""Identifiers of a CT's DICOM headers are in no output of a scan, by command or by service.

Meant to carry them, and left out here: the DICOM that joins the patient's own study (`dicom`, `dicom-extra`),
and the service's copy of the CT, which a twin holds until it is forgotten (test_forgetting).
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pydicom
import pytest

from scantwin.cli.main import main

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from planted import bar, files_of, leaks

DICOM = ("dicom/", "dicom-extra/", "dicom.zip")


@pytest.fixture
def planted_ct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
    bar(tmp_path / "hospital", 0)
    return tmp_path / "hospital" / "CT"


def said_by(arguments, monkeypatch, capfd) -> bytes:
    monkeypatch.setattr(sys, "argv", ["scantwin", *map(str, arguments)])
    main()
    captured = capfd.readouterr()
    return (captured.out + captured.err).encode()


@pytest.mark.parametrize("form", ["--json", ""])
def test_a_scan_by_command(form, planted_ct, model_folder, tmp_path, monkeypatch, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    line = [
        "scan",
        planted_ct,
        "--model",
        model_folder,
        "--out",
        tmp_path / "scan",
        *([form] if form else []),
    ]
    said = {"terminal": said_by(line, monkeypatch, capfd), "logs": caplog.text.encode()}
    files = files_of(tmp_path / "scan")
    assert any(name.startswith("dicom/") for name in files)
    assert leaks({n: d for n, d in files.items() if n.startswith("dicom/")}), (
        "the PET is in the patient's study"
    )
    kept = {name: data for name, data in files.items() if not name.startswith(DICOM)}
    assert {"pet.nii.gz", "std.nii.gz", "ct.nii.gz", "manifest.json", "report.pdf"} <= set(kept)
    assert any(name.startswith("pictures/") for name in kept)
    assert leaks(said | kept) == []


def test_a_scan_by_the_service(planted_ct, service, tmp_path, monkeypatch, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    at = ["--address", service.server.address]
    out = tmp_path / "out"
    submit = ["twin", "submit", planted_ct, "--model", "tiny", "--out", out, *at]
    said = {
        "submit": said_by(submit, monkeypatch, capfd),
        "list": said_by(["twin", "list", "--json", *at], monkeypatch, capfd),
        "logs": caplog.text.encode(),
    }
    said |= {f"out/{name}": data for name, data in files_of(out).items() if not name.startswith(DICOM)}
    for name, data in files_of(service.home).items():
        inside = name.split("/", 2)[-1]
        if not name.startswith(("uploads/", "ct.zip!", "dicom.zip!")) and not inside.startswith(DICOM):
            said[f"home/{name}"] = data
    assert any("scantwin" in name and name.endswith(".db") for name in said), sorted(said)
    assert any(name.endswith("manifest.json") for name in said)
    assert leaks(said) == []
