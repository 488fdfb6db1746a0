"""What leaves the site when a job fails: that it did, and nothing of what it failed on."""

from __future__ import annotations

import io
import logging
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flwr.app import Context, Message, Metadata, RecordDict
from flwr.app.message.message import make_message
from flwr.common.constant import ErrorCode

from scantwin.errors import FederationError, InputError
from scantwin.federation.exchange import REFUSED_BY_SITE
from scantwin_clients import commands, worker
from scantwin_clients.site import Site


def task() -> tuple[Message, Context]:
    """What a site is handed with a bundle."""
    metadata = Metadata(
        run_id=42, message_id="m1", src_node_id=1, dst_node_id=7, reply_to_message_id="", group_id="1",
        created_at=datetime.now(UTC).timestamp(), ttl=100.0, message_type="train",
    )  # fmt: skip
    context = Context(run_id=42, node_id=7, node_config={}, state=RecordDict(), run_config={})
    return make_message(metadata, RecordDict()), context


def test_a_job_that_fails_says_no_more_than_its_kind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def app(message: Message, context: Context) -> Message:
        raise PermissionError(13, "Permission denied", "/data/DOE^JANE/CT.nii.gz")

    monkeypatch.setattr(worker, "check_bundle", lambda _bundle: None)
    with caplog.at_level(logging.ERROR):
        reply = worker._reply(app, *task(), b"")  # type: ignore[arg-type]
    assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert reply.error.reason == "PermissionError; see the site's log"
    assert "DOE^JANE" in caplog.text, "a person at the site must find the file"


def test_a_bundle_that_is_refused_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lead, who alone can mend it, sees no log of the site."""

    def refuse(_bundle: bytes) -> None:
        raise FederationError("It is of another version.", hint="Install the same.")

    monkeypatch.setattr(worker, "check_bundle", refuse)
    reply = worker._reply(lambda **_: pytest.fail("it was called"), *task(), b"")  # type: ignore[arg-type]
    assert (reply.error.code, reply.error.reason) == (
        REFUSED_BY_SITE, "It is of another version. Install the same.",
    )  # fmt: skip


def zipped(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("bundle", "why"),
    [
        (b"not a ticket", "The bundle cannot be read"),
        (b"", "The bundle cannot be read"),
        (zipped(pyproject__toml=""), "other apps than ScanTwin's"),
        (zipped(pyproject__toml="", client_app__py="print('mine')"), "does not have"),
    ],
)
def test_a_bundle_that_is_no_ticket_is_refused_and_nothing_is_run(
    bundle: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    def app(message: Message, context: Context) -> Message:
        pytest.fail("the job was done")

    reply = worker._reply(app, *task(), bundle)  # type: ignore[arg-type]
    assert reply.error.code == REFUSED_BY_SITE and why in reply.error.reason
    assert "refused: " in caplog.text, "a person at the site must see it"


def test_a_device_that_is_not_here_is_refused_before_a_site_connects(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANTWIN_DEVICE", "cuda:99")
    Site.create("city", home)
    with pytest.raises(InputError, match="cuda:99 cannot be used here"):
        commands.run("127.0.0.1:1", tmp_path / "ca.crt", "city")
