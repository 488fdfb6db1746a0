"""How systems that make PET or CT are measured and watched: the only place that tells the two apart.

A Translator is measured by scanning held-out patients (held_out). A Generator measures its own errors on a
patient; here its figures become the same additive sums.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from scantwin.evaluation import held_out, references, watching
from scantwin.evaluation.held_out import Measured
from scantwin.evaluation.references import Statistics
from scantwin.imaging.picture_marks import panel, with_notice
from scantwin.imaging.pictures import ct_slice_image
from scantwin.imaging.study import District
from scantwin.learning.cohort import Cohort
from scantwin.learning.prepared import PreparedStudy
from scantwin.learning.system import Generator, System, Translator
from scantwin.learning.training import Watcher
from scantwin.terminal import Advance, silent


def training_statistics(system: System, studies: list[PreparedStudy]) -> Statistics:
    """The training statistics behind a Translator's simple references; a Generator has none."""
    return references.training_statistics(studies) if isinstance(system, Translator) else {}


def measure(
    system: System,
    studies: list[PreparedStudy],
    statistics: Statistics | None = None,
    *,
    trained: dict[str, int] | None = None,
    unsplit: int | None = None,
    advance: Advance = silent,
) -> Measured:
    """Sums over held-out patients; a Translator's beside those of the references, if `statistics` are given.

    `trained` counts the patches behind each component; without it every component is taken as trained.
    `unsplit` is the number of patients on whom a Translator's error bar for bodies that cannot be split is
    measured (`held_out.measure`); all by default.
    """
    if isinstance(system, Translator):
        return held_out.measure(
            system, studies, statistics, trained=trained, unsplit=unsplit, advance=advance
        )
    metrics: dict[str, float] = {}
    districts = [d for d in system.recipe.districts if _is_trained(system, d, trained)]
    for number, study in enumerate(studies):
        advance(number, len(studies), study.name)
        for district in districts:
            figures = _generator(system).figures(study, district)
            held_out.add_figures(metrics, "model", district, figures)
    advance(len(studies), len(studies))
    return Measured(metrics)


def time_to_measure(throwaway: System, studies: list[PreparedStudy]) -> float:
    """About how long `measure` will take [s], from measuring one patient. This spoils `throwaway`."""
    if throwaway.device.type != "cpu":
        measure(throwaway, studies[:1])  # a GPU's first use takes seconds that no later one takes
    if isinstance(throwaway, Translator):
        return watching.time_to_measure(throwaway, studies)
    began = time.monotonic()
    measure(throwaway, studies[:1])
    return (time.monotonic() - began) * len(studies)


def watch(
    system: System, cohort: Cohort, statistics: Statistics, *, budget_s: float | None,
    pictures: Path | None, pictures_every_s: float, scored: bool = True,
) -> Watcher:  # fmt: skip
    """The watcher of a training of `system`; a Translator's also chooses the step that is delivered.

    Without `scored` it only takes pictures: what is learnt is the same as without it.
    """
    studies = [*cohort.held_out, *cohort.training]
    if isinstance(system, Translator):
        seen = [s for s in studies if s.has_ct and not s.boxes.keys().isdisjoint(system.recipe.districts)]
        return watching.Watch(
            system, cohort.held_out if scored else [], statistics,
            shown=min(seen, key=lambda s: s.suv is None, default=None),  # the first that has a PET, if any
            budget_s=budget_s, pictures=pictures, pictures_every_s=pictures_every_s,
        )  # fmt: skip
    return PictureWatch(_generator(system), studies[0], pictures, pictures_every_s)


@dataclass
class PictureWatch:
    """The `Watcher` of a Generator's training: pictures only, at most one in `pictures_every_s`.

    No step is chosen by its error, since the blurriest samples would win. The average of the weights is
    delivered.
    """

    system: Generator
    shown: PreparedStudy
    pictures: Path | None = None
    pictures_every_s: float = 60.0
    scores: dict[int, dict[str, float]] = field(default_factory=dict)
    takes_s: float = 0.0
    """Pictures do not count towards a budget."""
    _pictured: float = field(default_factory=time.monotonic)

    def due(self, before: float, now: float) -> bool:
        """Whether it is time for a picture."""
        del before, now
        return self.pictures is not None and time.monotonic() - self._pictured >= self.pictures_every_s

    def look(self, step: int, *, scored: bool = True) -> None:
        """Takes a picture of what the averaged weights make, if it is time; there is no score."""
        del scored
        if self.pictures is None or not self.due(0.0, 1.0):
            return
        if shown := self.system.shown(self.shown):
            images = [
                ct_slice_image(ct, plane="axial" if ct.shape[0] == 1 else "coronal") for ct in shown.values()
            ]
            picture = panel([images], columns=list(shown), title=f"step {step}")
            watching.save_picture(with_notice(picture), self.pictures, step)
        self._pictured = time.monotonic()


def _generator(system: System) -> Generator:
    if not isinstance(system, Generator):
        raise TypeError(f"{system.recipe.system} makes neither PET nor CT")
    return system


def _is_trained(system: System, district: District, trained: dict[str, int] | None) -> bool:
    if trained is None:
        return True
    return any(trained.get(name, 0) > 0 for name in system.components_of(district))
