"""Distances that lists do not hold are remembered, and measured again where they are cut short or somebody comes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from indexer.memo import RECORD
from indexer.solve import Component, solve_component
from indexer.sparse import Sparse
from tests.grown import family_of
from tests.test_large import computed, crowd
from tests.test_memory_law import _unlike

KINDS = ("beside the nearest", RECORD + "from the middle", RECORD + "pairs of edges")
FAMILY = family_of({**(models := crowd(3, 40)), **computed(models)})


@pytest.fixture(autouse=True)
def _short_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.large_measured.LISTED", 6)


def _without_relatives(solved: Component) -> Mapping[tuple[str, str], tuple[bytes, bytes]]:
    """What is remembered but for what is told from these distances, so that they are asked for."""
    return {key: told for key, told in solved.memory.items() if not key[1].startswith(RECORD + "relatives")}


@pytest.mark.parametrize("cut", [1, 17, 40])
def test_what_is_cut_short_is_measured_again(cut: int) -> None:
    before = solve_component(FAMILY, dense=2)
    stored = {
        key: (digest, told[:-cut] if key[1].startswith(KINDS) else told)
        for key, (digest, told) in _without_relatives(before).items()
    }
    assert sum(stored[key] != before.memory[key] for key in stored) > 30
    assert list(_unlike(solve_component(FAMILY, dense=2, stored=stored), before)) == []


def test_only_who_comes_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    came = FAMILY.names.index(next(iter(models)))
    before = solve_component(FAMILY.take(np.delete(np.arange(len(FAMILY)), came)), dense=2)
    measured: list[np.ndarray] = []
    plain = Sparse.with_pairs

    def noted(self: Sparse, a: np.ndarray, b: np.ndarray) -> Sparse:
        measured.append(np.stack([a, b]))
        return plain(self, a, b)

    wanted = solve_component(FAMILY, dense=2)
    monkeypatch.setattr(Sparse, "with_pairs", noted)
    afresh = solve_component(FAMILY, dense=2)
    of_all = sum(pairs.shape[1] for pairs in measured[:2])
    measured.clear()
    found = solve_component(FAMILY, dense=2, stored=_without_relatives(before))
    assert found.edges == wanted.edges == afresh.edges
    # Of lists, in `beside.from_nearest` and `beside.from_middle`; where a nearest changed, its list is measured.
    assert sum(pairs.shape[1] for pairs in measured[:2]) < of_all / 4
