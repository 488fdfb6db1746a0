"""The demo is ended in the middle, by a person and by force, and begun again in the same folder."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scantwin.imaging.nifti import write_nifti
from scantwin.imaging.volume import Volume

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

RECIPE = """
system = "pix2pix"
districts = ["trunk", "whole-body"]
spacing_mm = [8.0, 8.0, 8.0]
steps_per_round = 4
[network]
channels = [4, 8]
discriminator_channels = [4]
[sampling]
patch = 16
window = 32
overlap = 8
"""
"""Trains in a second."""


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Ten small studies of three PET voxel sizes, and how to run the demo on them."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "tiny.toml").write_text(RECIPE)
    for number in range(10):
        _write_study(folder / "data" / f"study-{number}", 7.5 + 0.5 * (number % 3), number)
    recipe = str(folder / "tiny.toml")
    return ("--data", str(folder / "data"), "--recipe", recipe, "--rounds", "1")


def _write_study(folder: Path, spacing: float, seed: int) -> None:
    """A soft bar with a warm core in air."""
    random = np.random.default_rng(seed)
    z, y, x = np.ogrid[:48, :32, :36]
    body = ((y - 16) / 11.0) ** 2 + ((x - 18) / 14.0) ** 2 < 1 + 0 * z
    core = ((y - 16) / 5.0) ** 2 + ((x - 18) / 6.0) ** 2 < 1 + 0 * z
    hu = np.where(body, np.where(core, 55.0, -90.0), -1000.0) + random.normal(0, 8, body.shape)
    suv = np.where(body, np.where(core, 2.0, 0.3), 0.0) * (1 + 0.05 * random.normal(size=body.shape))
    folder.mkdir(parents=True)
    for name, array, unit in (("CT", hu, "HU"), ("SUV", suv, "SUV")):
        volume = Volume(array.astype(np.float32), (8.0, spacing, spacing), (1.0, 2.0, 3.0), unit=unit)
        write_nifti(volume, folder / f"{name}.nii.gz")


def _until(what: Callable[[], bool], run: subprocess.Popen[str] | None = None, seconds: float = 150) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end and (run is None or run.poll() is None), "it did not come to that"
        time.sleep(0.05)


def test_ended_at_any_time_it_leaves_nothing_and_begins_anew(demo, words, tmp_path):
    told = tmp_path / "stderr.txt"

    def start(*more: str) -> subprocess.Popen[str]:
        with told.open("wb") as file:
            return demo.start(*words, *more, stderr=file)

    # Ctrl-C while the consortium is founded; `timeout` and impatient people send two.
    run = start()
    _until((demo.out / "logs" / "service-consortium.log").exists, run)
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=40)
    assert run.returncode == 130 and demo.left_over() == []
    assert "Interrupted." in told.read_text() and "Traceback" not in told.read_text()

    # Killed for good in the middle of the training: what it started ends by itself.
    run = start()
    _until((demo.out / "logs" / "consortium-train.log").exists, run)

    def trains() -> bool:
        """SuperLink, conductor, sites with two programs each."""
        left = demo.left_over()
        return len(left) > 8 and any("conductor" in words and "--run" in words for words in left)

    _until(trains, run)
    run.kill()
    run.communicate(timeout=10)
    _until(lambda: demo.left_over() == [], seconds=40)

    # And once more to the end, with the dashboard, until Ctrl-C: that is no failure.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run = start("--serve", "--port", str(port))
    _until(lambda: "The dashboard is at" in told.read_text(), run)
    assert json.loads((demo.out / "demo.json").read_text())["rounds"][0]["held_out"]
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=40)
    assert run.returncode == 0 and demo.left_over() == []
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
