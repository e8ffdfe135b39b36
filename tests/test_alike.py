"""Rough likenesses decide only what is certain: by bytes or floats, in blocks of any size, components are the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer import components
from indexer import rough as arithmetic
from indexer.alike import apart, compared
from indexer.bunches import bunched
from indexer.codes import LONGEST, SLACK, coded, spread
from indexer.components import LIKELY, SURE, connect
from indexer.rough import Rough, bytes_told, floats, rough
from indexer.shortlist import products

Vectors = NDArray[np.float32]
DIMENSIONS = st.sampled_from([1, 2, 3, 7, 8, 31, 64, 100])


def some(n: int, dimensions: int, seed: int) -> Vectors:
    """Unit vectors of all kinds: near one another, of one spike, of two sizes, next to nothing, and nothing."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, dimensions)) * rng.choice([0.05, 0.3, 2.0])
    vectors += rng.standard_normal((3, dimensions))[rng.integers(0, 3, n)]
    kind = rng.integers(0, 6, n)
    at = rng.integers(0, dimensions, n)
    vectors[kind == 1, at[kind == 1]] += 1e3
    vectors[kind == 2, : dimensions // 2] *= 1e4
    vectors[kind == 3] = np.sign(vectors[kind == 3])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[kind == 4] *= rng.choice([0.0, 1e-7, 1e-20, 1e-39], (int((kind == 4).sum()), 1))
    return np.asarray(vectors, np.float32)


def slowly(x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> None:
    """As torch._int_mm on any processor."""
    out.copy_(x.to(torch.int64) @ y.to(torch.int64))


@contextmanager
def told(vectors: Vectors, in_bytes: bool) -> Iterator[Rough]:
    rows = np.arange(len(vectors))
    if in_bytes:
        with bytes_told(vectors, rows, slowly, len(rows)) as way:
            yield way
    else:
        yield floats(vectors, rows)


def named(way: Rough, labels: NDArray[np.int64], complete: bool, least: float, certain: float) -> set[tuple[int, int]]:
    """Pairs that are apart, of all at once."""
    n = len(labels)
    ((some, others, runs),) = compared(way, [(slice(0, n), slice(0, n))], least)
    found = apart(way, some, others, runs, labels, np.full(n, complete), least, certain)
    return set(zip(*np.stack(found).tolist(), strict=True))


@settings(deadline=None)
@given(st.integers(1, 12), DIMENSIONS, st.integers(0, 2**32 - 1))
def test_to_spread_vectors_turns_them(n: int, dimensions: int, seed: int) -> None:
    vectors = some(n, dimensions, seed)
    exact = vectors.astype(np.float64)
    spread_out = spread(vectors)
    assert spread_out @ spread_out.T == pytest.approx(exact @ exact.T, abs=1e-12)
    spike = spread(np.eye(dimensions, dtype=np.float32))
    if dimensions & (dimensions - 1) == 0:
        assert np.abs(spike) == pytest.approx(dimensions**-0.5)


@settings(deadline=None, max_examples=300)
@given(st.integers(2, 20), DIMENSIONS, st.integers(0, 2**32 - 1))
def test_codes_lose_no_more_than_they_say(n: int, dimensions: int, seed: int) -> None:
    vectors = some(n, dimensions, seed)
    codes = coded(vectors, np.arange(n))
    stand_for = codes.scale[:, None].astype(np.float64) * codes.values
    assert (np.linalg.norm(spread(vectors) - stand_for, axis=1) <= codes.lost).all()
    assert (codes.lost > 0).all()
    assert np.abs(codes.values.astype(int)).max(initial=0) <= 127
    exact = vectors.astype(np.float64)
    off = codes.lost[:, None] * LONGEST + (LONGEST + codes.lost[:, None]) * codes.lost[None, :]
    assert (np.abs(exact @ exact.T - stand_for @ stand_for.T) <= off + SLACK).all()


def test_codes_lose_little_of_what_has_no_coordinate_that_stands_out_or_has() -> None:
    rng = np.random.default_rng(0)
    for vectors in (rng.standard_normal((50, 1000)), rng.standard_t(3, (50, 1000))):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        assert coded(vectors.astype(np.float32), np.arange(50)).lost.max() < 0.013


def test_nothing_is_known_of_what_is_no_unit_vector() -> None:
    vectors = np.array([[np.nan, 0], [np.inf, 0], [3e38, 3e38], [0.9, 0.9], [1, 0], [0, 0]], np.float32)
    codes = coded(vectors, np.arange(6))
    assert np.isinf(codes.lost).tolist() == [True] * 4 + [False] * 2
    for in_bytes in (False, True):
        with np.errstate(invalid="ignore", over="ignore"), told(vectors, in_bytes) as way:
            assert {(0, 1), (0, 2), (0, 4)} <= named(way, np.arange(6), True, LIKELY, SURE)


@settings(deadline=None, max_examples=300)
@given(st.integers(2, 90), DIMENSIONS, st.integers(0, 2**32 - 1), st.booleans(), st.data())
def test_no_pair_that_is_alike_is_lost(n: int, dimensions: int, seed: int, in_bytes: bool, data: st.DataObject) -> None:
    """Against every pair; none is joined that is not certain, and thresholds lie on likenesses that there are."""
    vectors = some(n, dimensions, seed)
    a, b = np.triu_indices(n, 1)
    likeness = products(vectors, a, b)
    least = float(likeness[data.draw(st.integers(0, a.size - 1))])
    certain = float(likeness[data.draw(st.integers(0, a.size - 1))])
    rows, labels = np.arange(n), np.arange(n)
    with told(vectors, in_bytes) as way:
        # No two are complete: so nobody is joined, and every pair that may be alike is named.
        found = named(way, rows.copy(), False, least, certain)
        named(way, labels, True, least, certain)
    assert found >= set(zip(a[likeness >= least].tolist(), b[likeness >= least].tolist(), strict=True))
    joined = components._united(rows.copy(), a[likeness >= certain], b[likeness >= certain])
    assert (joined[labels] == joined).all()


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 150), DIMENSIONS, st.integers(0, 2**32 - 1), st.sampled_from([3, 64, 2048]))
def test_components_by_bytes_are_those_by_floats(n: int, dimensions: int, seed: int, block: int) -> None:
    vectors = some(n, dimensions, seed)
    rows = np.random.default_rng(seed).permutation(n)[: n // 2 + 1]

    def related(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (a + b) % 3 > 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "_BLOCK", block)
        wanted = [connect(vectors, related, sizes, rows) for sizes in (None, [dimensions])]
        patch.setattr(arithmetic, "MANY", 0)
        patch.setattr(arithmetic, "_faster", lambda _: slowly)
        found = [connect(vectors, related, sizes, rows) for sizes in (None, [dimensions])]
    assert [each.tolist() for each in found] == [each.tolist() for each in wanted]


def test_bytes_are_taken_where_they_are_right_and_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = some(10, 8, 0)
    rows = np.arange(10)

    def dtype() -> object:
        with rough(vectors, rows, 10) as way:
            ((_, _, runs),) = compared(way, [(slice(0, 10), slice(0, 10))], -2.0)
            return runs.values.dtype

    assert dtype() == np.float32
    monkeypatch.setattr(arithmetic, "MANY", 0)
    monkeypatch.setattr(arithmetic, "_GAIN", 0.0)
    before = torch.get_num_threads()
    assert dtype() == np.int32
    assert torch.get_num_threads() == before
    monkeypatch.setattr(arithmetic, "_GAIN", np.inf)
    assert dtype() == np.float32
    monkeypatch.setattr(arithmetic, "_GAIN", 0.0)
    exact = torch._int_mm

    def saturating(x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return exact(x, y, out=out).clamp_(max=8 * 127 * 127 - 1)

    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert dtype() == np.float32
    monkeypatch.delattr(torch, "_int_mm")
    assert dtype() == np.float32


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_bunches_are_an_order(n: int, seed: int) -> None:
    vectors = some(2 * n, 8, seed)
    rows = np.random.default_rng(seed).permutation(2 * n)[:n]
    assert sorted(bunched(vectors, rows, SURE).tolist()) == list(range(n))


def test_a_family_lies_side_by_side_and_is_hardly_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((600, 200))
    family = rng.random(600) < 0.7
    vectors[family] += 3 * rng.standard_normal(200)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    assert np.ptp(np.flatnonzero(family[bunched(vectors, np.arange(600), SURE)])) == family.sum() - 1
    blocks = 0

    def counted(*arguments: Any) -> Any:
        nonlocal blocks
        for each in compared(*arguments):
            blocks += 1
            yield each

    monkeypatch.setattr(components, "compared", counted)
    monkeypatch.setattr(components, "_BLOCK", 10)
    labels = connect(vectors, lambda a, _: np.zeros(a.size, bool), [200])
    assert (labels[family] == labels[family][0]).all()
    assert len(set(labels.tolist())) == 1 + (~family).sum()
    # Of 60 blocks with as many, those of the family with one another are left out, but for the first and last of it.
    assert blocks < 0.6 * 60 * 61 / 2
