"""What `scantwin evaluate` says to people: bias beside every error, lesions beside every reference."""

from __future__ import annotations

from scantwin.cli.evaluate import _people, _verdict
from scantwin.terminal import out


def figures(mae: float, lesion_mae: float, n: int = 3) -> dict:
    spread = {"mean": mae, "sd": 0.1, "n": n}
    lesions = {"n": n, "mae": lesion_mae, "suvmean_bias": -1.25, "suvpeak_error": 1.0, "inside_limits": 0.5,
               "sensitivity": {"value": 0.5, "threshold": 4.0},
               "sd": {"mae": 0.75, "suvmean_bias": 0.625, "suvpeak_error": 0.875}}  # fmt: skip
    values = {"mae": spread, "bias": {"mean": -0.111, "sd": 0.2, "n": n}, "psnr": spread, "ssim": spread}
    return {"whole_body": values, "districts": {}, "lesions": lesions}


SAID = {
    "n": 3, **figures(0.45, 2.2),
    "references": {"training-median": figures(0.50, 2.9), "hu-curve": figures(0.7, 2.5)},
    "organs": {"n": 0},
    "uncertainty": {"coverage": None, "lesions": None, "organ_means": None, "interval": 0.8},
    "frechet": {"figure": "FD", "model": 0.000041234, "extractor": "own", "planes": "2.5D"},
}  # fmt: skip


def test_the_table_has_bias_and_lesions_of_model_and_references(capsys, monkeypatch):
    monkeypatch.setattr(out, "_width", 160)
    _people(SAID)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("-0.111") == 3 and said.count("-1.250") == 3
    for lesions in ("2.200 ± 0.750", "2.900 ± 0.750", "2.500 ± 0.750"):
        assert lesions in said
    assert "SUVpeak error 1.00 ± 0.88 SUV" in said
    assert "FD 4.12e-05 (own, 2.5D)" in said, (
        "a distance of features has no unit that says which digits count"
    )


def test_one_patient_and_one_lesion_have_no_spread(capsys, monkeypatch):
    monkeypatch.setattr(out, "_width", 160)
    _people({**SAID, **figures(0.45, 2.2, n=1), "n": 1, "references": {}})
    said = " ".join(capsys.readouterr().out.split())
    assert "±" not in said and "0.450" in said and "-0.111" in said
    assert "1 patient, in the body" in said and "1 lesion: MAE 2.20, SUVpeak error 1.00 SUV" in said


def test_organs_and_intervals_are_said_where_they_are_known(capsys, monkeypatch):
    monkeypatch.setattr(out, "_width", 160)
    _people(SAID)
    assert not {"organs", "intervals"} & set(capsys.readouterr().out.split())
    organs = {"n": 40, "suvmean_inside": 0.75, "suvpeak_inside": 0.8, "inside_limits": 0.625}
    share = {name: {"mean": mean} for name, mean in (("coverage", 0.79), ("organ_means", 0.7))}
    known = {"interval": 0.8, **share, "lesions": {"mean": 0.41}}
    _people({**SAID, "organs": organs, "uncertainty": known})
    said = " ".join(capsys.readouterr().out.split())
    assert "40 organs in all: 75% inside -25/+33 % in SUVmean, 62% in SUVpeak as well" in said
    assert "80% intervals hold 79% of voxels, 41% of those in lesions and 70% of organ means FD" in said
    for unknown, words in (
        (("lesions",), "79% of voxels and 70% of organ means"),
        (("organ_means",), "79% of voxels and 41% of those in lesions"),
        (("lesions", "organ_means"), "79% of voxels"),
    ):
        _people({**SAID, "uncertainty": {**known, **dict.fromkeys(unknown)}})
        assert f"hold {words} FD" in " ".join(capsys.readouterr().out.split())


def test_the_verdict_is_beside_what_is_hard_to_beat():
    assert (
        _verdict(SAID)
        == "In the body its error is 90% of the training median's, in lesions 88% of the HU curve's."
    )
    assert _verdict({**SAID, "references": {}}) is None
