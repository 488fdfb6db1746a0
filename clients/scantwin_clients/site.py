"""A site's folder: who it is, its secrets, and where all that belongs to it lies.

$SCANTWIN_HOME/sites/NAME/
    site.json       name, kind, threads and the policy; the site edits it, nobody else can
    secret          32 random bytes: pseudonyms and the local API (owner only)
    key, key.pub    the site's ECDSA P-384 key in OpenSSH format; key.pub goes to the consortium
    catalogue.db    the studies that were taken in
    held-out.json   pseudonyms of the patients to learn from, and of those held out (owner only)
    cache/          prepared studies
    pictures/       pictures of trainings, a folder for each run; they show a patient (owner only)
    outbox/         finished updates, kept until their run is over
    calibration/    calibration samples that the consortium has not confirmed yet
    logs/, flwr-home/
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scantwin.errors import InputError
from scantwin.federation.kinds import SiteKind
from scantwin.files import write_json, write_private
from scantwin.settings import load_settings

SECRET_BYTES = 32
"""Length of a site's secret [bytes]: the key length of HMAC-SHA256."""

READY = "ready for jobs"
"""What a site's worker logs when it can take jobs; its supervisor looks for it."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_FOLDERS = ("cache", "pictures", "outbox", "calibration", "logs", "flwr-home")


class SitePolicy(BaseModel):
    """What this site agrees to; no consortium lead can override it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    systems: tuple[str, ...] | None = None
    """Systems that may be trained here; `None` allows every system that is installed."""

    max_steps_per_round: int = Field(default=100_000, ge=1)
    """Most training steps that one round may ask for."""

    min_studies: int = Field(default=2, ge=1)
    """With usable studies of fewer patients than this, nothing leaves the site, not even statistics."""


