"""The kinds of site. A site states its own, and the lead states it at enrolment; nothing depends on it."""

from __future__ import annotations

from typing import Final, Literal, get_args

SiteKind = Literal["hospital", "rural-clinic", "imaging-centre"]

KINDS: Final[tuple[SiteKind, ...]] = get_args(SiteKind)
