"""What we rely on in Flower's insides; this fails first when another version is installed."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from pathlib import Path

import pytest

from scantwin.errors import FederationError
from scantwin.federation.flower import call_flwr, flower_env, wait_less, write_connection


def test_the_names_that_we_reach_for_are_there() -> None:
    serverapp = importlib.import_module("flwr.superlink.runtime.run_serverapp")
    assert {"bundle", "fab_file"} & set(inspect.signature(serverapp.install_from_fab).parameters)
    assert "install_from_fab(fab.content, skip_prompt=True)" in inspect.getsource(serverapp)
    wanted = {"runtime_api_address", "log_queue", "token", "insecure", "certificates", "parent_pid"}
    assert wanted <= set(inspect.signature(serverapp.run_serverapp).parameters)
    clientapp = importlib.import_module("flwr.supernode.runtime.run_clientapp")
    for name in ("pull_task_input", "push_message", "push_task_output"):
        assert callable(getattr(clientapp, name))
    node = importlib.import_module("flwr.supernode.start_client_internal")
    # The SuperNode's launcher replaces the module's clock.
    assert "time.sleep(3)" in inspect.getsource(node)
    assert node.time.__name__ == "time"


def test_task_types_are_called_as_we_call_them() -> None:
    from flwr.supercore.constant import TaskType

    from scantwin.federation.conductor import MODULE, SERVER_TASK

    assert TaskType.SERVER_APP == SERVER_TASK
    assert TaskType.CLIENT_APP == "flwr-clientapp"
    assert importlib.util.find_spec(MODULE) is not None


def test_waits_become_short() -> None:
    from flwr.supercore.inflatable import inflatable_utils as objects

    functions = (objects.pull_objects, objects.pull_and_inflate_object_from_tree)
    before = [dict(function.__kwdefaults__ or {}) for function in functions]
    try:
        wait_less()
        for function in functions:
            assert function.__kwdefaults__["initial_backoff"] < 0.1
            assert function.__kwdefaults__["max_tries_per_object"] is None
            assert function.__kwdefaults__["max_time"] >= 3600
    finally:
        for function, kept in zip(functions, before, strict=True):
            function.__kwdefaults__ = kept


def test_programs_get_an_environment_of_their_own(tmp_path: Path) -> None:
    env = flower_env(tmp_path / "flwr-home")
    assert env["FLWR_HOME"] == str(tmp_path / "flwr-home")
    assert env["FLWR_TELEMETRY_ENABLED"] == "0"
    assert env["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


def test_a_superlink_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    from scantwin.federation.certificates import write_authority

    write_authority(tmp_path, name="Test")
    home = tmp_path / "flwr-home"
    flower_env(home)
    write_connection(home, "127.0.0.1:9", tmp_path / "ca.crt")
    with pytest.raises(FederationError, match="flwr list failed") as caught:
        call_flwr(home, "list", "consortium")
    assert "consortium start" in caught.value.hint
