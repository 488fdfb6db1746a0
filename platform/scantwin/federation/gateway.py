"""The gateway in front of the SuperLink: what sites may reach from outside, and nothing else.

The SuperLink serves everything on one port, and whoever can reach that port and holds the CA certificate can
list nodes and start runs. So the SuperLink stays on loopback, and nginx forwards only what sites need.
"""

from __future__ import annotations

from pathlib import Path

from scantwin.errors import InputError
from scantwin.federation.certificates import check_host, is_named
from scantwin.federation.consortium import Consortium

FLEET = "^/v1/fleet/[a-z-]+$"
"""The only paths that sites need: their own activation, messages and objects."""

LARGEST_BODY = "64m"
"""Largest request: Flower sends objects in pieces of 5 MB (`FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE`)."""


def nginx_configuration(consortium: Consortium, *, host: str, port: int) -> str:
    """An nginx `http` block for `host`:`port` that lets sites through to the SuperLink's fleet paths."""
    check_host(host)
    folder = consortium.folder
    if not is_named(folder, host):
        raise InputError(
            f"The server certificate is not for {host}: no site could connect by that name.",
            hint=f"scantwin consortium certificate --host {host}",
        )
    return f"""# ScanTwin gateway of the consortium {consortium.config.name}. Include it inside `http {{ }}`.
limit_conn_zone $binary_remote_addr zone=scantwin_sites:1m;

server {{
    listen {port} ssl;
    server_name {host};
    ssl_certificate     {_quoted(folder / "server.crt")};
    ssl_certificate_key {_quoted(folder / "server.key")};
    ssl_protocols TLSv1.2 TLSv1.3;
    server_tokens off;

    location ~ {FLEET} {{
        proxy_pass https://{consortium.address};
        proxy_ssl_trusted_certificate {_quoted(consortium.ca)};
        proxy_ssl_verify on;
        proxy_ssl_name localhost;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        client_max_body_size {LARGEST_BODY};
        proxy_request_buffering off;
        proxy_read_timeout 300s;
        limit_conn scantwin_sites 64;
    }}

    # Everything else (control, runtime, documentation) is for this machine only.
    location / {{
        return 403;
    }}

    # A closed connection costs a SuperNode its session: keep it for as long as a round may take.
    keepalive_timeout 3600s;
    keepalive_requests 1000000;
}}
"""


def _quoted(path: Path) -> str:
    text = str(path)
    if '"' in text or "\n" in text or "$" in text:
        raise InputError(f"nginx cannot name the path {text}.", hint="Choose another SCANTWIN_HOME.")
    return f'"{text}"'
