"""The consortium's folder, and what its commands say when it does not run."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest

from scantwin.errors import FederationError, InputError, ResourceError
from scantwin.federation.certificates import server_hosts
from scantwin.federation.consortium import Consortium
from scantwin.federation.enrolment import enrol, readmit, suspend
from scantwin.federation.gateway import nginx_configuration
from scantwin.store.database import Database
from scantwin.store.models import AuditEntry


def test_a_consortium_is_made_once_and_opened(home: Path) -> None:
    made = Consortium.create("North Sea PET", port=9999)
    assert Consortium.open() == made
    assert made.address == "127.0.0.1:9999"
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    for secret in ("ca.key", "server.key", "superexec.secret"):
        assert stat.S_IMODE((made.folder / secret).stat().st_mode) == 0o600
    with pytest.raises(InputError, match="already"):
        Consortium.create("Other")


@pytest.mark.parametrize("name", ["", "a\nb", 'a"b', "x" * 55])
def test_odd_names_are_refused(home: Path, name: str) -> None:
    with pytest.raises(InputError, match="name"):
        Consortium.create(name)


def test_the_longest_name_fits_into_its_certificate(home: Path) -> None:
    assert Consortium.create("x" * 54) == Consortium.open()


@pytest.mark.parametrize("host", ["münchen.example", "a b", ""])
def test_odd_hosts_are_refused_before_anything_is_written(home: Path, host: str) -> None:
    with pytest.raises(InputError, match="is not a host name"):
        Consortium.create("Test", hosts=("pet.example.org", host))
    assert not home.exists()


def test_a_new_certificate_has_the_former_names_and_the_same_authority(home: Path) -> None:
    made = Consortium.create("Test", hosts=("pet.example.org",))
    before = {path.name: path.read_bytes() for path in made.folder.iterdir() if path.is_file()}
    names = made.renew_certificate(("192.0.2.7", "pet.example.org"))
    assert names == server_hosts(made.folder) == ("localhost", "127.0.0.1", "pet.example.org", "192.0.2.7")
    after = {path.name: path.read_bytes() for path in made.folder.iterdir() if path.is_file()}
    assert {name for name in after if after[name] != before.get(name)} == {"server.key", "server.crt"}
    assert after.keys() == before.keys()
    assert stat.S_IMODE((made.folder / "server.key").stat().st_mode) == 0o600
    with pytest.raises(InputError, match="host name"):
        made.renew_certificate(("a b",))


@pytest.mark.parametrize("content", [b"garbage", b"", None])
@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "server.crt", "server.key"])
def test_a_damaged_certificate_is_one_sentence(home: Path, name: str, content: bytes | None) -> None:
    made = Consortium.create("Test", hosts=("pet.example.org",))
    path = made.folder / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    if name != "ca.key":  # without it the consortium runs
        with pytest.raises(InputError, match=f"{name} is missing or not"):
            made.check()
    if name.startswith("ca"):
        with pytest.raises(InputError, match=f"{name} is missing or not") as caught:
            made.renew_certificate()
        assert "Put a copy" in caught.value.hint
        return
    if name == "server.crt":
        with pytest.raises(InputError, match=r"server\.crt is missing") as caught:
            nginx_configuration(made, host="localhost", port=443)
        assert "consortium certificate" in caught.value.hint
    names = made.renew_certificate(("other.example.org",))
    former = () if name == "server.crt" else ("pet.example.org",)
    assert names == ("localhost", "127.0.0.1", *former, "other.example.org")
    made.check()


def test_certificates_that_are_not_each_others_are_told(home: Path, tmp_path: Path) -> None:
    made, other = Consortium.create("Test"), Consortium.create("Test", home=tmp_path / "other")
    made.check()
    for name in ("ca.crt", "ca.key"):
        (made.folder / name).write_bytes((other.folder / name).read_bytes())
    with pytest.raises(InputError, match="not of the authority"):
        made.check()
    made.renew_certificate()
    made.check()


def test_there_is_no_consortium_yet(home: Path) -> None:
    with pytest.raises(InputError, match="no consortium") as caught:
        Consortium.open()
    assert "consortium init" in caught.value.hint


def test_a_spoilt_configuration_is_one_sentence(home: Path) -> None:
    made = Consortium.create("Test")
    for text in ("{", json.dumps({"name": "Test", "port": 0}), json.dumps({"name": "Test", "extra": 1})):
        (made.folder / "consortium.json").write_text(text)
        with pytest.raises(InputError, match="not usable"):
            Consortium.open()


def test_a_busy_port_is_told_before_anything_starts(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = Consortium.create("Test", port=server.getsockname()[1])
        with pytest.raises(ResourceError, match="already in use") as caught:
            made.require_free_port()
    assert "consortium.json" in caught.value.hint and "--port" not in caught.value.hint
    made.require_free_port()


def test_what_needs_the_superlink_says_so(home: Path, tmp_path: Path) -> None:
    from scantwin.federation.certificates import write_site_key

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        made = Consortium.create("Test", port=probe.getsockname()[1])
    key = write_site_key(tmp_path / "key", comment="site")
    database = Database(f"sqlite:///{tmp_path / 'scantwin.db'}").migrate()
    with pytest.raises(FederationError, match="does not run"):
        enrol(made, database, "city", key)
    with pytest.raises(InputError, match="name of a site"):
        enrol(made, database, "City Hospital", key)


def test_a_site_is_suspended_and_readmitted_with_a_reason(database: Database) -> None:
    for change, status in ((suspend, "suspended"), (suspend, "suspended"), (readmit, "active")):
        assert change(database, "city", "reads 15 % high").status == status
    with database.session() as session:
        entries = [(one.action, one.subject, one.detail) for one in session.query(AuditEntry)]
    assert entries == [
        ("site.suspended", "city", {"reason": "reads 15 % high"}),
        ("site.active", "city", {"reason": "reads 15 % high"}),
    ]
    with pytest.raises(InputError, match="No site nowhere"):
        suspend(database, "nowhere", "why")


def test_no_secret_is_an_argument(home: Path) -> None:
    made = Consortium.create("Test")
    secret = (made.folder / "superexec.secret").read_bytes()
    for child in made.children():
        line = " ".join(map(str, child.argv))
        assert secret.hex() not in line
        assert "--insecure" not in line
    link = made.children()[0]
    assert "--enable-supernode-auth" in link.argv
    assert "process" in link.argv
