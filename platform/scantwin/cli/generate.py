"""`scantwin generate`: CTs with synthetic tissue, and synthetic CTs. SYNTHETIC, NOT FOR DIAGNOSIS."""

from __future__ import annotations

import typer

from scantwin.cli.generate_lesions import lesions
from scantwin.cli.generate_organs import organs
from scantwin.cli.generate_volumes import volumes

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Make CTs: insert tumours, regenerate organs, generate whole volumes.",
)
app.command("lesions")(lesions)
app.command("organs")(organs)
app.command("volumes")(volumes)
