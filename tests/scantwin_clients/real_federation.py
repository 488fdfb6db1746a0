"""Starting the real programs for the end-to-end tests, and ending them without a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from scantwin.federation.processes import Child, end_all
from scantwin_clients.supervisor import free_port

COMMAND = [sys.executable, "-c", "from scantwin.cli.main import main; main()"]


class Federation:
    """A consortium and its sites in a SCANTWIN_HOME of their own, as a person would start them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("SCANTWIN_")}
        self.env |= {"SCANTWIN_HOME": str(home), "OMP_NUM_THREADS": "1"}
        self.children: list[Child] = []

    def call(self, *words: str, code: int = 0, timeout_s: float = 150) -> dict[str, Any]:
        """Runs a command to its end; its JSON answer."""
        done = subprocess.run(
            [*COMMAND, *words, "--json"], env=self.env, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, (
            f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def start(self, name: str, *argv: str) -> Child:
        """Starts a program that stays."""
        child = Child(name, argv, self.home / f"{name}.log", self.env)
        child.start()
        self.children.append(child)
        return child

    def start_command(self, name: str, *words: str) -> Child:
        """Starts one of our commands that stays, with its readiness line in the log."""
        return self.start(name, *COMMAND, *words, "--json")

    def wait_ready(self, child: Child, timeout_s: float = 90) -> dict[str, Any]:
        """Waits for a command's readiness line."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end and child.running:
            for line in child.output().splitlines():
                if line.startswith("{") and line.endswith("}"):
                    ready: dict[str, Any] = json.loads(line)
                    return ready
            time.sleep(0.1)
        raise AssertionError(f"{child.name} is not ready:\n{self.logs()}")

    def logs(self) -> str:
        """The ends of all logs, for a failure."""
        return "\n".join(
            f"== {path}\n{path.read_text(errors='replace')[-1500:]}"
            for path in sorted(self.home.rglob("*.log"))
        )

    def end(self) -> None:
        """Ends everything, sites first."""
        for child in reversed(self.children):
            end_all([child], grace_s=15)
