"""Keys and certificates: the consortium's own authority, its server certificate, the sites' keys."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from scantwin.errors import InputError
from scantwin.files import whole_file, write_private

if TYPE_CHECKING:
    from collections.abc import Sequence

CA_DAYS = 3650
"""Validity of the authority [days]: sites pin it by hand, so it changes rarely."""

SERVER_DAYS = 397
"""Validity of a server certificate [days]: the CA/Browser Forum's longest until 2026 (398)."""

RENEW_DAYS = 60
"""How long before a server certificate expires we warn of it [days]: time for people to plan a restart."""

THIS_MACHINE = ("localhost", "127.0.0.1")
"""Names in every server certificate: the SuperLink listens there, and nginx reaches it under them."""

_RENEW = "scantwin consortium certificate makes another; with --host NAME for every name that sites use."
_LOST = "Put a copy of it back; without one the consortium and every site's ca.crt must be made anew."
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9-]+)*")
_BACKDATE = timedelta(minutes=5)  # hospitals' clocks differ


def write_authority(folder: Path, *, name: str) -> None:
    """Writes `ca.key` (owner only) and `ca.crt` for a new authority called `name`."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA384())
    )
    _write_pair(folder, "ca", key, certificate)


def write_server_certificate(folder: Path, *, hosts: Sequence[str] = THIS_MACHINE) -> None:
    """Writes `server.key` (owner only) and `server.crt` for `hosts`, signed by the folder's authority.

    Flower's clients check the subject alternative names, so these must hold every host name and address.
    Raises `InputError` when the authority is damaged.
    """
    authority = _certificate(folder / "ca.crt", _LOST)
    authority_key = _key_of(authority, folder / "ca.key", _LOST)
    key = ec.generate_private_key(ec.SECP384R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=SERVER_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA384())
    )
    _write_pair(folder, "server", key, certificate)


def check_host(host: str) -> str:
    """The host name or address, provided that a certificate and nginx can hold it."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            raise InputError(f"{host!r} is not a host name.", hint="Write it like pet.example.org.") from None
    return host


def require_certificate(path: Path) -> None:
    """Raises `InputError` unless `path` is a certificate by which sites can trust the consortium."""
    hint = "Ask the consortium for its ca.crt and give it with --ca."
    if not path.is_file():
        raise InputError(f"There is no certificate {path}.", hint=hint)
    try:
        x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        raise InputError(f"{path} is not a certificate (PEM).", hint=hint) from None


def check_certificates(folder: Path) -> None:
    """Raises `InputError` unless sites that trust the folder's authority can connect to its server."""
    authority, server = _certificate(folder / "ca.crt", _LOST), _server_certificate(folder)
    _key_of(server, folder / "server.key", _RENEW)
    try:
        server.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise InputError(f"{folder / 'server.crt'} is not of the authority in ca.crt.", hint=_RENEW) from None


def server_hosts(folder: Path) -> tuple[str, ...]:
    """The names and addresses that the folder's server certificate is for."""
    certificate = _server_certificate(folder)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        raise InputError(f"{folder / 'server.crt'} is for no host.", hint=_RENEW) from None
    return tuple(str(name.value) for name in names)


def is_named(folder: Path, host: str) -> bool:
    """Whether the folder's server certificate covers `host`, the name by which clients call the server."""
    name = _general_name(host.lower())
    return name in [_general_name(known.lower()) for known in server_hosts(folder)]


def server_certificate_ends(folder: Path) -> datetime:
    """When the folder's server certificate expires: from then on nobody can connect."""
    return _server_certificate(folder).not_valid_after_utc


def ends_soon(end: datetime) -> str:
    """A warning if a server certificate expires within `RENEW_DAYS` or already has; else an empty string."""
    days = (end - datetime.now(UTC)).days
    if days >= RENEW_DAYS:
        return ""
    when = f"ends in {days} days" if days >= 0 else "has ended"
    return f"The server certificate {when} ({end:%Y-%m-%d}); renew it: scantwin consortium certificate"


def _server_certificate(folder: Path) -> x509.Certificate:
    return _certificate(folder / "server.crt", _RENEW)


def _certificate(path: Path, hint: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        raise InputError(f"{path} is missing or not a certificate (PEM).", hint=hint) from None


def _key_of(certificate: x509.Certificate, path: Path, hint: str) -> ec.EllipticCurvePrivateKey:
    """The private key at `path`. Raises `InputError` unless it belongs to the certificate."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise InputError(f"{path} is missing or not the key of its certificate.", hint=hint)
    return key


def write_site_key(path: Path, *, comment: str) -> Path:
    """Writes an ECDSA P-384 key at `path` (owner only) and its public half at `path`.pub, as OpenSSH does."""
    key = ec.generate_private_key(ec.SECP384R1())
    write_private(
        path,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        ),
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    target = path.with_name(path.name + ".pub")
    with whole_file(target) as aside:
        aside.write_bytes(public + f" {comment}\n".encode())
    return target


def read_site_key(path: Path) -> str:
    """The public key in the file, as one line without its comment; refuses private keys and other types."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"The key cannot be read: {path}.", hint=error.strerror or "") from None
    if b"PRIVATE KEY" in content:
        raise InputError(
            f"{path} is a private key.",
            hint="Give the file that ends in .pub; the other never leaves the site.",
        )
    try:
        key = serialization.load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise InputError(
            f"{path} is not the public key of a site.", hint="scantwin site init writes key.pub."
        )
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def pem_of(public_key: str) -> bytes:
    """A site's public key in the form in which Flower keeps it (`flwr.supercore.primitives.asymmetric`)."""
    key = serialization.load_ssh_public_key(public_key.encode())
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=signs_certificates,
        crl_sign=signs_certificates, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _write_pair(
    folder: Path, stem: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> None:
    """Writes both files aside, then renames them together: a full disk leaves the former pair as it was."""
    aside_key = write_private(
        folder / f".{stem}.key.part",
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    with whole_file(folder / f"{stem}.crt") as aside:
        aside.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        aside_key.replace(folder / f"{stem}.key")
