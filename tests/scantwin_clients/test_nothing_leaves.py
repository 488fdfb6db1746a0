"""Identifiers in every text element of a hospital's DICOM are nowhere in what the site keeps, says or sends.

One way is meant to carry them and is not looked at here: a synthetic PET that is written into the patient's
own study (`like=`), whose target is that hospital's PACS. The other: the local path of a study in the
catalogue, which a person at the site needs; so the folders here are named plainly.
"""

from __future__ import annotations

import gzip
import json
import logging
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from scantwin.federation.codec import encode_job
from scantwin.federation.exchange import Answer
from scantwin.federation.judgement import judge
from scantwin.federation.logbook import Logbook
from scantwin.federation.wire import Job, JobHeader, Limits, spec_of
from scantwin.imaging.volume import Volume
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import system_arrays
from scantwin.phantoms.dicom_out import Subject, write_dicom
from scantwin.phantoms.qc import uniform_cylinder, write_qc
from scantwin.phantoms.scanner import ScannerSpec
from scantwin.store.database import Database
from scantwin.store.models import ModelVersion, Run
from scantwin.store.models import Site as SiteRow
from scantwin.systems import build
from scantwin_clients import client_app
from scantwin_clients.commands import app as site_app
from scantwin_clients.site import Site

PLANTED = {
    "PatientName": "QZNAME^QZJANE", "PatientID": "QZPID4711", "PatientBirthDate": "19470531",
    "AccessionNumber": "QZACC0815", "InstitutionName": "QZHOSPITAL", "OtherPatientIDs": "QZOTHER99",
    "ReferringPhysicianName": "QZDOCTOR^QZWHO", "StudyDescription": "QZDESC",
    "DeviceSerialNumber": "QZSERIAL", "StationName": "QZSTATION", "PatientAddress": "QZSTREET5",
    "StudyID": "QZSTUDY1",
}  # fmt: skip
TEXT = "QZPLANTED"
"""What every other text element holds, private ones too."""
ROOT = "1.2.752.24.77131"
"""The hospital's UID root."""
DAYS = ("20260302", "2026-03-02")
"""The day of the scans, as files and as databases write it."""
SOUGHT = (
    TEXT, *(part for value in PLANTED.values() for part in value.split("^")), ROOT, ROOT[-11:], *DAYS,
)  # fmt: skip
MEANT = {
    "SOPClassUID", "Modality", "ImageType", "PhotometricInterpretation", "Units", "SUVType",
    "DecayCorrection", "CorrectedImage", "SeriesType", "PatientSex", "SpecificCharacterSet", "RescaleType",
    "Manufacturer", "PatientPosition", "CountsSource", "SegmentationType",
}  # fmt: skip
"""Fields that the reader must understand."""
GROUPS = (0x08, 0x10, 0x18, 0x20, 0x28, 0x32, 0x38, 0x40, 0x54, 0x88)
TEXTS = {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE", "CS", "UR"}


def plant(path: Path) -> None:
    """Puts an identifier into every text element of one file, and the hospital's root into its UIDs."""
    ds = pydicom.dcmread(path)
    _uids(ds)
    for tag, (vr, vm, _name, retired, keyword) in DicomDictionary.items():
        known = keyword in MEANT or tag >> 16 not in GROUPS
        if vr in TEXTS and keyword and not known and not retired:
            ds.add(DataElement(tag, vr, TEXT if vm.startswith("1") else [TEXT, TEXT]))
    for keyword, value in PLANTED.items():
        setattr(ds, keyword, value)
    for group in (0x0009, 0x0011, 0x0029, 0x0071, 0x7053):
        block = ds.private_block(group, f"ACME {TEXT}", create=True)
        for offset, vr in ((1, "LO"), (2, "PN"), (3, "UT"), (4, "SH"), (5, "UN")):
            block.add_new(offset, vr, TEXT.encode() if vr == "UN" else TEXT)
    ds.save_as(path)


def _uids(ds: Dataset) -> None:
    for element in ds:
        if element.VR == "UI" and element.keyword not in ("SOPClassUID", "TransferSyntaxUID"):
            element.value = f"{ROOT}.{str(element.value)[-20:].lstrip('.0')}"
        elif element.VR == "SQ":
            for item in element.value:
                _uids(item)


def bar(folder: Path, seed: int, **spoilt: str) -> None:
    """A soft bar with a warm core as planted DICOM."""
    random = np.random.default_rng(seed)
    z, y, x = np.ogrid[:24, :24, :28]
    body = ((y - 12) / 9.0) ** 2 + ((x - 14) / 11.0) ** 2 < 1 + 0 * z
    core = ((y - 12) / 4.0) ** 2 + ((x - 14) / 5.0) ** 2 < 1 + 0 * z
    hu = np.where(body, np.where(core, 55.0, -90.0), -1000.0) + random.normal(0, 8, body.shape)
    suv = np.where(body, np.where(core, 2.0, 0.3), 0.0) * (1 + 0.05 * random.normal(size=body.shape))
    ct, pet = (Volume(a.astype(np.float32), (8.0, 8.0, 8.0), unit=u) for a, u in ((hu, "HU"), (suv, "SUV")))
    subject = Subject(f"p{seed}", "F", 60, 1.7, 70.0)
    write_dicom(folder, ct, pet, subject, ("siemens", "ge", "philips")[seed % 3], seed=seed)
    for path in folder.rglob("*.dcm"):
        plant(path)
        if spoilt and path.parent.name == "PET":
            ds = pydicom.dcmread(path)
            for keyword, value in spoilt.items():
                setattr(ds, keyword, value)
            ds.save_as(path)


def leaks(where: dict[str, bytes]) -> list[str]:
    """Which planted text is in which place."""
    return [
        f"{text} in {name}"
        for name, data in where.items()
        for text in SOUGHT
        if text.encode() in data or text.encode("utf-16-le") in data or text.lower().encode() in data
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and what is inside the packed ones."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        found[str(path.relative_to(folder))] = path.read_bytes()
        if path.suffix == ".gz":
            found[f"{path.name} unpacked"] = gzip.decompress(path.read_bytes())
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found |= {f"{path.name}!{n}": archive.read(n) for n in archive.namelist()}
    return found


@pytest.mark.slow
def test_planted_identifiers_are_nowhere(
    home: Path, tmp_path: Path, tiny: Recipe, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)
    caplog.set_level(logging.DEBUG)
    data = tmp_path / "data"
    for seed in range(3):
        bar(data / f"s{seed}", seed)
    bar(data / "spoilt-units", 3, Units=TEXT)
    bar(data / "spoilt-decay", 4, DecayCorrection=TEXT, SUVType=TEXT)
    scanner = ScannerSpec(ct_spacing_mm=(8.0, 8.0, 8.0), pet_spacing_mm=(8.0, 8.0, 8.0))
    write_qc(data.parent / "qc", uniform_cylinder(scanner, seed=1), scanner, form="dicom")
    for path in (data.parent / "qc").rglob("*.dcm"):
        plant(path)

    run = CliRunner()
    said: dict[str, bytes] = {}
    for words in (
        ["init", "--name", "city"], ["ingest", str(data), "--workers", "1"], ["ingest", str(data)],
        ["status"], ["qc", str(data.parent / "qc"), "--when", "2026-11-02"],
    ):  # fmt: skip
        for form in (["--json"], []):
            if words[0] == "init" and not form:
                continue
            done = run.invoke(site_app, [*words, *form])
            assert done.exit_code == 0, (words, done.output, done.exception)
            said[f"site {words[0]} {form}"] = done.output.encode() + (done.stderr or "").encode()
    counts = json.loads(said["site ingest ['--json']"])["counts"]
    assert counts["total"] == 5 and counts["rejected"] == 2, said["site ingest ['--json']"]

    # One round: the reply as bytes, the site's files after it, and what the consortium keeps of it.
    components = system_arrays(build(tiny, seed=3))
    header = JobHeader.model_validate(
        {"run": "ab" * 16, "round": 1, "rounds": 2, "phase": "train", "site": "city", "seed": 9,
         "recipe": tiny.model_dump(mode="json")}
    )  # fmt: skip
    site = Site.open("city")
    reply = client_app.do_job(site, encode_job(Job(header, components)))
    said |= {f"reply {name}": content for name, content in reply.items()}
    assert sum(map(len, reply.values())) > 1000
    (outcome,) = judge(
        [Answer("city", parts=reply)], run=header.run, number=1, phase="train", spec=spec_of(components),
        limits=Limits(patches=8),
    )  # fmt: skip
    assert outcome.status == "accepted", outcome.reason
    database = Database(f"sqlite:///{tmp_path / 'main.db'}")
    database.migrate()
    with database.session() as session:
        session.add(SiteRow(name="city", kind="hospital", status="enrolled"))
        session.add(
            ModelVersion(id="pix2pix-0123456789ab", system=tiny.system, name="start", recipe={}, record={},
                         files={}, size_bytes=0)
        )  # fmt: skip
        session.flush()
        session.add(
            Run(id=header.run, name="run", system=tiny.system, recipe={}, status="created", rounds_planned=2,
                base_version="pix2pix-0123456789ab", seed=9)
        )  # fmt: skip
    book = Logbook(database, header.run)
    book.begin("1")
    book.open_round(1)
    book.write_outcomes(1, [outcome])
    assert outcome.reply is not None
    assert book.write_samples("city", outcome.reply.header.calibration), "the QC sample travelled"
    said["main database"] = (tmp_path / "main.db").read_bytes()

    said |= files_of(home)
    assert any(name.endswith(".safetensors") for name in said), "the cache is looked at"
    assert any(name.endswith("catalogue.db") for name in said)
    said["logs"] = caplog.text.encode()
    captured = capfd.readouterr()
    said["terminal"] = (captured.out + captured.err).encode()
    assert leaks(said) == []


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    bar(tmp_path / "s", 0)
    found = leaks(files_of(tmp_path))
    assert {text for text in SOUGHT if not any(f.startswith(f"{text} in") for f in found)} <= {"2026-03-02"}
