"""The consortium's process that starts a ServerApp for each run (`python -m scantwin.federation.conductor`).

Each run has its own process (`--run`), which gets its token on standard input, never on a command line.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import Any

from scantwin.federation.flower import wait_less
from scantwin.federation.task_loop import runtime_client, take_tasks
from scantwin.federation.ticket import read_ticket

log = logging.getLogger("scantwin.federation")

MODULE = "scantwin.federation.conductor"
"""This module by name, since its `__name__` is `__main__` while it runs."""

SERVER_TASK = "flwr-serverapp"
"""The only kind of task that a consortium executes (`flwr.supercore.constant.TaskType.SERVER_APP`)."""


def conduct(address: str, ca: Path, secret: bytes) -> None:
    """Starts a process for each run that the SuperLink hands us, for ever."""
    running: dict[str, subprocess.Popen[bytes]] = {}

    def start(token: str) -> None:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, "--run", "--address", address, "--ca", str(ca)],
            stdin=subprocess.PIPE,
        )
        running[token] = process
        if process.stdin is not None:
            process.stdin.write(token.encode() + b"\n")
            process.stdin.close()

    def reap() -> None:
        for token, process in list(running.items()):
            if process.poll() is not None:
                del running[token]
                if process.returncode:
                    _tell_of_its_end(address, ca, token, process.returncode)

    take_tasks(address, ca, secret, task_type=SERVER_TASK, handle=start, each_look=reap)


def _tell_of_its_end(address: str, ca: Path, token: str, code: int) -> None:
    """Reports at once that a ServerApp's process is gone; Flower alone would notice after a minute."""
    from flwr.common.constant import SubStatus
    from flwr.proto.runtime_pb2 import PushTaskOutputRequest
    from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor
    from httpx import HTTPError

    how = f"by signal {-code}" if code < 0 else f"with code {code}"
    log.error("the process of a run was ended %s", how)
    request = PushTaskOutputRequest(
        context=None, sub_status=SubStatus.FAILED, details=f"Its process was ended {how}."
    )
    client = runtime_client(
        address, ca, component="flwr-serverapp", interceptor=RuntimeTokenHttpInterceptor(token), give_up_s=5.0
    )
    with suppress(HTTPError):  # one that ended itself has reported it, and its token is no longer valid
        client.PushTaskOutput(request)
    client.close()


def run_one(address: str, ca: Path, token: str) -> None:
    """Runs one ServerApp as Flower does, after a check of its bundle. Ends the process."""
    from flwr.supercore.logger import mirror_output_to_queue

    # The package exports a function of the same name, so the module is imported by its full name.
    runtime: Any = importlib.import_module("flwr.superlink.runtime.run_serverapp")
    install = runtime.install_from_fab

    def install_ticket(bundle: bytes, skip_prompt: bool = False) -> Path:
        read_ticket(bundle)
        return Path(install(bundle, skip_prompt=skip_prompt))

    runtime.install_from_fab = install_ticket
    wait_less()
    lines: Queue[str | None] = Queue()
    mirror_output_to_queue(lines)
    # After the mirror, so that `flwr log` shows our lines too.
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    runtime.run_serverapp(
        runtime_api_address=address, log_queue=lines, token=token, insecure=False,
        certificates=ca.read_bytes(), parent_pid=os.getppid(), runtime_dependency_install=False,
    )  # fmt: skip


def main() -> None:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(description="Starts ServerApps for the SuperLink.")
    parser.add_argument("--run", action="store_true", help="Run one ServerApp; its token is on stdin.")
    parser.add_argument("--address", required=True)
    parser.add_argument("--ca", type=Path, required=True)
    parser.add_argument("--secret-file", type=Path)
    arguments = parser.parse_args()
    if arguments.run:
        run_one(arguments.address, arguments.ca, sys.stdin.readline().strip())
    elif arguments.secret_file is None:
        parser.error("--secret-file is missing")
    else:
        conduct(arguments.address, arguments.ca, arguments.secret_file.read_bytes())


if __name__ == "__main__":
    main()
