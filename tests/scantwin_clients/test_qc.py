"""A scan of a QC object becomes one sample, however often it is measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from scantwin.errors import InputError
from scantwin.phantoms.qc import uniform_cylinder, write_qc
from scantwin.phantoms.scanner import ScannerSpec
from scantwin_clients.commands import app
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


def test_the_same_scan_is_one_sample_whatever_day_is_given(home: Path, scan: Path) -> None:
    site = Site.create("city")
    first = check_scanner(site, scan, when=DAY)
    assert check_scanner(site, scan, when=DAY) == first
    other_day = check_scanner(site, scan, when=date(2026, 11, 3))
    assert other_day.id == first.id and other_day.measured_at.date() == date(2026, 11, 3)
    assert WaitingSamples(site.calibration).waiting() == [other_day]


def test_another_truth_replaces_what_waits_and_is_a_second_sample_of_what_has_left(
    home: Path, scan: Path
) -> None:
    site = Site.create("city")
    wrong = check_scanner(site, scan, when=DAY, expected_suv=0.5)
    right = check_scanner(site, scan, when=DAY)
    waiting = WaitingSamples(site.calibration)
    assert waiting.waiting() == [right] and right.id != wrong.id
    waiting.confirm([right.id])
    assert check_scanner(site, scan, when=DAY).id == right.id


@pytest.fixture(scope="module")
def dicom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same cylinder as DICOM, of the second of November."""
    scanner = ScannerSpec(
        name="city", suv_scale=1.08, ct_spacing_mm=(8.0, 8.0, 8.0), pet_spacing_mm=(8.0, 8.0, 8.0)
    )
    folder = tmp_path_factory.mktemp("qc") / "cylinder"
    return write_qc(folder, uniform_cylinder(scanner, when=DAY), scanner, form="dicom")


def mended(dicom: Path, to: Path, **fields: str) -> Path:
    """A copy whose PET says `fields`; an empty one is taken out."""
    shutil.copytree(dicom, to)
    for path in (to / "PET").glob("*.dcm"):
        ds = pydicom.dcmread(path)
        for keyword, value in fields.items():
            if value:
                setattr(ds, keyword, value)
            elif keyword in ds:
                del ds[keyword]
        ds.save_as(path)
    return to


def test_a_dicom_scan_says_itself_when_it_was(home: Path, dicom: Path, tmp_path: Path) -> None:
    site = Site.create("city")
    sample = check_scanner(site, dicom)
    slices = (pydicom.dcmread(path) for path in (dicom / "PET").glob("*.dcm"))
    first = min(ds.AcquisitionDate + ds.AcquisitionTime for ds in slices)
    at = datetime.strptime(first[:14], "%Y%m%d%H%M%S")
    # No zone in the header: this machine's clock.
    assert sample.measured_at.replace(microsecond=0) == at.astimezone(UTC)
    assert check_scanner(site, dicom, when=DAY) == sample
    assert len(WaitingSamples(site.calibration).waiting()) == 1
    with pytest.raises(InputError, match="2026-11-02, not on 2026-11-03"):
        check_scanner(site, dicom, when=date(2026, 11, 3))
    assert WaitingSamples(site.calibration).waiting() == [sample]
    with_zone = mended(dicom, tmp_path / "zone", TimezoneOffsetFromUTC="-0500")
    assert check_scanner(site, with_zone).measured_at == sample.measured_at + timedelta(hours=5)


@pytest.mark.parametrize("dates", ["", "19000101"])
def test_a_dicom_scan_without_dates_is_of_the_day_that_is_given(
    dates: str, home: Path, dicom: Path, tmp_path: Path
) -> None:
    folder = mended(dicom, tmp_path / "bare", AcquisitionDate=dates, SeriesDate=dates)
    assert check_scanner(Site.create("city"), folder, when=date(2026, 10, 5)).measured_at.day == 5


def test_no_uid_can_be_found_by_trying_uids(home: Path, dicom: Path) -> None:
    (one, other) = (check_scanner(Site.create(name), dicom) for name in ("city", "town"))
    assert one.id != other.id, "each site's own secret is in it"


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


@pytest.mark.parametrize("zone", ["NZDT-13", "AoE12"])
def test_the_day_that_was_given_is_the_day_that_is_said(
    zone: str, home: Path, scan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where days begin first and last, as the dashboard has it: in UTC."""
    Site.create("coast")
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        said = CliRunner().invoke(app, ["qc", str(scan), "--when", "2026-11-02"])
    finally:
        monkeypatch.undo()
        time.tzset()
    assert "on 2026-11-02 (UTC)" in " ".join(said.output.split())


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
