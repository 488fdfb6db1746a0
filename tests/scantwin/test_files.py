"""Files appear whole or not at all, and folders belong to whoever claimed them."""

from __future__ import annotations

import errno
import json
import resource

import numpy as np
import pytest
from safetensors.numpy import save_file

from scantwin.errors import InputError, ResourceError
from scantwin.files import claimed_folder, whole_file


def test_a_full_disk_is_an_os_error_that_says_where_whoever_writes(tmp_path):
    """safetensors has an exception of its own, which nobody would take for a full disk."""
    target = tmp_path / "weights.safetensors"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="weights") as refused, whole_file(target) as aside:
            save_file({"a": np.zeros(10_000, np.float32)}, aside)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.errno == errno.EFBIG and refused.value.filename == str(target)
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_a_claimed_folder_is_for_one_at_a_time_and_one_order(tmp_path):
    folder = tmp_path / "made"
    with claimed_folder(folder, {"seed": 1}):
        with pytest.raises(ResourceError, match="works in"), claimed_folder(folder, {"seed": 2}):
            pass
        (folder / "case-0000").mkdir()
    with pytest.raises(InputError, match="another data set"), claimed_folder(folder, {"seed": 2}):
        pass
    with claimed_folder(folder, {"seed": 1}):
        pass
    assert sorted(path.name for path in folder.iterdir()) == ["case-0000", "order.json"]


def test_an_order_of_which_nothing_was_made_gives_way(tmp_path):
    with pytest.raises(KeyError), claimed_folder(tmp_path, {"seed": 1}):
        (tmp_path / ".part-0").mkdir()  # half a case
        raise KeyError
    with claimed_folder(tmp_path, {"seed": 2}):
        assert json.loads((tmp_path / "order.json").read_text()) == {"seed": 2}
