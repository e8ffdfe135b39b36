"""The sketch of a tensor beside slow, obvious definitions, and the laws that it keeps."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from crawl import kernels
from crawl.plan import TensorPlan, signs
from crawl.sketch import BLOCK, sketch_array, sketch_tensor
from store.dtypes import DTYPES
from store.errors import SkipError
from store.format import SketchFormat
from store.positions import WINDOW, sample_positions, window_start
from store.records import TensorSketch

FORM = SketchFormat(projection=4)
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


def make(shape: tuple[int, ...], dtype: str, seed: int = 0, scale: float = 0.05) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    if DTYPES[dtype].kind in "iu":
        return rng.integers(0, 100, shape).astype(DTYPES[dtype])
    return (rng.standard_normal(shape) * scale).astype(DTYPES[dtype])


def sketch(array: NDArray[Any], dtype: str, samples: int = 50, outliers: int = 8, k: int = 4) -> TensorSketch:
    return sketch_array(array, dtype, tensor="w", plan=TensorPlan(samples, outliers, k), form=FORM)


def moments_definition(x: NDArray[np.float64]) -> tuple[float, float, float, float, float]:
    mean = x.mean()
    return float(mean), float((x**2).sum()), *(float(((x - mean) ** p).mean()) for p in (2, 3, 4))  # type: ignore[return-value]


def outliers_definition(x: NDArray[np.float64], k: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    order = np.lexsort((np.arange(x.size), -np.abs(x)))[:k]
    return x[order], order


def projection_definition(W: NDArray[np.float64], k: int, seed: int) -> NDArray[np.float64]:
    """P' W Q with P[i, g] = sign_i when row i lies in band g, else 0; Q likewise for columns."""
    P, Q = np.zeros((W.shape[0], k)), np.zeros((W.shape[1], k))
    for i in range(W.shape[0]):
        P[i, i * k // W.shape[0]] = signs(W.shape[0], 0, seed)[i]
    for j in range(W.shape[1]):
        Q[j, j * k // W.shape[1]] = signs(W.shape[1], 1, seed)[j]
    return np.asarray(P.T @ W @ Q).reshape(-1)


@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("shape", [(7, 9), (300, 411), (1,), (64, 3, 3, 3)])
def test_sketch_equals_its_definition(dtype: str, shape: tuple[int, ...]) -> None:
    stored = make(shape, dtype)
    x = stored.astype(np.float64).reshape(-1)
    s = sketch(stored, dtype)
    mean, sum_squares, m2, m3, m4 = moments_definition(x)
    assert s.elements == x.size
    assert s.shape == shape
    np.testing.assert_allclose(s.mean, mean, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(s.sum_squares, sum_squares, rtol=1e-12)
    np.testing.assert_allclose([s.m2, s.m3, s.m4], [m2, m3, m4], rtol=1e-9, atol=1e-12 * max(1.0, m4))
    assert (s.minimum, s.maximum, s.zeros) == (x.min(), x.max(), int((x == 0).sum()))
    values, positions = outliers_definition(x, 8)
    np.testing.assert_array_equal(s.outlier_values, values)
    np.testing.assert_array_equal(s.outlier_positions, positions)
    expected = stored.reshape(-1)[sample_positions(x.size, 50, FORM.seed)]
    assert s.samples == expected.tobytes()
    assert s.content_hash == blake3(stored.tobytes()).digest(length=16)
    if len(shape) == 2:
        W = stored.astype(np.float64)
        np.testing.assert_allclose(
            s.projection, projection_definition(W, 4, FORM.seed), rtol=1e-5, atol=1e-5 * np.abs(W).sum()
        )
    else:
        assert s.projection.size == 0


@pytest.mark.parametrize("dtype", ["F32", "BF16", "I8"])
@pytest.mark.parametrize(("k", "run"), [(0, (40_003, 240_000)), (4, (300 * 40, 300 * 900))])
def test_a_probe_equals_the_definition_on_its_run(dtype: str, k: int, run: tuple[int, int]) -> None:
    """And reading all of the tensor changes nothing but that its hash is known."""
    stored = make((4000, 300), dtype)
    positions = sample_positions(stored.size, 50, FORM.seed)
    plan = TensorPlan(50, 8, k, (min(run[0], int(positions.min())), max(run[1], int(positions.max()) + 1)))
    if k:
        plan = TensorPlan(50, 8, k, (plan.run[0] // 300 * 300, -(-plan.run[1] // 300) * 300))  # type: ignore[index]
    assert plan.run is not None
    start, stop = plan.run
    inside = stored.reshape(-1)[start:stop]
    x = inside.astype(np.float64)
    data = stored.tobytes()
    asked = []

    def read(offset: int, buffer: memoryview) -> None:
        asked.append((offset, offset + len(buffer)))
        buffer[:] = data[offset : offset + len(buffer)]

    s = sketch_tensor(
        read, tensor="w", source_name="w", dtype=dtype, shape=stored.shape, plan=plan, form=FORM, whole=False
    )
    itemsize = stored.itemsize
    assert (min(asked)[0], max(asked)[1]) == (start * itemsize, stop * itemsize)
    mean, sum_squares, m2, m3, m4 = moments_definition(x)
    np.testing.assert_allclose([s.mean, s.sum_squares], [mean, sum_squares], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose([s.m2, s.m3, s.m4], [m2, m3, m4], rtol=1e-9, atol=1e-9 * max(1.0, m4))
    assert (s.elements, s.covered, s.zeros) == (stored.size, x.size, int((x == 0).sum()))
    assert (s.minimum, s.maximum) == (x.min(), x.max())
    values, places = outliers_definition(x, 8)
    np.testing.assert_array_equal(s.outlier_values, values)
    np.testing.assert_array_equal(s.outlier_positions, places + start)
    assert s.samples == stored.reshape(-1)[positions].tobytes()
    assert s.content_hash == blake3(inside.tobytes()).digest(length=16)
    assert s.whole_hash is None
    if k:
        W = x.reshape(-1, 300)
        expected = projection_definition(W, 4, FORM.seed)
        np.testing.assert_allclose(s.projection, expected, rtol=1e-5, atol=1e-5 * np.abs(W).sum())
    everything = sketch_array(stored, dtype, tensor="w", plan=plan, form=FORM)
    assert everything.whole_hash == blake3(data).digest(length=16)
    for field in fields(TensorSketch):
        if field.name != "whole_hash":
            np.testing.assert_array_equal(getattr(everything, field.name), getattr(s, field.name))


def test_what_is_not_finite_beside_the_run_is_found_by_who_reads_it() -> None:
    x = make((4000, 300), "F32")
    x[3999, 7] = np.nan
    start = window_start(x.size, FORM.seed)
    with pytest.raises(SkipError, match="value at flat position 1199707 is nan"):
        sketch_array(x, "F32", tensor="w", plan=TensorPlan(9, 8, 0, (start, start + WINDOW)), form=FORM)


def test_kurtosis_is_scipys() -> None:
    x = make((500, 500), "F32")
    s = sketch(x, "F32")
    np.testing.assert_allclose(s.m4 / s.m2**2, stats.kurtosis(x.astype(np.float64), axis=None, fisher=False), rtol=1e-9)


def test_a_narrow_tensor_far_from_zero_keeps_its_kurtosis() -> None:
    """LayerNorm weights of 1 +- 1e-4: raw power sums would lose every digit."""
    x = 1.0 + 1e-4 * np.random.default_rng(0).standard_normal(100_000)
    s = sketch(x, "F64", k=0)
    np.testing.assert_allclose(s.m4 / s.m2**2, stats.kurtosis(x, fisher=False), rtol=1e-6)


def test_a_constant_tensor_has_no_variance() -> None:
    s = sketch(np.full((40, 40), 0.1, np.float32), "F32")
    assert (s.m2, s.m3, s.m4) == (0.0, 0.0, 0.0)


def test_more_than_one_block() -> None:
    """Rows that end in mid-block, bands that span blocks, outliers in the last one."""
    x = make((BLOCK // 100, 301), "F32")
    x[-1, -1] = 9.0
    s = sketch(x, "F32")
    assert s.outlier_positions[0] == x.size - 1
    np.testing.assert_allclose(
        s.projection, projection_definition(x.astype(np.float64), 4, FORM.seed), rtol=1e-5, atol=1e-4
    )
    np.testing.assert_allclose(s.m4, moments_definition(x.astype(np.float64).reshape(-1))[4], rtol=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_sketches_are_linear(seed: int, rows: int, columns: int) -> None:
    """sketch(u) - sketch(v) = sketch(u - v), for mean, samples and projection."""
    u, v = make((rows, columns), "F64", seed), make((rows, columns), "F64", seed + 1)
    su, sv, sd = sketch(u, "F64"), sketch(v, "F64"), sketch(u - v, "F64")
    np.testing.assert_allclose(su.mean - sv.mean, sd.mean, atol=1e-15)
    np.testing.assert_array_equal(np.frombuffer(su.samples) - np.frombuffer(sv.samples), np.frombuffer(sd.samples))
    np.testing.assert_allclose(su.projection - sv.projection, sd.projection, atol=1e-6)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_a_cast_differs_by_rounding_only(dtype: str) -> None:
    full = make((200, 300), "F32")
    short = full.astype(DTYPES[dtype])
    a, b = sketch(full, "F32"), sketch(short, dtype)
    eps = 2.0**-8 if dtype == "BF16" else 2.0**-10
    va = np.frombuffer(a.samples, np.float32)
    vb = np.frombuffer(b.samples, DTYPES[dtype]).astype(np.float32)
    # Values below the smallest normal number round by an absolute step.
    assert (np.abs(va - vb) <= eps * np.abs(va) + 1e-7).all()
    np.testing.assert_allclose(a.sum_squares, b.sum_squares, rtol=eps)
    np.testing.assert_allclose(a.m4 / a.m2**2, b.m4 / b.m2**2, rtol=4 * eps)
    assert np.abs(a.projection - b.projection).max() <= eps * np.abs(full).sum() / 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16", "F8_E5M2"])
def test_what_is_not_finite_is_named(bad: float, dtype: str) -> None:
    x = make((300, 300), "F32").astype(DTYPES[dtype])
    x[299, 5] = bad
    with pytest.raises(SkipError, match=r"shape \[300, 300\]: value at flat position 89705 is (nan|-?inf)") as error:
        sketch(x, dtype)
    assert error.value.reason == "not_finite"


def test_an_empty_tensor_is_refused() -> None:
    with pytest.raises(SkipError, match=r"shape \[0, 7\] holds no values"):
        sketch(np.empty((0, 7), np.float32), "F32")


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(SkipError, match="F4"):
        sketch_tensor(
            lambda o, b: None, tensor="w", source_name="w", dtype="F4", shape=(2,), plan=TensorPlan(1, 1, 0), form=FORM
        )


def test_every_half_precision_value_widens_exactly() -> None:
    bits = np.arange(65536, dtype=np.uint16)
    out = np.empty(65536, np.float32)
    kernels.widen_float16(bits, out)
    np.testing.assert_array_equal(out, bits.view(np.float16).astype(np.float32))
    kernels.widen_bfloat16(bits, out.view(np.uint32))
    np.testing.assert_array_equal(out, bits.view(DTYPES["BF16"]).astype(np.float32))
