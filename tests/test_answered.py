"""What was answered of all models holds of those whose inputs are the same, in whatever order and company they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.answered import Answered, along, digests, lists_of
from indexer.memo import Memo
from indexer.roots import parents_first
from tests.grown import family_of, grow, start

ROOT = start(1, layers=2, width=16)
FAMILY = family_of({f"m{i}": grow(ROOT, i) for i in range(12)})

some_rows = st.lists(st.integers(0, 11), min_size=2, max_size=12, unique=True)


@settings(deadline=None)
@given(some_rows, some_rows, st.integers(0, 10_000), st.sampled_from([b"", b"more"]))
def test_an_answer_holds_while_its_inputs_are_the_same(
    first: list[int], then: list[int], seed: int, more: bytes
) -> None:
    rng = np.random.default_rng(seed)
    # Each model asks for three others, by number; who is not there is nobody.
    asks = {row: rng.integers(0, 12, 3).tolist() for row in range(12)}
    memory = Memo()
    known: dict[int, tuple[list[int], float]] = {}
    for rows, told_all in ((first, b""), (then, more)):
        family = FAMILY.take(rows)
        place = {row: at for at, row in enumerate(rows)}
        answered = Answered(family, Memo({**memory.used} or None))
        inputs = np.array([[place.get(other, -1) for other in asks[row]] for row in rows], np.int64)
        told = answered.digests(*lists_of(inputs), told_all)
        there, answers = answered.known("question", told, np.dtype(np.float64))
        kept_there = min(FAMILY.take(first).content_hashes) == min(family.content_hashes)
        for at, row in enumerate(rows):
            seen = [other if other in place else -1 for other in asks[row]]
            holds = bool(known) and kept_there and not told_all and known.get(row, ([], 0))[0] == seen
            assert there[at] == holds
            assert answers[at] == (known[row][1] if holds else 0.0)
            known[row] = seen, float(row)
        memory = Memo()
        Answered(family, memory).keep("question", told, np.array(rows, np.float64))


def test_digests_tell_order_and_nobody_apart() -> None:
    keys = np.arange(8, dtype=np.uint64).reshape(4, 2)
    rows = np.array([[0, 1], [1, 0], [0, -1], [-1, 0], [0, 0]])
    told = digests(keys, *lists_of(rows))
    assert len(np.unique(told, axis=0)) == len(rows)
    assert np.array_equal(told[0], digests(keys, np.array([0, 2]), np.array([0, 1]))[0])
    assert not np.array_equal(told[0], digests(keys, np.array([0, 2]), np.array([0, 1]), b"else")[0])


def test_digests_along_a_tree_follow_from_all_above() -> None:
    parent = np.array([-1, 0, 1, 1, 0])
    keys = np.arange(10, dtype=np.uint64).reshape(5, 2)
    order = parents_first(parent)
    before = along(keys, parent, order)
    changed = keys.copy()
    changed[1] += np.uint64(100)
    differs = (along(changed, parent, order) != before).any(axis=1)
    assert differs.tolist() == [False, True, True, True, False]
