"""Commands that look after a graph: check, repair."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from modelkin.cli.options import GraphOption, JsonOption
from modelkin.cli.output import note, print_json, print_json_lines, print_lines

__all__ = ["register"]

_GRAPH = Path("graph")
FolderArgument = Annotated[
    Path | None, typer.Argument(metavar="GRAPH", help="Folder of the Model Graph; the same as --graph.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (check, repair):
        app.command()(command)


def check(folder: FolderArgument = None, graph: GraphOption = _GRAPH, json: JsonOption = False) -> None:
    """Verify a graph: one line a check, exit status 1 if any failed.

    Nothing is changed, and a run may be going on. Every sketch is read.
    """
    from modelkin.drawing import check_lines
    from modelkin.progress import progress_for
    from store.check import check_graph, sound

    progress = progress_for(sys.stderr)
    try:
        checks = check_graph(folder or graph, progress).checks
    finally:
        progress.finish()
    if json:
        print_json_lines(checks)
    else:
        print_lines(check_lines(checks))
    if not sound(checks):
        note("`modelkin repair` rebuilds what can be rebuilt; with --dry-run it says what that is")
        raise typer.Exit(1)


def repair(
    folder: FolderArgument = None,
    graph: GraphOption = _GRAPH,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Rebuild what a check finds wrong, as far as it can be rebuilt.

    It works on a new generation, which replaces the current one only if nothing is wrong with it any more.
    """
    from modelkin.progress import progress_for
    from modelkin.repair import repair as run

    progress = progress_for(sys.stderr)
    try:
        done = run(folder or graph, dry_run=dry_run, progress=progress, clock=lambda: datetime.now(UTC))
    finally:
        progress.finish()
    if json:
        print_json(done)
        return
    print_lines(f"{'would be done' if dry_run else 'done'}: {each}" for each in done.did)
    if not done.did:
        note("nothing to repair")
    elif not dry_run:
        note(f"the graph is at generation {done.generation}")
