"""`scantwin site`: set up a site, feed it, check its scanner, take part in training."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from scantwin import NOTICE
from scantwin.errors import InputError
from scantwin.terminal import Json, emit, err, finite, out, progress_bar

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Run a site: its studies, its scanner, its part in training.",
)

SiteName = Annotated[str | None, typer.Option("--site", help="The site; not needed when there is only one.")]


@app.command()
def init(
    given: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="1 to 32 small letters, digits and hyphens.")
    ] = None,
    named: Annotated[str | None, typer.Option("--name", help="The same, as an option.")] = None,
    kind: Annotated[str, typer.Option(help="hospital, rural-clinic or imaging-centre.")] = "hospital",
    threads: Annotated[
        int, typer.Option(min=1, help="Threads for training; with 1 a training repeats bit for bit.")
    ] = 1,
    secret_file: Annotated[
        Path | None, typer.Option(help="The `secret` of a former site: its pseudonyms stay the same.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a site on this machine: its folder, its secret and its key.

    \b
    scantwin site init rural-1 --kind rural-clinic
    scantwin site init --name city
    """
    from scantwin_clients.site import Site

    if given is not None and named is not None and given != named:
        raise InputError(f"Two names: {given} and {named}.", hint="Give one.")
    name = given or named
    if not name:
        raise InputError("The site needs a name.", hint="scantwin site init NAME")
    secret = None if secret_file is None else secret_file.read_bytes()
    site = Site.create(name, kind=kind, threads=threads, secret=secret)
    data = {"site": name, "folder": str(site.folder), "key": str(site.public_key), "notice": NOTICE}

    def people() -> None:
        out.print(f"The site [bold]{name}[/bold] is in {site.folder}.")
        out.print(f"Send {site.public_key} to the consortium; next: scantwin site ingest DIR --site {name}")

    emit(data, as_json, people)


