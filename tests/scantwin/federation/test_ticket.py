"""A ticket is two text files; a bundle that is anything else is refused before it is unpacked."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from scantwin import __version__
from scantwin.errors import FederationError
from scantwin.federation.ticket import LARGEST_TICKET, Ticket, read_ticket, ticket_from_config, write_ticket

TICKET = Ticket(
    run="ab" * 16, rounds=3, seed=7, recipe={"system": "pix2pix", "name": 'a "quoted" \\ näme'},
    deadline_s=90.5, min_sites=2,
)  # fmt: skip


def build(folder: Path) -> bytes:
    """The bundle that Flower makes of an app's folder."""
    from flwr.cli.build import build_fab_from_disk

    return build_fab_from_disk(folder)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build(write_ticket(TICKET, tmp_path_factory.mktemp("ticket") / "scantwin-job"))


def repack(bundle: bytes, **files: str | bytes | None) -> bytes:
    """The bundle with files added or replaced; `_` stands for a slash, two for a dot."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as old, zipfile.ZipFile(out, "w") as new:
        named = {k.replace("__", ".").replace("_", "/"): v for k, v in files.items()}
        for name in old.namelist():
            if name not in named:
                new.writestr(name, old.read(name))
        for name, content in named.items():
            if content is not None:
                new.writestr(name, content)
    return out.getvalue()


def pyproject(bundle: bytes, old: str, new: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        text = archive.read("pyproject.toml").decode()
    assert old in text
    return repack(bundle, pyproject__toml=text.replace(old, new))


def test_flower_builds_it_and_we_read_it_back(bundle: bytes) -> None:
    assert read_ticket(bundle) == TICKET
    assert len(bundle) < 3_000
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        assert set(archive.namelist()) == {"pyproject.toml", "README.md", ".info/CONTENT"}


def test_flower_accepts_its_configuration(tmp_path: Path) -> None:
    from flwr.common.config import get_fused_config_from_dir

    folder = write_ticket(TICKET, tmp_path / "scantwin-job")
    assert ticket_from_config(get_fused_config_from_dir(folder, {})) == TICKET


@pytest.mark.parametrize(
    "files",
    [
        {"scantwin/clients_client/app__py": "print('mine')"},
        {"sitecustomize__py": "print('mine')"},
        {"payload__so": b"\x7fELF"},
        {"x__pth": "import os"},
        {"README__MD": "another case"},
        {"__/README__md": "up"},
    ],
)
def test_any_other_file_is_refused(bundle: bytes, files: dict[str, Any]) -> None:
    with pytest.raises(FederationError, match="does not have"):
        read_ticket(repack(bundle, **files))


def test_a_file_twice_is_refused(bundle: bytes) -> None:
    out = io.BytesIO(bundle)
    with zipfile.ZipFile(out, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("README.md", "import os")
    with pytest.raises(FederationError, match="twice"):
        read_ticket(out.getvalue())


def test_other_apps_are_refused(bundle: bytes) -> None:
    for old, new in (
        ("scantwin_clients.client_app:app", "os:system"),
        ("scantwin.federation.server_app:app", "my.app:app"),
    ):
        with pytest.raises(FederationError, match="other apps"):
            read_ticket(pyproject(bundle, old, new))


def test_dependencies_are_refused(bundle: bytes) -> None:
    with pytest.raises(FederationError, match="packages"):
        read_ticket(pyproject(bundle, "dependencies = []", 'dependencies = ["evil"]'))


OURS = __version__.split(".")
OTHER_MINOR = f"{OURS[0]}.{int(OURS[1]) + 1}.0"


@pytest.mark.parametrize(
    "theirs", [OTHER_MINOR, f"{int(OURS[0]) + 1}.{OURS[1]}.0", f"{OURS[0]}.{OURS[1]}0.0"]
)
def test_a_ticket_of_another_minor_version_is_refused(bundle: bytes, theirs: str) -> None:
    """Its consortium may prepare scans in another way: the same shapes with another meaning."""
    with pytest.raises(
        FederationError, match=f"ScanTwin {re.escape(theirs)} .*{re.escape(__version__)}"
    ) as no:
        read_ticket(pyproject(bundle, f'version = "{__version__}"', f'version = "{theirs}"'))
    assert "same minor version" in no.value.hint


def test_a_ticket_that_does_not_say_its_version_is_refused(bundle: bytes) -> None:
    for instead in ("", "version = 1"):
        with pytest.raises(FederationError, match="ScanTwin"):
            read_ticket(pyproject(bundle, f'version = "{__version__}"', instead))


def test_a_ticket_of_another_patch_release_is_taken(bundle: bytes) -> None:
    other = f"{OURS[0]}.{OURS[1]}.987"
    assert read_ticket(pyproject(bundle, f'version = "{__version__}"', f'version = "{other}"')) == TICKET


def test_bombs_are_refused(bundle: bytes) -> None:
    with pytest.raises(FederationError, match="too large"):
        read_ticket(b"x" * (LARGEST_TICKET + 1))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.md", b"\0" * 50_000_000)
        archive.writestr("pyproject.toml", "")
    with pytest.raises(FederationError, match="unpacks to more"):
        read_ticket(out.getvalue())


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip at all"])
def test_garbage_is_refused(content: bytes) -> None:
    with pytest.raises(FederationError, match="cannot be read"):
        read_ticket(content)


def test_a_file_that_was_cut_or_changed_is_refused(bundle: bytes) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pyproject.toml", "x = 1\n" * 50)
    spoilt = bytearray(out.getvalue())
    spoilt[30 + len("pyproject.toml")] = 0xFF  # the first byte of what is compressed: no such kind of block
    with pytest.raises(FederationError, match="cannot be read"):
        read_ticket(bytes(spoilt))


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_another_compression_is_refused(bundle: bytes, way: int) -> None:
    """zipfile unpacks these two without a limit, whatever size the directory claims."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as old, zipfile.ZipFile(out, "w", way) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(FederationError, match="packed in another way"):
        read_ticket(out.getvalue())


def test_a_member_longer_than_the_bundle_is_refused(bundle: bytes) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("pyproject.toml", "x = 1\n" * 50)
    spoilt = bytearray(out.getvalue())
    sizes = spoilt.rindex(b"PK\x01\x02") + 20  # packed and unpacked size in the directory (APPNOTE 4.3.12)
    spoilt[sizes : sizes + 8] = (100_000).to_bytes(4, "little") * 2
    with pytest.raises(FederationError, match="cannot be read: EOFError"):
        read_ticket(bytes(spoilt))


def test_a_ticket_without_sense_is_refused(bundle: bytes) -> None:
    for old, new in (
        ("rounds = 3", "rounds = 0"), ("seed = 7", 'sed = "7"'), ("rounds = 3", "rounds = ["),
        ("seed = 7", f"seed = {2**63}"),
    ):  # fmt: skip
        with pytest.raises(FederationError):
            read_ticket(pyproject(bundle, old, new))
