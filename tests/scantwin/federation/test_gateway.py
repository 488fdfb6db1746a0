"""A real nginx with our configuration: sites get through, the rest of the SuperLink is out of reach."""

from __future__ import annotations

import shutil
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from scantwin.errors import InputError
from scantwin.federation.consortium import Consortium
from scantwin.federation.gateway import nginx_configuration
from scantwin.federation.processes import Child, end_all, wait_for_port

# Answers every path with its own name, over TLS with the consortium's certificate, as the SuperLink would.
ECHO = """
import http.server, ssl, sys
class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200); self.end_headers(); self.wfile.write(self.path.encode())
    do_POST = do_GET
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Echo)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Consortium, int]]:
    """A consortium whose port is answered by an echo, behind nginx."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx is not installed here")
    home = tmp_path_factory.mktemp("home")
    consortium = Consortium.create("Test", port=free_port(), hosts=("pet.example.org",), home=home)
    port = free_port()
    (home / "gateway.conf").write_text(nginx_configuration(consortium, host="localhost", port=port))
    (home / "nginx.conf").write_text(
        f"daemon off; pid {home}/pid; error_log stderr; events {{ }}\n"
        f"http {{ access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p;\n"
        f"fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;\n"
        f"include {home}/gateway.conf; }}\n"
    )
    folder = consortium.folder
    children = [
        Child(
            "echo",
            [
                sys.executable, "-c", ECHO, str(consortium.config.port), str(folder / "server.crt"),
                str(folder / "server.key"),
            ],
            home / "echo.log",
        ),
        Child("nginx", [nginx, "-e", "stderr", "-c", str(home / "nginx.conf")], home / "nginx.log"),
    ]  # fmt: skip
    try:
        for child, wanted in zip(children, (consortium.config.port, port), strict=True):
            child.start()
            assert wait_for_port("127.0.0.1", wanted, timeout_s=15, child=child), child.output()
        yield consortium, port
    finally:
        end_all(children)


def ask(gateway: tuple[Consortium, int], path: str, body: bytes | None = None) -> tuple[int, bytes]:
    consortium, port = gateway
    trust = ssl.create_default_context(cafile=str(consortium.ca))
    request = urllib.request.Request(f"https://localhost:{port}{path}", data=body)
    try:
        with urllib.request.urlopen(request, context=trust, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


def test_sites_get_through(gateway: tuple[Consortium, int]) -> None:
    assert ask(gateway, "/v1/fleet/pull-messages") == (200, b"/v1/fleet/pull-messages")
    assert ask(gateway, "/v1/fleet/push-object", b"x" * 6_000_000)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/health", "/v1/control/start-run", "/v1/runtime/acquire-task", "/v1/fleet", "/v1/fleetx/",
     "/v1/fleet/../control/list-runs", "/v1/fleet/%2e%2e/control/list-runs", "//v1/control/list-runs"],
)  # fmt: skip
def test_nothing_else_does(gateway: tuple[Consortium, int], path: str) -> None:
    assert ask(gateway, path)[0] in (301, 400, 403)


def test_odd_hosts_and_paths_are_refused(tmp_path: Path) -> None:
    consortium = Consortium.create("Test", hosts=("pet.example.org",), home=tmp_path / "home")
    for host in ("a b", "x; include /etc/passwd", "", "x}"):
        with pytest.raises(InputError, match="host name"):
            nginx_configuration(consortium, host=host, port=443)
    odd = Consortium.create("Test", hosts=("pet.example.org",), home=tmp_path / 'a"b')
    with pytest.raises(InputError, match="path"):
        nginx_configuration(odd, host="pet.example.org", port=443)


def test_a_host_that_the_certificate_does_not_name_is_refused(tmp_path: Path) -> None:
    consortium = Consortium.create("Test", hosts=("pet.example.org", "192.0.2.7"), home=tmp_path)
    for host in ("pet.example.org", "PET.example.org", "192.0.2.7"):
        assert f"server_name {host};" in nginx_configuration(consortium, host=host, port=443)
    for host in ("ct.example.org", "192.0.2.8", "example.org"):
        with pytest.raises(InputError, match="not for") as caught:
            nginx_configuration(consortium, host=host, port=443)
        assert caught.value.hint == f"scantwin consortium certificate --host {host}"
