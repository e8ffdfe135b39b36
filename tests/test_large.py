"""Large components: searches equal their definitions, and neighbourhoods find what all of a component finds."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import derived
from indexer.blocks import in_blocks
from indexer.distance import squared_distances
from indexer.family import Family
from indexer.finders import SLACK, Bounds, Flat
from indexer.large_edges import WRITTEN
from indexer.large_measured import measure_large
from indexer.memo import RECORD, Memo
from indexer.solve import Component, solve_component, split
from indexer.sparse import Sparse
from indexer.vicinity import coordinates, listed, nearest_of, row_of
from tests.grown import family_of, grow, start
from tests.weights import Weights


def crowd(seed: int, models: int) -> dict[str, Weights]:
    """A tree that grew by a random model of it at a time; names tell nothing."""
    rng = np.random.default_rng(seed)
    grown = [start(seed, layers=4, width=32)]
    names = [f"m{i:03d}" for i in rng.permutation(1000)[:models]]
    for i in range(1, models):
        grown.append(grow(grown[int(rng.integers(len(grown)))], 1000 * seed + i, float(rng.uniform(0.05, 0.2))))
    return dict(zip(names, grown, strict=True))


def computed(models: Mapping[str, Weights]) -> dict[str, Weights]:
    """Some that were computed from those: a copy, a cast, a pruned, an 8-bit and a merged one."""
    first, second, third, *_ = models.values()
    return {
        "z-copy": first,
        "z-cast": {name: w.astype(ml_dtypes.bfloat16).astype("f4") for name, w in second.items()},
        "z-pruned": {name: np.where(np.abs(w) < np.median(np.abs(w)), 0, w).astype("f4") for name, w in third.items()},
        "z-eight": {name: np.round(w / (s := np.abs(w).max() / 127)) * s for name, w in third.items()},
        "z-merge": {name: ((w + second[name]) / 2).astype("f4") for name, w in third.items()},
    }


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the smallest components count as large."""
    monkeypatch.setattr("indexer.solve.DENSE", 8)


def facts(component: Component) -> dict[int, tuple[int, str]]:
    return {edge.child_id: (edge.parent_id, edge.relation) for edge in component.edges}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_neighbourhoods_find_what_the_whole_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    models = crowd(seed, 60)
    family = family_of(models | computed(models))
    whole = facts(solve_component(family))
    monkeypatch.setattr("indexer.solve.DENSE", 8)
    near = facts(solve_component(family))
    assert len(near) == len(whole) == len(family) - 1
    # Steps without direction: either end of a short line may be taken for the root.
    assert np.mean([near.get(child) == edge for child, edge in whole.items()]) >= 0.9
    names = dict(zip(family.model_ids.tolist(), family.names, strict=True))
    for child, edge in whole.items():
        if names[child].startswith("z-"):
            assert near[child] == edge


