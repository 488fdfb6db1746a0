"""The house itself: layout, names, what may be imported where."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_import_platform_is_the_standard_librarys_from_the_root():
    assert not (ROOT / "platform" / "__init__.py").exists()
    done = run("import platform; print(platform.system())")
    assert done.returncode == 0 and done.stdout.strip(), done.stderr


@pytest.mark.parametrize(
    "module", ["scantwin_dashboard", "scantwin.cli.main", "scantwin.cli.suv", "scantwin.store.database"]
)
def test_no_torch_where_none_is_needed(module):
    done = run(f"import sys, {module}; print('torch' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr


def test_help_shows_every_command_and_needs_no_torch():
    code = (
        "import sys\n"
        "sys.argv = ['scantwin', '--help']\n"
        "from scantwin.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    for command in (
        "demo",
        "suv",
        "phantom",
        "train",
        "scan",
        "consortium",
        "site",
        "twin",
        "dashboard",
        "doctor",
    ):
        assert command in done.stdout


def test_an_error_is_one_sentence_and_exit_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "scantwin", "suv", str(tmp_path / "nothing"), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["message"].endswith(".") and "Traceback" not in done.stderr


def test_a_command_that_fails_exits_with_its_code(tmp_path, monkeypatch):
    """A doctor that finds a home nobody can write to says so, and exits with 1."""
    done = subprocess.run(
        [sys.executable, "-m", "scantwin", "doctor", "--json"],
        env={"PATH": "/usr/bin", "SCANTWIN_HOME": "/proc/nowhere"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    checks = {one["check"]: one["ok"] for one in json.loads(done.stdout)["checks"]}
    assert done.returncode == 1 and not checks["home"], done.stderr


def test_a_role_that_is_not_installed_says_how_to_install_it(monkeypatch):
    code = (
        "import sys\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'streamlit': raise ModuleNotFoundError(name, name=name)\n"
        "        return None\n"
        "sys.meta_path.insert(0, Gone())\n"
        "sys.argv = ['scantwin', 'dashboard', '--json']\n"
        "from scantwin.cli.main import main\n"
        "main()\n"
    )
    done = run(code)
    assert done.returncode == 2, done.stderr
    assert "scantwin[dashboard]" in done.stdout
