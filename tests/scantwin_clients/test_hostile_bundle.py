"""A consortium that turned hostile ships code: neither a site nor an honest conductor runs any of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scantwin.federation.consortium import Consortium
from scantwin.federation.exchange import REFUSED_BY_SITE
from scantwin.federation.flower import CONNECTION, call_flwr
from scantwin.federation.processes import Child, end_all, program
from scantwin_clients.site import Site

from .real_federation import Federation

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SERVER = """
import json, time
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp
Path({folder!r}, "server-ran").touch()
app = ServerApp()
@app.main()
def main(grid, context):
    while not list(grid.get_node_ids()):
        time.sleep(0.2)
    message = Message(RecordDict(), list(grid.get_node_ids())[0], "train")
    ids, replies = set(grid.push_messages([message])), []
    while not replies:
        time.sleep(0.2)
        replies = list(grid.pull_messages(ids))
    said = replies[0].error if replies[0].has_error() else None
    Path({folder!r}, "reply.json").write_text(json.dumps([said and said.code, said and said.reason]))
"""

# The name of the site's own package: were the bundle unpacked and put first on sys.path, this would win.
CLIENT = """
from pathlib import Path
from flwr.clientapp import ClientApp
Path({folder!r}, "client-ran").touch()
app = ClientApp()
@app.train()
def train(message, context):
    Path({folder!r}, "client-trained").touch()
"""

PROJECT = """
[project]
name = "scantwin-job"
version = "0.1.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "scantwin"
[tool.flwr.app.components]
serverapp = "hostile_server:app"
clientapp = "scantwin_clients.client_app:app"
[tool.flwr.app.config]
"""


def hostile_app(folder: Path, traces: Path) -> Path:
    """A bundle's folder that carries a server and the site's package."""
    package = folder / "scantwin-job"
    (package / "scantwin_clients").mkdir(parents=True)
    (package / "hostile_server.py").write_text(SERVER.format(folder=str(traces)))
    (package / "scantwin_clients" / "__init__.py").write_text("")
    (package / "scantwin_clients" / "client_app.py").write_text(CLIENT.format(folder=str(traces)))
    (package / "pyproject.toml").write_text(PROJECT)
    return package


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """A consortium of which only the SuperLink runs, and one connected site."""
    home = tmp_path_factory.mktemp("home")
    made = Federation(home)
    try:
        made.call("consortium", "init", "--port", str(made.port))
        consortium = Consortium.open(home)
        link, _ = consortium.children()
        link.start()
        made.children.append(link)
        consortium.wait_until_up(link)
        made.call("site", "init", "city")
        made.call("consortium", "enrol", "city", "--key", str(Site.open("city", home).public_key))
        site = made.start_command(
            "run-city", "site", "run", "--superlink", consortium.address, "--ca", str(consortium.ca)
        )
        made.wait_ready(site)
        yield made
    finally:
        made.end()


def run_and_wait(consortium: Consortium, app: Path, seconds: float = 60) -> dict[str, Any]:
    """Starts a run with Flower's own command and waits for its end."""
    run_id = str(call_flwr(consortium.flower_home, "run", str(app), CONNECTION)["run-id"])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        (run,) = call_flwr(consortium.flower_home, "list", CONNECTION, "--run-id", run_id)["runs"]
        if str(run["status"]).startswith("finished"):
            return dict(run)
        time.sleep(0.5)
    raise AssertionError("the run did not end")


def test_a_site_refuses_a_bundle_with_code(federation: Federation, tmp_path: Path) -> None:
    consortium = Consortium.open(federation.home)
    _, conductor = consortium.children()
    # Flower's own executor runs whatever is shipped: this is what a hostile consortium would use.
    superexec = Child(
        "superexec",
        [
            program("flower-superexec"), "--runtime-api-address", consortium.address,
            "--root-certificates", str(consortium.ca),
            "--superexec-auth-secret-file", str(consortium.folder / "superexec.secret"),
        ],
        tmp_path / "superexec.log", conductor.env,
    )  # fmt: skip
    superexec.start()
    try:
        run_and_wait(consortium, hostile_app(tmp_path / "app", tmp_path))
    finally:
        end_all([superexec])
    assert (tmp_path / "server-ran").exists(), superexec.output()
    code, reason = json.loads((tmp_path / "reply.json").read_text())
    assert code == REFUSED_BY_SITE
    assert "files that a job ticket does not have" in reason
    assert not (tmp_path / "client-ran").exists()
    assert not (tmp_path / "client-trained").exists()
    assert [*Site.open("city", federation.home).flower_home.rglob("*.py")] == []


def test_a_conductor_refuses_a_bundle_with_code(federation: Federation, tmp_path: Path) -> None:
    consortium = Consortium.open(federation.home)
    _, conductor = consortium.children()
    conductor.start()
    try:
        run = run_and_wait(consortium, hostile_app(tmp_path / "app", tmp_path))
    finally:
        end_all([conductor])
    assert run["status"] == "finished:failed"
    assert "files that a job ticket does not have" in conductor.output()
    assert not (tmp_path / "server-ran").exists()
