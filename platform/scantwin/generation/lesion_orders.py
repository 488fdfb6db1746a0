"""The order for a labelled data set: how many cases, and lesions in which organs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from scantwin.errors import InputError
from scantwin.generation.inpainting import Method
from scantwin.generation.lesion_masks import LESION_ORGANS
from scantwin.imaging.organs import OrganClass
from scantwin.learning.training import take_turns

Wanted = OrganClass | Literal["none", "drawn"]
"""Where a lesion goes: into an organ, or where it was drawn; `none` is a case without one."""

NONE: Final = "none"
DRAWN: Final = "drawn"


@dataclass(frozen=True)
class Order:
    """What is asked for."""

    count: int
    balance: dict[Wanted, float]
    """Share of lesions by organ class; for `none`, the share of cases without a lesion."""
    per_case: int = 1
    method: Method = "diffusion"
    seed: int = 0
    asked: dict[str, Any] = field(default_factory=dict)
    """What it is made with and from (model, CTs, masks): a data set belongs to one order."""

    def __post_init__(self) -> None:
        odd = [name for name in self.balance if name not in (*LESION_ORGANS, NONE, DRAWN)]
        shares = self.balance.values()
        if odd or not shares or not min(shares) > 0 or not 0 < sum(shares) < math.inf:
            raise InputError(
                f"The balance {self.balance} cannot be made.",
                hint=f"Give shares above 0 of {', '.join((*LESION_ORGANS, NONE))}, such as lung=2,liver=1.",
            )

    @property
    def organs(self) -> list[OrganClass]:
        """The organ classes of the balance."""
        return [name for name in LESION_ORGANS if name in self.balance]

    def plan(self) -> list[list[Wanted]]:
        """The lesions of each case. The plan of a larger count begins with that of a smaller one."""
        if self.per_case == 1:
            return [[one] for one in take_turns(self.balance, self.count)]
        # `none` is a share of cases, an organ a share of lesions: each is distributed among its own kind.
        organs: dict[Wanted, float] = {name: self.balance[name] for name in self.organs}
        kinds: dict[Wanted | Literal["lesion"], float] = {
            name: share for name, share in self.balance.items() if name not in organs
        }
        if organs:
            kinds["lesion"] = sum(organs.values())
        wanted = iter(take_turns(organs, self.count * self.per_case))
        return [
            [kind] if kind != "lesion" else [next(wanted) for _ in range(self.per_case)]
            for kind in take_turns(kinds, self.count)
        ]

    def told(self) -> dict[str, Any]:
        """The order without its count, which may grow."""
        return {
            "balance": self.balance, "per_case": self.per_case, "method": self.method, "seed": self.seed,
            **self.asked,
        }  # fmt: skip
