"""TLS and the token: who is let in, and what is refused before the service starts."""

from __future__ import annotations

import datetime
import ipaddress
import logging

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from scantwin.errors import InputError, ServiceError
from scantwin.settings import Settings
from scantwin_twin.client import TwinClient
from scantwin_twin.security import expose, join, read_token, split
from scantwin_twin.server import SERVICE, build

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "twin")])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    (folder / "twin.pem").write_bytes(made.public_bytes(pem))
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "twin.key").write_bytes(key.private_bytes(pem, *plain))
    (folder / "other.key").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(pem, *plain))
    return folder / "twin.pem", folder / "twin.key", folder / "other.key"


@pytest.fixture(scope="module")
def guarded(pair, tmp_path_factory):
    """A service with TLS and a token; nothing is scanned, so there is no worker."""
    exposure = expose("127.0.0.1", 0, certificate=pair[0], key=pair[1], token=TOKEN)
    server = build(Settings(home=tmp_path_factory.mktemp("home")), exposure)
    server.start()
    yield server
    server.stop()


def test_the_right_token_over_tls(guarded, pair):
    with TwinClient(guarded.address, token=TOKEN, ca=pair[0]) as client:
        assert not client.scans().scans


@pytest.mark.parametrize("token", [None, "", "another-token-of-length", TOKEN + "x", TOKEN[:-1]])
def test_any_other_token(guarded, pair, token, tmp_path):
    file = tmp_path / "ct.nii"
    file.write_bytes(b"\x5c\x01\x00\x00" + bytes(400))
    with TwinClient(guarded.address, token=token, ca=pair[0]) as client:
        for call in (client.scans, lambda: list(client.watch("x")), lambda: client.submit(file, model="m")):
            with pytest.raises(ServiceError, match="asks for a token") as caught:
                call()
            assert caught.value.code == "no-token"
            assert TOKEN not in caught.value.message + caught.value.hint


def test_without_tls_nothing_is_said(guarded):
    with (
        TwinClient(guarded.address, token=TOKEN) as client,
        pytest.raises(ServiceError, match="No twin service"),
    ):
        client.scans()


def test_health_is_open_and_reflection_is_not(guarded, pair):
    credentials = grpc.ssl_channel_credentials(pair[0].read_bytes())
    with grpc.secure_channel(guarded.address, credentials) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        listing = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as caught:
            list(listing(iter([ask])))
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        answers = list(listing(iter([ask]), metadata=(("authorization", f"Bearer {TOKEN}"),)))
        assert SERVICE in {service.name for service in answers[0].list_services_response.service}


def test_what_would_lay_scans_open_is_refused(pair):
    certificate, key, other = pair
    for arguments in (
        {}, {"token": TOKEN}, {"certificate": certificate, "key": key},
    ):  # fmt: skip
        with pytest.raises(InputError, match="Other machines can reach"):
            expose("0.0.0.0", 1, **arguments)  # noqa: S104
    with pytest.raises(InputError, match="both"):
        expose("127.0.0.1", 1, certificate=certificate)
    with pytest.raises(InputError, match="fewer than 16"):
        expose("127.0.0.1", 1, token="short")
    with pytest.raises(InputError, match="not a PEM certificate and its"):
        expose("127.0.0.1", 1, certificate=certificate, key=other)
    assert expose("0.0.0.0", 1, certificate=certificate, key=key, token=TOKEN).tls  # noqa: S104


def test_secrets_are_in_no_repr_and_a_loose_file_is_told(pair, tmp_path, caplog):
    exposure = expose("127.0.0.1", 1, certificate=pair[0], key=pair[1], token=TOKEN)
    assert TOKEN not in repr(exposure) and "PRIVATE" not in repr(exposure)
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert read_token(Settings(home=tmp_path), file) == TOKEN
    assert "chmod 600" in caplog.text and TOKEN not in caplog.text
    assert read_token(Settings(home=tmp_path, twin_token=TOKEN), None) == TOKEN
    file.write_text("\n")
    with pytest.raises(InputError, match="empty"):
        read_token(Settings(home=tmp_path), file)


@pytest.mark.parametrize("token", [f"{TOKEN}\n{TOKEN}", "Schlüssel-" + TOKEN, f"{TOKEN}\0", f"a\t{TOKEN}"])
def test_a_token_that_no_client_can_send_is_refused(token, tmp_path):
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(0o600)
    for read in (lambda: read_token(Settings(home=tmp_path), file),
                 lambda: read_token(Settings(home=tmp_path, twin_token=token), None)):  # fmt: skip
        with pytest.raises(InputError, match="one line of printable ASCII") as caught:
            read()
        assert TOKEN not in str(caught.value)


@given(st.sampled_from(["127.0.0.1", "::1", "a.example"]), st.integers(1, 65535))
def test_addresses_come_back(host, port):
    assert split(join(host, port)) == (host, port)


@pytest.mark.parametrize("port", ["", "0", "65536", "5²", "١", "1" * 5000])
def test_what_is_no_address_is_refused(port):
    with pytest.raises(InputError, match="not HOST:PORT"):
        split(f"127.0.0.1:{port}")
