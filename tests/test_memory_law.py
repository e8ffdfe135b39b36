"""What is remembered changes nothing, whatever the models are: the law on families of every kind.

`scripts/law_test` asks it of as many as time allows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.family import Family
from indexer.large_edges import WRITTEN
from indexer.solve import Component, solve_component, split
from store.errors import SkipError
from tests.grown import family_of
from tests.mixed import mixed
from tests.weights import Weights


def small_limits(patch: pytest.MonkeyPatch, rng: np.random.Generator) -> int:
    """Lists so short that most of them are kept; the number of models of which a component is large."""
    listed = int(rng.choice([3, 6, 32]))
    patch.setattr("indexer.large_measured.LISTED", listed)
    patch.setattr("indexer.large.PARENTS", min(listed, 16))
    patch.setattr("indexer.vicinity.SPARE", listed // 2)
    return int(rng.choice([1, 2, 3, 5, 8, 320]))


def sketched(models: dict[str, Weights]) -> Family:
    """Those of the models that a crawl does not skip."""
    kept = {}
    for name, weights in models.items():
        try:
            family_of({name: weights})
        except SkipError:
            continue
        kept[name] = weights
    return family_of(kept)


def differences(seed: int) -> Iterator[str]:
    """What of a random family depends on what was known before."""
    rng = np.random.default_rng(seed)
    family = sketched(mixed(seed))
    with pytest.MonkeyPatch.context() as patch:
        dense = small_limits(patch, rng)
        for part in split(family):
            if len(part) < 2:
                continue
            whole = family.take(part)
            left = np.sort(rng.permutation(len(whole))[: max(2, len(whole) - int(rng.integers(1, 4)))])
            few = whole.take(left)
            afresh, fewer = solve_component(whole, dense=dense), solve_component(few, dense=dense)
            for told, some, wanted, before in (
                ("the same again", whole, afresh, afresh),
                ("some that go", few, fewer, afresh),
                ("some that come", whole, afresh, fewer),
            ):
                found = solve_component(some, dense=dense, stored=before.memory)
                yield from (f"{told}: {name}" for name in _unlike(found, wanted))


def _unlike(found: Component, wanted: Component) -> Iterator[str]:
    for name in ("edges", "pairs", "merges", "inferred", "stages", "recall"):
        if getattr(found, name) != getattr(wanted, name):
            yield name
    # What was not asked again is not noted again; all that is holds of these models.
    noted = {key: told for key, told in found.memory.items() if key[1] != WRITTEN}
    if not noted.items() <= wanted.memory.items():
        yield "memory"


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1_000_000))
def test_a_memory_changes_nothing_of_any_family(seed: int) -> None:
    assert list(differences(seed)) == []


@pytest.mark.parametrize("seed", [34, 120, 124, 198, 940])
def test_seeds_that_once_failed(seed: int) -> None:
    assert list(differences(seed)) == []
