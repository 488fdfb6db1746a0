"""What goes in comes out; what is not ours is refused with one kind of error."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scantwin.federation.codec import (
    PartsError,
    decode_job,
    decode_reply,
    encode_job,
    encode_reply,
    from_record,
    pack,
    reply_header,
    to_record,
    unpack,
    with_header,
)
from scantwin.federation.wire import HEADER, Job, JobHeader, ReplyHeader, SiteReply, spec_bytes, spec_of

from .conftest import TRUNK, small_components

RUN = "0123456789abcdef" * 2
JOB = JobHeader(run=RUN, round=1, rounds=2, phase="train", site="city", seed=3, recipe={"system": "pix2pix"})
REPLY = ReplyHeader(
    run=RUN, round=1, phase="train", site="city", patches={TRUNK: 3}, metrics={"model/trunk/mae/n": 1.0}
)

shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=5)
floats = st.floats(-1e3, 1e3, width=32)


@given(
    hnp.arrays(np.float32, shapes, elements=floats),
    hnp.arrays(np.float64, shapes, elements=st.floats(-1e9, 1e9)),
)
def test_a_job_round_trips_to_the_bit(weight: np.ndarray, sums: np.ndarray) -> None:
    job = Job(JOB, {TRUNK: {"a.weight": weight, "b": weight.astype(np.float32)}}, {"suv/trunk": sums})
    back = decode_job(from_record(to_record(encode_job(job))))
    assert back.header == JOB
    assert back.components[TRUNK]["a.weight"].tobytes() == weight.tobytes()
    assert back.components[TRUNK]["a.weight"].shape == weight.shape
    assert back.statistics["suv/trunk"].tobytes() == sums.tobytes()


@given(hnp.arrays(np.float32, shapes, elements=floats), st.floats(1e-9, 1e3))
def test_half_precision_keeps_deltas_of_any_size(delta: np.ndarray, scale: float) -> None:
    delta = (delta * np.float32(scale)).astype(np.float32)
    back, _ = unpack(pack({TRUNK: {"w": delta}}, {}, "float16"))
    largest = float(np.max(np.abs(delta), initial=0.0))
    # 2^-12 of the largest magnitude is half a unit in the last place of float16 just below 1.
    assert np.max(np.abs(back[TRUNK]["w"] - delta), initial=0.0) <= largest * 2**-11 + 1e-40
    assert back[TRUNK]["w"].dtype == np.float32


def test_half_precision_halves_the_bytes_and_leaves_statistics_alone() -> None:
    deltas = {TRUNK: {"w": np.random.default_rng(0).normal(size=10_000).astype(np.float32)}}
    sums = {"s": np.array([1 / 3, 1e-300])}
    whole, half = pack(deltas, sums), pack(deltas, sums, "float16")
    assert len(half) < 0.52 * len(whole)
    assert unpack(half)[1]["s"].tobytes() == sums["s"].tobytes()


def test_not_a_number_survives_the_codec_so_that_validation_sees_it() -> None:
    deltas = {TRUNK: {"w": np.array([1.0, np.nan, np.inf], np.float32)}}
    for precision in ("float32", "float16"):
        with np.errstate(invalid="ignore"):
            back = decode_reply(encode_reply(SiteReply(REPLY, deltas), precision)).deltas
        assert not np.isfinite(back[TRUNK]["w"]).all()


def test_a_new_header_leaves_the_arrays_alone() -> None:
    parts = encode_reply(SiteReply(REPLY, {TRUNK: {"w": np.ones(2, np.float32)}}))
    changed = with_header(parts, REPLY.model_copy(update={"round": 2}))
    assert reply_header(changed).round == 2
    assert changed["arrays"] is parts["arrays"]


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from([HEADER, "arrays", "code", ""]), st.binary(max_size=200)))
def test_garbage_is_one_kind_of_error(parts: dict[str, bytes]) -> None:
    for decode in (decode_job, decode_reply):
        with pytest.raises(PartsError):
            decode(parts)


@given(st.binary(max_size=300))
def test_garbage_arrays_are_one_kind_of_error(content: bytes) -> None:
    with suppress(PartsError):
        unpack(content)


SCALES = np.ones(2, np.float32)


@pytest.mark.parametrize(
    "arrays",
    [
        {"elsewhere|w": np.ones(1)},
        {"component/a": np.ones(1)},
        {"component/a|w": np.ones(1, np.float16), "scales": SCALES},
    ],
)
def test_arrays_with_other_names_are_refused(arrays: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save

    with pytest.raises(PartsError):
        unpack(save(arrays))


@pytest.mark.parametrize(
    ("field", "value"),
    [("round", 0), ("site", "../up"), ("run", "x"), ("patches", {TRUNK: -1}), ("patches", {TRUNK: 1.5}),
     ("metrics", {"m": float("inf")}), ("phase", "other"), ("unknown", 1), ("format", 2)],
)  # fmt: skip
def test_headers_are_strict(field: str, value: object) -> None:
    import json

    header = json.dumps({**REPLY.model_dump(mode="json"), field: value}).encode()
    with pytest.raises(PartsError):
        reply_header({HEADER: header})


def test_a_foreign_flower_message_is_refused() -> None:
    from flwr.app import Array, ArrayRecord, RecordDict

    with pytest.raises(PartsError):
        from_record(RecordDict())
    with pytest.raises(PartsError):
        from_record(RecordDict({"parts": ArrayRecord({"header": Array(np.ones(3))})}))


def test_only_floating_tensors_are_trained() -> None:
    spec = spec_of(small_components())
    assert set(spec[TRUNK]) == {"conv.weight"}
    assert spec_bytes(spec) == 4 * (6 + 4)
