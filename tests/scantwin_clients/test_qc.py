"""A scan of a QC object becomes one sample, however often it is measured."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from scantwin.errors import InputError
from scantwin.phantoms.qc import uniform_cylinder, write_qc
from scantwin.phantoms.scanner import ScannerSpec
from scantwin_clients.qc import check_scanner
from scantwin_clients.samples import WaitingSamples
from scantwin_clients.site import Site

DAY = date(2026, 11, 2)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cylinder on a scanner that reads 8 % high."""
    scanner = ScannerSpec(
        name="city", suv_scale=1.08, ct_spacing_mm=(6.0, 5.0, 5.0), pet_spacing_mm=(6.0, 5.0, 5.0)
    )
    return write_qc(tmp_path_factory.mktemp("qc") / "cylinder", uniform_cylinder(scanner), scanner)


def test_the_bias_is_found_and_waits_to_be_sent(home: Path, scan: Path) -> None:
    site = Site.create("city")
    sample = check_scanner(site, scan, when=DAY)
    # EARL accepts 10 %; a cylinder measures a known bias far better than that.
    assert sample.bias == pytest.approx(0.08, abs=0.01)
    assert sample.measured_at.date() == DAY
    assert WaitingSamples(site.calibration).waiting() == [sample]


def test_the_same_scan_is_one_sample(home: Path, scan: Path) -> None:
    site = Site.create("city")
    first = check_scanner(site, scan, when=DAY)
    assert check_scanner(site, scan, when=DAY) == first
    other_day = check_scanner(site, scan, when=date(2026, 11, 3))
    assert [one.id for one in WaitingSamples(site.calibration).waiting()] == [first.id, other_day.id]


def test_the_true_suv_can_be_said(home: Path, scan: Path) -> None:
    sample = check_scanner(Site.create("city"), scan, when=DAY, expected_suv=1.08)
    assert sample.bias == pytest.approx(0.0, abs=0.01)


def test_a_folder_without_one_scan_is_refused(home: Path, tmp_path: Path) -> None:
    site = Site.create("city")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        check_scanner(site, tmp_path / "empty")
    with pytest.raises(InputError):
        check_scanner(site, tmp_path / "missing")
    assert WaitingSamples(site.calibration).waiting() == []


def test_the_command(home: Path, scan: Path) -> None:
    Site.create("city")
    done = subprocess.run(
        [sys.executable, "-m", "scantwin", "site", "qc", str(scan), "--when", "2026-11-02", "--json"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    answer = json.loads(done.stdout)
    assert answer["bias"] == pytest.approx(0.08, abs=0.01)
    assert (answer["site"], answer["kind"]) == ("city", "cylinder")
    assert "NOT FOR DIAGNOSIS" in answer["notice"]
