"""A site is on duty once."""

from __future__ import annotations

from pathlib import Path

import pytest

from scantwin.errors import ResourceError
from scantwin.files import lock
from scantwin_clients.site import Site
from scantwin_clients.supervisor import Duty, free_port, on_duty


def test_a_second_run_of_a_site_leaves_the_first_ones_secret_alone(tmp_path: Path) -> None:
    site = Site.create("city", tmp_path)
    (tmp_path / "ca.crt").touch()
    secret = site.flower_home / "worker.secret"
    secret.write_bytes(b"of the first")
    duty = Duty(site, tmp_path, "127.0.0.1:9", tmp_path / "ca.crt", free_port())
    held = site.folder / "run.lock"
    taken = ResourceError("The test's own lock was not let go.")
    with lock(held, taken), pytest.raises(ResourceError, match="city is on duty already"):
        on_duty(duty, report=lambda _name, _what: None, ready=lambda _data: None)
    assert secret.read_bytes() == b"of the first"
    lock(held, taken).close()  # the first has ended: there is nothing to clean up
