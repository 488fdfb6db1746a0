"""A consortium that has lived for a year and a half, written through the models; and a scan's folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scantwin.imaging.nifti import read_nifti, write_nifti
from scantwin.imaging.volume import Volume
from scantwin.settings import load_settings
from scantwin.store import audit
from scantwin.store.database import Database
from scantwin.store.models import (
    CalibrationSample,
    ModelVersion,
    Round,
    Run,
    Scan,
    Site,
    Twin,
    Update,
)

SITES = ("Utrecht UMC", "Rigshospitalet", "Tromsø", "Klinik Passau", "Lusaka West")
DISTRICTS = {"head": (0.62, 0.75), "trunk": (0.51, 0.56), "arms": (0.33, 0.36), "legs": (0.28, 0.30)}
"""District -> MAE [SUV] that training ends at, and MAE of the training median."""
LAST_ROUND = 8
REGIONS = {**DISTRICTS, "whole-body": (0.45, 0.49), "lesions": (2.30, 2.88)}
"""All that is measured."""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled home that tests copy, for copying is quicker than filling."""
    return fill(tmp_path_factory.mktemp("template") / "home")


@pytest.fixture
def filled(home: Path, template: Path) -> Path:
    """A SCANTWIN_HOME with a full database and one scan's folder."""
    return Path(shutil.copytree(template, home))


@pytest.fixture
def empty(home: Path) -> Path:
    """A SCANTWIN_HOME with an empty database."""
    Database.from_settings().migrate().close()
    return home


@pytest.fixture
def thin(filled: Path) -> Callable[[int], Path]:
    """Leaves only so many slices of the scan, from its middle; gives its folder."""

    def cut(count: int) -> Path:
        folder = filled / "scans" / "done"
        for name in ("ct", "pet", "std", "districts"):
            path = folder / f"{name}.nii.gz"
            whole = read_nifti(path, "1").canonical()
            write_nifti(whole.crop((28, 0, 0), (28 + count, *whole.shape[1:])), path)
        return folder

    return cut


def fill(home: Path, url: str | None = None, *, scan_folder: Callable[[Path], object] | None = None) -> Path:
    """Fills the database of `home` (or of `url`); `scan_folder` writes the folder of the finished scan."""
    database = Database(url or load_settings(home=home).database).migrate()
    rng, now = np.random.default_rng(7), datetime.now(UTC).replace(microsecond=0)
    with database.session() as session:
        sites = [
            Site(
                name=name, kind=kind, node_id=str(1000 + i), enrolled_at=now - timedelta(days=560 - 30 * i),
                status=status,
            )
            for i, (name, kind, status) in enumerate(
                zip(
                    SITES,
                    ("university", "university", "regional", "regional", "rural"),
                    ("active", "active", "active", "suspended", "active"),
                    strict=True,
                )
            )
        ]  # fmt: skip
        session.add_all(sites)
        session.flush()
        for site in sites:
            session.add_all(_samples(site, now, rng))
            audit.record(session, "consortium", "site.enrolled", site.name, {"kind": site.kind})
        versions = [_version(i, now) for i in range(9)]
        session.add_all(versions)
        session.flush()
        session.add_all([_finished(sites, versions, now, rng), _running(sites, versions, now, rng)])
        session.add(
            Run(
                name="cyclegan-pilot", system="cyclegan", rounds_planned=4, base_version=versions[0].id,
                status="failed", started_at=now - timedelta(days=40), finished_at=now - timedelta(days=40),
                error="Fewer than two sites answered in round 1.",
            )
        )  # fmt: skip
        session.add_all(_scans(home, versions[-1].id, now, scan_folder or write_scan_folder))
        entry = audit.record(session, "K. Berg", "site.recalibration", "Tromsø", {"scanner": "Discovery"})
        entry.at = now - timedelta(days=210)
        audit.record(session, "lead", "site.suspended", "Klinik Passau", {"reason": "SUV reads 13 % high"})
    database.close()
    return home


