"""Every system works on another device than the processor as it does there: see elsewhere.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.timeout(900)  # eight tests in one
def test_every_system_learns_and_says_the_same_on_another_device():
    """In a process of its own: torch has to know the device before it computes a gradient."""
    files = sorted(map(str, HERE.rglob("on_another_device.py")))
    assert len(files) == 2
    asked = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
