"""A real federation on loopback: TLS, keys, every program as in production, two sites that train."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import pytest

from scantwin.calibration.samples import CalibrationSample
from scantwin.federation.processes import require_free_port
from scantwin.imaging.nifti import read_nifti
from scantwin.learning.weights import Model
from scantwin.store.database import Database
from scantwin.store.models import CalibrationSample as StoredSample
from scantwin.store.registry import Registry
from scantwin_clients.samples import WaitingSamples
from scantwin_clients.site import Site

from .conftest import OTHERS, TINY, tiny_values
from .real_federation import Federation, recipe_file

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SITES = ("city", "rural-1")


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A consortium with two enrolled and connected sites."""
    made = Federation(tmp_path_factory.mktemp("home"))
    try:
        made.found(SITES)
        yield made
    finally:
        made.end()


def test_two_sites_train_a_model(federation: Federation) -> None:
    home = federation.home
    one = CalibrationSample(kind="cylinder", measured_at=datetime(2026, 1, 1, tzinfo=UTC), bias=0.08, n=5000)
    WaitingSamples(Site.open("city", home).calibration).add(one)
    run = federation.call(
        "consortium", "train", "--recipe", recipe_file(home, TINY), "--rounds", "2", "--name", "first",
        "--min-sites", "2", "--deadline", "90s", "--seed", "5",
    )  # fmt: skip
    assert run["status"] == "finished" and run["error"] is None
    assert [one["status"] for one in run["rounds"]] == ["evaluated", "evaluated"]
    for each in run["rounds"]:
        assert {name: site["status"] for name, site in each["sites"].items()} == dict.fromkeys(
            SITES, "accepted"
        )
        assert each["held_out"]["whole-body"]["mae"]["n"] == 2
    assert set(run["rounds"][-1]["references"]) == {"training-mean", "training-median", "hu-curve"}

    database = Database(f"sqlite:///{home / 'scantwin.db'}")
    registry = Registry(database, str(home / "registry"))
    base, final = (
        Model.load(registry.fetch(version, home / "models"))
        for version in (run["base_version"], run["final_version"])
    )
    for name, tensors in final.components.items():
        moved = any(np.abs(array - base.components[name][key]).max() > 0 for key, array in tensors.items())
        assert moved == (final.record["patches"].get(name, 0) > 0), name
        assert all(np.isfinite(array).all() for array in tensors.values())
    assert final.statistics and registry.find("first").id == run["final_version"]
    with database.session() as session:
        assert [stored.id for stored in session.query(StoredSample)] == [one.id]


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_systems_train_measure_publish_and_are_used(federation: Federation, name: str) -> None:
    run = federation.call(
        "consortium", "train", "--recipe", recipe_file(federation.home, tiny_values(name)), "--rounds", "1",
        "--name", name, "--min-sites", "2", "--deadline", "90s",
    )  # fmt: skip
    assert run["status"] == "finished" and run["error"] is None
    (only,) = run["rounds"]
    assert only["status"] == "evaluated" and only["held_out"]["whole-body"]["mae"]["n"] == 2
    assert {name: site["status"] for name, site in only["sites"].items()} == dict.fromkeys(SITES, "accepted")
    trained = {part for site in only["sites"].values() for part in site["patches"]}
    assert all(part.startswith(f"{name}/") for part in trained)
    use = {"ct-inpainting": put_a_lesion_in, "low-resource-3d": make_a_volume}.get(name, scan_and_evaluate)
    use(federation, run["final_version"])


def scan_and_evaluate(federation: Federation, version: str) -> None:
    studies = federation.home / "studies" / "city"
    scan = federation.call(
        "scan", str(studies / "study-0" / "CT.nii.gz"), "--model", version, "--out",
        str(federation.home / f"scan-{version}"),
    )  # fmt: skip
    pet, std = (read_nifti(Path(scan[f"{kind}_nifti"]), "SUV") for kind in ("pet", "std"))
    assert np.isfinite(pet.array).all() and 0 < pet.array.max() <= 20 and np.nanmax(std.array) > 0
    measured = federation.call("evaluate", "--model", version, "--data", str(studies))
    assert measured["n"] == 3 and np.isfinite(measured["whole_body"]["mae"]["mean"])


def put_a_lesion_in(federation: Federation, version: str) -> None:
    out = federation.home / "lesions"
    federation.call(
        "generate", "lesions", str(federation.home / "studies" / "city"), "--model", version, "--out",
        str(out), "--count", "1", "--balance", "soft-tissue=1",
    )  # fmt: skip
    (case,) = (path.parent for path in out.rglob("SEG.nii.gz"))
    ct = read_nifti(case / "CT.nii.gz", "HU").array
    assert np.isfinite(ct).all() and read_nifti(case / "SEG.nii.gz", "label").array.any()


def make_a_volume(federation: Federation, version: str) -> None:
    out = federation.home / "volumes"
    federation.call(
        "generate", "volumes", "--model", version, "--out", str(out), "--count", "1", "--shape", "40,24,28"
    )
    (path,) = out.rglob("CT.nii.gz")
    made = read_nifti(path, "HU").array
    # Four steps teach nothing: it is a volume in the range of a CT, and not an empty one.
    assert made.shape == (40, 24, 28) and -1100 < made.min() < made.max() < 4000


def test_status_shows_sites_and_runs(federation: Federation) -> None:
    status = federation.call("consortium", "status")
    assert status["running"] is True
    assert {site["site"]: (site["status"], site["link"]) for site in status["sites"]} == dict.fromkeys(
        SITES, ("active", "online")
    )
    assert status["runs"][-1]["name"] == "first"


def test_no_secret_is_on_a_command_line(federation: Federation) -> None:
    secrets = [Site.open(name, federation.home).secret.hex() for name in SITES]
    lines = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(federation.home) in line:
            lines.append(line)
    for program in ("flower-superlink", "scantwin_clients.supernode", "scantwin_clients.worker"):
        assert any(program in line for line in lines), f"{program} was not looked at"
    assert not [line for line in lines if any(word in line for word in ("--token", *secrets))]


def test_a_run_that_nobody_can_do_fails_with_a_reason(federation: Federation) -> None:
    paths = [Site.open(name, federation.home).folder / "site.json" for name in SITES]
    agreed = {path: path.read_text() for path in paths}
    try:
        for path, text in agreed.items():
            config = json.loads(text)
            config["policy"]["systems"] = []
            path.write_text(json.dumps(config))
        run = federation.call(
            "consortium", "train", "--recipe", recipe_file(federation.home, TINY), "--rounds", "1",
            "--name", "second", "--deadline", "60s", code=1,
        )  # fmt: skip
    finally:
        for path, text in agreed.items():
            path.write_text(text)
    assert run["status"] == "failed"
    assert "does not train pix2pix" in run["error"]
    assert {one["status"] for one in run["rounds"][0]["sites"].values()} == {"refused"}


def test_nothing_is_left_behind(federation: Federation) -> None:
    sessions = {child.process.pid for child in federation.children if child.process is not None}
    federation.end()
    left = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if os.getsid(process.pid) in sessions or str(federation.home) in line:
                left.append(line)
        except (psutil.Error, ProcessLookupError):
            continue
    assert left == []
    require_free_port("127.0.0.1", federation.port, what="The SuperLink")
