"""What the demo's tests share."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import psutil
import pytest


class DemoRun:
    """Starts demos in one folder, tied to the test, and looks after them."""

    def __init__(self, out: Path, tied: Callable[[subprocess.Popen[str]], subprocess.Popen[str]]) -> None:
        self.out = out
        self._tied = tied

    def start(self, *words: str, stderr: int | IO[bytes] = subprocess.PIPE) -> subprocess.Popen[str]:
        run = subprocess.Popen(
            [sys.executable, "-m", "scantwin", "demo", "--no-serve", "--out", str(self.out), *words],
            stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        return self._tied(run)

    def brief_recipe(self) -> str:
        """The demo's own recipe with few steps: what is tested here is the path, not how much is learnt."""
        text = (files("scantwin") / "learning" / "recipes" / "demo.toml").read_text()
        brief, changed = re.subn(r"(?m)^steps_per_round = .*$", "steps_per_round = 12", text)
        assert changed == 1
        path = self.out.parent / "brief.toml"
        path.write_text(brief)
        return str(path)

    def left_over(self) -> list[str]:
        """Processes that still work for a demo here, by what they were called with or run in."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            words = " ".join(process.info["cmdline"] or [])
            home = (process.info["environ"] or {}).get("SCANTWIN_HOME", "")
            if (str(self.out) in words or str(self.out) in home) and process.pid != os.getpid():
                found.append(words)
        return found

    def check(self, result: dict[str, Any]) -> None:
        """The keys and files that others script against."""
        assert set(result) >= {"sites", "rounds", "baselines", "scan", "calibration", "seconds"}
        assert set(result["baselines"]) == {"training-mean", "training-median", "hu-curve"}
        for one in result["rounds"]:
            assert one["held_out"], "every round is measured on held-out patients"
            assert all(set(v) >= {"mae", "psnr", "ssim"} for v in one["held_out"].values())
            assert set(one["sites"]) == set(result["sites"])
        assert Path(result["scan"]["pet_nifti"]).is_file() and Path(result["scan"]["pet_dicom"]).is_dir()
        assert all(Path(p).is_file() for p in result["scan"]["pictures"])
        assert json.loads((self.out / "demo.json").read_text())["rounds"] == result["rounds"]
        assert self.left_over() == []


@pytest.fixture
def demo(tmp_path: Path, tied: Callable[[subprocess.Popen[str]], subprocess.Popen[str]]) -> DemoRun:
    return DemoRun(tmp_path / "demo", tied)