class SiteConfig(BaseModel):
    """The contents of `site.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: SiteKind = "hospital"
    threads: int = Field(default=1, ge=1, le=256)
    """Threads of torch. One by default: bitwise repeatable, and fair between sites on one machine."""

    held_out: float = Field(default=0.25, gt=0.0, lt=1.0)
    """The fraction of the studies that is kept for measuring and never trained on."""

    pictures_every_s: float = Field(default=60.0, ge=0.0)
    """Least time between two pictures of a training [s]; 0 takes none."""

    policy: SitePolicy = SitePolicy()


@dataclass(frozen=True)
class Site:
    """One site on this machine."""

    folder: Path
    config: SiteConfig

    @classmethod
    def create(
        cls,
        name: str,
        home: Path | None = None,
        *,
        kind: str = "hospital",
        threads: int = 1,
        secret: bytes | None = None,
    ) -> Site:
        """Makes the site's folder, its secret and its key. Raises `InputError` if it exists already.

        With the `secret` of a former site, its patients keep their pseudonyms.
        """
        from scantwin.federation.certificates import write_site_key

        folder = _folder(name, home)
        if secret is not None and len(secret) != SECRET_BYTES:
            raise InputError(
                f"A site's secret has {SECRET_BYTES} bytes, this one {len(secret)}.",
                hint="Take the file `secret` of the former site's folder.",
            )
        if (folder / "site.json").exists():
            raise InputError(
                f"The site {name} exists already: {folder}.", hint="Choose another name, or use this one."
            )
        try:
            config = SiteConfig.model_validate({"name": name, "kind": kind, "threads": threads})
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"{first['loc'][0]}: {first['msg']}.", hint="See scantwin site init --help."
            ) from None
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # scans and secrets lie below
        for part in _FOLDERS:
            (folder / part).mkdir(exist_ok=True)
        write_private(folder / "secret", secret or secrets.token_bytes(SECRET_BYTES))
        write_site_key(folder / "key", comment=f"scantwin-site-{name}")
        # Written last, this file makes it a site: an interrupted init can be repeated.
        write_json(folder / "site.json", config.model_dump(mode="json"))
        return cls(folder, config)

    @classmethod
    def open(cls, name: str | None = None, home: Path | None = None) -> Site:
        """Opens a site; without a name, the only one on this machine."""
        folder = _folder(name or _only_site(home), home)
        path = folder / "site.json"
        if not path.is_file():
            raise InputError(
                f"There is no site {folder.name} in {folder.parent}.",
                hint=f"scantwin site init {folder.name}",
            )
        try:
            config = SiteConfig.model_validate(json.loads(path.read_text()))
        except (ValidationError, ValueError) as error:
            detail = (
                error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
            )
            where = ".".join(str(part) for part in detail["loc"])
            raise InputError(
                f"{path} is not usable: {where} {detail['msg']}.", hint="Mend this file."
            ) from None
        if config.name != folder.name:
            raise InputError(
                f"{path} names the site {config.name!r}, but its folder is {folder.name}.",
                hint="Write the folder's name into it, or give the folder the name that was enrolled.",
            )
        for part in _FOLDERS:
            (folder / part).mkdir(exist_ok=True)
        return cls(folder, config)

    @property
    def name(self) -> str:
        """The site's name in the consortium."""
        return self.config.name

    @property
    def secret(self) -> bytes:
        """32 bytes that never leave this machine."""
        return read_secret(self.folder)

    @property
    def key(self) -> Path:
        """The private key that proves to the consortium who is calling."""
        return self.folder / "key"

    @property
    def public_key(self) -> Path:
        """The public key: what the consortium needs to enrol this site."""
        return self.folder / "key.pub"

    @property
    def held_out_patients(self) -> Path:
        """The file that says which patients are held out, and stay so."""
        return self.folder / "held-out.json"

    @property
    def cache(self) -> Path:
        """Prepared studies."""
        return self.folder / "cache"

    @property
    def pictures(self) -> Path:
        """Pictures of trainings, a folder for each run; they show a patient and never leave."""
        return self.folder / "pictures"

    @property
    def outbox(self) -> Path:
        """Finished updates."""
        return self.folder / "outbox"

    @property
    def calibration(self) -> Path:
        """Calibration samples that the consortium has not confirmed yet, one JSON file each."""
        return self.folder / "calibration"

    @property
    def logs(self) -> Path:
        """Logs of the site's processes."""
        return self.folder / "logs"

    @property
    def flower_home(self) -> Path:
        """Flower's own folder for this site."""
        return self.folder / "flwr-home"


def read_secret(folder: Path) -> bytes:
    """The secret in a site's folder. Raises `InputError` unless it is whole: a short one protects nobody."""
    path = folder / "secret"
    if not path.is_file() and not (folder / "site.json").is_file():
        raise InputError(f"{folder} is not a site's folder.", hint="scantwin site init NAME")
    secret = path.read_bytes() if path.is_file() else b""
    if len(secret) != SECRET_BYTES:
        raise InputError(
            f"{path} is damaged: a site's secret has {SECRET_BYTES} bytes, this one {len(secret)}.",
            hint="Put back a copy of it; with another secret all patients have other pseudonyms.",
        )
    return secret


def sites(home: Path | None = None) -> list[str]:
    """The names of the sites on this machine, sorted."""
    return sorted(path.parent.name for path in _sites_folder(home).glob("*/site.json"))


def check_name(name: str) -> str:
    """The name, if a site may have it: it becomes a folder and crosses the wire."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a site.",
            hint="Use 1 to 32 small letters, digits and hyphens, for example rural-1.",
        )
    return name


def _only_site(home: Path | None) -> str:
    names = sites(home)
    if len(names) == 1:
        return names[0]
    if not names:
        raise InputError(f"There is no site in {_sites_folder(home)}.", hint="scantwin site init NAME")
    raise InputError("Several sites live here.", hint=f"Choose one with --site: {', '.join(names)}.")


def _sites_folder(home: Path | None) -> Path:
    return (home or load_settings().home).absolute() / "sites"


def _folder(name: str, home: Path | None) -> Path:
    return _sites_folder(home) / check_name(name)