def _samples(site: Site, now: datetime, rng: np.random.Generator) -> list[CalibrationSample]:
    """A cylinder each month; Passau drifts up, Tromsø drifted until it was recalibrated."""
    made = []
    for month in range(18):
        at = now - timedelta(days=30 * (17 - month) + 3, hours=int(rng.integers(0, 9)))
        bias = rng.normal(0, 0.02) + {"Klinik Passau": 0.0095 * month - 0.02}.get(site.name, 0.0)
        if site.name == "Tromsø" and month < 11:
            bias -= 0.008 * month
        if site.name == "Lusaka West":
            bias -= 0.06
        made.append(
            CalibrationSample(
                site_id=site.id, kind="cylinder", measured_at=at, bias=float(bias), sd=0.012, n=1,
                detail={"slices": 24},
            )
        )  # fmt: skip
        voxels = int(rng.integers(120, 400))
        made.append(
            CalibrationSample(
                site_id=site.id, kind="liver", measured_at=at + timedelta(days=4), sd=0.1, n=voxels,
                bias=float(bias + rng.normal(0, 0.22)),  # between patients
            )
        )  # fmt: skip
        if month % 6 == 5:
            made.append(
                CalibrationSample(
                    site_id=site.id, kind="spheres", measured_at=at, bias=float(bias), sd=0.03, n=6
                )
            )
    return made


def _version(i: int, now: datetime) -> ModelVersion:
    return ModelVersion(
        id=f"pix2pix-{i:012x}", system="pix2pix", name="district-pix2pix", size_bytes=24_310_000,
        parent=f"pix2pix-{i - 1:012x}" if i else None, created_at=now - timedelta(days=9, hours=-2 * i),
    )  # fmt: skip


