"""Settings of this machine: environment variables `SCANTWIN_*`, frozen; a near miss of a name is refused."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from scantwin.errors import InputError

_PREFIX: Final = "SCANTWIN_"

_OTHERS: Final = ("DEBUG",)
"""Variables, without the prefix, that are not settings but are read where they are needed."""

_NEAR: Final = 0.75
"""A variable at least this similar to a setting's name (`difflib`: share of common letters) was meant for it:
DATABSE_URL has 0.96; TWIN_PORT and VERSION, which a deployment may define for itself, are below 0.7."""


class Settings(BaseSettings):
    """Where state lives and how it is reached.

    `SCANTWIN_HOME`: folder of all state (default `~/.scantwin`).
    `SCANTWIN_DATABASE_URL`: SQLAlchemy URL; default is SQLite in the home folder.
    `SCANTWIN_REGISTRY_URL`: fsspec URL of the model registry's files; default is in the home folder.
    `SCANTWIN_DEVICE`: where networks run: cpu (default), cuda, or cuda:1 of several GPUs.
    `SCANTWIN_TWIN_TOKEN`: a token that the twin service then asks for; beyond loopback it must have one.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    home: Path = Field(default_factory=lambda: Path.home() / ".scantwin")
    database_url: SecretStr | None = None
    registry_url: str | None = None
    device: str = "cpu"
    twin_token: SecretStr | None = None

    @field_validator("home")
    @classmethod
    def _expanded(cls, home: Path) -> Path:
        try:
            return home.expanduser()
        except RuntimeError:
            raise ValueError(f"there is no user of {home.parts[0]}") from None

    @cached_property
    def database(self) -> str:
        """The database's SQLAlchemy URL. It may hold a password: never log it."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        from sqlalchemy.engine import URL  # local, since every command reads settings

        # A home may be called "50%20" or "what?": in a URL these mean something else.
        made = URL.create("sqlite", database=str(self.home.absolute() / "scantwin.db"))
        return made.render_as_string(hide_password=False)

    @cached_property
    def registry(self) -> str:
        """The fsspec URL under which the model registry keeps its files."""
        return self.registry_url or str(self.home.absolute() / "registry")


def load_settings(**overrides: object) -> Settings:
    """The settings from the environment, with overrides; an empty variable counts as unset.

    Raises `InputError` on a bad value, and on a variable that is nearly one of ours and would seem set.
    """
    _refuse_unknown()
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = _PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        why = first["msg"].removeprefix("Value error, ")
        raise InputError(f"The setting {name} is not usable: {why}.", hint="Unset or mend it.") from None


def _refuse_unknown() -> None:
    known = [*(name.upper() for name in Settings.model_fields), *_OTHERS]
    for variable in sorted(os.environ):
        name = variable.upper().removeprefix(_PREFIX)  # pydantic-settings ignores the case, too
        if name != variable.upper() and name not in known and (meant := _nearest(name, known)):
            raise InputError(
                f"There is no setting {variable}.",
                hint=f"Is it {_PREFIX}{meant}? Mend its name, or unset it.",
            )


def _nearest(name: str, known: list[str]) -> str:
    """Which of the `known` names is meant; "" if none is near."""
    from difflib import get_close_matches  # local, since every command reads settings

    return next(iter(get_close_matches(name, known, n=1, cutoff=_NEAR)), "")
