from __future__ import annotations

from collections import namedtuple

import pytest

from scantwin.demo import runner as module
from scantwin.demo.runner import Runner
from scantwin.errors import InputError, ResourceError

WRONG = ("phantom", "cohort", "--out", "somewhere", "--site", "nobody")


def test_a_commands_own_error_is_raised(tmp_path):
    with Runner(tmp_path / "home", tmp_path / "logs") as runner, pytest.raises(InputError, match="nobody"):
        runner.call(*WRONG)


def test_a_full_disk_is_named_when_a_command_could_not_say_so(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 4096))
    with (
        Runner(tmp_path / "home", tmp_path / "logs") as runner,
        pytest.raises(ResourceError, match="is full"),
    ):
        runner.call(*WRONG)
