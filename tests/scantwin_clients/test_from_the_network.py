"""Phantom patients travel by C-STORE into a folder, and the site takes them in: the commands themselves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scantwin.phantoms.cohort import write_cohort
from scantwin.phantoms.scanner import ScannerSpec

COMMAND = (sys.executable, "-c", "from scantwin.cli.main import main; main()")


def scantwin(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words), "--json"],
        capture_output=True, text=True, timeout=240, check=False, env=dict(os.environ),
    )  # fmt: skip


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    words = ["dicom", "receive", "--out", str(tmp_path / "incoming"), "--port", "0", "--ae", "SITE", "--json"]
    child = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child, json.loads(child.stdout.readline())
    finally:
        child.kill()
        child.communicate(timeout=30)


@pytest.mark.slow
def test_from_a_scanner_to_the_catalogue(
    listening: tuple[subprocess.Popen[str], dict[str, Any]], home: Path, tmp_path: Path
) -> None:
    child, ready = listening
    scanner = ScannerSpec(
        name="coarse", vendor="siemens", ct_spacing_mm=(10.0, 8.0, 8.0), pet_spacing_mm=(10.0, 8.0, 8.0)
    )
    cohort = write_cohort(tmp_path / "cohort", 2, scanner, seed=5, form="dicom", voxel_mm=8.0)
    assert (ready["ready"], ready["host"]) == (True, "127.0.0.1")
    where = ("--to", f"127.0.0.1:{ready['port']}", "--ae")
    sent = json.loads(scantwin("dicom", "send", cohort, *where, "SITE").stdout)
    files = len([*cohort.rglob("*.dcm")])
    assert (sent["sent"], sent["failed"]) == (files, [])

    wrong = scantwin("dicom", "send", cohort, *where, "OTHER")
    assert wrong.returncode == 1
    assert "does not know the AE title OTHER" in json.loads(wrong.stdout)["error"]["message"]

    child.send_signal(signal.SIGINT)
    end, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert json.loads(end)["received"] == files

    assert scantwin("site", "init", "--name", "city").returncode == 0
    taken = json.loads(scantwin("site", "ingest", tmp_path / "incoming").stdout)
    assert taken["counts"]["total"] == 2 and taken["counts"]["rejected"] == 0
    # The same study straight from the cohort's folder is the same study: the network changed nothing.
    again = json.loads(scantwin("site", "ingest", cohort).stdout)
    assert {s["study"] for s in again["studies"]} == {s["study"] for s in taken["studies"]}


def test_the_name_of_a_site_may_be_an_option(home: Path) -> None:
    assert json.loads(scantwin("site", "init", "--name", "city").stdout)["site"] == "city"
    assert json.loads(scantwin("site", "init", "rural-1").stdout)["site"] == "rural-1"
    for words, said in ((("a", "--name", "b"), "Two names"), ((), "needs a name")):
        done = scantwin("site", "init", *words)
        assert done.returncode == 2 and said in json.loads(done.stdout)["error"]["message"]
