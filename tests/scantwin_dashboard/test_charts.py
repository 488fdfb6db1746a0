"""Charts are valid Vega-Lite, name the units of their axes, and keep one colour for one thing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pytest

from scantwin_dashboard import charts
from scantwin_dashboard.drift_charts import drift_chart, drift_frame
from scantwin_dashboard.look import DISTRICT_COLOUR, METRIC, METRIC_OF_CT, STATUS_COLOUR, site_colours

SITES = ("north", "south")
COLOURS = site_colours(SITES)


def _metrics() -> pd.DataFrame:
    rows = [
        (number, who, district, metric, 0.5, 0.1, 9.0)
        for number in (1, 2)
        for who in ("model", "training-median", "training-mean", "hu-curve")
        if who == "model" or number == 2  # a run measures the references once, at its end
        for district in ("head", "trunk")
        for metric in METRIC
    ]
    return pd.DataFrame(rows, columns=["round", "who", "district", "metric", "mean", "sd", "n"])


def _updates() -> pd.DataFrame:
    rows = [(1, "north", "accepted", "", 9, 2.0, 30.0), (1, "south", "missing", "No answer.", 0, 0.0, 0.0)]
    return pd.DataFrame(rows, columns=["round", "site", "status", "reason", "patches", "mb_in", "seconds"])


def _samples(biases: list[float], sd: float = 0.01, n: int = 1) -> pd.DataFrame:
    times = [datetime(2026, 1 + i, 1, tzinfo=UTC) for i in range(len(biases))]
    columns = {"measured_at": times, "bias": biases, "sd": sd, "n": n, "detail": "", "id": "3f9a01c2" * 4}
    return pd.DataFrame(columns).astype({"sd": float, "bias": float})


def _patches() -> pd.DataFrame:
    return pd.DataFrame({"round": [1, 1], "site": SITES, "district": ["head", "trunk"], "patches": [10, 20]})


@pytest.mark.parametrize("metric", METRIC)
def test_a_metric(metric: str) -> None:
    spec = charts.metric_chart(_metrics(), "trunk", metric).to_dict()
    assert METRIC[metric].title in _titles(spec)
    assert "Round" in _titles(spec)
    assert DISTRICT_COLOUR["trunk"] in json.dumps(spec)
    drawn = [row for rows in spec["datasets"].values() for row in rows]
    assert {row["district"] for row in drawn} == {"trunk"}
    assert {row["who"] for row in drawn} == {"model", "training-median", "training-mean", "hu-curve"}
    (rules,) = (layer for layer in spec["layer"] if layer["mark"]["type"] == "rule")
    assert "x" not in rules["encoding"], "one value each, drawn over all rounds"


def test_a_district_without_references_still_draws() -> None:
    frame = _metrics()
    spec = charts.metric_chart(frame[frame.who == "model"], "head", "mae").to_dict()
    assert "MAE [SUV]" in _titles(spec)


def test_the_error_of_a_ct_is_in_hu() -> None:
    titles = _titles(charts.metric_chart(_metrics(), "head", "mae", METRIC_OF_CT).to_dict())
    assert "MAE [HU]" in titles and "MAE [SUV]" not in titles


def test_updates_tell_their_status_also_by_a_sign() -> None:
    spec = charts.updates_chart(_updates(), SITES).to_dict()
    (rows,) = spec["datasets"].values()
    assert [row["sign"] for row in rows] == ["✓", "–"]


def test_costs_and_patches_have_units() -> None:
    assert "Received [MB]" in _titles(
        charts.cost_chart(_updates(), COLOURS, "mb_in", "Received [MB]").to_dict()
    )
    assert "Patches [1]" in _titles(charts.patches_chart(_patches(), COLOURS).to_dict())


@pytest.mark.parametrize("bias", [0.0, 0.25, -0.25, 9.0, -0.9])
def test_every_point_lies_inside_an_axis_that_the_wild_do_not_stretch(bias: float) -> None:
    overview = charts.bias_overview(
        pd.DataFrame({"site": ["north"], "bias": [bias], "measured": ["2026"]}), COLOURS
    ).to_dict()
    control = charts.control_chart(_samples([0.0, bias]), "#000000", phantom=True).to_dict()
    for spec in (overview, control):
        low, high = _domain(spec, "drawn")
        (drawn,) = {abs(row["drawn"]) for row in _rows(spec) if row.get("bias") == bias}
        assert low < -drawn <= drawn < high < 0.4
        assert "SUV bias [%]" in _titles(spec)
        triangles = [node for node in _nodes(spec) if str(node.get("value", "")).startswith("triangle")]
        assert bool(triangles) is (abs(bias) > 0.3)


def test_a_patients_liver_is_no_slip_of_the_pen() -> None:
    spec = charts.control_chart(_samples([0.0, 0.6]), "#000000", phantom=False).to_dict()
    assert _domain(spec, "drawn")[1] > 0.6 and "triangle" not in json.dumps(spec)


def test_beyond_earls_limits_no_point_has_its_sites_colour() -> None:
    def point(chart: charts.Chart) -> dict[str, Any]:
        circles = [one for one in chart.to_dict()["layer"] if one["mark"]["type"] == "circle"]
        return circles[0]["encoding"]["color"]

    newest = pd.DataFrame({"site": ["north"], "bias": [0.2], "measured": ["2026"]})
    for chart in (
        charts.bias_overview(newest, COLOURS),
        charts.control_chart(_samples([0.2]), "#228833", phantom=True),
    ):
        condition = point(chart)["condition"]
        assert condition == {"test": "(abs(datum.bias) > 0.1)", "value": STATUS_COLOUR["refused"]}
    assert point(charts.control_chart(_samples([0.2]), "#228833", phantom=False)) == {"value": "#228833"}


def test_a_phantom_has_limits_and_zones_and_a_liver_has_not() -> None:
    phantom = json.dumps(charts.control_chart(_samples([0.01, 0.02]), "#000000", phantom=True).to_dict())
    liver = json.dumps(charts.control_chart(_samples([0.01], 0.22, 30), "#000000", phantom=False).to_dict())
    assert '"name": "EARL 10 %"' in phantom
    assert '"name": "EARL 10 %"' not in liver
    assert "0.035" in phantom


def test_no_mark_says_raw_numbers_on_hover() -> None:
    """Streamlit shows the encoded values of a mark that has no tooltip of its own."""

    def marks(spec: dict[str, Any]) -> list[dict[str, Any]]:
        return [mark for part in spec["layer"] for mark in marks(part)] if "layer" in spec else [spec]

    samples = _samples([0.01, 0.02, 0.2, 0.1], 0.02, 9)
    events = pd.DataFrame({"at": [datetime(2026, 2, 15, tzinfo=UTC)], "what": ["recalibration"]})
    newest = pd.DataFrame({"site": ["north"], "bias": [0.2], "measured": ["2026"]})
    frame = drift_frame(samples, events, "cusum")
    held_out = pd.DataFrame(
        [(1, "model", "trunk", "mae", 0.5, 0.1, 3.0), (1, "hu-curve", "trunk", "mae", 0.6, 0.1, 3.0)],
        columns=["round", "who", "district", "metric", "mean", "sd", "n"],
    )
    for chart in (
        charts.control_chart(samples, "#228833", phantom=True, patients=True, events=events),
        charts.bias_overview(newest, COLOURS),
        charts.metric_chart(held_out, "trunk", "mae"),
        drift_chart(frame, "cusum", "#228833"),
    ):
        assert all("tooltip" in mark["encoding"] for mark in marks(chart.to_dict()))


def test_the_line_breaks_at_a_recalibration() -> None:
    events = pd.DataFrame({"at": [datetime(2026, 2, 15, tzinfo=UTC)], "what": ["recalibration"]})
    spec = charts.control_chart(_samples([0.1, 0.1, 0.0]), "#000000", phantom=True, events=events).to_dict()
    stretches = [row["stretch"] for rows in spec["datasets"].values() for row in rows if "stretch" in row]
    assert stretches == [0, 0, 1]


def test_times_are_drawn_in_utc_whatever_the_browser_thinks() -> None:
    samples = _samples([0.1, 0.1, 0.0])
    # An hour before midnight in New York, and the next day in UTC.
    at = datetime(2026, 2, 14, 23, tzinfo=timezone(timedelta(hours=-5)))
    samples.loc[1, "measured_at"] = at
    events = pd.DataFrame({"at": pd.to_datetime([at], utc=True), "what": ["repair"]})
    drifting = drift_frame(samples, events, "ewma")
    for chart in (
        charts.control_chart(samples, "#000000", phantom=True, events=events),
        drift_chart(drifting, "ewma", "#000000"),
    ):
        spec = chart.to_dict()
        times = [node for node in _nodes(spec) if node.get("type") == "temporal"]
        assert times and all(node["scale"]["type"] == "utc" for node in times)  # none is a tooltip's
        assert {"field": "when", "title": "Measured (UTC)", "type": "nominal"} in list(_nodes(spec))
        assert "2026-02-15 04:00" in [row["when"] for row in _rows(spec) if "when" in row]


@pytest.mark.parametrize("patients", [True, False])
def test_only_patients_have_an_interval_for_voxels_are_no_sample(patients: bool) -> None:
    frame = _samples([0.01], 0.22, 30)
    spec = charts.control_chart(frame, "#000000", phantom=False, patients=patients).to_dict()
    fields = [node.get("field") for node in _nodes(spec)]
    assert (("low" in fields) and ("high" in fields)) is patients
    (row,) = [row for row in _rows(spec) if "low" in row]
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * 0.22 / 30**0.5 if patients else 0.0)


def _rows(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for rows in spec["datasets"].values() for row in rows]


def _nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _nodes(value)
    elif isinstance(node, list):
        for value in node:
            yield from _nodes(value)


def _titles(spec: dict[str, Any]) -> set[str]:
    return {node["title"] for node in _nodes(spec) if isinstance(node.get("title"), str)}


def _domain(spec: dict[str, Any], field: str) -> tuple[float, float]:
    low, high = next(
        node["scale"]["domain"] for node in _nodes(spec)
        if node.get("field") == field and isinstance(node.get("scale"), dict) and "domain" in node["scale"]
    )  # fmt: skip
    return low, high
