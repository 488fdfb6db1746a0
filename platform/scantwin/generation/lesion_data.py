"""A labelled data set: real CTs with made lesions, as many and where as asked for. SYNTHETIC.

A negative case (`none`) has a region regenerated without a tumour, so that a network that learns from the set
cannot tell the cases apart by the mere trace of inpainting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scantwin import NOTICE
from scantwin.errors import InputError, Rejection
from scantwin.files import claimed_folder, read_json, require_ours, whole_parts, write_json
from scantwin.generation.inpainting import CTInpainting
from scantwin.generation.lesion_cases import Found, case_files, write_case
from scantwin.generation.lesion_masks import LESION_ORGANS
from scantwin.generation.lesion_orders import NONE, Order, Wanted
from scantwin.generation.scene import Scene
from scantwin.imaging.organs import OrganClass
from scantwin.terminal import Advance, silent


class Masks(Protocol):
    """A source of lesions and their shapes."""

    @property
    def name(self) -> str:
        """Its name in the manifest."""

    def __call__(
        self, scene: Scene, organs: Sequence[OrganClass], random: np.random.Generator
    ) -> list[Found] | None:
        """A lesion for each of `organs`, or None where this CT has no room for all of them."""


def make_lesion_data(
    system: CTInpainting,
    scenes: Sequence[Callable[[], Scene]],
    masks: Masks,
    order: Order,
    out: Path,
    *,
    refused: Callable[[Rejection], None] | None = None,
    advance: Advance = silent,
) -> dict[str, Any]:
    """Writes the data set and returns what is in it and where; existing cases are kept.

    The n CTs take turns: CT k serves cases k, k + n, ..; if it lacks the organ or cannot be read, the next CT
    does. One that cannot be read goes to `refused`, once; without `refused` the `Rejection` is raised.
    """
    with claimed_folder(out, order.told()):
        shelf = _Shelf(scenes, refused)
        plan = order.plan()
        folders = [out / f"case-{number:04d}" for number in range(len(plan))]
        for folder in folders:
            if not (folder / "manifest.json").is_file():
                require_ours(folder, "manifest.json")
        for number, (folder, wanted) in enumerate(zip(folders, plan, strict=True)):
            advance(number, len(plan), ", ".join(wanted))
            if not (folder / "manifest.json").is_file():
                _make_case(system, shelf, masks, order, number, wanted, folder)
        advance(len(plan), len(plan))
        # All that are there: a smaller count than before removes none.
        cases = [{"case": one.name, **read_json(one / "manifest.json")} for one in whole_parts(out, "case")]
        made = [lesion for case in cases for lesion in case["lesions"]]
        organs = [lesion["organ"] for lesion in made]
        said = {
            "notice": NOTICE, "out": str(out), "cases": len(cases), "lesions": len(made),
            "balance": {name: organs.count(name) for name in LESION_ORGANS if name in organs},
            "without_lesion": sum(not case["lesions"] for case in cases),
            "cts": len({case["ct"] for case in cases}),
            "method": order.method, "seed": order.seed, **order.asked,
        }  # fmt: skip
        write_json(out / "dataset.json", {**said, "order": order.told(), "made": cases})
        return {**said, "files": [case_files(out / case["case"]) for case in cases]}


class _Shelf:
    """The CTs; the last one used is kept in memory."""

    def __init__(
        self, scenes: Sequence[Callable[[], Scene]], refused: Callable[[Rejection], None] | None
    ) -> None:
        self._scenes: list[Callable[[], Scene] | None] = list(scenes)
        self._refused = refused
        self._last: tuple[int, Scene] | None = None

    def __len__(self) -> int:
        return len(self._scenes)

    @property
    def readable(self) -> int:
        """How many CTs have not been found unreadable."""
        return sum(read is not None for read in self._scenes)

    def get(self, index: int) -> Scene | None:
        """The scene of a CT; None if it cannot be read."""
        read = self._scenes[index]
        if read is None:
            return None
        if self._last is None or self._last[0] != index:
            try:
                self._last = index, read()
            except Rejection as rejection:
                if self._refused is None:
                    raise
                self._refused(rejection)
                self._scenes[index] = None
                return None
        return self._last[1]


def _make_case(
    system: CTInpainting, shelf: _Shelf, masks: Masks, order: Order, number: int, wanted: list[Wanted],
    folder: Path,
) -> None:  # fmt: skip
    healthy = wanted == [NONE]
    for turn in range(len(shelf)):
        scene = shelf.get((number + turn) % len(shelf))
        if scene is None:
            continue
        random = np.random.default_rng([order.seed, number, turn])
        organs = [one for one in LESION_ORGANS if one in wanted for _ in range(wanted.count(one))]
        if healthy:
            among = order.organs or ["soft-tissue"]
            organs = [among[int(random.integers(len(among)))]]
        found = masks(scene, organs, random)
        if found:
            write_case(system, scene, found, order, number, folder, healthy=healthy)
            return
    if not shelf.readable:
        raise InputError(
            f"None of the {len(shelf)} CTs can be used.", hint="What is wrong with each is said above."
        )
    raise InputError(
        f"None of the {shelf.readable} CTs has room for a lesion in {' and '.join(wanted)}.",
        hint="Organs are told from labels: put organs.nii.gz beside the CTs, or ask for another balance.",
    )
