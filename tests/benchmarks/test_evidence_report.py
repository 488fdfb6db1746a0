"""The report: every figure, its command and what was tried; what is not run again stays."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks are no part of the package

from benchmarks.evidence import experiments, report  # noqa: E402
from benchmarks.evidence.findings import Aim, Findings, Picture, Ratio, Spread, Table  # noqa: E402
from benchmarks.evidence.settings import QUICK  # noqa: E402

FOUND = Findings(
    title="A chapter",
    text="What came out.",
    tables=(
        Table("Figures", ("who", "MAE [SUV]", "n"), (("model", Spread(0.52, 0.031, 10), 10), ("|", None, 1))),
    ),
    pictures=(Picture("one.png", "A picture."),),
    aims=(
        Aim.at_most("met", Ratio(0.6, 0.55, 0.65, 20), 0.7, "at most 0.7"),
        Aim.at_least("missed", 1.1, 1.15, "at least 1.15", "more steps: 1.12", "no blend: 1.13"),
    ),
    figures={"odd": math.nan, "list": (1, 2)},
)


def kept(name: str = "districts", findings: Findings = FOUND) -> experiments.Kept:
    return experiments.Kept(name, findings, asdict(QUICK), 12.0, "2 cores", "2026-11-20T12:00:00+00:00")


def test_findings_survive_json() -> None:
    read = Findings.read(json.loads(json.dumps(FOUND.as_json(), allow_nan=False)))
    assert read.tables == FOUND.tables and read.aims == FOUND.aims and read.pictures == FOUND.pictures
    assert read.figures == {"odd": None, "list": [1, 2]}


def test_aims_of_before_are_read() -> None:
    data = FOUND.as_json()
    del data["aims"][0]["ratio"]["patients"], data["aims"][1]["ratio"]
    assert Findings.read(data).aims == FOUND.aims


def test_an_aim_whose_interval_holds_the_limit_is_called_undecided(tmp_path: Path) -> None:
    aims = (
        Aim.below("sure", Ratio(0.6, 0.55, 0.65, 20), 1.0, "below 1"),
        Aim.below("chance", Ratio(0.98, 0.9, 1.04, 20), 1.0, "below 1"),
        Aim.below("missed by chance", Ratio(1.01, 0.9, 1.04, 20), 1.0, "below 1"),
        Aim.between("wide", Ratio(0.8, 0.7, 0.82, 20), 0.75, 0.85, "0.75 to 0.85"),
        Aim.below("no interval", 0.5, 1.0, "below 1"),
    )
    assert [aim.decided for aim in aims] == [True, False, False, False, True]
    report.write(tmp_path, {"districts": kept(findings=replace(FOUND, aims=aims))}, [])
    words = (tmp_path / "evidence.md").read_text()
    assert "4 of 5 met. For 2 of these the interval reaches beyond" in words
    assert "(20) | yes, undecided |" in words and "(20) | **no**, undecided |" in words


def test_the_report_says_every_figure_its_command_and_what_was_tried(tmp_path: Path) -> None:
    data = report.write(tmp_path, {"districts": kept()}, ["volumes"])
    words = (tmp_path / "evidence.md").read_text()
    assert "0.520 ± 0.031 (10)" in words
    assert "python -m benchmarks.evidence --quick --only districts" in words
    assert "| 0.600 [0.550, 0.650] (20) | yes |" in words and "| 1.1000 | **no** |" in words
    assert "1 of 2 met" in words and "more steps: 1.12" in words and "no blend: 1.13" in words
    assert "pictures/evidence/one.png" in words
    assert "CT volumes" in words.split("not part of this checkout")[1]
    assert "Pix2Pix and CycleGAN" in words.split("not run yet")[1], "what waits is named"
    assert "NaN" not in (tmp_path / "evidence.json").read_text()
    assert data == json.loads((tmp_path / "evidence.json").read_text())
    assert data["aims"]["met"] == {
        "value": 0.6, "aim": "at most 0.7", "met": True, "decided": True, "tried": [],
        "experiment": "districts",
        "ratio": {"value": 0.6, "low": 0.55, "high": 0.65, "n": 20, "patients": None},
        "setting": "quick", "command": "python -m benchmarks.evidence --quick --only districts",
    }  # fmt: skip
    assert data["aims"]["missed"]["met"] is False and len(data["aims"]["missed"]["tried"]) == 2


def test_the_head_says_what_was_chosen_on_these_phantoms_and_what_brackets_are() -> None:
    words = " ".join(report.as_markdown([kept()]).split())
    assert "were chosen on held-out phantoms" in words and "bootstrap resamples" in words
    assert "costs as much as a model" in words and "Beside everything" not in words
    bare = Findings("A chapter", "", aims=(Aim.at_most("met", 0.6, 0.7, ""),))
    assert "bootstrap" not in report.as_markdown([kept(findings=bare)]), "no value has an interval"


def test_a_chapter_that_is_not_run_again_stays(tmp_path: Path) -> None:
    report.write(tmp_path, {"districts": kept()})
    before = report.read_kept(tmp_path)
    assert before == {"districts": kept(findings=Findings.read(FOUND.as_json()))}
    report.write(tmp_path, {**before, "sampling": kept("sampling")})
    assert sorted(report.read_kept(tmp_path)) == ["districts", "sampling"]
    assert report.read_kept(tmp_path / "elsewhere") == {}


def test_a_chapter_of_a_recipe_that_changed_since_says_so(tmp_path: Path) -> None:
    own = experiments.values_of("pix2pix")
    assert own and own != experiments.values_of("cyclegan")
    same, other, gone = (
        replace(kept(), recipes=recipes)
        for recipes in ({"pix2pix": own}, {"pix2pix": own, "cyclegan": "others"}, {"a-recipe-of-before": own})
    )
    assert (same.changed, other.changed, gone.changed) == ([], ["cyclegan"], ["a-recipe-of-before"])
    assert "Since then" not in report.as_markdown([same])
    assert "Since then other values of cyclegan are shipped" in report.as_markdown([other])
    report.write(tmp_path, {"districts": other})
    assert report.read_kept(tmp_path)["districts"].changed == ["cyclegan"]


def test_figures_are_shown_with_three_digits_that_count() -> None:
    assert [report.show(v) for v in (0.12345, 3.14159, 28.512, 0.00123, 7, None, "a|b", math.nan)] == [
        "0.123", "3.14", "28.5", "0.0012", "7", "-", "a/b", "-",
    ]  # fmt: skip


def test_an_interval_says_of_how_many_lesions_and_patients() -> None:
    assert report.show(Ratio(0.989, 0.97, 1.01, 20, 7)) == "0.989 [0.970, 1.010] (20 of 7 patients)"
    assert report.show(Ratio(0.5, 0.5, 0.5, 3, 1)) == "0.500 [0.500, 0.500] (3 of 1 patient)"
    assert report.show(Ratio(0.5, 0.4, 0.6, 10)) == "0.500 [0.400, 0.600] (10)"
