"""The certificates serve a real TLS connection, and keys are what Flower reads."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from scantwin.errors import InputError
from scantwin.federation.certificates import (
    ends_soon,
    read_site_key,
    require_certificate,
    server_certificate_ends,
    write_authority,
    write_server_certificate,
    write_site_key,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certificates")
    write_authority(made, name="North Sea PET")
    write_server_certificate(made, hosts=("localhost", "127.0.0.1", "pet.example.org"))
    return made


def handshake(folder: Path, ca: Path, name: str) -> str:
    """Connects by TLS to a server with the folder's certificate; returns the protocol."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / "server.crt", folder / "server.key")
    client_side = ssl.create_default_context(cafile=str(ca))
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            server_side.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_side.wrap_socket(here, server_hostname=name) as connection:
            return str(connection.version())
    finally:
        here.close()
        thread.join()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "pet.example.org"])
def test_clients_that_trust_the_authority_connect(folder: Path, name: str) -> None:
    assert handshake(folder, folder / "ca.crt", name) == "TLSv1.3"


def test_another_name_is_not_trusted(folder: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(folder, folder / "ca.crt", "other.example.org")


def test_another_authority_is_not_trusted(folder: Path, tmp_path: Path) -> None:
    write_authority(tmp_path, name="North Sea PET")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(folder, tmp_path / "ca.crt", "localhost")


def test_private_halves_are_the_owners_only(folder: Path, tmp_path: Path) -> None:
    write_site_key(tmp_path / "key", comment="site")
    for path in (folder / "ca.key", folder / "server.key", tmp_path / "key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_site_keys_are_what_flower_reads(tmp_path: Path) -> None:
    public = write_site_key(tmp_path / "key", comment="site")
    key = load_ssh_private_key((tmp_path / "key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP384R1)
    assert read_site_key(public).startswith("ecdsa-sha2-nistp384 ")


def test_a_private_key_is_not_enrolled(tmp_path: Path) -> None:
    write_site_key(tmp_path / "key", comment="site")
    with pytest.raises(InputError, match="private key"):
        read_site_key(tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"ssh-ed25519 AAAA", b"\x00\xff" * 50])
def test_other_files_are_not_keys(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.pub").write_bytes(content)
    with pytest.raises(InputError, match="not the public key"):
        read_site_key(tmp_path / "odd.pub")
    with pytest.raises(InputError, match="cannot be read"):
        read_site_key(tmp_path / "missing.pub")


def test_the_end_of_a_certificate_is_told_in_time(folder: Path) -> None:
    assert ends_soon(server_certificate_ends(folder)) == "", "it is new"
    now = datetime.now(UTC)
    assert "ends in 59 days" in ends_soon(now + timedelta(days=59, hours=1))
    assert "has ended" in ends_soon(now - timedelta(hours=1))
    assert ends_soon(now + timedelta(days=60, hours=1)) == ""


def test_a_pair_that_cannot_be_written_leaves_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_authority(tmp_path, name="Test")
    write_server_certificate(tmp_path)

    def full(_path: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk, pytest.raises(OSError, match="No space"):
        disk.setattr(Path, "write_bytes", full)
        write_server_certificate(tmp_path)
    assert handshake(tmp_path, tmp_path / "ca.crt", "localhost") == "TLSv1.3"


def test_what_sites_trust_is_a_certificate(folder: Path, tmp_path: Path) -> None:
    require_certificate(folder / "ca.crt")
    (tmp_path / "other.crt").write_text("hello")
    for path in (tmp_path / "other.crt", folder / "ca.key"):
        with pytest.raises(InputError, match="not a certificate"):
            require_certificate(path)
    with pytest.raises(InputError, match="no certificate"):
        require_certificate(tmp_path / "none.crt")
