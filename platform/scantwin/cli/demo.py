"""`scantwin demo`: three sites train, one patient is scanned, everything is real but the patients."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from scantwin import NOTICE
from scantwin.errors import ResourceError
from scantwin.files import lock, require_ours
from scantwin.terminal import LARGEST_SEED, Json, emit, err, out


def demo(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path(
        "scantwin-demo"
    ),
    data: Annotated[
        Path | None, typer.Option(help="A folder of real studies (NIfTI, not zipped) instead of phantoms.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=100)] = 4,
    sites: Annotated[int, typer.Option(min=1, max=5)] = 3,
    patients: Annotated[
        int | None, typer.Option(min=2, help="Phantom patients per site (default: 6, 5, 4).")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe other than the demo's: a name or a TOML file.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed gives the same figures.")
    ] = 2026,
    serve: Annotated[
        bool, typer.Option("--serve/--no-serve", help="Keep dashboard and twin running until Ctrl-C.")
    ] = True,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the dashboard.")] = 8501,
    as_json: Json = False,
) -> None:
    """Let three sites train a CT-to-PET model together, then scan a new patient: three to ten minutes.

    \b
    scantwin demo                                # phantoms; serves a dashboard at the end
    scantwin demo --no-serve --out /tmp/demo --json
    scantwin demo --data studies/ --no-serve     # on real studies
    """
    from scantwin.demo.beforehand import check
    from scantwin.demo.plan import RECIPE, DemoOptions
    from scantwin.demo.runner import Runner
    from scantwin.demo.stages import run_demo
    from scantwin.demo.story import Story, closing_tables
    from scantwin.federation.processes import require_free_port

    options = DemoOptions(
        out=out_dir.absolute(), data=data, rounds=rounds, sites=sites, patients=patients, seed=seed,
        serve=serve, recipe=recipe or RECIPE,
    )  # fmt: skip
    if serve:
        require_free_port("127.0.0.1", port, what="The dashboard")
    reads = [] if options.data is None else [options.data]
    require_ours(options.out, _MARK, *reads, in_place=True)
    groups = check(options)
    with _own_folder(options.out) as folder, Runner(folder / "state", folder / "logs") as runner:
        with Story(quiet=as_json) as story:
            result = run_demo(options, groups, runner, story)
        if not as_json:
            out.print(closing_tables(result))
            out.print(f"\n[red]{NOTICE}[/red]\nPictures: {folder}/scan/pictures\nFigures: {folder}/demo.json")
            # All of the demo's state is in its folder, whatever database the environment names.
            bare = "env -u SCANTWIN_DATABASE_URL " if "SCANTWIN_DATABASE_URL" in os.environ else ""
            out.print(f"To look at it again: {bare}scantwin dashboard --home {folder}/state", soft_wrap=True)
        if serve:
            ready = runner.serve("service-dashboard", "dashboard", "--port", str(port))
            err.print(
                f"\nThe dashboard is at [bold]{ready['url']}[/bold]; the twin service is running, too."
                " Ctrl-C ends both."
            )
            _wait(runner.check)
    emit(result, as_json, lambda: None)


_MARK = ".scantwin-demo"


@contextmanager
def _own_folder(folder: Path) -> Iterator[Path]:
    """The demo's own folder: new, empty, or that of an earlier demo, which is replaced.

    The mark in it says whose it is, even after a demo was killed half-way through clearing it, and is locked
    while a demo works there.
    """
    folder = folder.absolute()
    require_ours(folder, _MARK, in_place=True)
    mark = folder / _MARK
    folder.mkdir(parents=True, exist_ok=True)
    hint = "Wait for it, end it, or choose another --out."
    with lock(mark, ResourceError(f"Another demo is running in {folder}.", hint=hint)) as ours:
        for item in folder.iterdir():
            if item != mark:
                _remove(item)
        ours.truncate(0)
        ours.write(f"Made by scantwin demo; the next demo may replace it. {NOTICE}\n")
        ours.flush()
        yield folder


def _remove(item: Path) -> None:
    """Removes a file or folder; tries again, since processes of a killed demo may write for a moment."""
    for last in (False, False, True):
        try:
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
        except OSError:
            if last:
                raise
            time.sleep(2.0)
        else:
            return


def _wait(check: Callable[[], None]) -> None:
    """Waits for Ctrl-C, which is how a demo that serves is meant to end."""
    try:
        while True:
            time.sleep(1.0)
            check()
    except KeyboardInterrupt:
        err.print("Ending.")
