"""A site's folder, its secrets, its name."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from scantwin.errors import InputError
from scantwin_clients.catalogue import Catalogue
from scantwin_clients.pseudonyms import study_pseudonym
from scantwin_clients.site import Site, sites


def test_a_site_is_made_and_opened(home: Path) -> None:
    made = Site.create("rural-1", kind="rural-clinic")
    opened = Site.open("rural-1")
    assert opened == made
    assert opened.folder == home.absolute() / "sites" / "rural-1"
    assert len(opened.secret) == 32
    assert Site.open() == made
    assert sites() == ["rural-1"]
    assert opened.config.threads == 1


def test_secrets_are_the_owners_only(home: Path) -> None:
    site = Site.create("rural-1")
    for path in (site.key, site.folder / "secret"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(site.folder.stat().st_mode) == 0o700


def test_two_sites_have_two_secrets_and_keys(home: Path) -> None:
    one, other = Site.create("city"), Site.create("rural-1")
    assert one.secret != other.secret
    assert one.public_key.read_text() != other.public_key.read_text()
    with pytest.raises(InputError, match="Several sites"):
        Site.open()


@pytest.mark.parametrize("name", ["", "Rural", "a b", "../up", "-a", "a-", "a" * 33, "né", "a\n"])
def test_odd_names_are_refused(home: Path, name: str) -> None:
    with pytest.raises(InputError, match="name of a site"):
        Site.create(name)
    assert not (home / "sites").exists()


@pytest.mark.parametrize("secret", [b"", b"short", bytes(33)])
def test_a_damaged_secret_is_not_used(home: Path, secret: bytes) -> None:
    """HMAC takes any key: pseudonyms under an empty one could be found by trying identifiers."""
    site = Site.create("city")
    (site.folder / "secret").write_bytes(secret)
    with pytest.raises(InputError, match=f"32 bytes, this one {len(secret)}"):
        _ = site.secret
    with pytest.raises(InputError, match="32 bytes"):
        Catalogue(site.folder)


def test_a_site_is_made_once(home: Path) -> None:
    secret = Site.create("city").secret
    with pytest.raises(InputError, match="exists already"):
        Site.create("city")
    assert Site.open("city").secret == secret


def test_an_interrupted_init_can_be_repeated(home: Path) -> None:
    Site.create("city")
    (home / "sites" / "city" / "site.json").unlink()
    with pytest.raises(InputError, match="no site"):
        Site.open("city")
    assert Site.create("city").name == "city"


def test_a_spoilt_configuration_is_one_sentence(home: Path) -> None:
    site = Site.create("city")
    path = site.folder / "site.json"
    for spoilt in (
        "{",
        "[]",
        json.dumps({"name": "city", "thread": 2}),
        json.dumps({"name": "city", "threads": 0}),
    ):
        path.write_text(spoilt)
        with pytest.raises(InputError, match="not usable"):
            Site.open("city")


def test_a_folder_that_was_renamed_or_copied_is_no_site(home: Path) -> None:
    """Its jobs are for the site of its key, and its seeds and held-out patients are by its name."""
    folder = Site.create("city").folder
    folder.rename(folder.with_name("town"))
    with pytest.raises(InputError, match="'city', but its folder is town"):
        Site.open("town")


def test_there_is_no_site_yet(home: Path) -> None:
    with pytest.raises(InputError, match="no site") as caught:
        Site.open()
    assert "site init" in caught.value.hint


def test_a_site_that_comes_back_with_its_secret_keeps_its_pseudonyms(tmp_path: Path) -> None:
    first = Site.create("city", tmp_path / "old")
    again = Site.create("city", tmp_path / "new", secret=first.secret)
    stranger = Site.create("city", tmp_path / "other")
    named = [study_pseudonym(site.secret, "patient 1", "study 1") for site in (first, again, stranger)]
    assert named[0] == named[1] != named[2]
    with pytest.raises(InputError, match="32 bytes"):
        Site.create("town", tmp_path / "bad", secret=b"short")
