"""Commands about one model: parents, ancestors, descendants, siblings, tree, explain, identify."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelkin.cli.options import AsOfOption, GraphOption, JsonOption
from modelkin.cli.output import ascii_only, note, print_json, print_lines, print_rows
from modelkin.cli.reading import reading

if TYPE_CHECKING:
    from modelkin.tree import Tree

__all__ = ["register"]

_GRAPH = Path("graph")
_NAMED = 10
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Its name, the last part of it, or source/name.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (parents, ancestors, descendants, siblings, tree, explain, identify):
        app.command()(command)


def parents(
    model: ModelArgument, graph: GraphOption = _GRAPH, as_of: AsOfOption = None, json: JsonOption = False
) -> None:
    """All parents: one, or those it was merged from."""
    with reading(graph, as_of) as opened:
        _print(opened.parents(model), json, f"{model} is the root of its tree")


def ancestors(
    model: ModelArgument, graph: GraphOption = _GRAPH, as_of: AsOfOption = None, json: JsonOption = False
) -> None:
    """The line of descent upwards, parent first."""
    with reading(graph, as_of) as opened:
        _print(opened.ancestors(model), json, f"{model} is the root of its tree")


def descendants(
    model: ModelArgument, graph: GraphOption = _GRAPH, as_of: AsOfOption = None, json: JsonOption = False
) -> None:
    """All models below MODEL, children first."""
    with reading(graph, as_of) as opened:
        _print(opened.descendants(model), json, f"{model} has no children here")


def siblings(
    model: ModelArgument, graph: GraphOption = _GRAPH, as_of: AsOfOption = None, json: JsonOption = False
) -> None:
    """The other children of MODEL's parent."""
    with reading(graph, as_of) as opened:
        _print(opened.siblings(model), json, f"{model} has no siblings here")


def tree(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Its tree; without it, all trees, largest first.")
    ] = None,
    graph: GraphOption = _GRAPH,
    as_of: AsOfOption = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Children shown of each model; 0 for all.")] = 20,
    json: JsonOption = False,
) -> None:
    """Draw the tree of a model, or all trees.

    Each edge stands with its relation, distance and confidence.
    """
    from modelkin.drawing import tree_lines

    with reading(graph, as_of) as opened:
        if model is not None:
            found = opened.tree(model)
            if json:
                print_json(found)
            else:
                print_lines(tree_lines(found, limit, ascii_only=ascii_only()))
        elif json:
            print_json(list(opened.trees()))
        else:
            _draw_all(opened.trees(), limit)


def _draw_all(trees: Iterable[Tree], limit: int) -> None:
    from modelkin.drawing import tree_lines

    alone: list[str] = []
    drawn = 0
    for each in trees:
        if len(each) == 1:
            alone.append(each.root)
        else:
            gap = [""] if drawn else []
            print_lines(chain(gap, tree_lines(each, limit, ascii_only=ascii_only())))
            drawn += 1
    if alone:
        more = f", ... and {len(alone) - _NAMED:,} more" if len(alone) > _NAMED else ""
        print_lines([*([""] if drawn else []), f"without relatives: {', '.join(alone[:_NAMED])}{more}"])
    elif not drawn:
        note("the graph holds no models that were placed; run `modelkin update`")


def explain(
    child: ModelArgument, graph: GraphOption = _GRAPH, as_of: AsOfOption = None, json: JsonOption = False
) -> None:
    """Why a model has this parent.

    Shows its parent, every piece of evidence, the runner-up, and what its card claims.
    """
    from modelkin.drawing import explanation_lines

    with reading(graph, as_of) as opened:
        found = opened.explain(child)
    if json:
        print_json(found)
    else:
        print_lines(explanation_lines(found))


def identify(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder with weights, or a weight file.")],
    graph: GraphOption = _GRAPH,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show this many relatives at most.")] = 10,
    json: JsonOption = False,
) -> None:
    """Find relatives of weights on disk.

    Likely parent first. Nothing is stored.
    """
    with reading(graph) as opened:
        _print(opened.identify(path, limit=limit), json, f"nothing in the graph is related to {path}")


def _print(rows: Sequence[Any], json: bool, empty: str) -> None:
    if json:
        print_json(rows)
    else:
        print_rows(rows, empty)
