"""Where answers are kept between updates: beside the graph, but for those that hold with its edges alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from indexer.large_edges import WRITTEN
from indexer.memo import RECORD
from store.answers import Answers, AnswerStore, answers_path
from store.memory import all_but, contents_gone, drop_all_but, forget, held_contents, recall, recorded, remember

__all__ = ["KeptAnswers", "kept_answers", "recalled"]

_WITH_EDGES = RECORD + WRITTEN
"""How kinds begin of what was found while edges were written: it holds for them, and goes with them."""


class KeptAnswers:
    """Of a graph that is being written."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, beside: AnswerStore) -> None:
        self._connection, self._beside = connection, beside
        self._held = held_contents(connection)
        """Contents that something is kept of with the edges: few, as it is of whole trees."""

    def recall(self, contents: Collection[str]) -> Answers:
        """The answers about models of these contents."""
        return self._beside.recall(contents) | recall(self._connection, self._held.intersection(contents))

    def records(self, contents: Collection[str]) -> set[tuple[str, str]]:
        """(content, kind) of what is kept of whole trees with models of these contents."""
        return self._beside.records(contents) | recorded(self._connection, self._held.intersection(contents))

    def remember(self, before: Answers, answers: Answers) -> None:
        """Keep these in place of those `before`; within the transaction that writes the edges. Raises OSError when it
        cannot be written."""
        told = _with_edges(answers, True)
        remember(self._connection, _with_edges(before, True), told)
        self._held |= {content for content, _ in told}
        self._beside.remember(_with_edges(before, False), _with_edges(answers, False))

    def forget(self, gone: Collection[int]) -> None:
        """Drop the answers about contents that these models had, and no live one has."""
        self._beside.forget(contents_gone(self._connection, gone))
        forget(self._connection)


@contextmanager
def kept_answers(connection: duckdb.DuckDBPyConnection, graph: Path) -> Iterator[KeptAnswers]:
    """Those of a graph that is being written."""
    with AnswerStore(answers_path(graph), RECORD) as beside:
        # Older graphs hold all of them.
        for some in all_but(connection, _WITH_EDGES):
            beside.remember({}, some)
        drop_all_but(connection, _WITH_EDGES)
        yield KeptAnswers(connection, beside)


def recalled(graph: Path, contents: Collection[str]) -> Answers:
    """The answers about models of these contents, of a graph that is read."""
    with AnswerStore(answers_path(graph), RECORD, read_only=True) as beside:
        return beside.recall(contents)


def _with_edges(answers: Answers, wanted: bool) -> Answers:
    return {key: told for key, told in answers.items() if key[1].startswith(_WITH_EDGES) == wanted}