@pytest.mark.parametrize(("size", "listed"), [(40, 32), (90, 32), (60, 6)])
def test_a_memory_changes_nothing(size: int, listed: int, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of the same models, nor of others: one that goes, many that go, and one that comes."""
    monkeypatch.setattr("indexer.large_measured.LISTED", listed)
    monkeypatch.setattr("indexer.large.PARENTS", min(listed, 16))
    monkeypatch.setattr("indexer.vicinity.SPARE", listed // 2)
    models = crowd(5, size)
    models |= computed(models)
    first = solve_component(family_of(models))
    again = solve_component(family_of(models), stored=first.memory)
    assert again.edges == first.edges
    assert again.memory.items() <= first.memory.items()
    names = sorted(models)
    for some in (names[:10] + names[11:], names[1:], [*names, "new"], names[:30], names[::2]):
        family = family_of({name: models.get(name) or grow(models[names[3]], 9) for name in some})
        fresh = solve_component(family)
        remembered = solve_component(family, stored=first.memory)
        assert (fresh.edges, fresh.pairs, fresh.merges, fresh.stages) == (
            remembered.edges, remembered.pairs, remembered.merges, remembered.stages,
        )  # fmt: skip
        noted = {
            key: told
            for key, told in remembered.memory.items()
            if not key[1].startswith(RECORD + WRITTEN) and "derived" not in key[1]
        }
        assert noted.items() <= fresh.memory.items()


def test_what_is_remembered_is_not_computed_again(large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    family = family_of(crowd(6, 40))
    memory = solve_component(family).memory
    asked: list[str] = []
    keep = Memo.keep

    def note(self: Memo, kind: str, content: str, digest: bytes, answer: bytes) -> bytes:
        asked.append(kind)
        return keep(self, kind, content, digest, answer)

    monkeypatch.setattr(Memo, "keep", note)
    solve_component(family, stored=memory)
    assert asked == []


def distances(family: Family) -> np.ndarray:
    a, b = np.divmod(np.arange(len(family) ** 2), len(family))
    squared = squared_distances(family, a, b)[0].reshape(len(family), -1)
    np.fill_diagonal(squared, np.inf)
    return squared


def test_nearest_rows_are_those_of_all_distances() -> None:
    family = family_of(crowd(7, 70))
    vectors = coordinates(family)
    records = np.zeros(70, row_of(70, 12))
    listed(family, Flat(vectors), vectors, records, None)
    wanted = distances(family)
    assert np.array_equal(nearest_of(records, 12), np.argsort(wanted, axis=1, kind="stable")[:, :12])
    np.testing.assert_allclose(records["squared"][:, :12], np.sort(wanted, axis=1)[:, :12])


def test_possible_parents_do_not_lie_beyond(large: None) -> None:
    """A popular model's own children crowd its nearest, but not its possible parents."""
    root = start(8, layers=4, width=32)
    hub = grow(root, 1, 0.3)
    models = {"root": root, "hub": hub, **{f"child-{i:02d}": grow(hub, 10 + i, 0.02) for i in range(40)}}
    family = family_of(models)
    at = {name: row for row, name in enumerate(family.names)}
    wanted = distances(family)
    reach = np.where(np.isfinite(wanted[at["root"]]), wanted[at["root"]], 0.0)
    vectors = coordinates(family)
    records = np.zeros(len(family), row_of(len(family), 16))
    listed(family, Flat(vectors), vectors, records, None)
    assert at["root"] not in nearest_of(records, 16)[at["hub"]]
    listed(family, Flat(vectors), vectors, records, None, Bounds(reach, at["root"]))
    rows = nearest_of(records, 16)
    for v in range(len(family)):
        near = np.where(np.isfinite(wanted[v]), wanted[v], 0.0)
        allowed = reach <= reach[v] + SLACK * np.sqrt(near) * np.sqrt(reach)
        allowed[[v, at["root"]]] = False
        nearest = [u for u in np.argsort(wanted[v], kind="stable") if allowed[u]][:16]
        assert rows[v][rows[v] >= 0].tolist() == nearest
    parents = [edge.parent_id for edge in solve_component(family).edges]
    assert parents.count(at["hub"] + 1) >= 39


def test_a_large_component_measures_lists_only(large: None) -> None:
    models = crowd(9, 120)
    family = family_of(models | computed(models))
    measured = measure_large(family.take([r for r, name in enumerate(family.names) if name != "z-copy"]))
    assert len(measured.pairs.a) < 0.6 * len(family) * (len(family) - 1) / 2
    assert [len(part) for part in split(family)] == [125]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 7), st.data())
def test_sparse_reads_as_an_array_does(n: int, data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(st.floats(0, 9), min_size=n * n, max_size=n * n))).reshape(n, n)
    values = values + values.T
    np.fill_diagonal(values, 0.0)
    a, b = np.triu_indices(n, 1)
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(a), max_size=len(a))), bool)
    dense = np.full((n, n), np.inf)
    dense[a[kept], b[kept]] = dense[b[kept], a[kept]] = values[a[kept], b[kept]]
    np.fill_diagonal(dense, 0.0)
    known = Sparse(n, a[kept], b[kept], values[a[kept], b[kept]], diagonal=0.0, unknown=np.inf)
    asked = Sparse(n, a[kept], b[kept], values[a[kept], b[kept]], diagonal=0.0, unknown=np.inf,
                   measure=lambda u, v: values[u, v])  # fmt: skip
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1)))
    assert np.array_equal(known[np.ix_(rows, rows)], dense[np.ix_(rows, rows)])
    assert np.array_equal(asked[np.ix_(rows, rows)], values[np.ix_(rows, rows)])
    for row in rows.tolist():
        assert np.array_equal(known[row], dense[row])
        assert known[row, int(rows[0])] == dense[row, rows[0]]
        assert np.array_equal(asked[row, rows], values[row, rows])


