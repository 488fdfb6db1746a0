"""`scantwin dicom`: sends to a PACS and receives from one."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from scantwin import NOTICE
from scantwin.addresses import host_and_port
from scantwin.errors import InputError
from scantwin.interrupts import ending_signals
from scantwin.terminal import Json, emit, err, finite, out, progress_bar

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Send to a PACS and receive from one, by C-STORE."
)


@app.command()
def send(
    path: Annotated[Path, typer.Argument(help="A DICOM file, a folder or a zip of them.")],
    to: Annotated[str, typer.Option("--to", help="HOST:PORT of the PACS.")],
    ae: Annotated[str, typer.Option(help="AE title of the PACS.")],
    calling_ae: Annotated[str, typer.Option(help="Our own AE title.")] = "SCANTWIN",
    timeout: Annotated[
        float, typer.Option(min=1, callback=finite, help="How long the PACS may be silent, in seconds.")
    ] = 30.0,
    as_json: Json = False,
) -> None:
    """Send DICOM files unchanged, patient's name included: only to the PACS of the patient's own hospital.

    \b
    scantwin dicom send scan/dicom --to pacs.local:104 --ae PACS
    scantwin dicom send scan/dicom-extra --to pacs.local:104 --ae PACS

    Exit 1 if nobody answers, the association is refused, or a file is not accepted.
    """
    from scantwin.imaging.dicom_network import store

    host, port = _address(to)
    with progress_bar("sending", quiet=as_json) as advance:
        report = store([path], host, port, ae, calling_ae, timeout_s=timeout, advance=advance)

    def people() -> None:
        mib = report.bytes / 2**20
        out.print(f"{report.sent} files ({mib:.1f} MiB) are at {ae}, {to}, after {report.seconds:.1f} s.")
        for one in report.failed:
            err.print(f"[red]not sent:[/red] {escape(one['file'])}: {escape(one['why'])}")

    emit(report.as_json(), as_json, people)
    if report.failed:
        raise typer.Exit(1)


@app.command()
def receive(
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for what arrives; then run scantwin site ingest on it.")
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 11112,
    ae: Annotated[str, typer.Option(help="Our AE title, as senders must call it.")] = "SCANTWIN",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")] = (
        "127.0.0.1"
    ),
    max_mib: Annotated[int, typer.Option(min=1, help="Largest object [MiB].")] = 1024,
    as_json: Json = False,
) -> None:
    """Receive CT, PET, SEG and RTSTRUCT objects by C-STORE until Ctrl-C. No password: mind who can reach it.

    With --json it prints one line when it listens and one at the end.

    \b
    scantwin dicom receive --out incoming/ --port 11112 --ae SCANTWIN
    """
    from scantwin.imaging.dicom_receiver import LOOPBACK, Receiver

    node = Receiver(out_dir, port, ae, host=host, max_object_bytes=max_mib << 20)
    ended = threading.Event()
    for number in ending_signals():
        signal.signal(number, lambda *_: ended.set())
    if host != LOOPBACK:
        err.print("[yellow]warning:[/yellow] anybody who can reach this address can send here.")
    with node:
        if as_json:
            _say({"ready": True, **node.as_json(), "notice": NOTICE})
        else:
            out.print(f"{ae} listens on {node.host}:{node.port}, files go to {out_dir}. Ctrl-C ends it.")
        ended.wait()
    if as_json:
        _say({"ready": False, **node.as_json(), "notice": NOTICE})
    else:
        out.print(f"{node.received} files came, {node.refused} were refused. scantwin site ingest {out_dir}")


def _say(data: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def _address(text: str) -> tuple[str, int]:
    found = host_and_port(text)
    if found is None:
        raise InputError(f"{text!r} is not HOST:PORT.", hint="For example pacs.local:104.")
    return found
