"""What leaves the site when a job fails: that it did, and nothing of what it failed on."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flwr.app import Context, Message, Metadata, RecordDict
from flwr.app.message.message import make_message
from flwr.common.constant import ErrorCode

from scantwin.errors import InputError
from scantwin_clients import commands, worker
from scantwin_clients.site import Site


def test_a_job_that_fails_says_no_more_than_its_kind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def app(message: Message, context: Context) -> Message:
        raise PermissionError(13, "Permission denied", "/data/DOE^JANE/CT.nii.gz")

    metadata = Metadata(
        run_id=42, message_id="m1", src_node_id=1, dst_node_id=7, reply_to_message_id="", group_id="1",
        created_at=datetime.now(UTC).timestamp(), ttl=100.0, message_type="train",
    )  # fmt: skip
    context = Context(run_id=42, node_id=7, node_config={}, state=RecordDict(), run_config={})
    monkeypatch.setattr(worker, "check_bundle", lambda _bundle: None)
    with caplog.at_level(logging.ERROR):
        reply = worker._reply(app, make_message(metadata, RecordDict()), context, b"")  # type: ignore[arg-type]
    assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert reply.error.reason == "PermissionError; see the site's log"
    assert "DOE^JANE" in caplog.text, "a person at the site must find the file"


def test_a_device_that_is_not_here_is_refused_before_a_site_connects(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANTWIN_DEVICE", "cuda:99")
    Site.create("city", home)
    with pytest.raises(InputError, match="cuda:99 cannot be used here"):
        commands.run("127.0.0.1:1", tmp_path / "ca.crt", "city")
