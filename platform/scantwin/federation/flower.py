"""Flower's programs as we start them: their environment, their command lines, their one-shot commands."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import getproxies, proxy_bypass

from scantwin.errors import FederationError
from scantwin.federation.processes import program
from scantwin.files import whole_file

CONNECTION = "consortium"
"""What `config.toml` calls our SuperLink."""

TASK_POLL_S = 0.2
"""How often the SuperExec asks for work [s]; Flower's default of 1 s is felt at the start of every run."""

HEARTBEAT_S = 15
"""How often a site's programs send a heartbeat [s]; after two missed ones they count as dead.

With Flower's 30 s, a site that crashed is missed only after a minute, and its key is refused for as long.
"""

_BEATING = (
    "flwr.supernode.fleet_http_connection",
    "flwr.supercore.heartbeat",
    "flwr.supercore.corestate.in_memory_corestate",
    "flwr.supercore.corestate.sql_corestate",
)

_CALL_TIMEOUT_S = 180.0

_HERE = "127.0.0.1,localhost,::1"
"""Hosts that are always called without a proxy: Flower's programs talk to each other over loopback."""


def flower_env(flower_home: Path) -> dict[str, str]:
    """The environment of a Flower program: our own folder, nothing sent, nothing installed at run time."""
    flower_home.mkdir(parents=True, exist_ok=True)
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    direct = f"{direct},{_HERE}" if direct else _HERE
    return {
        **os.environ,
        "no_proxy": direct,
        "NO_PROXY": direct,
        # Flower starts its helpers by name: PATH must lead to those beside our interpreter.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "FLWR_HOME": str(flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": str(TASK_POLL_S),
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }


def through_proxy(host: str) -> bool:
    """Whether Flower's programs, as we start them, call `host` through a proxy from the environment."""
    proxies = getproxies().keys() & {"https", "all"}
    return bool(proxies) and host not in _HERE.split(",") and not proxy_bypass(host)


def wait_less() -> None:
    """Makes this process retry soon when an object is a few milliseconds late.

    Flower announces a message before its objects have arrived and then waits 1, 2, 4 .. s for them, which
    cost 3 s in every exchange here. The limit on tries is removed as well; that on time (2 h) stays.
    """
    from flwr.supercore.inflatable import inflatable_utils as objects

    functions: list[Any] = [objects.pull_objects, objects.pull_and_inflate_object_from_tree]
    for function in functions:
        function.__kwdefaults__.update(initial_backoff=0.05, backoff_cap=1.0, max_tries_per_object=None)


def beat_faster() -> None:
    """Makes this process, a SuperNode or its worker, send a heartbeat every `HEARTBEAT_S`."""
    for name in _BEATING:
        module = importlib.import_module(name)
        assert hasattr(module, "HEARTBEAT_DEFAULT_INTERVAL"), name  # noqa: S101 - another Flower
        vars(module)["HEARTBEAT_DEFAULT_INTERVAL"] = HEARTBEAT_S


def may_pass(error: Exception) -> bool:
    """Whether a call that raised `error` may succeed on a retry: no answer, or the server's own fault.

    Flower answers 500 to whatever it did not foresee, such as a database that was locked for five seconds.
    """
    from httpx import HTTPStatusError, TransportError

    if isinstance(error, HTTPStatusError):
        return error.response.is_server_error
    return isinstance(error, TransportError)


def write_connection(flower_home: Path, address: str, ca: Path) -> None:
    """Writes the `config.toml` with which `flwr` finds our SuperLink."""
    with whole_file(flower_home / "config.toml") as aside:
        aside.write_text(
            f"[superlink]\ndefault = {json.dumps(CONNECTION)}\n\n"
            f"[superlink.{CONNECTION}]\n"
            f"address = {json.dumps(address)}\n"
            f"root-certificates = {json.dumps(str(ca))}\n"
        )


def call_flwr(flower_home: Path, *arguments: str) -> dict[str, Any]:
    """Runs `flwr ... --format json` and returns its answer. Raises `FederationError` with Flower's words."""
    argv = [program("flwr"), *arguments, "--format", "json"]
    try:
        done = subprocess.run(
            argv, env=flower_env(flower_home), capture_output=True, text=True, timeout=_CALL_TIMEOUT_S,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise FederationError(
            f"flwr {arguments[0]} did not answer within {_CALL_TIMEOUT_S:g} s.",
            hint="Look at the SuperLink's log.",
        ) from None
    answer = _last_json(done.stdout)
    if answer is None or answer.get("success") is False:
        words = (answer or {}).get("error-message") or done.stderr.strip() or done.stdout.strip()
        raise FederationError(
            f"flwr {arguments[0]} failed: {str(words).strip()[-400:]}",
            hint="Is the consortium running? scantwin consortium start",
        )
    return answer


def _last_json(text: str) -> dict[str, Any] | None:
    """The JSON object in `text`; Flower may print notes before it."""
    start = text.find("{")
    while start >= 0:
        try:
            value, _ = json.JSONDecoder().raw_decode(text[start:])
        except ValueError:
            start = text.find("{", start + 1)
            continue
        return value if isinstance(value, dict) else None
    return None
