"""Small models, sites that live in this process, and a link between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Error, Message
from numpy.typing import NDArray

from scantwin.federation.codec import decode_job, encode_reply, from_record, to_record
from scantwin.federation.layouts import layout_of
from scantwin.federation.wire import Components, Job, Parts, ReplyHeader, SiteReply, Statistics
from scantwin.learning.recipe import Recipe
from scantwin.store.database import Database
from scantwin.store.models import Site
from scantwin.store.registry import Registry

TRUNK, HEAD = "pix2pix/trunk/generator", "pix2pix/head/generator"


def small_components(seed: int = 0) -> Components:
    """Two components with a few numbers, one of them with an integer tensor."""
    rng = np.random.default_rng(seed)
    return {
        TRUNK: {
            "conv.weight": rng.normal(size=(3, 2)).astype(np.float32),
            "norm.count": np.array([7], np.int64),
        },
        HEAD: {"conv.weight": rng.normal(size=(4,)).astype(np.float32)},
    }


Answering = Callable[[Job], SiteReply | Parts | Error | None]
"""What a site in this process does with a job; None keeps silent."""


def sums(job: Job, **known: NDArray[np.float64]) -> Statistics:
    """The statistics that a site sends, zeros but for those of the trunk that are known."""
    layout = layout_of(Recipe.read(job.header.recipe, "of the job"), job.header.phase)
    zeros = {name: np.zeros(shape) for name, shape in layout.items()}
    return zeros | {f"{kind}/trunk": array for kind, array in known.items()}


def honest(job: Job, change: float = 0.5, patches: int = 10, component: str = TRUNK) -> SiteReply:
    """A site that moves every weight of one component by `change` and measures something."""
    header = job.header
    about = {"run": header.run, "round": header.round, "phase": header.phase, "site": header.site}
    level = float(np.mean(job.components[component]["conv.weight"]))
    metrics = {
        "model/trunk/mae/sum": level,
        "model/trunk/mae/sumsq": level * level,
        "model/trunk/mae/n": 1.0,
    }
    if header.phase == "final":
        more = {
            "training-mean/trunk/mae/n": 1.0,
            "training-mean/trunk/mae/sum": float(job.statistics["sum/trunk"][0]),
        }
        more["training-mean/trunk/mae/sumsq"] = more["training-mean/trunk/mae/sum"] ** 2
        return SiteReply(
            ReplyHeader.model_validate({**about, "metrics": {**metrics, **more}}),
            statistics=sums(job, residual=np.ones((3, 16))),
        )
    delta = np.full_like(job.components[component]["conv.weight"], change)
    return SiteReply(
        ReplyHeader.model_validate(
            {**about, "patches": {component: patches}, "losses": {"trunk/l1": 1.0}, "metrics": metrics}
        ),
        {component: {"conv.weight": delta}},
        sums(job, sum=np.array([2.0, 4.0])),
    )


@dataclass
class LocalLink:
    """The part of Flower's Grid that we use, with the sites in this process."""

    sites: dict[int, Answering]
    offline: set[int] = field(default_factory=set)
    jobs: list[Job] = field(default_factory=list)
    _replies: dict[str, Message] = field(default_factory=dict)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are online."""
        return [node for node in self.sites if node not in self.offline]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Lets each site answer at once."""
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"m{len(self.jobs)}"
            ids.append(message.metadata.message_id)
            job = decode_job(from_record(message.content))
            self.jobs.append(job)
            said = self.sites[message.metadata.dst_node_id](job)
            if said is None:
                continue
            if isinstance(said, SiteReply):
                said = encode_reply(said, "float32")
            content = said if isinstance(said, Error) else to_record(said)
            self._replies[ids[-1]] = Message(content, reply_to=message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that are there."""
        return [self._replies.pop(one) for one in list(message_ids) if one in self._replies]


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower stamps messages with the task that makes them; here it is task 1 of run 42 at the SuperLink."""
    from flwr.supercore.task_identity import TaskIdentity

    for name, value in (("_task_id", 1), ("_run_id", 42), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A database with three enrolled sites: nodes 11, 12, 13."""
    made = Database(f"sqlite:///{tmp_path / 'scantwin.db'}").migrate()
    with made.session() as session:
        for number, name in enumerate(("city", "rural-1", "rural-2")):
            session.add(Site(name=name, node_id=str(11 + number), public_key=f"key {name}"))
    return made


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> Registry:
    """A registry beside it."""
    return Registry(database, str(tmp_path / "registry"))


@pytest.fixture
def recipe() -> Recipe:
    """A recipe whose rounds have 20 steps of 4 patches."""
    return Recipe.model_validate({"system": "pix2pix", "name": "small", "steps_per_round": 20})
