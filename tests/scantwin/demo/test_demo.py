"""The whole path with real processes: sites, keys, Flower, registry, database, gRPC twin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def start(out: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scantwin", "demo", "--no-serve", "--out", str(out), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def left_over(out: Path) -> list[str]:
    """Processes that still work for a demo in `out`, by what they were called with or run in."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        words = " ".join(process.info["cmdline"] or [])
        home = (process.info["environ"] or {}).get("SCANTWIN_HOME", "")
        if (str(out) in words or str(out) in home) and process.pid != os.getpid():
            found.append(words)
    return found


def check_figures(result: dict, out: Path) -> None:
    assert set(result) >= {"sites", "rounds", "baselines", "scan", "calibration", "seconds"}
    assert set(result["baselines"]) == {"training-mean", "training-median", "hu-curve"}
    for one in result["rounds"]:
        assert one["held_out"], "every round is measured on held-out patients"
        assert all(set(v) >= {"mae", "psnr", "ssim"} for v in one["held_out"].values())
        assert set(one["sites"]) == set(result["sites"])
    assert Path(result["scan"]["pet_nifti"]).is_file() and Path(result["scan"]["pet_dicom"]).is_dir()
    assert all(Path(p).is_file() for p in result["scan"]["pictures"])
    assert json.loads((out / "demo.json").read_text())["rounds"] == result["rounds"]


def test_on_phantoms(tmp_path):
    out = tmp_path / "demo"
    demo = start(out, "--rounds", "1", "--patients", "2", "--json")
    said, errors = demo.communicate(timeout=580)
    assert demo.returncode == 0, errors[-2000:] + said[-2000:]
    result = json.loads(said)
    check_figures(result, out)
    # EARL asks for 10 %; the cylinder is measured far better than that, so 5 % finds a wrong sign or factor.
    for site, bias in result["calibration"].items():
        assert abs(bias["true_bias"] - bias["measured_bias"]) < 0.05, site
    assert left_over(out) == []


@pytest.mark.data
def test_on_real_patients_and_an_end_in_the_middle(tmp_path, shared_data):
    out = tmp_path / "demo"
    words = ("--data", str(shared_data / "sts" / "nifti"), "--rounds", "1")
    demo = start(out, *words)
    log = out / "logs"
    until = time.monotonic() + 200
    while not (log / "consortium-train.log").exists() and time.monotonic() < until:
        time.sleep(0.2)
    assert demo.poll() is None, demo.communicate()
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=40)
    assert demo.returncode == 130
    assert left_over(out) == []

    again = start(out, *words, "--json")  # the same folder is taken again
    said, errors = again.communicate(timeout=380)
    assert again.returncode == 0, errors[-2000:] + said[-2000:]
    result = json.loads(said)
    check_figures(result, out)
    assert len(result["sites"]) == 3 and result["calibration"] == {}
    assert left_over(out) == []


def test_a_folder_of_somebody_elses_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    demo = start(tmp_path, "--json")
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 2 and "not empty" in json.loads(said)["error"]["message"]
    assert (tmp_path / "mine.txt").read_text() == "precious"


@pytest.mark.parametrize("studies", ["nothing", "empty"])
def test_data_that_is_not_there(tmp_path, studies):
    (tmp_path / "empty").mkdir()
    demo = start(tmp_path / "demo", "--data", str(tmp_path / studies), "--json")
    said, errors = demo.communicate(timeout=60)
    assert demo.returncode == 2, said
    assert "Traceback" not in errors and json.loads(said)["error"]["message"].endswith(".")
