"""`scantwin twin`: the virtual scanner as a service, and its client. SYNTHETIC, NOT FOR DIAGNOSIS."""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from scantwin import NOTICE
from scantwin.errors import InputError, MissingExtra
from scantwin.files import require_ours
from scantwin.settings import load_settings
from scantwin.terminal import Json, emit, err, finite, out, progress_bar
from scantwin_twin import PORT

if TYPE_CHECKING:
    from scantwin_twin.client import TwinClient

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Scan patients' CTs through a service on this or another machine. SYNTHETIC, NOT FOR DIAGNOSIS.",
)

Address = Annotated[str, typer.Option(help="HOST:PORT of the service.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(help="File with the service's token (else SCANTWIN_TWIN_TOKEN).", dir_okay=False),
]
Authority = Annotated[
    Path | None,
    typer.Option("--ca", help="PEM of the authority behind the service's certificate.", dir_okay=False),
]
_LOCAL = f"127.0.0.1:{PORT}"


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="Where to listen; all but loopback needs TLS and a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = PORT,
    home: Annotated[Path | None, typer.Option(help="Folder of all state (default: SCANTWIN_HOME).")] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="A model's folder to publish first; repeatable.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain.", dir_okay=False)] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM private key.", dir_okay=False)] = None,
    token_file: TokenFile = None,
    max_upload: Annotated[int, typer.Option(min=1, help="Largest CT that is accepted, in MiB.")] = 2048,
    scan_limit: Annotated[
        float, typer.Option(min=1, callback=finite, help="Longest time for one scan, in seconds.")
    ] = 3600.0,
    as_json: Json = False,
) -> None:
    """Run the service in the foreground until Ctrl-C or SIGTERM.

    \b
    scantwin twin serve --model model/
    scantwin twin serve --host 0.0.0.0 --tls-cert twin.pem --tls-key twin.key --token-file token
    """
    if find_spec("torch") is None:  # the worker needs it, and would notice only at the first scan
        raise MissingExtra("scantwin twin serve", "twin")
    from scantwin.learning.machine import check_device
    from scantwin_twin import security, server
    from scantwin_twin.executor import LocalExecutor
    from scantwin_twin.uploads import Limits

    check_device()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s twin %(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = load_settings(**({} if home is None else {"home": home}))
    token = security.read_token(settings, token_file)
    exposure = security.expose(host, port, certificate=tls_cert, key=tls_key, token=token)
    built = server.build(
        settings, exposure, models=model or (), limits=Limits(upload=max_upload << 20),
        executor=LocalExecutor(limit_s=scan_limit),
    )  # fmt: skip
    server.serve(built, as_json=as_json)


@app.command()
def submit(
    ct: Annotated[Path, typer.Argument(help="A CT: NIfTI file, DICOM folder or zip.")],
    model: Annotated[str, typer.Option(help="Version or name of a model of the service.")],
    out_dir: Annotated[
        Path,
        typer.Option("--out", help="Folder for the results; an earlier one is replaced.", file_okay=False),
    ],
    twin: Annotated[
        str, typer.Option(help="Pseudonym of the patient (else one made from the CT's bytes).")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The same seed gives the same scan.")] = 0,
    address: Address = _LOCAL,
    token_file: TokenFile = None,
    ca: Authority = None,
    as_json: Json = False,
) -> None:
    """Send a CT, wait for its scan and fetch the results.

    \b
    scantwin twin submit ct.nii.gz --model pix2pix --out scan/ --twin patient-7
    """
    require_ours(out_dir, "pet.nii.gz", ct)
    with _client(address, token_file, ca) as client:
        with progress_bar("sending", quiet=as_json) as advance:
            scan = client.submit(ct, model=model, twin=twin, seed=seed, advance=advance)
        err.print(
            f"Scan {scan.id} of twin {scan.twin} is queued; `scantwin twin watch {scan.id}` finds it again."
        )
        with progress_bar("scanning", quiet=as_json) as advance:
            client.wait(scan.id, advance=advance)
        _export(client, scan.id, out_dir, as_json)


@app.command()
def watch(
    scan: Annotated[str, typer.Argument(metavar="ID", help="The scan's id.")],
    address: Address = _LOCAL,
    token_file: TokenFile = None,
    ca: Authority = None,
    as_json: Json = False,
) -> None:
    """Follow a scan until it has ended.

    \b
    scantwin twin watch 3f2a...
    """
    from scantwin_twin import messages

    with _client(address, token_file, ca) as client, progress_bar("scanning", quiet=as_json) as advance:
        ended = client.wait(scan, advance=advance)
    shown = messages.plain(ended)
    emit(shown, as_json, lambda: out.print(f"Scan {ended.id} is {shown['status']}. {NOTICE}."))


@app.command("list")
def list_scans(
    twin: Annotated[str, typer.Option(help="Only scans of this twin.")] = "",
    status: Annotated[str, typer.Option(help="Only queued, running, done, failed or cancelled ones.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    address: Address = _LOCAL,
    token_file: TokenFile = None,
    ca: Authority = None,
    as_json: Json = False,
) -> None:
    """List scans, newest first.

    \b
    scantwin twin list --twin patient-7 --status done
    """
    from scantwin_twin import messages

    with _client(address, token_file, ca) as client:
        shown = messages.plain(client.scans(twin=twin, status=status, limit=limit))
    emit(shown, as_json, lambda: _table(shown))


@app.command()
def export(
    scan: Annotated[str, typer.Argument(metavar="ID", help="The scan's id.")],
    out_dir: Annotated[
        Path,
        typer.Option("--out", help="Folder for the results; an earlier one is replaced.", file_okay=False),
    ],
    address: Address = _LOCAL,
    token_file: TokenFile = None,
    ca: Authority = None,
    as_json: Json = False,
) -> None:
    """Fetch the results of a finished scan.

    \b
    scantwin twin export 3f2a... --out scan/
    """
    with _client(address, token_file, ca) as client:
        _export(client, scan, out_dir, as_json)


@app.command()
def cancel(
    scan: Annotated[str, typer.Argument(metavar="ID", help="The scan's id.")],
    address: Address = _LOCAL,
    token_file: TokenFile = None,
    ca: Authority = None,
    as_json: Json = False,
) -> None:
    """End a queued or running scan.

    \b
    scantwin twin cancel 3f2a...
    """
    from scantwin_twin import messages

    with _client(address, token_file, ca) as client:
        shown = messages.plain(client.cancel(scan))
    emit(shown, as_json, lambda: out.print(f"Scan {shown['id']} is {shown['status']}. {NOTICE}."))


@app.command()
def delete(
    twin: Annotated[str, typer.Argument(metavar="PSEUDONYM", help="The patient's pseudonym.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    address: Address = _LOCAL,
    token_file: TokenFile = None,
    ca: Authority = None,
    as_json: Json = False,
) -> None:
    """Forget a patient: the twin, its scans, the CTs that were sent and all results at the service.

    Exported results stay where they were exported to. The audit log records that the twin was deleted.

    \b
    scantwin twin delete patient-7
    """
    from scantwin_twin import messages

    with _client(address, token_file, ca) as client:
        scans = client.twin(twin).scans
        if not yes:
            _ask(f"Delete the twin {twin} with its {scans} scans for good?")
        shown = messages.plain(client.delete_twin(twin))
    size = shown["size"] / 1e6
    emit(
        shown, as_json,
        lambda: out.print(f"{twin} is forgotten: {shown['scans']} scans, {size:.1f} MB. {NOTICE}."),
    )  # fmt: skip


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise InputError("Nobody is here to confirm the deletion.", hint="Give --yes.")
    if not typer.confirm(question, err=True):
        raise InputError("Nothing was deleted.")


def _client(address: str, token_file: Path | None, ca: Path | None) -> TwinClient:
    from scantwin_twin.client import TwinClient
    from scantwin_twin.security import read_token

    return TwinClient(address, token=read_token(load_settings(), token_file), ca=ca)


def _export(client: TwinClient, scan: str, out_dir: Path, as_json: bool) -> None:
    with progress_bar("fetching", quiet=as_json) as advance:
        contract = client.export(scan, out_dir, advance=advance)
    emit(contract, as_json, lambda: _people(contract))


def _people(contract: dict[str, Any]) -> None:
    out.print(f"[bold red]{NOTICE}[/bold red]")
    files = [
        (name.replace("_", " "), contract[name])
        for name in ("pet_nifti", "std_nifti", "pet_dicom", "manifest")
    ]
    # Lines, not a table: a path cut to the terminal's width is of no use.
    for what, path in (*files, *(("picture", path) for path in contract["pictures"])):
        out.print(f"{what:10} {path}", markup=False, highlight=False)
    out.print(f"Scan {contract['scan']} of twin {contract['twin']} with {contract['model_version']}.")
    out.print(f"Triage: {contract['triage']['answer']}.")
    for reason in contract["triage"]["reasons"]:
        out.print(f"  {escape(reason)}")
    for warning in contract["warnings"]:
        err.print(f"[yellow]warning:[/yellow] {escape(warning)}")


def _table(shown: dict[str, Any]) -> None:
    table = Table(title=NOTICE, title_style="bold red")
    table.add_column("scan", no_wrap=True, min_width=32)  # an id cut short is of no use
    for name in ("twin", "model", "status", "progress", "created"):
        table.add_column(name, overflow="fold")
    for scan in shown["scans"]:
        created = scan["created"][:16].replace("T", " ")
        table.add_row(
            scan["id"], scan["twin"], scan["model"], scan["status"], f"{scan['progress']:.0%}", created
        )  # fmt: skip
    out.print(table)
    if shown["more"]:
        out.print("There are more: raise --limit.")
