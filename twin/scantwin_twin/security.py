"""Who may reach the service: loopback without TLS, any other address only with TLS and a token.

The token never comes from the argument list, which others on the machine can read: it comes from
`SCANTWIN_TWIN_TOKEN` or a file. It is compared in constant time and appears in no log and no `repr`.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from scantwin.addresses import host_and_port, is_loopback
from scantwin.errors import InputError
from scantwin.settings import Settings
from scantwin_twin.refusals import abort, refuse

log = logging.getLogger(__name__)

SHORTEST_TOKEN: Final = 16
"""Characters; a shorter one can be guessed over a network."""

_OPEN: Final = "/grpc.health.v1.Health/"
"""Health says nothing about patients, and load balancers have no token."""


def join(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def split(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`."""
    found = host_and_port(address)
    if found is None:
        raise InputError(f"The address {address!r} is not HOST:PORT.", hint="For example 127.0.0.1:50071.")
    host, port = found
    return host.strip("[]"), port


@dataclass(frozen=True)
class Exposure:
    """Where the service listens and what it requires of those who call."""

    host: str
    port: int
    certificate: bytes | None = field(default=None, repr=False)
    """PEM chain."""
    key: bytes | None = field(default=None, repr=False)
    """PEM private key."""
    token: str | None = field(default=None, repr=False)

    @property
    def tls(self) -> bool:
        """Whether calls are encrypted."""
        return self.certificate is not None

    def credentials(self) -> grpc.ServerCredentials | None:
        """gRPC's server credentials, or None without TLS."""
        if self.certificate is None:
            return None
        return grpc.ssl_server_credentials([(self.key, self.certificate)])


def expose(
    host: str,
    port: int,
    *,
    certificate: Path | None = None,
    key: Path | None = None,
    token: str | None = None,
) -> Exposure:
    """The exposure asked for. Raises `InputError` if it would lay patients' scans open."""
    if (certificate is None) != (key is None):
        raise InputError("TLS needs both --tls-cert and --tls-key.", hint="Give both PEM files, or neither.")
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise InputError(
            f"The token has fewer than {SHORTEST_TOKEN} characters.", hint="Make one: `openssl rand -hex 32`."
        )
    if not is_loopback(host) and (certificate is None or token is None):
        raise InputError(
            f"Other machines can reach the address {host}: that needs --tls-cert, --tls-key and a token.",
            hint="Give them (the token by SCANTWIN_TWIN_TOKEN or --token-file), or stay on --host 127.0.0.1.",
        )
    if certificate is None or key is None:
        return Exposure(host, port, token=token)
    _check_pair(certificate, key)
    return Exposure(host, port, certificate.read_bytes(), key.read_bytes(), token)


def read_token(settings: Settings, file: Path | None) -> str | None:
    """The token from `--token-file`, else from `SCANTWIN_TWIN_TOKEN`, else None."""
    if file is None:
        given = settings.twin_token
        return _sendable(given.get_secret_value().strip(), "SCANTWIN_TWIN_TOKEN") if given else None
    token = _sendable(file.read_text(encoding="utf-8", errors="replace").strip(), f"The token file {file}")
    if not token:
        raise InputError(f"The token file {file} is empty.", hint="Write one line: `openssl rand -hex 32`.")
    if file.stat().st_mode & 0o077:
        log.warning("the token file %s can be read by others: chmod 600 it", file)
    return token


def _sendable(token: str, where: str) -> str:
    """`token`, if a client can send it in a header: nobody could ever present any other."""
    if not (token.isascii() and token.isprintable()):
        raise InputError(
            f"{where} holds more than one line of printable ASCII characters.",
            hint="Make a token: `openssl rand -hex 32`.",
        )
    return token


class TokenGate(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc brings no types
    """Lets a call in only with the right `authorization: Bearer TOKEN`."""

    def __init__(self, token: str) -> None:
        self._wanted = _digest(f"Bearer {token}")

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Called by gRPC before every call."""
        if handler_call_details.method.startswith(_OPEN):
            return continuation(handler_call_details)
        given = dict(handler_call_details.invocation_metadata).get("authorization", "")
        # All digests have the same length, so the comparison reveals nothing about the token's.
        if hmac.compare_digest(_digest(given), self._wanted):
            return continuation(handler_call_details)
        return grpc.stream_stream_rpc_method_handler(_deny)


def _deny(_requests: Any, context: Any) -> None:
    abort(context, refuse("no-token"))


def _digest(text: str | bytes) -> bytes:
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).digest()


def _check_pair(certificate: Path, key: Path) -> None:
    """Refuses a wrong pair: gRPC itself would accept it and then fail every handshake silently."""
    for file in (certificate, key):
        with file.open("rb"):
            pass
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, ValueError):
        raise InputError(
            f"{certificate} and {key} are not a PEM certificate and its unencrypted private key.",
            hint="Check the files; see docs/twin.md.",
        ) from None
