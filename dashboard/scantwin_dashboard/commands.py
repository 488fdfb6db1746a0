"""`scantwin dashboard`: Streamlit as a child process that ends with this one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from scantwin import NOTICE
from scantwin.addresses import is_loopback
from scantwin.errors import InputError, MissingExtra, ResourceError
from scantwin.settings import load_settings
from scantwin.store.database import Database
from scantwin.terminal import Json, emit, err, out

_START_S = 60.0
"""How long Streamlit may take to answer [s]; it takes 2 s on a laptop."""

_GRACE_S = 5.0
"""How long it may take to end when asked [s]."""

# Runs in Streamlit's process before Streamlit does: the kernel ends it when we die, however we die
# (prctl PR_SET_PDEATHSIG = 1 with SIGTERM = 15, kept across exec). Linux only; elsewhere it does nothing.
_TIE = (
    "import ctypes,os,sys;"
    "sys.platform=='linux' and ctypes.CDLL(None).prctl(1,15);"
    "os.getppid()==int(sys.argv[1]) or os._exit(143);"
    "os.execv(sys.argv[2],sys.argv[2:])"
)


def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8501,
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than this machine's need --behind-proxy.")
    ] = "127.0.0.1",
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy with TLS and a login stands in front of --host.")
    ] = False,
    home: Annotated[
        Path | None, typer.Option(help="The folder of all state (default: SCANTWIN_HOME).")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Start it, check that it answers, and stop it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the consortium, its rounds, its sites' calibration and its scans in a browser.

    \b
    scantwin dashboard                              # until Ctrl-C
    scantwin dashboard --home scantwin-demo/state   # what a demo has left
    scantwin dashboard --check --json               # does it start here?
    """
    local = is_loopback(host)
    if not local and not behind_proxy:
        raise InputError(
            f"Other machines can reach the address {host}, and the dashboard has neither TLS nor a login.",
            hint="Stay on --host 127.0.0.1, or put a proxy with both in front of it and add --behind-proxy.",
        )
    settings = load_settings(**({} if home is None else {"home": home}))
    database = Database.from_settings(settings, read_only=True)
    _require_streamlit()
    _require_free(host, port)
    if not local:
        who = f"whoever reaches {escape(host)}:{port} can read it"
        err.print(f"[yellow]warning:[/yellow] the dashboard has no login; {who}.")
    if database.is_missing:
        err.print(
            f"[yellow]warning:[/yellow] there is no database at {escape(database.place)} yet: the pages stay "
            "empty until there is. For a demo, give --home the folder `state` inside the demo's folder."
        )
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{port}"
    child = _start(host, port, settings.home)
    try:
        _wait_until_it_answers(child, url)
        facts = {"url": url, "pid": child.pid, "database": database.place, "checked": check, "notice": NOTICE}
        emit(facts, as_json, lambda: _say(url, database.place, check))
        if not check and (code := child.wait()) != 0:
            raise ResourceError(
                f"The dashboard ended by itself with code {code}.", hint="Its last output is above."
            )
    except KeyboardInterrupt:
        if not as_json:
            err.print("The dashboard has ended.")
    finally:
        _end(child)


def _start(host: str, port: int, home: Path) -> subprocess.Popen[bytes]:
    script = Path(__file__).parent / "serve" / "app.py"
    flags = {
        "server.address": host,
        "server.port": str(port),
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "logger.level": "error",
    }
    options = [f"--{name}={value}" for name, value in flags.items()]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _TIE, str(os.getpid()),
         sys.executable, "-P", "-m", "streamlit", "run", str(script), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,  # its greeting; errors go to standard error
        env={**os.environ, "SCANTWIN_HOME": str(home.absolute())},
        start_new_session=True,  # Ctrl-C reaches only us, and we end it
    )  # fmt: skip


def _wait_until_it_answers(child: subprocess.Popen[bytes], url: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback needs no proxy
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if child.poll() is not None:
            raise ResourceError(
                f"Streamlit ended at once with code {child.returncode}.", hint="Its last output is above."
            )
        with suppress(OSError), direct.open(f"{url}/_stcore/health", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise ResourceError(f"The dashboard did not answer at {url} within {_START_S:.0f} s.", hint="Try again.")


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _require_streamlit() -> None:
    from importlib.util import find_spec

    if find_spec("streamlit") is None:
        raise MissingExtra("scantwin dashboard", "dashboard")


def _require_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port that only waits for old connections to time out is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ResourceError(
                f"The dashboard cannot listen on {host}:{port}: {(error.strerror or str(error)).lower()}.",
                hint="Choose another port with --port, or stop what holds it.",
            ) from None


def _say(url: str, place: str, check: bool) -> None:
    if check:
        out.print(f"The dashboard starts and answers at {url}.")
        return
    out.print(f"The dashboard is at [bold]{url}[/bold]  ({NOTICE})")
    out.print(f"It reads {escape(place)}. Press Ctrl-C to end it.")
