"""Settings of this machine: environment variables `SCANTWIN_*`, frozen, unknown keys refused."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from scantwin.errors import InputError


class Settings(BaseSettings):
    """Where state lives and how it is reached.

    `SCANTWIN_HOME`: folder of all state (default `~/.scantwin`).
    `SCANTWIN_DATABASE_URL`: SQLAlchemy URL; default is SQLite in the home folder.
    `SCANTWIN_REGISTRY_URL`: fsspec URL of the model registry's files; default is in the home folder.
    `SCANTWIN_DEVICE`: where networks work: cpu (default), cuda, or cuda:1 of several GPUs.
    `SCANTWIN_TWIN_TOKEN`: the token that the twin service asks for when it is not on loopback.
    """

    model_config = SettingsConfigDict(env_prefix="SCANTWIN_", frozen=True, extra="forbid")

    home: Path = Field(default_factory=lambda: Path.home() / ".scantwin")
    database_url: SecretStr | None = None
    registry_url: str | None = None
    device: str = "cpu"
    twin_token: SecretStr | None = None

    @cached_property
    def database(self) -> str:
        """The database's SQLAlchemy URL. It may hold a password: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        from sqlalchemy.engine import URL  # not before it is wanted: every command reads settings

        # A home may be called "50%20" or "what?": in a URL these mean something else.
        made = URL.create("sqlite", database=str(self.home.absolute() / "scantwin.db"))
        return made.render_as_string(hide_password=False)

    @cached_property
    def registry(self) -> str:
        """The fsspec URL under which the model registry keeps its files."""
        return self.registry_url or str(self.home.absolute() / "registry")


def load_settings(**overrides: object) -> Settings:
    """The settings of the environment, with overrides. Raises `InputError` on a bad value."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "SCANTWIN_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InputError(
            f"The setting {name} is not usable: {first['msg']}.", hint="Unset or mend it."
        ) from None
