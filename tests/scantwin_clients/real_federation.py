"""Starting the real programs for the end-to-end tests, and ending them without a trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from scantwin.federation.processes import Child, end_all
from scantwin_clients.ingest import ingest
from scantwin_clients.site import Site
from scantwin_clients.supervisor import free_port

from .conftest import write_studies

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

    def found(self, sites: Sequence[str]) -> None:
        """A consortium with these sites, each with three small studies, enrolled and connected."""
        self.call("consortium", "init", "--port", str(self.port))
        link = self.start_command("start", "consortium", "start")
        for number, name in enumerate(sites):
            self.call("site", "init", name)
            studies = write_studies(self.home / "studies" / name, 3, seed=number)
            ingest(Site.open(name, self.home).folder, studies, workers=0)
        ready = self.wait_ready(link)
        children = []
        for name in sites:
            key = str(Site.open(name, self.home).public_key)
            self.call("consortium", "enrol", name, "--key", key)
            words = ("site", "run", "--site", name, "--superlink", ready["superlink"], "--ca", ready["ca"])
            children.append(self.start_command(f"run-{name}", *words))
        for child in children:
            assert self.wait_ready(child)["ready"] is True

    def program(self, *words: str) -> psutil.Process:
        """The running program of this federation whose command line has all of these words."""
        for process in psutil.process_iter(["cmdline"]):
            line = " ".join(process.info["cmdline"] or [])
            # Not the moment in which it is being tied to its parent.
            if str(self.home) in line and all(word in line for word in words) and " -I -S -c " not in line:
                return process
        raise AssertionError(f"there is no program with {words}")

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


def recipe_file(folder: Path, recipe: dict[str, Any]) -> str:
    """A recipe as a TOML file."""
    lines = [f"{k} = {json.dumps(v)}" for k, v in recipe.items() if not isinstance(v, dict)]
    for table, values in recipe.items():
        if isinstance(values, dict):
            lines += [f"[{table}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
    path = folder / f"{recipe['name']}.toml"
    path.write_text("\n".join(lines))
    return str(path)
