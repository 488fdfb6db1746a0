"""Processes leave the cores to each other: nobody waits spinning."""

from __future__ import annotations

import os
import subprocess
import sys

ASLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}


def _says(code: str, **more: str) -> str:
    env = {k: v for k, v in os.environ.items() if k not in ASLEEP} | more
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_libraries_read_it_before_they_start():
    """They look at the environment once, when they are imported: the command line must be earlier."""
    assert _says("import sys, scantwin.cli.main; print({'numpy', 'torch'} & set(sys.modules))") == "set()"


def test_a_command_and_what_it_starts_wait_asleep():
    code = (
        "import os, sys; sys.argv = ['scantwin', '--version']\n"
        "from scantwin.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "sys.stdout.flush(); os.system('env')"
    )
    said = _says(code).splitlines()
    assert {f"{name}={value}" for name, value in ASLEEP.items()} <= set(said)


def test_what_was_asked_for_stays():
    said = _says(
        "import os; from scantwin.cores import share_cores; share_cores(); "
        "print(os.environ['OPENBLAS_NUM_THREADS'])",
        OPENBLAS_NUM_THREADS="4",
    )
    assert said == "4"
