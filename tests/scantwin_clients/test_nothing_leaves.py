"""Identifiers in every text element of a hospital's DICOM are nowhere in what the site keeps, says or sends.

One way is meant to carry them and is not looked at here: a synthetic PET that is written into the patient's
own study (`like=`), whose target is that hospital's PACS. The other: the local path of a study in the
catalogue, which a person at the site needs; so the folders here are named plainly.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import date
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from scantwin.federation.codec import encode_job
from scantwin.federation.exchange import Answer
from scantwin.federation.judgement import judge
from scantwin.federation.layouts import layout_of
from scantwin.federation.logbook import Logbook
from scantwin.federation.wire import Job, JobHeader, Limits, spec_of
from scantwin.learning.recipe import Recipe
from scantwin.learning.weights import system_arrays
from scantwin.phantoms.qc import uniform_cylinder, write_qc
from scantwin.phantoms.scanner import ScannerSpec
from scantwin.store.database import Database
from scantwin.store.models import ModelVersion, Run
from scantwin.store.models import Site as SiteRow
from scantwin.systems import build
from scantwin_clients import client_app
from scantwin_clients.commands import app as site_app
from scantwin_clients.site import Site

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from planted import SOUGHT, TEXT, bar, files_of, leaks, plant


# Not marked slow, for all its ten seconds: what it looks after must not break unseen.
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
    phantom = uniform_cylinder(scanner, seed=1, when=date(2026, 11, 2))  # a day that may be told
    write_qc(data.parent / "qc", phantom, scanner, form="dicom")
    for path in (data.parent / "qc").rglob("*.dcm"):
        plant(path)

    run = CliRunner()
    said: dict[str, bytes] = {}
    for words in (
        ["init", "--name", "city"], ["ingest", str(data), "--workers", "1"], ["ingest", str(data)],
        ["status"], ["qc", str(data.parent / "qc")],
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
        layout=layout_of(tiny, "train"), limits=Limits(patches=8),
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
