"""The command line. Modules here are light: what a command needs is imported when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from modelkin.cli import answers, listings, runs, scheduling, upkeep
from modelkin.cli.endings import Commands

__all__ = ["app", "main"]

app = typer.Typer(
    name="modelkin",
    cls=Commands,
    help="Who descends from whom among neural networks, read from their weights.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        import modelkin

        print(f"modelkin {modelkin.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for _module in (runs, scheduling, answers, listings, upkeep):
    _module.register(app)


def main() -> None:
    """Entry point of the command `modelkin`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A name that the terminal's encoding lacks is no reason to stop in the middle of a table.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="modelkin")
