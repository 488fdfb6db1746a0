"""`scantwin consortium`: found it, run it, enrol sites, train."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scantwin import NOTICE
from scantwin.cli.consortium_sites import enrol, log, readmit, suspend, withdraw
from scantwin.terminal import LARGEST_SEED, Json, emit, err, out

if TYPE_CHECKING:
    from scantwin.federation.consortium import Consortium

_ROUNDS, _SEED = 4, 0
"""The defaults of a new run."""

_ENOUGH_SITES = 3
"""With fewer sites in a round, a site's update can be computed from the versions before and after it."""

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Lead a consortium: enrol sites, train models in rounds."
)


@app.command()
def init(
    name: Annotated[str, typer.Option(help="The consortium's name, as in its certificate.")] = "ScanTwin",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the SuperLink.")] = 9443,
    host: Annotated[
        list[str] | None, typer.Option(help="More host names or addresses for the certificate.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Found a consortium on this machine: its authority, its certificate, its folder.

    \b
    scantwin consortium init --name "North Sea PET" --host pet.example.org
    """
    from scantwin.federation.consortium import Consortium
    from scantwin.store.database import Database

    consortium = Consortium.create(name, port=port, hosts=tuple(host or ()))
    Database.from_settings().migrate().close()
    data = {
        "name": name, "folder": str(consortium.folder), "ca": str(consortium.ca),
        "superlink": consortium.address, "notice": NOTICE,
    }  # fmt: skip

    def people() -> None:
        out.print(f"The consortium [bold]{name}[/bold] is in {consortium.folder}.")
        out.print(f"Give every site {consortium.ca}; next: scantwin consortium start")

    emit(data, as_json, people)


@app.command()
def start(as_json: Json = False) -> None:
    """Run the consortium in the foreground until Ctrl-C; crashed processes are restarted.

    It says when sites can connect; with --json in one line.

    \b
    scantwin consortium start --json
    """
    import json
    import os

    from scantwin.federation.consortium import Consortium
    from scantwin.federation.supervision import Supervisor, stop_on_signals, watch
    from scantwin.store.database import Database

    consortium = Consortium.open()
    consortium.check()
    consortium.require_free_port()
    Database.from_settings().migrate().close()
    _warn_of_the_end(consortium)

    def report(child: str, what: str) -> None:
        err.print(f"{child} {what}", markup=False)

    supervisor = Supervisor(consortium.children(), report)
    with stop_on_signals() as stop:
        try:
            supervisor.start()
            consortium.wait_until_up(supervisor.children[0])
            data = {
                "ready": True, "pid": os.getpid(), "superlink": consortium.address, "ca": str(consortium.ca),
                "notice": NOTICE,
            }  # fmt: skip
            if as_json:
                sys.stdout.write(json.dumps(data) + "\n")
                sys.stdout.flush()
            else:
                out.print(f"Ready at {consortium.address}. Ctrl-C ends it.")
            watch(supervisor, stop)
        finally:
            supervisor.end()


for _of_a_site in (enrol, suspend, readmit, log, withdraw):
    app.command()(_of_a_site)


@app.command()
def train(
    recipe: Annotated[
        str | None,
        typer.Option(help="A shipped recipe's name, or a TOML file (default: the base's, else pix2pix)."),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=100_000, help=f"How many rounds (default: {_ROUNDS}).")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Model version or name to start from.")] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=LARGEST_SEED, help=f"The same seed gives the same run (default: {_SEED})."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The name of the run and of its model.")] = None,
    min_sites: Annotated[
        int | None, typer.Option(min=1, help="A round with fewer updates fails (default: 1).")
    ] = None,
    deadline: Annotated[
        str | None, typer.Option(help="A round ends after this long: 90s, 2h (default: 30m).")
    ] = None,
    gather: Annotated[
        str | None, typer.Option(help="Before each round, wait this long for --min-sites (default: 2m).")
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(help="Continue this run (id or name) after its last complete round, as it was started."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a model with the sites that are online, round by round, and publish it. Ctrl-C stops the run.

    \b
    scantwin consortium train --recipe pix2pix --rounds 4 --name first --min-sites 3
    scantwin consortium train --resume first
    """
    from scantwin.cli.consortium_orders import initial_version, recipe_of, refuse_beside_resume
    from scantwin.cli.consortium_view import LiveRun, run_as_json, say_end
    from scantwin.cli.durations import seconds_of
    from scantwin.federation.consortium import Consortium
    from scantwin.federation.launching import (
        Order,
        check_run_name,
        create_run,
        default_run_name,
        follow,
        order_again,
        submit,
    )
    from scantwin.store.database import Database
    from scantwin.store.registry import Registry

    if resume is not None:
        refuse_beside_resume(recipe=recipe, rounds=rounds, base=base, seed=seed, name=name)
    consortium = Consortium.open()
    consortium.require_running()
    database = Database.from_settings().migrate()
    given: dict[str, Any] = {
        "min_sites": min_sites, "deadline_s": None if deadline is None else seconds_of(deadline),
        "gather_s": None if gather is None else seconds_of(gather),
    }  # fmt: skip
    waiting = {name: value for name, value in given.items() if value is not None}
    if resume is not None:
        run_id, order = order_again(consortium, database, resume, waiting)
    else:
        registry = Registry.from_settings(database)
        version = registry.find(base) if base is not None else None
        chosen = recipe_of(registry, version, recipe)
        called = default_run_name(chosen) if name is None else check_run_name(name)
        order = Order(chosen, rounds or _ROUNDS, seed or _SEED, called, **waiting)
        run_id = create_run(database, order, version.id if version else initial_version(registry, order))
    _warn_of_few(order.min_sites)
    flower_run_id = submit(consortium, database, run_id, order)
    try:
        with LiveRun(order.rounds, quiet=as_json) as live:
            run = follow(consortium, database, run_id, flower_run_id, look=live.show)
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(
            f"The run {order.name} is stopped; scantwin consortium train --resume {run_id} goes on with it."
        )
        raise
    emit(run_as_json(run), as_json, lambda: say_end(run))
    if run.status != "finished":
        sys.exit(1)


@app.command()
def gateway(
    host: Annotated[str, typer.Option(help="Name under which sites reach this machine.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port for sites.")] = 443,
    out_file: Annotated[Path | None, typer.Option("--out", help="Write it there instead.")] = None,
    as_json: Json = False,
) -> None:
    """Print the nginx configuration that lets sites in and nothing else.

    The host must be in the certificate: scantwin consortium init --host NAME, or certificate --host NAME.

    \b
    scantwin consortium gateway --host pet.example.org --out /etc/nginx/conf.d/scantwin.conf
    """
    from scantwin.federation.consortium import Consortium
    from scantwin.federation.gateway import nginx_configuration
    from scantwin.files import whole_file

    text = nginx_configuration(Consortium.open(), host=host, port=port)
    if out_file is not None:
        with whole_file(out_file) as aside:
            aside.write_text(text)
    data = {"host": host, "port": port, "file": str(out_file) if out_file else None, "configuration": text}

    def people() -> None:
        out.print(f"Written to {out_file}." if out_file else text, markup=False, highlight=False)

    emit({**data, "notice": NOTICE}, as_json, people)


@app.command()
def certificate(
    host: Annotated[list[str] | None, typer.Option(help="More host names or addresses.")] = None,
    as_json: Json = False,
) -> None:
    """Make a new server certificate, valid for 397 days, with the names of the former one and those given.

    The authority stays, so sites need nothing new. Restart scantwin consortium start (and reload nginx).
    If the former certificate is damaged or gone, give all names again.

    \b
    scantwin consortium certificate --host pet.example.org
    """
    from scantwin.federation.certificates import server_certificate_ends
    from scantwin.federation.consortium import Consortium

    consortium = Consortium.open()
    names = consortium.renew_certificate(tuple(host or ()))
    end = server_certificate_ends(consortium.folder)
    data = {"hosts": [*names], "certificate_ends": end.isoformat(), "notice": NOTICE}

    def people() -> None:
        out.print(f"The server certificate is for {', '.join(names)}, until {end:%Y-%m-%d}.", markup=False)
        out.print("It counts once scantwin consortium start is started again, and nginx reloaded.")

    emit(data, as_json, people)


@app.command()
def status(as_json: Json = False) -> None:
    """Show the sites and the latest runs.

    \b
    scantwin consortium status --json
    """
    from sqlalchemy import select

    from scantwin.cli.consortium_view import run_as_json, say_status
    from scantwin.federation.certificates import server_certificate_ends
    from scantwin.federation.consortium import Consortium
    from scantwin.federation.launching import NEWEST_FIRST
    from scantwin.federation.processes import wait_for_port
    from scantwin.store.database import Database
    from scantwin.store.models import Run, Site

    consortium = Consortium.open()
    running = wait_for_port(consortium.config.host, consortium.config.port, timeout_s=0.5)
    links = _links(consortium) if running else {}
    with Database.from_settings().migrate().session() as session:
        sites = [*session.scalars(select(Site).order_by(Site.name))]
        runs = [*session.scalars(select(Run).order_by(*NEWEST_FIRST).limit(10))]
        listed = [run_as_json(run) for run in runs]
    data = {
        "name": consortium.config.name, "superlink": consortium.address, "running": running,
        "sites": [
            {
                "site": one.name, "kind": one.kind, "status": one.status, "node_id": one.node_id,
                "link": links.get(one.node_id or "", "unknown"),
            }
            for one in sites
        ],
        "runs": listed, "certificate_ends": server_certificate_ends(consortium.folder).isoformat(),
        "notice": NOTICE,
    }  # fmt: skip
    emit(data, as_json, lambda: say_status(data))
    _warn_of_the_end(consortium)


def _warn_of_the_end(consortium: Consortium) -> None:
    """Warns on standard error if the server certificate ends soon: from then on no site can connect."""
    from scantwin.federation.certificates import ends_soon, server_certificate_ends

    if words := ends_soon(server_certificate_ends(consortium.folder)):
        err.print(f"[yellow]warning:[/yellow] {words}")


def _warn_of_few(min_sites: int) -> None:
    """Warns on standard error if a round may end with so few sites that their updates show in the model."""
    if min_sites < _ENOUGH_SITES:
        err.print(
            f"[yellow]warning:[/yellow] A round of this run may end with fewer than {_ENOUGH_SITES} sites: "
            "with two, each can compute the other's update from the published model, and with one, the model "
            f"is that site's alone (--min-sites {_ENOUGH_SITES} prevents it).",
            highlight=False,
        )


def _links(consortium: Consortium) -> dict[str, str]:
    """Node id -> how Flower sees the node: registered, online, offline."""
    from scantwin.federation.flower import CONNECTION, call_flwr

    nodes = call_flwr(consortium.flower_home, "supernode", "list", CONNECTION)["nodes"]
    return {str(node["node-id"]): str(node["status"]) for node in nodes}
