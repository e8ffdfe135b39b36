"""Commands about the whole graph: edges, audit, sql, runs, diff, skipped, models, adapters."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from modelkin.cli.options import AsOfOption, GraphOption, JsonOption
from modelkin.cli.output import note, print_json_lines, print_rows, print_table
from modelkin.cli.reading import reading

__all__ = ["register"]

_GRAPH = Path("graph")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (edges, audit, sql, runs, diff, skipped, models, adapters):
        app.command()(command)


def edges(graph: GraphOption = _GRAPH, as_of: AsOfOption = None, json: JsonOption = False) -> None:
    """All current edges."""
    with reading(graph, as_of) as opened:
        _print(opened.each_edge(), json, "no edges")


def audit(
    graph: GraphOption = _GRAPH,
    as_of: AsOfOption = None,
    every: Annotated[bool, typer.Option("--all", help="Also measured parents that no card declares.")] = False,
    json: JsonOption = False,
) -> None:
    """Declared parents beside measured ones."""
    with reading(graph, as_of) as opened:
        rows = opened.audit(every=every)
    _print(rows, json, "no model declares a base")
    if rows and not json:
        counts = Counter(row.verdict for row in rows).most_common()
        note(", ".join(f"{count:,} {verdict}" for verdict, count in counts))


def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="One SQL statement; - reads it from standard input.")],
    graph: GraphOption = _GRAPH,
    as_of: AsOfOption = None,
    json: JsonOption = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
) -> None:
    """Ask the graph in DuckDB's SQL.

    Tables: models, inferred, edges, components, placements, merges, pairs, claims, runs, skipped. Views: lineage,
    parents, audit, live_models, nodes, current_edges, current_merges, sketches. Macros: ancestors_of(m),
    descendants_of(m), siblings_of(m).
    """
    if json and csv:
        raise typer.BadParameter("give one of --json and --csv")
    with reading(graph, as_of) as opened:
        columns, rows = opened.sql_rows(sys.stdin.read() if query == "-" else query)
        if json:
            print_json_lines(dict(zip(columns, row, strict=True)) for row in rows)
        elif csv:
            _print_csv(columns, rows)
        else:
            from modelkin.tables import cell

            print_table(columns, [[cell(value) for value in row] for row in rows])


def runs(
    graph: GraphOption = _GRAPH,
    last: Annotated[
        bool, typer.Option("--last", help="Only the last run, and which trees it solved again and why.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Every run that wrote to the graph."""
    with reading(graph) as opened:
        every = opened.runs()
        if not last or not every:
            _print(every, json, "no runs")
            return
        from modelkin.touched import touched_trees

        run, touched = every[-1], list(touched_trees(opened, every[-1].run_id))
        if json:
            print_json_lines([{**asdict(run), "touched": [asdict(tree) for tree in touched]}])
        else:
            print_rows([run], "")
            print_rows(touched, "no tree was solved again")


def diff(
    before: Annotated[str, typer.Argument(metavar="RUN1", help="The earlier run, or a date as in --as-of.")],
    after: Annotated[str, typer.Argument(metavar="RUN2", help="The later run, or a date.")],
    graph: GraphOption = _GRAPH,
    every: Annotated[
        bool, typer.Option("--all", help="Also edges whose confidence or runner-up alone changed.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Which edges changed between two runs, and why.

    Edges that appeared, vanished, or have another parent or relation.
    """
    with reading(graph) as opened:
        _print(opened.diff(before, after, every=every), json, f"no edge changed between {before} and {after}")


def skipped(
    graph: GraphOption = _GRAPH,
    run: Annotated[int | None, typer.Option("--run", min=1, help="Only what this run skipped.")] = None,
    json: JsonOption = False,
) -> None:
    """What was not ingested, and why."""
    with reading(graph) as opened:
        rows = (row for row in opened.each_skipped() if run is None or row.run_id == run)
        _print(rows, json, "nothing was skipped")


def models(graph: GraphOption = _GRAPH, as_of: AsOfOption = None, json: JsonOption = False) -> None:
    """All models in the graph."""
    with reading(graph, as_of) as opened:
        _print(opened.each_model(), json, "no models")


def adapters(graph: GraphOption = _GRAPH, json: JsonOption = False) -> None:
    """All adapters: the base that each declares, whether it fits, and which models hold it in their weights."""
    from indexer.adapter_merges import match_adapters
    from store.generation import open_reader

    with reading(graph) as opened, open_reader(opened.path) as connection:
        _print(match_adapters(connection, opened.path), json, "no adapters")


def _print(rows: Iterable[Any], json: bool, empty: str) -> None:
    if json:
        print_json_lines(rows)
    else:
        print_rows(list(rows), empty)


def _print_csv(columns: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> None:
    import csv

    from modelkin.plain import as_json, plain

    def text(value: Any) -> object:
        if isinstance(value, str):
            return plain(value, lines=True)
        return as_json(value) if isinstance(value, (list, dict, tuple)) else value

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([text(value) for value in row] for row in rows)