def _held_out(number: int, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    held_out, median, mean, curve = {}, {}, {}, {}
    for district, (end, constant) in REGIONS.items():
        mae = end + (1.7 * constant - end) * float(np.exp(-0.55 * number)) + float(rng.normal(0, 0.008))
        held_out[district] = _measures(mae, 0.12, 27)
        median[district] = _measures(constant, 0.14, 27)
        mean[district] = _measures(constant * 1.22, 0.13, 27)
        curve[district] = _measures(constant * 1.08, 0.13, 27)
    return held_out, {"training-median": median, "training-mean": mean, "hu-curve": curve}


def _measures(mae: float, sd: float, n: int) -> dict[str, dict[str, float]]:
    return {
        "mae": {"mean": mae, "sd": sd, "n": n},
        "bias": {"mean": -0.3 * mae, "sd": sd, "n": n},
        "psnr": {"mean": 29.5 - 9 * mae, "sd": 2.1, "n": n},
        "ssim": {"mean": 0.96 - 0.38 * mae, "sd": 0.04, "n": n},
    }


def _round(number: int, sites: list[Site], at: datetime, rng: np.random.Generator) -> Round:
    made = Round(
        number=number, status="evaluated", started_at=at, finished_at=at + timedelta(minutes=21 + number)
    )
    made.held_out, references = _held_out(number, rng)
    made.references = references if number == LAST_ROUND else {}  # a run measures them once, at its end
    for i, site in enumerate(sites):
        update = Update(
            site_id=site.id, status="accepted", bytes_in=int(24e6 * rng.uniform(0.95, 1.05)),
            bytes_out=24_310_000, seconds=float((420, 510, 640, 700, 1130)[i] * rng.uniform(0.9, 1.15)),
            patches={
                f"pix2pix/{d}/generator": int(p * (1.0, 0.8, 0.5, 0.4, 0.2)[i])
                for d, p in {"head": 900, "trunk": 4000, "arms": 700, "legs": 1600}.items()
                if not (site.name == "Lusaka West" and d == "legs")
            },
            metrics={"measured_before": {d: {"mae": {"n": 9 - i}} for d in DISTRICTS}},
        )  # fmt: skip
        if site.name == "Klinik Passau" and number >= 6:
            update.status, update.reason = "refused", "SUV calibration is out of control (+12.9 %)."
        if site.name == "Lusaka West" and number in (2, 5):
            update.status, update.reason = "missing", "No answer within 30 min."
            update.bytes_in, update.seconds, update.patches, update.metrics = 0, 1800.0, {}, {}
        if site.name == "Tromsø" and number == 3:
            update.status, update.reason = (
                "refused",
                "pix2pix/trunk/generator holds numbers that are not finite.",
            )
        made.updates.append(update)
    return made


def _finished(
    sites: list[Site], versions: list[ModelVersion], now: datetime, rng: np.random.Generator
) -> Run:
    start = now - timedelta(days=9)
    run = Run(
        name="autumn-2026", system="pix2pix", rounds_planned=LAST_ROUND, status="finished", seed=20261101,
        base_version=versions[0].id, final_version=versions[8].id, started_at=start,
        finished_at=start + timedelta(hours=4),
    )  # fmt: skip
    for number in range(1, LAST_ROUND + 1):
        run.rounds.append(_round(number, sites, start + timedelta(minutes=30 * number), rng))
        run.rounds[-1].model_version = versions[number].id
    return run


def _running(sites: list[Site], versions: list[ModelVersion], now: datetime, rng: np.random.Generator) -> Run:
    run = Run(
        name="winter-2026", system="pix2pix", rounds_planned=6, status="running", seed=20261120,
        base_version=versions[8].id, started_at=now - timedelta(minutes=70),
    )  # fmt: skip
    for number in (1, 2):
        at = now - timedelta(minutes=70 - 28 * number)
        run.rounds.append(_round(number, sites[:3], at, rng))
    run.rounds.append(Round(number=3, started_at=now - timedelta(minutes=4)))
    return run


def _scans(home: Path, version: str, now: datetime, scan_folder: Callable[[Path], object]) -> list[Scan]:
    folder = home / "scans" / "done"
    scan_folder(folder)
    error = {
        "code": "ct.too-short",
        "message": "The CT shows less than one district.",
        "hint": "Send a longer CT.",
    }
    done = Scan(
        twin=Twin(pseudonym="TWIN-0017"), model_version=version, status="done", progress=1.0,
        folder="scans/done", created_at=now - timedelta(minutes=42), started_at=now - timedelta(minutes=41),
        finished_at=now - timedelta(minutes=41) + timedelta(seconds=38),
        summary={"districts": {"head": 40_211, "trunk": 310_020}, "confidence": 0.93, "warnings": []},
    )  # fmt: skip
    return [
        done,
        Scan(twin=Twin(pseudonym="TWIN-0021"), model_version=version, status="running", progress=0.62,
             stage="Trunk, window 31 of 50", created_at=now - timedelta(hours=2), started_at=now),
        Scan(twin=Twin(pseudonym="TWIN-0009"), model_version=version, status="failed", error=error,
             created_at=now - timedelta(hours=5)),
        Scan(twin=done.twin, model_version=version, created_at=now - timedelta(hours=6)),
    ]  # fmt: skip


def write_scan_folder(folder: Path) -> Path:
    """A small scan's folder: a body of ellipsoids with lungs, heart, liver and brain, 12 mm voxels."""
    z, y, x = np.mgrid[-30:30, -14:14, -20:20] * 12.0  # [mm]

    def ball(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Any:
        return sum(((a - c) / r) ** 2 for a, c, r in zip((z, y, x), centre, radii, strict=True)) < 1

    hu, suv = np.full(z.shape, -1000.0, np.float32), np.zeros(z.shape, np.float32)
    for centre, radii, density, uptake in (
        ((-60, 0, 0), (290, 110, 180), 40, 0.7),
        ((260, 0, 0), (95, 90, 75), 45, 1.0),
        ((270, 0, 0), (70, 65, 60), 38, 7.5),
        ((100, 0, 80), (90, 70, 55), -800, 0.4),
        ((100, 0, -80), (90, 70, 55), -800, 0.4),
        ((70, -20, 20), (40, 40, 40), 45, 4.0),
        ((-30, 0, -70), (60, 70, 70), 60, 2.2),
    ):
        inside = ball(centre, radii)
        hu[inside], suv[inside] = density, uptake
    labels = np.where(suv > 0, np.where(z > 180, 1, 2), 0).astype(np.uint8)
    grid = Volume(hu, (12.0, 12.0, 12.0), (-240.0, -168.0, -360.0), unit="HU")
    std = np.where(suv > 0, 0.1 + 0.12 * suv, np.nan).astype(np.float32)
    for name, array in (("ct", hu), ("pet", suv), ("std", std), ("districts", labels)):
        write_nifti(grid.with_array(array), folder / f"{name}.nii.gz")
    manifest = {"notice": "SYNTHETIC, NOT FOR DIAGNOSIS", "model_version": "pix2pix-000000000008", "seed": 0}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
