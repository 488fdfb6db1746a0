"""Properties of the merge: order does not matter, weights do, what nobody trained keeps its bits."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scantwin.federation.aggregation import Contribution, aggregate, patches_per_component

from .conftest import HEAD, TRUNK, small_components

SITES = ("city", "rural-1", "rural-2", "rural-3")


@st.composite
def contributions(draw: st.DrawFn) -> list[Contribution]:
    """Up to four sites, each with one, both or none of the components."""
    made = []
    for site in draw(st.lists(st.sampled_from(SITES), unique=True)):
        rng = np.random.default_rng(draw(st.integers(0, 1000)))
        trained = draw(st.lists(st.sampled_from([TRUNK, HEAD]), unique=True))
        shapes = {TRUNK: (3, 2), HEAD: (4,)}
        deltas = {c: {"conv.weight": rng.normal(size=shapes[c]).astype(np.float32)} for c in trained}
        made.append(Contribution(site, deltas, {c: draw(st.integers(1, 10_000)) for c in trained}))
    return made


@given(contributions(), st.randoms())
def test_the_order_of_arrival_does_not_change_a_bit(sites: list[Contribution], random: object) -> None:
    old = small_components()
    shuffled = list(sites)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = aggregate(old, sites), aggregate(old, shuffled)
    for name in old:
        for tensor in old[name]:
            assert one[name][tensor].tobytes() == other[name][tensor].tobytes()


@given(contributions())
def test_what_nobody_trained_keeps_its_bits(sites: list[Contribution]) -> None:
    old = small_components()
    before = {name: {k: v.tobytes() for k, v in tensors.items()} for name, tensors in old.items()}
    new = aggregate(old, sites)
    trained = {name for one in sites for name in one.deltas}
    for name, tensors in new.items():
        for tensor, array in tensors.items():
            assert old[name][tensor].tobytes() == before[name][tensor]  # the inputs are not changed
            assert array.dtype == old[name][tensor].dtype
            if name not in trained or tensor == "norm.count":
                assert array.tobytes() == before[name][tensor]


@given(contributions())
def test_it_is_the_mean_weighted_by_patches(sites: list[Contribution]) -> None:
    old = small_components()
    new = aggregate(old, sites)
    for name in (TRUNK, HEAD):
        behind = [one for one in sites if name in one.deltas]
        if not behind:
            continue
        weights = [float(one.patches[name]) for one in behind]
        mean = np.average([one.deltas[name]["conv.weight"] for one in behind], axis=0, weights=weights)
        np.testing.assert_allclose(new[name]["conv.weight"], old[name]["conv.weight"] + mean, atol=2e-6)
        assert np.isfinite(new[name]["conv.weight"]).all()


def test_a_site_with_three_times_the_patches_counts_three_times() -> None:
    old = {TRUNK: {"w": np.zeros(1, np.float32)}}
    one = Contribution("city", {TRUNK: {"w": np.ones(1, np.float32)}}, {TRUNK: 30})
    two = Contribution("rural-1", {TRUNK: {"w": -np.ones(1, np.float32)}}, {TRUNK: 10})
    assert aggregate(old, [one, two])[TRUNK]["w"][0] == 0.5
    assert patches_per_component([one, two]) == {TRUNK: 40}


def test_equal_deltas_give_that_delta_whatever_the_weights() -> None:
    old = small_components()
    delta = {TRUNK: {"conv.weight": np.full((3, 2), 0.25, np.float32)}}
    new = aggregate(old, [Contribution(s, delta, {TRUNK: 7 * k + 1}) for k, s in enumerate(SITES)])
    np.testing.assert_array_equal(new[TRUNK]["conv.weight"], old[TRUNK]["conv.weight"] + np.float32(0.25))
