"""Chapters of the evidence: what their tables, aims and sentences say of the figures."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # benchmarks are no part of the package

from benchmarks.evidence import plain_unet, suv_aware, tables  # noqa: E402
from benchmarks.evidence.charts import Panel  # noqa: E402
from benchmarks.evidence.findings import Picture  # noqa: E402
from benchmarks.evidence.measuring import Measurer, Standing  # noqa: E402
from benchmarks.evidence.sarcoma import without_terms  # noqa: E402
from benchmarks.evidence.settings import QUICK  # noqa: E402

from scantwin.learning.recipe import Recipe  # noqa: E402
from scantwin.phantoms.tissues import AGREED_ORGANS  # noqa: E402


def test_the_aims_beside_the_references() -> None:
    def standing(body: float, lesions: float) -> Standing:
        made = Standing()
        made.tally.regions["whole-body"]["mae"] = [body]
        made.tally.regions["lesions"]["mae"] = [lesions]
        return made

    references = {"training-median": standing(0.6, 3.0), "hu-curve": standing(0.7, 2.5)}
    body, curve, lesions = tables.beats_references("it", standing(0.54, 2.75), references, "tried")
    assert body.met and body.value == pytest.approx(0.9)
    assert curve.met and curve.value == pytest.approx(0.54 / 0.7)
    assert not lesions.met and lesions.value == pytest.approx(1.1), "against the curve, not the median"
    assert lesions.tried == ("tried",)
    assert tables.ratio(1.0, 0.0) is None and tables.ratio(math.nan, 1.0) is None


def made_up(mae: float, psnr: float, peak: float, distance: float = math.nan) -> Standing:
    """A standing of two patients, with a lesion each."""
    made = Standing(distance=distance, seconds=[1.0, 1.0])
    made.intervals.voxels = [0.7, 0.9]
    made.tally.patients = made.tally.searched = 2
    for region in ("whole-body", "head"):
        made.tally.regions[region]["mae"] = [mae, mae]
        made.tally.regions[region]["psnr"] = [psnr, psnr]
    made.tally.lesions["suvpeak_error"] = [peak, peak]
    made.tally.lesion_patients = [0, 1]
    return made


def test_a_sentence_says_where_a_reference_is_better_than_the_model() -> None:
    references = {
        "training-median": made_up(0.6, 27.5, 3.9, 0.00024),
        "hu-curve": made_up(0.3, 29.8, 3.4, 0.00011),
    }
    model = made_up(0.25, 29.6, 3.3, 0.00015)
    model.tally.regions["head"]["mae"] = [0.7, 0.7]
    del model.tally.regions["head"]["psnr"]
    found = tables.where_behind("Pix2Pix", model, references)
    assert found.startswith(
        "Pix2Pix is not better than every reference in: MAE in head (0.700; hu-curve 0.300), "
        "PSNR in whole-body (29.6; hu-curve 29.8), FD (0.00015; hu-curve 0.00011). Compared: "
    )
    good = made_up(0.25, 30.0, 3.3, 0.0001)
    assert tables.where_behind("It", good, references).startswith("It is better than every reference in MAE")
    assert "MAE in head (0.300; hu-curve 0.300)" in tables.where_behind(
        "It", made_up(0.3, 30.0, 3.3), references
    ), "as good is not better"


@pytest.mark.parametrize("name", ["diffusion", "suv_aware", "districts", "cyclegan", "federated"])
def test_chapters_of_what_makes_pet_say_where_a_reference_is_better(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module(f"benchmarks.evidence.{name}")
    references = {who: made_up(0.3, 29.8, 3.4) for who in ("training-mean", "training-median", "hu-curve")}
    measurer = SimpleNamespace(
        extractor=Measurer.extractor, training=[], true_features=[], scans=lambda *_, **__: [],
        model=lambda *_, **__: made_up(0.25, 29.6, 3.3), references=lambda: references,
    )  # fmt: skip
    monkeypatch.setattr(Measurer, "of", lambda *_, **__: measurer)
    for picture in ("projections", "slices", "chart"):
        monkeypatch.setattr(module, picture, lambda *_, **__: Picture("one.png", ""), raising=False)
    model = SimpleNamespace(record={"seconds": 1.0})
    monkeypatch.setattr(module, "federated", lambda *_: model, raising=False)
    monkeypatch.setattr(plain_unet, "standing", lambda *_: made_up(0.35, 29.0, 3.4))
    found = module.run(QUICK, SimpleNamespace(trained=lambda *_, **__: model), lambda *_: None)
    assert "is not better than every reference in: PSNR in whole-body (29.6; hu-curve 29.8)" in found.text
    covered = [aim.aim for aim in found.aims if aim.name.startswith("coverage/")]
    assert len(covered) == (name in ("diffusion", "suv_aware")) == ("cross-calibrated" in found.text)
    assert all(words.startswith("cross-calibrated") and "stated" not in words for words in covered)
    beside = [aim for aim in found.aims if aim.name.endswith("/plain-unet")]
    assert [aim.met for aim in beside] == ([True, False] if name == "districts" else []), "no lesions here"
    if name == "federated":
        assert "Tried in the quick setting, earlier: a third of the steps" in found.text


def test_the_bland_altman_plot_has_every_organ_and_the_limits_of_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert sorted(n for names in suv_aware._GROUPS.values() for n in names) == sorted(
        [*AGREED_ORGANS, "lesions"]
    )
    drawn: list[Panel] = []

    def draw(_: Any, file: str, panels: list[Panel], caption: str) -> Picture:
        drawn.extend(panels)
        return Picture(file, caption)

    monkeypatch.setattr(suv_aware, "chart", draw)
    standing = Standing()
    standing.tally.pairs["bladder"] = [(20.0, 21.0)]
    standing.tally.pairs["subcutaneous-fat"] = [(0.4, 0.3), (0.5, 0.2)]
    picture = suv_aware._bland_altman(SimpleNamespace(), standing)  # type: ignore[arg-type]
    assert drawn[0].lines["bladder"] == [(20.5, -1.0)] and len(drawn[0].lines["other organs"]) == 2
    sd = float(np.std([-1.0, 0.1, 0.3], ddof=1))
    limits = {"upper limit": -0.2 + 1.96 * sd, "mean": -0.2, "lower limit": -0.2 - 1.96 * sd}
    assert drawn[0].level == pytest.approx(limits)
    assert "of points, not of patients" in picture.caption
    suv_aware._bland_altman(SimpleNamespace(), Standing())  # type: ignore[arg-type]
    assert drawn[1].lines == {} and drawn[1].level == {}


def test_volumes_are_said_where_both_are_known() -> None:
    assert suv_aware._mtv_agreement(Standing()) is None and suv_aware.volumes_said(None, 0.5) == ""
    standing = Standing()
    standing.tally.volumes["mtv, SUV 2.5"] = [(1.0, 1.0), (4.0, 4.0)]
    assert suv_aware._mtv_agreement(standing) == pytest.approx(1.0)
    assert "a CCC of 1.00 with the terms and -0.10 without" in suv_aware.volumes_said(1.0, -0.1)


def test_what_is_stated_is_a_row_of_its_own() -> None:
    standing = Standing()
    standing.intervals.by_sigma[:, 2] = 24, 24 * 0.52, 12
    standing.intervals.by_sigma[:, -1] = 10, 0.0, 10
    table = tables.error_by_sigma("t", {"it": standing})
    assert [row[0] for row in table.rows] == ["0.2-0.4", "3.2 and more"]
    assert table.rows[0][3:] == pytest.approx((math.sqrt(0.52), 0.5))


def test_uptake_and_volumes_agree_by_region_and_threshold() -> None:
    standing = Standing()
    tally = standing.tally
    for name, pairs, peaks in (
        ("liver", [(2.0, 2.0), (3.0, 2.0)], [(2.5, 2.5), (2.6, 2.5)]),
        ("lesions", [(4.0, 8.0)], [(5.0, 10.0)]),
    ):
        tally.pairs[name], tally.peak_pairs[name] = pairs, peaks
    tally.organs["inside_limits"], tally.organs["mae"] = [1.0, 0.0], [0.1, 1.0]
    tally.lesions["inside_limits"], tally.lesions["mae"] = [0.0], [4.0]
    tally.volumes["mtv, SUV 4.0"] = [(10.0, 20.0), (0.0, 5.0)]
    table = tables.agreed("t", standing)
    assert [row[:3] for row in table.rows] == [
        (region, figure, n)
        for region, n in (("liver", 2), ("lesions", 1))
        for figure in ("SUVmean", "SUVpeak")
    ]
    by = {row[:2]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert by["liver", "SUVmean"]["bias"] == 0.5 and by["liver", "SUVmean"]["inside -25/+33 %"] == 0.5
    assert by["liver", "SUVpeak"]["inside -25/+33 %"] == 1.0 and by["lesions", "SUVpeak"]["bias"] == -5.0
    assert "0.500 of all organs of all patients, 0 of lesions" in table.note
    (row,) = tables.tumour_volumes("t", {"it": standing}).rows
    assert row[:4] == ("mtv, SUV 4.0", "it", 2, -7.5)


def test_the_recipe_without_suv_aware_terms_differs_in_them_alone(tmp_path: Path) -> None:
    shipped = Recipe.load("coarse-diffusion").model_dump()
    written = Recipe.load(str(without_terms(tmp_path / "without.toml"))).model_dump()
    differ = {
        f"{section}.{key}"
        for section in shipped
        if isinstance(shipped[section], dict)
        for key in shipped[section]
        if shipped[section][key] != written[section][key]
    }
    assert differ == {"losses.hottest", "losses.uptake", "losses.lesions"}
    assert {k: v for k, v in shipped.items() if not isinstance(v, dict)} == {
        k: v for k, v in written.items() if not isinstance(v, dict)
    }
