from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from typer.testing import CliRunner

from scantwin.cli.phantom import app
from scantwin.errors import InputError

runner = CliRunner()


def test_qc_writes_and_measures(tmp_path: Path) -> None:
    args = [
        "qc",
        "--kind",
        "cylinder",
        "--site",
        "rural",
        "--when",
        "2026-03-01",
        "--out",
        str(tmp_path / "q"),
        "--json",
    ]
    done = runner.invoke(app, args)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["measured_bias"] == pytest.approx(result["true_bias"], abs=0.005)
    assert result["notice"].startswith("SYNTHETIC")
    assert (tmp_path / "q" / "SUV.nii.gz").exists()


@pytest.mark.parametrize(
    "args",
    [
        ["qc", "--kind", "cube"], ["qc", "--site", "moon"], ["qc", "--when", "tomorrow"],
        ["qc", "--suv-scale", "-1"], ["qc", "--suv-scale", "1e-9"], ["qc", "--suv-scale", "nan"],
        ["qc", "--form", "dicom", "--when", "0001-01-01"], ["cohort", "--when", "1989-12-31"],
        ["qc", "--site", "rural", "--when", "2032-12-09"],  # its drift has taken nearly all
        ["cohort", "--form", "jpeg"], ["cohort", "--vendor", "acme"], ["cohort", "--condition", "flu"],
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(tmp_path: Path, args: list[str]) -> None:
    done = runner.invoke(app, [*args, "--out", str(tmp_path / "x")])
    # The command line's own refusals end with 2 at once; ours become a sentence and 2 further up.
    assert done.exit_code == 2 or (isinstance(done.exception, InputError) and done.exception.hint)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", ["cohort", "qc", "picture"])
def test_a_seed_beyond_32_bits_is_refused(tmp_path: Path, command: str) -> None:
    done = runner.invoke(app, [command, "--out", str(tmp_path / "x"), "--seed", str(2**32)])
    assert done.exit_code == 2
    assert "0<=x<=4294967295" in click.unstyle(done.output)


def test_cohort_and_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scantwin.phantoms.cohort.build_spacing", lambda scanner: 10.0)
    done = runner.invoke(
        app, ["cohort", "--n", "1", "--out", str(tmp_path / "c"), "--site", "rural", "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["studies"] == ["rural-0000"]
    done = runner.invoke(app, ["picture", "--site", "rural", "--out", str(tmp_path / "p.png")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
