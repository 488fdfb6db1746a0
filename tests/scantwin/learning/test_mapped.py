"""A safetensors file is read as the library reads it, and nothing else is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file, save_file

from scantwin.learning.mapped import NotMapped, mapped

ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.sampled_from([np.bool_, np.uint8, np.float16, np.float32, np.float64]).flatmap(
        lambda kind: arrays(kind, array_shapes(max_dims=4, max_side=5))
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("mapped") / "arrays.safetensors"


@given(given=ARRAYS, about=st.dictionaries(st.text(max_size=5), st.text(max_size=9), min_size=1, max_size=2))
def test_it_holds_what_was_saved(path, given, about):
    save_file(given, path, metadata=about)
    metadata, found = mapped(path)
    assert metadata == about and found.keys() == load_file(path).keys()
    for name, array in given.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array, equal_nan=array.dtype.kind == "f")


def test_what_is_mapped_cannot_be_written_and_outlives_its_file(path):
    save_file({"a": np.arange(6, dtype=np.float32)}, path)
    _, found = mapped(path)
    path.unlink()
    assert found["a"].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="read-only"):
        found["a"][0] = 7.0


def test_a_file_cut_short_anywhere_is_told(path):
    save_file({"a": np.arange(40, dtype=np.float32).reshape(4, 10)}, path, metadata={"b": "c"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(NotMapped):
            mapped(path)


@given(content=st.binary(max_size=200))
def test_any_other_file_is_told(path, content):
    path.write_bytes(content)
    try:
        _, found = mapped(path)
    except NotMapped:
        return
    assert not found, "bytes by chance that are a header with nothing in it"


@pytest.mark.parametrize(
    "header",
    [
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,80]}}',
        '{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}',
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}',
        '{"a":{"dtype":"PICKLE","shape":[2],"data_offsets":[0,8]}}',
        '{"a":[]}',
        "[]",
    ],
)
def test_a_header_that_does_not_fit_is_told(path, header):
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(8))
    with pytest.raises(NotMapped):
        mapped(path)
