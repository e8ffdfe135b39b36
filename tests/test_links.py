"""Search vectors and links: what an update reads in place of all models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from indexer.links import pieces
from store.vectors import Vectors, append_vectors, placed_vectors, stored_layout, write_vectors
from tests.stored_vectors import read_vectors

LAYOUT = {"b.weight": 3, "a.weight": 2}


def some(ids: list[int], seed: int = 0) -> Vectors:
    rng = np.random.default_rng([seed, *ids])
    return Vectors(
        np.array(ids, np.int64),
        rng.integers(0, 1 << 63, (len(ids), 2), dtype=np.uint64),
        rng.standard_normal((len(ids), 5)).astype(np.float32),
    )


def same(a: Vectors | None, b: Vectors) -> bool:
    return a is not None and all(
        np.array_equal(x, y) for x, y in ((a.model_ids, b.model_ids), (a.contents, b.contents), (a.values, b.values))
    )


def placed(path: Path, wanted: Vectors) -> Vectors | None:
    """As `read_vectors`, by `placed_vectors`."""
    found = placed_vectors(path, LAYOUT, wanted.model_ids, wanted.contents, 2)
    if found is None:
        return None
    values, there = found
    assert not values[np.append(~there, [True, True])].any()
    return Vectors(wanted.model_ids[there], wanted.contents[there], values[:-2][there])


def joined(a: Vectors, b: Vectors) -> Vectors:
    return Vectors(
        np.concatenate([a.model_ids, b.model_ids]),
        np.concatenate([a.contents, b.contents]),
        np.concatenate([a.values, b.values]),
    )


def test_what_is_written_and_appended_is_read(tmp_path: Path) -> None:
    path = tmp_path / "shortlist" / "x.vectors"
    first, second = some([1, 2, 5]), some([7, 9])
    assert stored_layout(path) is None
    assert read_vectors(path, LAYOUT, first.model_ids, first.contents) is None
    write_vectors(path, LAYOUT, first)
    append_vectors(path, LAYOUT, second)
    assert stored_layout(path) == LAYOUT
    every = joined(first, second)
    assert same(read_vectors(path, LAYOUT, every.model_ids, every.contents), every)
    assert same(placed(path, every), every)
    # Of another layout, or of no use to this graph.
    assert read_vectors(path, {"a.weight": 5}, every.model_ids, every.contents) is None
    other = every.contents.copy()
    other[1] += 1
    left = read_vectors(path, LAYOUT, every.model_ids, other)
    assert left is not None
    assert left.model_ids.tolist() == [1, 5, 7, 9]
    assert same(placed(path, Vectors(every.model_ids, other, every.values)), left)
    assert placed(path, some([3, 4])) is None


@pytest.mark.parametrize("cut", [1, 17, 40])
def test_a_write_that_was_cut_short_is_written_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.vectors"
    first, second = some([1, 2]), some([3, 4])
    write_vectors(path, LAYOUT, first)
    append_vectors(path, LAYOUT, second)
    path.write_bytes(path.read_bytes()[:-cut])
    every = joined(first, second)
    found = read_vectors(path, LAYOUT, every.model_ids, every.contents)
    assert found is not None
    assert found.model_ids.tolist() == [1, 2, 3]
    assert same(placed(path, every), found)
    append_vectors(path, LAYOUT, Vectors(every.model_ids[3:], every.contents[3:], every.values[3:]))
    assert same(read_vectors(path, LAYOUT, every.model_ids, every.contents), every)


def test_a_damaged_record_is_passed_over_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "x.vectors"
    first = some([1, 2, 3])
    write_vectors(path, LAYOUT, first)
    raw = bytearray(path.read_bytes())
    raw[4096 + 56 + 30] ^= 0x40
    path.write_bytes(raw)
    found = read_vectors(path, LAYOUT, first.model_ids, first.contents)
    assert found is not None
    assert found.model_ids.tolist() == [1, 3]
    append_vectors(path, LAYOUT, Vectors(first.model_ids[1:2], first.contents[1:2], first.values[1:2]))
    assert same(read_vectors(path, LAYOUT, first.model_ids, first.contents), first)


@pytest.mark.parametrize("head", [b"", b"{", b"[]\n", b'{"format": "other", "layout": {"a": 1}}\n', b"\xff\xfe\n",
                                  b'{"format": "modelkin vectors 1", "layout": {"a": -1}}\n'])  # fmt: skip
def test_a_head_that_is_none(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "x.vectors"
    path.write_bytes(head)
    assert stored_layout(path) is None


@settings(deadline=None)
@given(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_pieces_are_connected_components(n: int, links: list[tuple[int, int]]) -> None:
    inside = [(a, b) for a, b in links if a < n and b < n]
    graph = coo_matrix((np.ones(len(inside)), tuple(np.array(inside, int).reshape(-1, 2).T)), shape=(n, n))
    wanted: dict[int, set[int]] = {}
    for node, label in enumerate(connected_components(graph, directed=False)[1]):
        wanted.setdefault(int(label), set()).add(node)
    assert pieces(range(n), links) == sorted(wanted.values(), key=min)
