"""The commands as a person or a script calls them, against a real service."""

from __future__ import annotations

import json
import sys

import pytest

from scantwin import NOTICE
from scantwin.cli.main import main
from scantwin.errors import InputError
from scantwin_twin.commands import _people, serve


@pytest.fixture
def call(service, home, monkeypatch, capsys):
    """Calls `scantwin twin ...`; gives the exit code, standard output and standard error."""

    def call(*arguments):
        line = ["scantwin", "twin", *map(str, arguments), "--address", service.server.address]
        monkeypatch.setattr(sys, "argv", line)
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture(scope="module")
def scan(service, ct_file):
    """A scan that is done."""
    return service.client.wait(service.client.submit(ct_file, model="tiny", twin="patient-7").id).id


def test_submit_prints_the_json_contract(call, ct_file, tmp_path):
    code, out, err = call("submit", ct_file, "--model", "tiny", "--out", tmp_path, "--seed", 4, "--json")
    contract = json.loads(out)
    assert code == 0 and contract["scan"] in err
    for key in ("pet_nifti", "std_nifti", "pet_dicom", "pictures", "manifest", "seconds", "districts"):
        assert contract[key], key
    assert (contract["notice"], contract["seed"]) == (NOTICE, 4) and contract["twin"].startswith("ct-")
    assert (tmp_path / "dicom").is_dir() and not (tmp_path / "dicom.zip").exists()


def test_submit_tells_people_where_things_are(call, ct_file, tmp_path):
    code, out, _err = call("submit", ct_file, "--model", "tiny", "--out", tmp_path, "--twin", "patient-9")
    assert code == 0 and NOTICE in out and "patient-9" in out and "cannot tell" in out
    assert "pet.nii.gz" in out


def test_what_a_scan_says_is_not_markup(capsys):
    """A warning may hold a DICOM header's text: shown as it is, whatever brackets it has."""
    text = "[/nothing] of [bold]series[/bold]"
    contract = {
        **dict.fromkeys(("pet_nifti", "std_nifti", "pet_dicom", "manifest", "scan", "twin"), "x"),
        "pictures": [], "model_version": "m", "warnings": [text],
        "triage": {"answer": "cannot tell", "reasons": [text]},
    }  # fmt: skip
    _people(contract)
    said = capsys.readouterr()
    assert f"  {text}\n" in said.out and f"warning: {text}\n" in said.err


def test_list_watch_export_cancel_for_people(call, scan, tmp_path):
    for arguments, said in (
        (("list",), scan),
        (("watch", scan), "done"),
        (("export", scan, "--out", tmp_path), scan),
        (("cancel", scan), "is done"),
    ):
        code, out, _err = call(*arguments)
        assert code == 0 and said in out and NOTICE in out, arguments


def test_list_watch_export_cancel_for_machines(call, scan, tmp_path):
    listed = json.loads(call("list", "--twin", "patient-7", "--json")[1])
    assert listed["notice"] == NOTICE and scan in {s["id"] for s in listed["scans"]}
    assert {s["status"] for s in listed["scans"]} == {"done"}
    watched = json.loads(call("watch", scan, "--json")[1])
    assert (watched["status"], watched["notice"], watched["progress"]) == ("done", NOTICE, 1.0)
    assert all(isinstance(r["size"], int) for r in watched["results"])
    assert json.loads(call("export", scan, "--out", tmp_path, "--json")[1])["scan"] == scan
    assert json.loads(call("cancel", scan, "--json")[1])["status"] == "done"


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("submit", "CT", "--model", "none", "--out", "OUT"), 2, "unknown-model"),
        (("submit", "CT", "--model", "tiny", "--out", "OUT", "--twin", "Jane Doe"), 2, "bad-pseudonym"),
        (("submit", "NOTHING", "--model", "tiny", "--out", "OUT"), 2, "InputError"),
        (("watch", "0" * 32), 2, "unknown-scan"),
        (("export", "0" * 32, "--out", "OUT"), 2, "unknown-scan"),
        (("list", "--status", "gone"), 2, "InputError"),
    ],
)
def test_errors_are_a_sentence_and_an_exit_code(call, ct_file, tmp_path, arguments, code, error):
    places = {"CT": ct_file, "OUT": tmp_path / "out", "NOTHING": tmp_path / "nothing.nii"}
    arguments = [places.get(a, a) for a in arguments]
    found, out, _err = call(*arguments, "--json")
    assert (found, json.loads(out)["error"]["code"]) == (code, error)
    found, out, err = call(*arguments)
    assert found == code and "error:" in err and "hint:" in err and "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_here_is_refused_before_the_first_scan(home, monkeypatch):
    monkeypatch.setenv("SCANTWIN_DEVICE", "cuda:99")
    with pytest.raises(InputError, match="cuda:99 cannot be used here"):
        serve(home=home)
