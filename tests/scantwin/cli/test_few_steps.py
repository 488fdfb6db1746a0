"""`--steps`, `--samples` and `--seed`: drawn as asked, and said so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from scantwin.cli.evaluate import evaluate
from scantwin.cli.scan import scan
from scantwin.errors import InputError
from scantwin.translation.coarse_diffusion import CoarseDiffusion

EVALUATIONS, SAMPLES, LEVELS = 5, 2, 20
"""What the recipe of `drawing_model` says."""


def run(command: Any, *arguments: object) -> Any:
    app = typer.Typer()
    app.command()(command)
    words = [str(one) for one in (*arguments, "--threads", 1, "--json")]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Noise levels at which the denoiser was asked."""
    levels: list[int] = []
    denoise = CoarseDiffusion._denoise

    def counting(self: Any, *arguments: Any) -> Any:
        levels.append(int(arguments[-1][0]))
        return denoise(self, *arguments)

    monkeypatch.setattr(CoarseDiffusion, "_denoise", counting)
    return levels


@pytest.mark.parametrize(("options", "steps", "samples"), [
    ((), EVALUATIONS, SAMPLES), (("--steps", 2), 2, SAMPLES), (("--samples", 1), EVALUATIONS, 1),
    (("--steps", LEVELS, "--samples", 1), LEVELS, 1),
])  # fmt: skip
def test_a_scan_asks_the_network_as_often_as_asked(
    drawing_model: Path, bars: Path, tmp_path: Path, asked: list[int], options: Any, steps: int, samples: int
) -> None:
    arguments = (bars / "bar-70" / "CT.nii.gz", "--model", drawing_model, "--out", tmp_path / "scan")
    said = run(scan, *arguments, *options)
    assert len(asked) == steps * samples, "the bar is one window"
    assert len(set(asked)) == steps
    assert said["sampling"] == {"steps": steps, "samples": samples}
    manifest = json.loads(Path(said["manifest"]).read_text())
    rules = manifest["recipe"]["diffusion"]
    assert (rules["sample_steps"], rules["samples"]) == (steps, samples)
    warned = [text for text in manifest["warnings"] if "error bar was measured with 5 (samples: 2)" in text]
    assert len(warned) == bool(options)


def test_evaluate_draws_as_asked_and_by_the_seed(drawing_model: Path, bars: Path, asked: list[int]) -> None:
    base = ("--model", drawing_model, "--data", bars)
    plain = run(evaluate, *base)
    assert len(asked) == EVALUATIONS * SAMPLES
    asked.clear()
    few = run(evaluate, *base, "--steps", 2, "--samples", 1)
    assert len(asked) == 2
    assert (plain["seed"], plain["sampling"]) == (0, {"steps": EVALUATIONS, "samples": SAMPLES})
    assert few["sampling"] == {"steps": 2, "samples": 1}
    other = run(evaluate, *base, "--seed", 1)
    assert other["seed"] == 1 and other["whole_body"]["mae"] != plain["whole_body"]["mae"]


@pytest.mark.parametrize("options", [("--steps", 2), ("--samples", 1)])
def test_a_model_that_draws_nothing_says_so(bar_model: Any, bars: Path, tmp_path: Path, options: Any) -> None:
    model = bar_model.save(tmp_path / "model")
    with pytest.raises(InputError, match="A pix2pix model draws no samples"):
        run(scan, bars / "bar-70" / "CT.nii.gz", "--model", model, "--out", tmp_path / "scan", *options)
    with pytest.raises(InputError, match="A pix2pix model draws no samples"):
        run(evaluate, "--model", model, "--data", bars, *options)
    assert not (tmp_path / "scan").exists()


def test_more_steps_than_noise_levels_are_refused(drawing_model: Path, bars: Path, tmp_path: Path) -> None:
    arguments = (bars / "bar-70" / "CT.nii.gz", "--model", drawing_model, "--out", tmp_path / "scan")
    with pytest.raises(InputError, match="knows 20 noise levels"):
        run(scan, *arguments, "--steps", LEVELS + 1)
