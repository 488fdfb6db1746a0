"""The consortium's folder and its two programs: the SuperLink and the conductor.

$SCANTWIN_HOME/consortium/
    consortium.json           name, host, port
    ca.crt, ca.key            its authority; ca.crt goes to every site
    server.crt, server.key    the SuperLink's certificate
    superexec.secret          what the conductor signs its requests with (owner only)
    link.db                   Flower's own state: a run survives a crash of the SuperLink
    tickets/                  each run's ticket, and its sites' statistics until it is finished
    logs/, flwr-home/
"""

from __future__ import annotations

import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scantwin.errors import FederationError, InputError, ResourceError
from scantwin.federation.certificates import (
    THIS_MACHINE,
    check_certificates,
    check_host,
    server_hosts,
    write_authority,
    write_server_certificate,
)
from scantwin.federation.flower import flower_env, write_connection
from scantwin.federation.processes import Child, program, require_free_port, wait_for_port
from scantwin.files import write_json, write_private
from scantwin.settings import load_settings

DEFAULT_PORT = 9443
"""The SuperLink's port."""

START_S = 60.0
"""How long the SuperLink may take to answer [s]: at its first start it creates its tables."""

_FOLDERS = ("tickets", "logs", "flwr-home")


class ConsortiumConfig(BaseModel):
    """The contents of `consortium.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,53}$")
    """With " authority" appended it is an X.509 common name, which has at most 64 letters (RFC 5280)."""
    host: str = "127.0.0.1"
    """Keep it on loopback: whoever reaches the SuperLink itself can start runs (docs/federation.md)."""
    port: int = Field(default=DEFAULT_PORT, ge=1, le=65535)


@dataclass(frozen=True)
class Consortium:
    """The consortium on this machine."""

    folder: Path
    config: ConsortiumConfig

    @classmethod
    def create(
        cls, name: str, *, port: int = DEFAULT_PORT, hosts: tuple[str, ...] = (), home: Path | None = None
    ) -> Consortium:
        """Makes the folder, the authority, the server certificate and the secret.

        `hosts` are further names and addresses under which sites reach the SuperLink.
        """
        folder = _folder(home)
        if (folder / "consortium.json").exists():
            raise InputError(
                f"There is a consortium already: {folder}.", hint="Use it, or remove its folder."
            )
        try:
            config = ConsortiumConfig(name=name, port=port)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{first['loc'][0]}: {first['msg']}.", hint="Choose another.") from None
        names = dict.fromkeys((*THIS_MACHINE, *map(check_host, hosts)))
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for part in _FOLDERS:
            (folder / part).mkdir(exist_ok=True)
        write_authority(folder, name=name)
        write_server_certificate(folder, hosts=tuple(names))
        write_private(folder / "superexec.secret", secrets.token_bytes(32))
        # Written last, this file makes it a consortium: an interrupted init can be repeated.
        write_json(folder / "consortium.json", config.model_dump(mode="json"))
        return cls(folder, config)

    @classmethod
    def open(cls, home: Path | None = None) -> Consortium:
        """Opens the consortium on this machine."""
        path = _folder(home) / "consortium.json"
        try:
            return cls(path.parent, ConsortiumConfig.model_validate(json.loads(path.read_text())))
        except FileNotFoundError:
            raise InputError(
                f"There is no consortium in {path.parent}.", hint="scantwin consortium init"
            ) from None
        except (ValidationError, ValueError):
            raise InputError(f"{path} is not usable.", hint="Mend or remove it.") from None

    def renew_certificate(self, hosts: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Writes a new server certificate of the same authority; returns its names: the former and `hosts`.

        If the former certificate is damaged or gone, its names are taken as `THIS_MACHINE`. Sites keep their
        ca.crt. Running programs go on with the former certificate until they are restarted.
        """
        try:
            former = server_hosts(self.folder)
        except InputError:
            former = THIS_MACHINE
        names = tuple(dict.fromkeys((*former, *map(check_host, hosts))))
        write_server_certificate(self.folder, hosts=names)
        return names

    @property
    def address(self) -> str:
        """Where the SuperLink listens, as host:port."""
        return f"{self.config.host}:{self.config.port}"

    @property
    def ca(self) -> Path:
        """The certificate that sites trust."""
        return self.folder / "ca.crt"

    @property
    def flower_home(self) -> Path:
        """Flower's own folder for the consortium, with the `config.toml` of the `flwr` command."""
        return self.folder / "flwr-home"

    @property
    def tickets(self) -> Path:
        """The folder of its runs' job tickets."""
        return self.folder / "tickets"

    def statistics_of(self, run_id: str) -> Path:
        """Where the sites' training statistics of a run are kept until it is finished."""
        return self.tickets / run_id / "statistics.safetensors"

    def check(self) -> None:
        """Raises `InputError` if a certificate is damaged: its programs would be restarted for ever."""
        check_certificates(self.folder)

    def require_free_port(self) -> None:
        """Raises `ResourceError` if something already listens on our port."""
        choose = f"Write another port into {self.folder / 'consortium.json'} (and the gateway's file anew)"
        require_free_port(self.config.host, self.config.port, what="The SuperLink", choose=choose)

    def children(self) -> list[Child]:
        """The SuperLink and the conductor."""
        write_connection(self.flower_home, self.address, self.ca)
        env, secret = flower_env(self.flower_home), self.folder / "superexec.secret"
        link = Child(
            "superlink",
            [
                program("flower-superlink"), "--host", self.config.host, "--port", str(self.config.port),
                "--ssl-ca-certfile", str(self.ca), "--ssl-certfile", str(self.folder / "server.crt"),
                "--ssl-keyfile", str(self.folder / "server.key"), "--enable-supernode-auth",
                "--database", str(self.folder / "link.db"), "--isolation", "process",
                "--superexec-auth-secret-file", str(secret), "--disable-runtime-dependency-installation",
            ],
            self.folder / "logs" / "superlink.log", env,
        )  # fmt: skip
        conductor = Child(
            "conductor",
            [
                sys.executable, "-P", "-m", "scantwin.federation.conductor", "--address", self.address,
                "--ca", str(self.ca), "--secret-file", str(secret),
            ],
            self.folder / "logs" / "conductor.log", env,
        )  # fmt: skip
        return [link, conductor]

    def wait_until_up(self, link: Child) -> None:
        """Waits until the SuperLink answers. Raises `ResourceError` with its last words if it does not."""
        if not wait_for_port(self.config.host, self.config.port, timeout_s=START_S, child=link):
            raise ResourceError(
                f"The SuperLink did not start: {link.last_words(3) or 'it said nothing'}",
                hint=f"See {link.log}.",
            )

    def require_running(self) -> None:
        """Raises `FederationError` unless the SuperLink answers."""
        if not wait_for_port(self.config.host, self.config.port, timeout_s=0.5):
            raise FederationError(
                f"The consortium does not run: nothing answers at {self.address}.",
                hint="scantwin consortium start",
            )


def _folder(home: Path | None) -> Path:
    return (home or load_settings().home).absolute() / "consortium"
