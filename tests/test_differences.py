"""Tables are written only where they differ from what was found: SQL against dicts, row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from store.edges import write_edges
from store.lineage import write_merges
from store.memory import recall, remember
from store.pairs import PAIRS, replace_pairs
from store.records import Edge, Evidence, Merge
from store.schema import create_schema

Told = dict[int, Any]
"""Child -> what was found of it."""

IDS = st.integers(-2, 4)
NUMBER = st.sampled_from([0.5, 1.0, float("inf")])
EVIDENCE = st.builds(Evidence, st.sampled_from(["norm", "rank"]), NUMBER, NUMBER, st.sampled_from(["", "it grew"]))
EDGE = st.builds(
    Edge,
    st.just(0),
    IDS,
    st.sampled_from(["lora", "finetune"]),
    NUMBER,
    NUMBER,
    st.one_of(st.none(), IDS),
    st.one_of(st.none(), NUMBER),
    st.lists(EVIDENCE, max_size=2).map(tuple),
)
MERGES = st.dictionaries(IDS, st.tuples(NUMBER, st.just("linear")), max_size=2)


def histories(found: st.SearchStrategy[Any]) -> st.SearchStrategy[list[tuple[int, Told, set[int]]]]:
    """(run, what was found, children that were asked about), step by step; a run that goes on has several steps."""
    step = st.tuples(st.integers(0, 1), st.dictionaries(IDS, found, max_size=4), st.sets(IDS, max_size=5))
    return st.lists(step, min_size=2, max_size=6).map(
        lambda steps: [(1 + sum(more for more, *_ in steps[: at + 1]), *step[1:]) for at, step in enumerate(steps)]
    )


def written(
    rows: list[tuple[Any, ...]], run: int, found: Told, children: set[int]
) -> tuple[list[tuple[Any, ...]], int, int]:
    """The definition of what writing does to (child, what was found, from run, to run): (rows, added, closed)."""
    added = closed = 0
    for child in children:
        present = [row for row in rows if row[0] == child and row[3] is None]
        told = [row[1] for row in present]
        wanted = [found[child]] if child in found else []
        if told == wanted:
            continue
        rows = [row for row in rows if row not in present]
        rows += [(*row[:3], run) for row in present if row[2] != run]
        rows += [(child, each, run, None) for each in wanted]
        added, closed = added + len(wanted), closed + len(present)
    return rows, added, closed


def by_all(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(rows, key=repr)


@cache
def database() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    create_schema(connection)
    return connection


def emptied(table: str) -> duckdb.DuckDBPyConnection:
    database().execute(f"delete from {table}")
    return database()


@contextmanager
def committed(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    yield
    connection.commit()
    left = connection.execute("select view_name from duckdb_views() where temporary and not internal").fetchall()
    assert left == []


@given(histories(EDGE))
@settings(max_examples=80, deadline=None)
def test_edges_are_those_that_were_found(steps: list[tuple[int, Told, set[int]]]) -> None:
    connection = emptied("edges")
    rows: list[tuple[Any, ...]] = []
    for run, found, children in steps:
        told = {
            child: (
                e.parent_id,
                e.relation,
                e.distance,
                e.confidence,
                e.runner_up_id,
                e.runner_up_confidence,
                e.evidence,
            )
            for child, e in found.items()
        }
        edges = [Edge(child, *each) for child, each in told.items()]
        rows, added, closed = written(rows, run, told, children)
        with committed(connection):
            assert write_edges(connection, run, edges, children) == (added, closed)
        stored = [
            (row[0], (*row[1:7], tuple(Evidence(**each) for each in row[7])), *row[8:])
            for row in connection.execute("select * from edges").fetchall()
        ]
        assert by_all(stored) == by_all(rows)


@given(histories(MERGES))
@settings(max_examples=40, deadline=None)
def test_merges_are_those_that_were_found(steps: list[tuple[int, Told, set[int]]]) -> None:
    connection = emptied("merges")
    rows: list[tuple[Any, ...]] = []
    for run, found, children in steps:
        told = {child: sorted(parents.items()) for child, parents in found.items() if parents}
        merges = [Merge(child, parent, *how) for child, parents in told.items() for parent, how in parents]
        rows, *_ = written(rows, run, told, children)
        with committed(connection):
            write_merges(connection, run, merges, children)
        stored = [
            (a, (b, tuple(how)), start, end)
            for a, b, *how, start, end in connection.execute("select * from merges").fetchall()
        ]
        wanted = [(child, each, start, end) for child, parents, start, end in rows for each in parents]
        assert by_all(stored) == by_all(wanted)


PAIR = st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, st.one_of(st.none(), st.integers(0, 3)))
FOUND = st.dictionaries(st.tuples(st.integers(1, 4), st.integers(5, 8)), PAIR, max_size=8)


@given(st.lists(st.tuples(FOUND, st.sets(st.integers(1, 8), max_size=5)), min_size=2, max_size=5))
@settings(max_examples=80, deadline=None)
def test_pairs_are_those_that_were_measured(steps: list[tuple[dict[tuple[int, int], Any], set[int]]]) -> None:
    connection = emptied("pairs")
    rows: dict[tuple[int, int], Any] = {}
    for found, models in steps:
        columns = zip(*((*pair, *values) for pair, values in found.items()), strict=True)
        table = pa.table(list(columns), schema=PAIRS) if found else PAIRS.empty_table()
        if models:
            rows = found | {pair: values for pair, values in rows.items() if not models & {*pair}}
        with committed(connection):
            replace_pairs(connection, table, models)
        assert {row[:2]: row[2:] for row in connection.execute("select * from pairs").fetchall()} == rows


KEY = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(["near", "merge"]))
ANSWERS = st.dictionaries(KEY, st.tuples(st.binary(max_size=2), st.binary(max_size=300)))


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), ANSWERS), min_size=2, max_size=5))
@settings(max_examples=40, deadline=None)
def test_answers_are_those_that_were_given(steps: list[tuple[set[str], Any]]) -> None:
    connection = emptied("memory")
    rows: Any = {}
    for contents, told in steps:
        answers = {key: answer for key, answer in told.items() if key[0] in contents}
        before = recall(connection, contents)
        assert before == {key: answer for key, answer in rows.items() if key[0] in contents}
        with committed(connection):
            remember(connection, before, answers)
        rows = {key: answer for key, answer in rows.items() if key[0] not in contents} | answers
        assert recall(connection, "abc") == rows
