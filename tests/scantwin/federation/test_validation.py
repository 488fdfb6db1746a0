"""What no honest site can have sent is refused with a sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scantwin.federation.codec import encode_reply
from scantwin.federation.validation import Expected, RefusalError, read_reply
from scantwin.federation.wire import Limits, ReplyHeader, SiteReply, spec_of

from .conftest import HEAD, TRUNK, small_components

RUN = "ab" * 16
SPEC = spec_of(small_components())
EXPECTED = Expected(RUN, 2, "train", "city", SPEC, {"suv/trunk": (4,)})
LIMITS = Limits(patches=100)


def reply(**changes: Any) -> SiteReply:
    """A good reply, with changes: `header_*` for the header, `deltas`, `statistics`."""
    header = {"run": RUN, "round": 2, "phase": "train", "site": "city", "patches": {TRUNK: 8}}
    header.update({k.removeprefix("header_"): v for k, v in changes.items() if k.startswith("header_")})
    deltas = changes.get("deltas", {TRUNK: {"conv.weight": np.full((3, 2), 0.1, np.float32)}})
    return SiteReply(
        ReplyHeader.model_validate(header), deltas, changes.get("statistics", {"suv/trunk": np.zeros(4)})
    )


def read(one: SiteReply, expected: Expected = EXPECTED) -> SiteReply:
    return read_reply(encode_reply(one, "float32"), expected, LIMITS)


def test_a_good_reply_is_taken() -> None:
    taken = read(reply())
    assert taken.header.patches == {TRUNK: 8}
    np.testing.assert_array_equal(taken.deltas[TRUNK]["conv.weight"], np.full((3, 2), 0.1, np.float32))


def weights(array: np.ndarray, name: str = "conv.weight", component: str = TRUNK) -> dict[str, Any]:
    return {"deltas": {component: {name: array}}, "header_patches": {component: 8}}


BOTH = {
    "deltas": {
        TRUNK: {"conv.weight": np.zeros((3, 2), np.float32)},
        HEAD: {"conv.weight": np.zeros(4, np.float32)},
    }
}


def measure(total: float, squares: float, n: float) -> dict[str, float]:
    return {f"model/trunk/mae/{part}": v for part, v in (("sum", total), ("sumsq", squares), ("n", n))}


def test_sums_of_equal_values_are_taken() -> None:
    values = [0.1] * 7
    metrics = measure(sum(values), sum(value * value for value in values), 7.0)
    assert read(reply(header_metrics=metrics)).header.metrics == metrics


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"header_run": "cd" * 16}, "another run"),
        ({"header_round": 1}, "another round"),
        ({"header_phase": "final"}, "another phase"),
        ({"header_site": "rural-1"}, "another site"),
        ({"header_patches": {}}, "how many patches"),
        ({"header_patches": {TRUNK: 8, HEAD: 8}}, "how many patches"),
        ({"header_patches": {TRUNK: 101}}, "at most"),
        (BOTH | {"header_patches": {TRUNK: 60, HEAD: 41}}, "claims 101 patches"),
        ({"deltas": {}, "header_patches": {}}, "trained nothing"),
        ({"header_metrics": {"model/trunk/mae/sum": 1.0}}, "lacks"),
        ({"header_metrics": measure(1.0, 1.0, 0.5)}, "of 0.5 patients"),
        ({"header_metrics": measure(1.0, 1.0, -1.0)}, "of -1 patients"),
        ({"header_metrics": measure(1.0, -1.0, 1.0)}, "No values"),
        ({"header_metrics": measure(3.0, 4.0, 2.0)}, "No values"),
        ({"header_metrics": measure(1.0, 1.0, 0.0)}, "No values"),
        (weights(np.zeros((2, 3), np.float32)), "shape"),
        (weights(np.zeros((3, 2), np.float64)), "float64"),
        (weights(np.zeros((3, 2), np.int8)), "int8"),
        (weights(np.full((3, 2), np.nan, np.float32)), "finite"),
        (weights(np.full((3, 2), -np.inf, np.float32)), "finite"),
        (weights(np.full((3, 2), 1e6, np.float32)), "beyond"),
        (weights(np.zeros((3, 2), np.float32), name="conv.bias"), "exactly the tensors"),
        (weights(np.zeros((3, 2), np.float32), component="pix2pix/legs/generator"), "no component"),
        ({"statistics": {"suv/trunk": np.full(4, np.inf)}}, "finite"),
        ({"statistics": {"suv/trunk": np.full(4, -1.0)}}, "negative"),
        ({"statistics": {"suv/trunk": np.full(4, 2.0**54)}}, "beyond"),
        ({"statistics": {"suv/trunk": np.zeros(5)}}, "shape"),
        ({"statistics": {}}, "missing"),
        ({"statistics": {"suv/trunk": np.zeros(4), "ratio/trunk": np.zeros(4)}}, "not asked for"),
    ],
)  # fmt: skip
def test_odd_replies_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RefusalError, match=words):
        read(reply(**changes))


def final(residual: np.ndarray, ratio: np.ndarray) -> SiteReply:
    """The reply to a final exchange with these errors of the trunk, as it is read."""
    statistics = {"residual/trunk": residual, "ratio/trunk": ratio}
    layout = {name: array.shape for name, array in statistics.items()}
    return read(
        reply(header_phase="final", header_patches={}, deltas={}, statistics=statistics),
        Expected(RUN, 2, "final", "city", SPEC, layout),
    )


def test_a_model_may_read_low_but_no_count_is_negative() -> None:
    """A bin of negative counts would move the 80 % point of every scan's error bar."""
    low = np.array([[10.0] * 16, [-5.0] * 16, [4.0] * 16])
    ratio = np.ones((16, 80))
    assert final(low, ratio).statistics["residual/trunk"][1].sum() == -80.0
    ratio[3, 7] = -1e6
    with pytest.raises(RefusalError, match="'ratio/trunk' holds a negative"):
        final(low, ratio)
    for row in (0, 2):
        spoilt = low.copy()
        spoilt[row, 5] = -1.0
        with pytest.raises(RefusalError, match="'residual/trunk' holds a negative"):
            final(spoilt, np.ones((16, 80)))


def test_a_final_reply_must_not_train() -> None:
    with pytest.raises(RefusalError, match="only measures"):
        read(reply(header_phase="final"), Expected(RUN, 2, "final", "city", SPEC))


def test_calibration_samples_with_too_little_behind_them_are_refused() -> None:
    sample = {"id": "0" * 32, "kind": "cylinder", "measured_at": "2026-01-01T12:00:00Z", "bias": 0.1, "n": 5}
    with pytest.raises(RefusalError, match="Too little"):
        read(reply(header_calibration=[sample]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda parts: {**parts, "arrays": b"x" * 100_000_000},
        lambda parts: {**parts, "code": b"import os"},
        lambda parts: {"arrays": parts["arrays"]},
        lambda parts: {**parts, "header": parts["header"][:-9]},
    ],
)
def test_odd_parts_are_refused(spoil: Callable[[dict[str, bytes]], dict[str, bytes]]) -> None:
    with pytest.raises(RefusalError):
        read_reply(spoil(encode_reply(reply())), EXPECTED, LIMITS)


def test_an_overflowing_scale_is_refused() -> None:
    from safetensors.numpy import save

    arrays = {
        f"component/{TRUNK}|conv.weight": np.full((3, 2), 60000, np.float16),
        "scales": np.array([3e38], np.float32),
    }
    parts = {**encode_reply(reply()), "arrays": save(arrays)}
    with pytest.raises(RefusalError, match="finite"):
        read_reply(parts, EXPECTED, LIMITS)
