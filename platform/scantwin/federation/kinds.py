"""What a site is. The site says it of itself, the lead when it is enrolled; nothing depends on it."""

from __future__ import annotations

from typing import Final, Literal, get_args

SiteKind = Literal["hospital", "rural-clinic", "imaging-centre"]

KINDS: Final[tuple[SiteKind, ...]] = get_args(SiteKind)
