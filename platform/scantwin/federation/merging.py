"""Adding the sites' measurements: sums over patients in, means and standard deviations out.

A metric arrives as three additive numbers under `who/district/metric/{sum,sumsq,n}`, where `who` is
`model` or a reference (`training-mean`, `training-median`, `hu-curve`), so that the merged mean is exactly
the one over all patients of all sites. The sums of a site that measured one patient are that patient's value.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

Merged = dict[str, dict[str, dict[str, dict[str, float]]]]
"""who -> district -> metric -> {"mean", "sd", "n"}."""


def add_metrics(metrics: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sum of flat additive metrics, key by key; exact, so the order of the sites does not matter."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for one in metrics:
        for key, value in one.items():
            values[key].append(value)
    return {key: math.fsum(values[key]) for key in sorted(values)}


def merge(metrics: Iterable[Mapping[str, float]]) -> Merged:
    """Means and sample standard deviations over all patients of all sites, where there are any."""
    total = add_metrics(metrics)
    merged: Merged = {}
    for key, n in total.items():
        parts = key.split("/")
        if len(parts) != 4 or parts[3] != "n" or n < 1:
            continue
        who, district, metric, _ = parts
        stem = f"{who}/{district}/{metric}"
        value_sum, square_sum = total.get(f"{stem}/sum"), total.get(f"{stem}/sumsq")
        if value_sum is None or square_sum is None:
            continue
        # Rounding may leave a tiny negative number where all patients have the same value.
        spread = max(0.0, square_sum - value_sum * value_sum / n)
        merged.setdefault(who, {}).setdefault(district, {})[metric] = {
            "mean": value_sum / n,
            "sd": math.sqrt(spread / (n - 1)) if n > 1 else 0.0,
            "n": n,
        }
    return merged


def add_statistics(statistics: Iterable[Mapping[str, NDArray[np.float64]]]) -> dict[str, NDArray[np.float64]]:
    """The sum of additive arrays, name by name, in the order given; shapes must agree."""
    total: dict[str, NDArray[np.float64]] = {}
    for one in statistics:
        for name, array in one.items():
            total[name] = total[name] + array if name in total else array.astype(np.float64)
    return dict(sorted(total.items()))
