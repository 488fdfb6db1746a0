"""What we rely on in Flower's insides; this fails first when another version is installed."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from scantwin.errors import FederationError
from scantwin.federation.flower import call_flwr, flower_env, through_proxy, wait_less, write_connection


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


def test_no_proxy_comes_between_flowers_own_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hospital's machine has one in its environment; httpx knows no exception for loopback."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    monkeypatch.setenv("http_proxy", "http://proxy.example.org:3128")
    for before in (None, "pacs.example.org"):
        if before:
            monkeypatch.setenv("NO_PROXY", before)
        env = flower_env(tmp_path / "flwr-home")
        with monkeypatch.context() as inside:
            for name in ("no_proxy", "NO_PROXY"):
                inside.setenv(name, env[name])
            client = httpx.Client()
            through = {
                host: client._transport_for_url(httpx.URL(f"https://{host}:9443")) is not client._transport
                for host in ("127.0.0.1", "localhost", "pet.example.org")
            }
            client.close()
        assert through == {"127.0.0.1": False, "localhost": False, "pet.example.org": True}
        assert not before or before in env["no_proxy"].split(",")


def test_a_superlink_that_fails_is_asked_again_and_one_that_refuses_is_not() -> None:
    """Of what Flower did not foresee, a locked database say, it says 500; of a bad token 401."""
    from flwr.proto.runtime_pb2 import AcquireTaskRequest, AcquireTaskResponse

    from scantwin.federation.task_loop import runtime_client

    class Waves:
        def intercept(self, context: Any, call_next: Any) -> Any:
            return call_next(context)

    answers = [500, 503, 200]
    asked: list[int] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(answers[len(asked)])
            body = AcquireTaskResponse().SerializeToString() if asked[-1] == 200 else b"{}"
            self.send_response(asked[-1])
            self.send_header("content-type", "application/protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            client = runtime_client(
                f"127.0.0.1:{server.server_port}", None, component="SuperExec", interceptor=Waves()
            )
            client.AcquireTask(AcquireTaskRequest())
            assert asked == [500, 503, 200]
            asked.clear()
            answers[0] = 401
            with pytest.raises(httpx.HTTPStatusError):
                client.AcquireTask(AcquireTaskRequest())
            assert asked == [401]
            client.close()
        finally:
            server.shutdown()


def test_a_proxy_is_between_us_and_others_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert not through_proxy("pet.example.org")
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    assert through_proxy("pet.example.org") and not through_proxy("127.0.0.1")
    monkeypatch.setenv("no_proxy", "pet.example.org")
    assert not through_proxy("pet.example.org")
