"""Files appear whole or not at all, and folders belong to whoever claimed them."""

from __future__ import annotations

import errno
import fcntl
import json
import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from scantwin.errors import InputError, ResourceError
from scantwin.files import claimed_folder, lock, require_apart, require_ours, whole_file, whole_parts


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


def test_a_folder_of_something_else_is_not_claimed(tmp_path):
    (tmp_path / "case-0000").mkdir()
    with pytest.raises(InputError, match=r"not empty, and has no order\.json"), claimed_folder(tmp_path, {}):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["case-0000"], "it is as it was"


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"x"', "\x00", "[" * 100_000])
def test_a_damaged_order_is_said(tmp_path, content):
    (tmp_path / "order.json").write_text(content)
    with claimed_folder(tmp_path, {"seed": 1}):
        (tmp_path / "case-0000").mkdir()
    (tmp_path / "order.json").write_text(content)
    with pytest.raises(InputError, match=r"order\.json is damaged"), claimed_folder(tmp_path, {"seed": 1}):
        pass


def test_what_is_read_is_apart_from_what_is_filled(tmp_path):
    require_apart(tmp_path / "made", tmp_path, tmp_path / "studies", tmp_path / "made2")
    for read in (tmp_path / "made", tmp_path / "made" / "ct.nii.gz", tmp_path / "x" / ".." / "made"):
        with pytest.raises(InputError, match="which is read"):
            require_apart(tmp_path / "made", read)


def test_whole_parts_have_their_manifests(tmp_path):
    for name in ("case-0002", "case-10000", "case-9999", ".part-x-case-0003", "case-mine", "volume-0000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    (tmp_path / "case-0001").mkdir()
    assert [one.name for one in whole_parts(tmp_path, "case")] == ["case-0002", "case-9999", "case-10000"]


def test_only_ours_is_replaced_as_a_whole(tmp_path, monkeypatch):
    require_ours(tmp_path / "new", "model.json")
    for name in ("empty", "ours", "theirs"):
        (tmp_path / name).mkdir()
    (tmp_path / "ours" / "model.json").touch()
    (tmp_path / "theirs" / "ct.nii.gz").touch()
    require_ours(tmp_path / "empty", "model.json")
    require_ours(tmp_path / "ours", "model.json", tmp_path / "theirs")
    with pytest.raises(InputError, match=r"theirs is not empty, and has no model\.json"):
        require_ours(tmp_path / "theirs", "model.json")
    with pytest.raises(InputError, match="is a file"):
        require_ours(tmp_path / "theirs" / "ct.nii.gz", "model.json")
    for read in (tmp_path / "ours", tmp_path / "ours" / "data", tmp_path / "theirs" / ".." / "ours" / "data"):
        with pytest.raises(InputError, match="which would be replaced"):
            require_ours(tmp_path / "ours", "model.json", read)
    with pytest.raises(InputError, match="mount point"):
        require_ours(Path("/proc"), "version")
    require_ours(Path("/proc"), "version", in_place=True)
    monkeypatch.chdir(tmp_path / "ours")
    for here in (Path(), Path("../ours"), tmp_path / "ours"):
        with pytest.raises(InputError, match="which would be replaced"):
            require_ours(here, "model.json")


def test_a_lock_whose_file_was_deleted_meanwhile_is_taken_on_the_new_one(tmp_path, monkeypatch):
    """Else the next one would lock a file that nobody else can see, and two would be at work."""
    path, busy = tmp_path / "mark", ResourceError("busy")
    flock, first = fcntl.flock, [True]

    def deleted_before(file, how):
        if first:
            first.clear()
            path.unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", deleted_before)
    with lock(path, busy), pytest.raises(ResourceError), lock(path, busy):
        pass
