"""Where nodes stand is written only where it differs: columns and SQL against lists and dicts, node by node."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from importlib import resources
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store.descent import descent
from store.lineage import replace_components

COMPONENTS = resources.files("store.schema").joinpath("components.sql").read_text(encoding="utf-8")

Tree = tuple[list[int], dict[int, int]]
Rows = dict[int, tuple[Any, ...]]
"""Node -> (root, depth, members, path, stage, stale)."""


def path_of(node: int, parent: Mapping[int, int]) -> list[int]:
    return [*path_of(parent[node], parent), node] if node in parent else [node]


def replaced(
    rows: Rows, trees: Sequence[Tree], gone: Collection[int], stages: Mapping[int, str], keep: Collection[int]
) -> Rows:
    """The definition of `replace_components`: each row of a touched tree is taken out and made anew."""
    placed: Rows = {}
    for members, parent in trees:
        for node in {*members, *parent, *parent.values()}:
            path = path_of(node, parent)
            placed[node] = path[0], len(path) - 1, len(members), path, stages.get(node), None
    left = {rows[node][0] for node in placed if node in rows}
    stay = {
        node: row
        for node, row in rows.items()
        if node not in gone and not (node < 0 and row[0] in left and node not in keep)
    }
    return stay | placed


@st.composite
def forests(draw: st.DrawFn) -> list[Tree]:
    """Trees of models 1 to 12 and inferred ancestors -1 to -4, each of which hangs somewhere or nowhere."""
    order = draw(st.permutations([*range(1, 13), -1, -2, -3, -4]))[: draw(st.integers(0, 16))]
    parent = {}
    for at, node in enumerate(order):
        above = draw(st.one_of(st.none(), st.sampled_from(order[:at]))) if at else None
        if above is not None:
            parent[node] = above
    trees: dict[int, Tree] = {}
    for node in order:
        members, held = trees.setdefault(path_of(node, parent)[0], ([], {}))
        if node > 0:
            members.append(node)
        if node in parent:
            held[node] = parent[node]
    # An inferred ancestor is among the children and parents only: it is in a tree because a model hangs there.
    return [tree for tree in trees.values() if tree[0]]


STEP = st.tuples(
    forests(),
    st.sets(st.integers(-4, 12), max_size=4),
    st.dictionaries(st.integers(1, 12), st.sampled_from(["generalization", "specialization"])),
    st.sets(st.integers(-4, -1)),
    st.sets(st.integers(-4, 12), max_size=3),
)
"""(trees, gone, stages, keep, what is stale before)."""


def stored(connection: duckdb.DuckDBPyConnection) -> Rows:
    query = "select model_id, root_id, depth, members, path, stage, stale from components order by model_id"
    return {row[0]: row[1:] for row in connection.execute(query).fetchall()}


@given(st.lists(STEP, min_size=2, max_size=4))
@settings(max_examples=60, deadline=None)
def test_what_stands_is_what_would_stand_if_all_were_written_anew(steps: list[Any]) -> None:
    with duckdb.connect() as connection:
        connection.execute(COMPONENTS)
        rows: Rows = {}
        for trees, gone, stages, keep, stale in steps:
            rows = {node: (*row[:5], True if node in stale else row[5]) for node, row in rows.items()}
            connection.execute("update components set stale = true where list_contains(?, model_id)", [list(stale)])
            rows = replaced(rows, trees, gone, stages, keep)
            connection.begin()
            replace_components(connection, trees, gone, stages, keep)
            connection.commit()
            assert stored(connection) == rows


def test_one_model_more_moves_no_other_row() -> None:
    with duckdb.connect() as connection:
        connection.execute(COMPONENTS)
        line = {node: node - 1 for node in range(2, 3000)}
        replace_components(connection, [(range(1, 3000), line)], [])
        before = dict(connection.execute("select model_id, rowid from components").fetchall())
        replace_components(connection, [(range(1, 3001), {**line, 3000: 7})], [])
        after = dict(connection.execute("select model_id, rowid from components").fetchall())
        assert after.items() >= before.items()
        rows = stored(connection)
        assert rows[3000] == (1, 7, 3000, [*range(1, 8), 3000], None, None)
        assert rows[2999] == (1, 2998, 3000, list(range(1, 3000)), None, None)


def test_a_circle_is_no_line_of_descent() -> None:
    with pytest.raises(ValueError, match="a circle"):
        descent([1, 2, 3, 4], {2: 3, 3: 4, 4: 2})
    with pytest.raises(ValueError, match="a circle"):
        descent([1, 2], {2: 2})