def test_recall_is_told(large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    family = family_of(crowd(11, 80))
    assert solve_component(family).recall == 1.0
    # With one coordinate of each tensor the search is nearly blind.
    monkeypatch.setattr("indexer.family.DIMENSIONS", 1)
    monkeypatch.setattr("indexer.vicinity.SPARE", 0)
    poor = solve_component(family_of(crowd(11, 80))).recall
    assert poor is not None
    assert 0.3 < poor < 0.9
    assert solve_component(family.take([0, 1, 2])).recall is None


def test_what_shares_nothing_with_the_root_has_a_place(large: None) -> None:
    """A crowd that holds only the last layers, within a family of models that hold the first."""
    whole = start(12, layers=4, width=32)
    first, last = sorted(whole)[:2], sorted(whole)[2:]
    tuned = grow(whole, 100, 0.1)
    models = {"whole": tuned}
    models |= {f"first-{i:02d}": grow({k: whole[k] for k in first}, i, 0.05 + 0.001 * i) for i in range(60)}
    base = grow({k: tuned[k] for k in last}, 101, 0.3)
    models |= {f"last-{i:02d}": grow(base, 200 + i, 0.01) for i in range(40)}
    family = family_of(models)
    assert [len(part) for part in split(family)] == [101]
    edges = solve_component(family).edges
    assert len(edges) == 100
    assert all(np.isfinite(edge.distance) for edge in edges)


@pytest.mark.parametrize("bases", [1, 2, 3])
def test_few_bases_of_many_computed_models(bases: int, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly all of a large component may follow from one or two of its models, whose own tree is small."""
    grown = [start(13, layers=4, width=32)]
    for i in range(1, bases):
        grown.append(grow(grown[-1], i, 0.1))
    models = {f"base-{i}": each for i, each in enumerate(grown)}
    for i in range(8):
        share = 0.05 + 0.05 * i
        models[f"pruned-{i}"] = {
            name: np.where(np.abs(w) < np.quantile(np.abs(w), share), 0, w).astype("f4") for name, w in grown[0].items()
        }
        models[f"eight-{i}"] = {
            name: (np.round(w / (s := np.abs(w).max() / (20 + 9 * i))) * s).astype("f4")
            for name, w in grown[-1].items()
        }
    family = family_of(models)
    solved = solve_component(family)
    names = dict(zip(family.model_ids.tolist(), family.names, strict=True))
    wanted = {f"base-{i}": f"base-{i - 1}" for i in range(1, bases)}
    for i in range(8):
        wanted |= {f"pruned-{i}": "base-0", f"eight-{i}": f"base-{bases - 1}"}
    assert {names[edge.child_id]: names[edge.parent_id] for edge in solved.edges} == wanted

    def asked(*_: object, **__: object) -> None:
        raise AssertionError("this was remembered")

    for name in ("derivation", "_kept"):
        monkeypatch.setattr(derived, name, asked)
    again = solve_component(family, stored=solved.memory)
    assert again.edges == solved.edges
    assert again.memory.items() <= solved.memory.items()


def test_damaged_weights_empty_no_lists(large: None) -> None:
    """One value that no other model has anything like, in the model from which others might be looked at."""
    models = crowd(14, 40)
    whole = facts(solve_component(family_of(models)))
    for seed in range(200):
        broken = {name: w.copy() for name, w in models[min(models)].items()}
        broken["layers.0.weight"].flat[seed] = -1e20
        family = family_of(models | {"z-broken": broken})
        if min(family.content_hashes) == family.content_hashes[-1]:
            break
    else:
        raise AssertionError("no seed has the first content hash")
    measured = measure_large(family)
    assert (measured.near[:-1, :8] >= 0).all()
    found = facts(solve_component(family))
    assert np.mean([found.get(child) == edge for child, edge in whole.items()]) > 0.9


@pytest.mark.parametrize("n", [1, 4095, 4096, 8191, 8192, 12_289])
def test_blocks_of_rows_are_all_rows_in_order(n: int) -> None:
    seen: list[int] = []

    def of(some: slice) -> np.ndarray:
        seen.append(some.stop - some.start)
        return np.arange(n)[some]

    assert np.array_equal(in_blocks(n, 2, of), np.arange(n))
    assert min(seen) >= min(n, 4096)
    assert max(seen) < 8192 or n < 8192