@app.command()
def ingest(
    folder: Annotated[Path, typer.Argument(help="Folder of studies: DICOM, zips, NIfTI.")],
    site: SiteName = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Studies read at once (default: cores - 1).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take in the studies below a folder and say of each whether it is usable, and if not, why.

    \b
    scantwin site ingest /data/petct --site rural-1
    """
    from scantwin_clients.ingest import ingest as take_in
    from scantwin_clients.site import Site

    opened = Site.open(site)
    with progress_bar("reading", quiet=as_json) as advance:
        data = take_in(opened.folder, folder, workers, advance)

    def people() -> None:
        table = Table("study", "", "why")
        for one in data["studies"]:
            if one["status"] != "accepted":
                colour = "red" if one["status"] == "rejected" else "yellow"
                table.add_row(one["study"], f"[{colour}]{one['status']}[/]", escape(str(one["message"])))
        if table.row_count:
            out.print(table)
        counts = data["counts"]
        out.print(
            f"{counts['accepted']} accepted, {counts['warned']} with warnings, {counts['rejected']} rejected."
        )

    emit({**data, "site": opened.name, "notice": NOTICE}, as_json, people)


@app.command()
def forget(
    folder: Annotated[Path, typer.Argument(help="The folder that was taken in; it need not exist any more.")],
    site: SiteName = None,
    as_json: Json = False,
) -> None:
    """Take the studies below a folder out of the catalogue, and delete what was prepared from them.

    For studies that were moved or deleted, or whose patients withdrew. The studies themselves are not
    touched; pictures of trainings stay until you delete them.

    \b
    scantwin site forget /data/petct --site rural-1
    """
    from scantwin_clients.ingest import forget as take_out
    from scantwin_clients.site import Site

    opened = Site.open(site)
    data = take_out(opened.folder, folder)

    def people() -> None:
        left = data["counts"]["accepted"] + data["counts"]["warned"]
        out.print(f"{data['forgotten']} studies are forgotten; {left} usable ones are left.")
        if any(opened.pictures.iterdir()):
            out.print(f"Pictures of trainings may show them: {opened.pictures}", markup=False)

    emit({**data, "site": opened.name, "notice": NOTICE}, as_json, people)


@app.command()
def qc(
    path: Annotated[Path, typer.Argument(help="The QC scan: a folder with PET and CT, DICOM or NIfTI.")],
    site: SiteName = None,
    kind: Annotated[str, typer.Option(help="cylinder or spheres.")] = "cylinder",
    when: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            help="Day of the scan where the images do not say it, as DICOM does (default: today).",
        ),
    ] = None,
    expected: Annotated[
        float, typer.Option(min=0.01, callback=finite, help="True SUV of the object, in g/ml.")
    ] = 1.0,
    ratio: Annotated[
        float,
        typer.Option(min=1.5, callback=finite, help="Activity of the spheres over that of the background."),
    ] = 9.8,
    as_json: Json = False,
) -> None:
    """Measure a QC phantom; the result travels to the consortium with the next update.

    A scan measured twice counts as one sample.

    \b
    scantwin site qc /data/qc/2026-11-02
    """
    from scantwin_clients.qc import check_scanner
    from scantwin_clients.site import Site

    if kind not in ("cylinder", "spheres"):
        raise InputError(f"{kind!r} is not a QC object.", hint="Use cylinder or spheres.")
    opened = Site.open(site)
    sample = check_scanner(
        opened, path, kind="spheres" if kind == "spheres" else "cylinder",
        when=when.date() if when else None, expected_suv=expected, ratio=ratio,
    )  # fmt: skip
    data = {"site": opened.name, "sample": sample.id, **sample.model_dump(mode="json", exclude={"id"})}

    def people() -> None:
        spread = "" if sample.sd is None else f" (SD {100 * sample.sd:.1f} %)"
        day = f"{sample.measured_at:%F} (UTC)"  # as the dashboard has it
        out.print(f"{opened.name} read [bold]{100 * sample.bias:+.1f} %[/bold]{spread} on {day}.")
        out.print("The sample travels with the next update.")

    emit({**data, "notice": NOTICE}, as_json, people)


@app.command()
def run(
    superlink: Annotated[str, typer.Option(help="The consortium's address, host:port.")],
    ca: Annotated[Path, typer.Option(help="The consortium's ca.crt.")],
    site: SiteName = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Local port; 0 takes a free one.")] = 0,
    poll: Annotated[
        float, typer.Option(min=0.05, max=60, callback=finite, help="Seconds between asking for work.")
    ] = 0.5,
    as_json: Json = False,
) -> None:
    """Take part in training until Ctrl-C; crashed processes are restarted.

    It says when it is connected; with --json in one line.

    \b
    scantwin site run --superlink 127.0.0.1:9443 --ca ca.crt
    """
    from scantwin.learning.machine import check_device
    from scantwin.settings import load_settings
    from scantwin_clients.site import Site
    from scantwin_clients.supervisor import Duty, free_port, on_duty

    opened = Site.open(site)
    check_device()
    home = load_settings().home.absolute()

    def report(child: str, what: str) -> None:
        err.print(f"{opened.name} {child} {what}", markup=False)

    def ready(data: dict[str, Any]) -> None:
        if as_json:
            sys.stdout.write(json.dumps({"ready": True, "pid": os.getpid(), **data, "notice": NOTICE}) + "\n")
            sys.stdout.flush()
        else:
            out.print(f"{opened.name} is connected to {superlink}. Ctrl-C ends it.")

    on_duty(
        Duty(opened, home, superlink, ca.absolute(), port or free_port(), poll), report=report, ready=ready
    )


@app.command()
def status(site: SiteName = None, as_json: Json = False) -> None:
    """Show what a site has: studies, waiting calibration samples, its policy.

    \b
    scantwin site status --site rural-1
    """
    from scantwin_clients.catalogue import Catalogue
    from scantwin_clients.samples import WaitingSamples
    from scantwin_clients.site import Site

    opened = Site.open(site)
    data = {
        "site": opened.name, "kind": opened.config.kind, "folder": str(opened.folder),
        "studies": Catalogue(opened.folder).counts(),
        "waiting_samples": len(WaitingSamples(opened.calibration).waiting()),
        "finished_updates": sum(1 for _ in opened.outbox.glob("*/*.zip")),
        "policy": opened.config.policy.model_dump(mode="json"), "threads": opened.config.threads,
        "notice": NOTICE,
    }  # fmt: skip

    def people() -> None:
        out.print(f"[bold]{opened.name}[/bold] ({opened.config.kind}) in {opened.folder}")
        for key in ("studies", "waiting_samples", "finished_updates", "policy"):
            out.print(f"  {key.replace('_', ' ')}: {data[key]}")

    emit(data, as_json, people)
