"""Lists of nearest that are kept: whatever came and went, they are what a search among all finds, to the bit."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import finders, vicinity
from indexer.distance import squared_distances
from indexer.family import Family
from indexer.finders import Bounds, finder_of
from indexer.kept_lists import FRESH, GONE, Kept, Records, _rising
from indexer.memo import RECORD, Fetched, Memo
from indexer.vicinity import coordinates, listed, row_of, seen_from
from tests.grown import family_of, start
from tests.test_large import computed, crowd

MODELS = crowd(21, 50)
MODELS |= computed(MODELS)
FAMILY = family_of(MODELS)
STEPS = st.lists(st.sets(st.integers(0, len(MODELS) - 1), min_size=20), min_size=2, max_size=4)


def _told(family: Family) -> bytes:
    return bytes(family.content_keys[0]) + family.content_keys[seen_from(family)].tobytes() + b"flat".ljust(16)


def search(family: Family, memo: Memo, bounded: bool) -> tuple[Records, int]:
    """(the list of each, how many were searched for)."""
    vectors = coordinates(family)
    bounds = None
    if bounded:
        reach = squared_distances(family, np.zeros(len(family), np.int64), np.arange(len(family)))[0]
        bounds = Bounds(reach, 0)
    # The first row is the root.
    finder = finder_of(vectors)
    told = bytes(family.content_keys[0]) + family.content_keys[seen_from(family)].tobytes() + finder.told
    kind = row_of(len(family), 4)
    kept = Kept(memo, "near", min(family.content_hashes), told)
    records = np.zeros(len(family), kind)
    rows, _ = listed(family, finder, vectors, records, kept.read(family, kind), bounds)
    kept.write(family, records)
    return records, len(rows)


@pytest.mark.parametrize("whole", [100, 8])
@pytest.mark.parametrize("bounded", [False, True])
@settings(deadline=None, max_examples=60)
@given(STEPS, st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=4))
def test_kept_lists_are_those_of_a_search(
    bounded: bool, whole: int, steps: list[set[int]], moves: list[tuple[int, int]]
) -> None:
    """Among all, and through inverted lists; some come and go, and some under another name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vicinity, "SPARE", 3)
        patch.setattr(finders, "WHOLE", whole)
        patch.setattr(finders, "_FEWEST", 3)
        memory: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        for step, (at, to) in zip_longest(steps, moves[: len(steps)], fillvalue=(0, 0)):
            order = sorted(step)
            order.insert(to, order.pop(at))
            family = FAMILY.take(order)
            memo = Memo(memory)
            found, _ = search(family, memo, bounded)
            fresh, _ = search(family, Memo(), bounded)
            assert found.tobytes() == fresh.tobytes()
            memory = memo.used


def test_who_is_not_touched_is_not_searched_for() -> None:
    """One that comes enters some lists, one that goes leaves them; all others hold."""
    family = family_of(crowd(22, 90))
    without = family.take([row for row in range(90) if row != 40])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vicinity, "SPARE", 3)
        memo = Memo()
        assert search(without, memo, False)[1] == 89
        again = Memo(memo.used)
        assert search(without, again, False)[1] == 0
        arrived = Memo(memo.used)
        found, searched = search(family, arrived, False)
        holding = (found["near"] == 40).any(axis=1)
        assert 1 <= holding.sum() < 30
        assert searched == holding.sum() + 1
        assert search(without, Memo(arrived.used), False)[1] == holding.sum()


def test_who_has_another_name_is_searched_for() -> None:
    """Names decide between two that are equally far: who comes elsewhere now is taken for gone, and for new."""
    family = family_of(crowd(22, 90))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vicinity, "SPARE", 3)
        memo = Memo()
        search(family, memo, False)
        # From the second on, as lists follow from the first here.
        moved = family.take([0, *range(2, 60), 1, *range(60, 90)])
        again = Memo(memo.used)
        found, searched = search(moved, again, False)
        assert found.tobytes() == search(moved, Memo(), False)[0].tobytes()
        assert 1 <= searched < 40
        kept = Kept(Memo(memo.used), "near", min(family.content_hashes), b"")
        assert kept.read(family, row_of(90, 4)) is None
        kept = Kept(Memo(memo.used), "near", min(family.content_hashes), _told(family))
        assert kept.read(family, row_of(90, 4)) is not None


def test_who_lost_all_of_its_list_is_not_new() -> None:
    """So what is known of it otherwise still holds: how many of its nearest are in its list, for one."""
    family = family_of(crowd(23, 40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vicinity, "SPARE", 0)
        memo = Memo()
        records, _ = search(family, memo, False)
        left = [row for row in range(40) if row not in records["near"][5]]
        few = family.take(left)
        kept = Kept(Memo(memo.used), "near", min(family.content_hashes), _told(family))
        known = kept.read(few, row_of(40, 4))
    assert known is not None
    assert (known["near"][left.index(5)] == GONE).all()
    assert not (known["near"] == FRESH).any()


def test_vectors_of_strangers_are_in_no_list() -> None:
    """Models that share no tensor are infinitely far: in the first search's list, and in nobody's own."""
    whole = start(12, layers=4, width=32)
    first, last = sorted(whole)[:2], sorted(whole)[2:]
    models = {f"a{i}": {k: whole[k] + i for k in first} for i in range(5)}
    models |= {f"b{i}": {k: whole[k] + i for k in last} for i in range(5)}
    family = family_of(models)
    records = np.zeros(10, row_of(10, 8))
    vectors = coordinates(family)
    listed(family, finder_of(vectors), vectors, records, None)
    near = vicinity.nearest_of(records, 8)
    assert [sorted(each[each >= 0].tolist()) for each in near[:5]] == [
        [u for u in range(5) if u != v] for v in range(5)
    ]


def test_lists_that_were_read_are_held_no_longer() -> None:
    family = family_of(crowd(22, 30))
    memo = Memo()
    search(family, memo, False)
    stored = Fetched(lambda contents: {key: told for key, told in memo.used.items() if key[0] in contents})
    again = Memo(stored)
    found, searched = search(family, again, False)
    assert searched == 0
    assert not [key for key in stored.held if key[1].startswith(RECORD)]
    # Who asks again has them again: all edges may have to be told anew.
    once_more, searched = search(family, Memo(stored), False)
    assert searched == 0
    assert once_more.tobytes() == found.tobytes()
    assert again.used == memo.used


@given(st.lists(st.integers(0, 12), max_size=14))
def test_a_longest_rising_sequence(values: list[int]) -> None:
    places = _rising(values)
    told = [values[place] for place in places]
    assert places == sorted(places)
    assert told == sorted(set(told))
    lengths: list[int] = []
    for value in values:
        lengths.append(1 + max((n for n, each in zip(lengths, values, strict=False) if each < value), default=0))
    assert len(told) == max(lengths, default=0)
