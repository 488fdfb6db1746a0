"""What a site does in one exchange: measure the model that it received, train it, answer once."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np

from scantwin.federation.wire import Components, Job, ReplyHeader, SiteReply
from scantwin.learning.cohort import Cohort
from scantwin.learning.recipe import Recipe
from scantwin.terminal import Advance, silent


def take_part(
    cohort: Cohort, recipe: Recipe, job: Job, *, pictures: Path | None = None, pictures_every_s: float = 60.0,
    advance: Advance = silent,
) -> SiteReply:  # fmt: skip
    """The site's reply to `job`: a function of its arguments, identical to the bit on the same machine.

    Only the `seconds` of its header differ.

    Pictures of a patient, at most one every `pictures_every_s` [s], are saved in the round's folder below
    `pictures`; 0 takes none. They change nothing in the reply.

    `train`: measures the received model on the held-out patients (from round 2 on), trains it on the others,
    and returns the deltas of the components that it trained. `final`: measures only, beside the references.
    """
    import torch

    from scantwin.evaluation.measuring import measure, training_statistics, watch
    from scantwin.learning.training import train
    from scantwin.learning.weights import load_arrays, system_arrays
    from scantwin.systems import build

    header = job.header
    seed = training_seed(header.seed, header.round, header.site)
    torch.manual_seed(seed)
    system = build(recipe, seed=seed)
    load_arrays(system, job.components)
    began = time.monotonic()
    # The model that a run starts from is nobody's result: what round 1 made of it is measured in round 2.
    held_out = cohort.held_out if header.phase == "final" or header.round > 1 else []
    # Error bars are needed only at the end; that of an undivided body costs a second scan.
    unsplit = 1 if header.phase == "final" else 0
    measured = measure(
        system, held_out, job.statistics or None, trained=header.patches, unsplit=unsplit, advance=advance
    )
    seconds = {"measuring": time.monotonic() - began}
    about = {"run": header.run, "round": header.round, "phase": header.phase, "site": header.site}
    if header.phase == "final":
        return SiteReply(
            ReplyHeader.model_validate({**about, "metrics": measured.metrics, "seconds": seconds}),
            statistics=measured.statistics,
        )
    folder = pictures / f"round-{header.round}" if pictures and pictures_every_s else None
    watcher = watch(
        system, cohort, {}, budget_s=None, pictures=folder, pictures_every_s=pictures_every_s, scored=False
    )
    result = train(
        system, cohort.training, steps=recipe.steps_per_round, seed=seed, advance=advance, watcher=watcher,
        span=((header.round - 1) / header.rounds, header.round / header.rounds),
    )  # fmt: skip
    seconds["training"] = result.seconds
    patches = {name: count for name, count in result.patches.items() if count > 0}
    learnt = {"patches": patches, "losses": result.losses, "metrics": measured.metrics, "seconds": seconds}
    return SiteReply(
        ReplyHeader.model_validate({**about, **learnt}),
        deltas=_deltas(job.components, system_arrays(system), set(patches)),
        statistics=training_statistics(system, cohort.training),
    )


def training_seed(run_seed: int, number: int, site: str) -> int:
    """The seed of one site in one round: different for each, the same at every rerun."""
    digest = hashlib.sha256(f"{run_seed}:{number}:{site}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _deltas(before: Components, after: Components, trained: set[str]) -> Components:
    return {
        name: {
            tensor: np.asarray(array.astype(np.float32) - before[name][tensor].astype(np.float32))
            for tensor, array in after[name].items()
            if np.issubdtype(array.dtype, np.floating)
        }
        for name in sorted(trained)
    }
