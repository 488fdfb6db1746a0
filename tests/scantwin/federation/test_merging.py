"""Sums of patients in, the mean and spread over all patients out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scantwin.federation.merging import add_metrics, add_statistics, merge

values = st.lists(st.floats(-100, 100), min_size=1, max_size=20)


def sums(patients: list[float], who: str = "model") -> dict[str, float]:
    """What a site says about its patients."""
    stem = f"{who}/trunk/mae"
    return {
        f"{stem}/sum": sum(patients),
        f"{stem}/sumsq": sum(v * v for v in patients),
        f"{stem}/n": len(patients),
    }


@given(st.lists(values, min_size=1, max_size=4))
def test_merged_is_the_mean_over_all_patients(sites: list[list[float]]) -> None:
    everyone = [value for site in sites for value in site]
    merged = merge([sums(site) for site in sites])["model"]["trunk"]["mae"]
    np.testing.assert_allclose(merged["mean"], np.mean(everyone), atol=1e-9)
    spread = np.std(everyone, ddof=1) if len(everyone) > 1 else 0.0
    np.testing.assert_allclose(merged["sd"], spread, atol=1e-5)
    assert merged["n"] == len(everyone)


@given(st.lists(values, min_size=2, max_size=4))
def test_the_order_of_sites_does_not_matter(sites: list[list[float]]) -> None:
    said = [sums(site) for site in sites]
    assert add_metrics(said) == add_metrics(reversed(said))


def test_references_stand_beside_the_model_and_odd_keys_are_left_out() -> None:
    said = {
        **sums([1.0, 3.0]),
        **sums([2.0], "hu-curve"),
        "model/trunk/psnr/n": 2.0,
        "speed": 3.0,
        "model/head/mae/n": 0.0,
    }
    merged = merge([said])
    assert merged == {
        "model": {"trunk": {"mae": {"mean": 2.0, "sd": 2**0.5, "n": 2.0}}},
        "hu-curve": {"trunk": {"mae": {"mean": 2.0, "sd": 0.0, "n": 1.0}}},
    }
    assert merge([]) == {}


def test_statistics_are_added_by_name() -> None:
    total = add_statistics([{"a": np.array([1.0, 2.0])}, {"a": np.array([3.0, 4.0]), "b": np.array([1.0])}])
    assert total["a"].tolist() == [4.0, 6.0]
    assert total["b"].tolist() == [1.0]


def test_a_count_of_less_than_one_measures_nobody() -> None:
    stem = "model/trunk/mae"
    assert merge([{f"{stem}/sum": 1e12, f"{stem}/sumsq": 1e12, f"{stem}/n": 1e-300}]) == {}
