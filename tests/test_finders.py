"""One protocol for every kind of index: who is near, and who of those may be a parent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from indexer import finders
from indexer.finders import SLACK, Bounds, Finder, Flat, Inverted, apart, entering, finder_of
from indexer.large_measured import measure_large
from indexer.solve import solve_component
from indexer.vicinity import MOST
from store.vectors import Vectors, write_vectors
from tests.grown import family_of
from tests.stored_vectors import read_vectors
from tests.test_large import crowd

Array = np.ndarray


def tree(n: int, seed: int = 0) -> tuple[Array, Array]:
    """(n x D vectors that grew as a tree does, squared distances from its root, which is row 0)."""
    rng = np.random.default_rng(seed)
    vectors = np.zeros((n, 48), np.float32)
    for i in range(1, n):
        vectors[i] = vectors[rng.integers(i)] + rng.uniform(0.5, 2.0) * rng.standard_normal(48)
    return vectors, (vectors**2).sum(axis=1)


class Brute:
    """The definition."""

    def __init__(self, vectors: Array) -> None:
        self._vectors = vectors.astype(np.float64)

    whole = True
    told = b""

    def nearest(self, rows: Array, k: int, bounds: Bounds | None = None) -> tuple[Array, Array]:
        found, bound = np.full((len(rows), k), -1), np.full(len(rows), np.inf)
        for at, row in enumerate(rows):
            squared = ((self._vectors - self._vectors[row]) ** 2).sum(axis=1)
            allowed = np.arange(len(squared)) != row
            if bounds is not None:
                slack = SLACK * np.sqrt(squared * bounds.reach)
                allowed &= (bounds.reach <= bounds.reach[row] + slack) & (np.arange(len(squared)) != bounds.root)
            order = [u for u in np.argsort(squared, kind="stable") if allowed[u]][:k]
            found[at, : len(order)] = order
            bound[at] = squared[order[-1]] if len(order) == k else np.inf
        return found, bound


def reloaded(vectors: Array, folder: Path) -> Finder:
    ids, contents = np.arange(1, len(vectors) + 1), np.arange(2 * len(vectors), dtype=np.uint64).reshape(-1, 2)
    layout = {"weight": vectors.shape[1]}
    write_vectors(folder / "x.vectors", layout, Vectors(ids, contents, vectors))
    found = read_vectors(folder / "x.vectors", layout, ids, contents)
    assert found is not None
    return Flat(found.values)


KINDS: dict[str, tuple[Callable[[Array, Path], Finder], float]] = {
    "brute": (lambda vectors, _: Brute(vectors), 1.0),
    "flat": (lambda vectors, _: Flat(vectors), 1.0),
    "reloaded": (reloaded, 1.0),
    "inverted": (lambda vectors, _: Inverted(vectors), 0.9),
}


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_nearest(kind: str, bounded: bool, tmp_path: Path) -> None:
    make, least = KINDS[kind]
    vectors, reach = tree(700)
    bounds = Bounds(reach.astype(np.float64), 0) if bounded else None
    rows = np.arange(0, 700, 7)
    found, bound = make(vectors, tmp_path).nearest(rows, 12, bounds)
    wanted, _ = Brute(vectors).nearest(rows, 12, bounds)
    assert found.shape == wanted.shape
    hit = [len({*f[f >= 0]} & {*w[w >= 0]}) for f, w in zip(found, wanted, strict=True)]
    assert sum(hit) >= least * (wanted >= 0).sum()
    for row, some in zip(rows, found, strict=True):
        kept = some[some >= 0].tolist()
        assert len(set(kept)) == len(kept)
        assert row not in kept
        assert not bounded or 0 not in kept
    # Lists are a function of the vectors.
    again = make(vectors, tmp_path)
    np.testing.assert_array_equal(found, again.nearest(rows, 12, bounds)[0])
    # And each by itself is what all together are.
    np.testing.assert_array_equal(found, np.vstack([again.nearest(rows[i : i + 1], 12, bounds)[0] for i in range(100)]))
    assert np.isinf(bound[found[:, -1] < 0]).all()


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_more_changes_what_its_bound_says(kind: str, bounded: bool, tmp_path: Path) -> None:
    """As long as what answers depend on is the same: which of 900 changes it is another's test."""
    make, _ = KINDS[kind]
    vectors, reach = tree(900, 3)
    same = 0
    for gone in range(880, 900):
        kept = np.delete(np.arange(900), gone)
        whole, without = make(vectors, tmp_path), make(vectors[kept], tmp_path)
        if whole.told != without.told:
            continue
        same += 1
        bounds = (Bounds(reach, 0), Bounds(reach[kept], 0)) if bounded else (None, None)
        before, bound = without.nearest(np.arange(899), 12, bounds[1])
        now, _ = whole.nearest(kept, 12, bounds[0])
        squared = ((vectors[kept].astype(np.float64) - vectors[gone]) ** 2).sum(axis=1)
        untouched = squared > bound
        assert untouched.sum() > 400
        np.testing.assert_array_equal(now[untouched], np.where(before >= 0, kept[before], -1)[untouched])
    assert same >= 15


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [2, 3, 9])
def test_fewer_than_asked(kind: str, n: int, tmp_path: Path) -> None:
    vectors, reach = tree(n)
    finder = KINDS[kind][0](vectors, tmp_path)
    for row in range(n):
        assert sorted(finder.nearest(np.array([row]), n - 1)[0][0]) == [u for u in range(n) if u != row]
    bounds = Bounds(reach.astype(np.float64), 0)
    allowed, _ = Brute(vectors).nearest(np.arange(n), n - 1, bounds)
    found, _ = finder.nearest(np.arange(n), n - 1, bounds)
    assert [sorted(row) for row in found.tolist()] == [sorted(row) for row in allowed.tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_crowd_of_children_does_not_hide_a_parent(kind: str, tmp_path: Path) -> None:
    """A base with hundreds of children, one of which has hundreds of its own, nearer to it than the base is."""
    rng = np.random.default_rng(2)
    base = np.zeros(48)
    hub = rng.standard_normal(48)
    siblings = rng.standard_normal((300, 48))
    steps = rng.standard_normal((400, 48))
    # Steps of training are at right angles to what was learned before.
    own = hub + 0.4 * (steps - np.outer(steps @ hub, hub) / (hub @ hub))
    vectors = np.vstack([base, 0.5 * hub, hub, siblings, own]).astype(np.float32)
    reach = (vectors**2).sum(axis=1)
    found, _ = KINDS[kind][0](vectors, tmp_path).nearest(np.array([2]), 5, Bounds(reach, 0))
    assert 1 in found[0]


def test_a_crowd_far_from_everything_is_told_apart() -> None:
    """Vectors that differ by a ten-thousandth of their length: a product in float32 tells nothing of them."""
    rng = np.random.default_rng(4)
    vectors = (rng.standard_normal(256) + 1e-4 * rng.standard_normal((300, 256))).astype(np.float32)
    rows = np.arange(300)
    found, _ = Flat(vectors).nearest(rows, 8)
    np.testing.assert_array_equal(found, Brute(vectors).nearest(rows, 8)[0])
    many, few = (Flat(vectors)._likely(rows, 8, None, dtype)[0] for dtype in (np.float32, np.float64))
    assert np.bincount(many).min() > 200
    assert np.bincount(few).max() < 12


@pytest.mark.parametrize("bounded", [False, True])
def test_damaged_vectors_hide_nobody(bounded: bool) -> None:
    """Coordinates whose squares float32 cannot hold, of some and of all, and a reach that it cannot hold."""
    vectors, reach = tree(60)
    vectors[7, 3] = vectors[20, 5] = MOST
    reach = reach.astype(np.float64)
    reach[[7, 20]] = MOST**2
    for shared in (0.0, MOST):
        vectors[:, 9] = shared
        bounds = Bounds(reach, 0) if bounded else None
        found, bound = Flat(vectors).nearest(np.arange(60), 12, bounds)
        wanted, _ = Brute(vectors).nearest(np.arange(60), 12, bounds)
        np.testing.assert_array_equal(found, wanted)
        new, others = np.array([7, 8, 30]), np.arange(60)
        at, entered, squared = entering(vectors, new, bound)
        told = apart(vectors, np.repeat(new, 60), np.tile(others, 3)).reshape(3, 60)
        enters = (told <= bound) & (others != new[:, None])
        assert sorted(zip(at, entered, strict=True)) == [tuple(pair) for pair in np.argwhere(enters)]
        np.testing.assert_array_equal(squared, told[at, entered])


def test_large_components_find_the_same_through_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    family = family_of(crowd(4, 90))
    monkeypatch.setattr("indexer.solve.DENSE", 8)
    flat = solve_component(family)
    monkeypatch.setattr(finders, "WHOLE", 8)
    assert isinstance(finder_of(np.zeros((9, 4), np.float32)), Inverted)
    inverted = solve_component(family)
    assert inverted.recall is not None
    assert inverted.recall > 0.95
    assert measure_large(family).recall == inverted.recall
    found = {edge.child_id: edge.parent_id for edge in flat.edges}
    assert np.mean([found.get(edge.child_id) == edge.parent_id for edge in inverted.edges]) > 0.95
