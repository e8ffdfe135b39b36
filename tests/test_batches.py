"""Components are written a batch at a time: what one batch leaves is there for the next, in this run or another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crawl.folder import FolderSource
from indexer import update as updating
from store.lineage import replace_components
from tests.runs import answers, index, writer
from tests.test_update import NAMES, everything

__all__ = ["everything"]


def test_what_was_solved_before_a_run_broke_off_is_not_solved_again(
    everything: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of components at a time is committed; the next run goes on with the rest."""
    monkeypatch.setattr("indexer.update.how_many", lambda *_: 6)
    solve = updating._solve
    solved: list[list[int]] = []

    def breaks(*arguments: Any) -> Any:
        if len(solved) == 2:
            raise KeyboardInterrupt
        solved.append(sorted(i for part in arguments[-1] for i in part))
        return solve(*arguments)

    monkeypatch.setattr("indexer.update._solve", breaks)
    with pytest.raises(KeyboardInterrupt):
        index(everything, tmp_path / "graph")
    first = [i for part in solved for i in part]
    solved[:] = [[]] * 3
    index(everything, tmp_path / "graph")
    rest = [i for part in solved for i in part]
    assert first
    assert rest
    assert len(first) + len(rest) == len(set(first + rest)) == len(NAMES)
    index(everything, tmp_path / "afresh")
    assert answers(tmp_path / "graph") == answers(tmp_path / "afresh")


def test_an_inferred_ancestor_stays_when_the_rest_of_its_old_tree_is_placed_later(
    everything: Path, tmp_path: Path
) -> None:
    """A tree falls apart; its parts are written in two batches, of which the first has the old root."""
    with writer(tmp_path / "graph", FolderSource(everything)) as run:
        c = run.connection
        for keep in ((-6,), ()):
            replace_components(c, [([1, 2, 3, 4], {2: 1, 3: -5, 4: -5, -5: 1})], [1, 2, 3, 4])
            replace_components(c, [([1, 3, 4], {3: -6, 4: -6, -6: 1})], [])
            replace_components(c, [([2], {})], [], None, keep)
            nodes = [row[0] for row in c.execute("select model_id from components order by 1").fetchall()]
            assert nodes == [*keep, 1, 2, 3, 4]
