"""A family from the columns of shards is the one that is gathered sketch by sketch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ml_dtypes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crawl.plan import make_plan
from crawl.sketch import sketch_array
from indexer.family import Family
from indexer.from_sketches import make_family
from indexer.gathered import COLUMNS, gather_family
from indexer.stacked import stack
from store.format import SketchFormat
from store.records import TensorSketch
from store.shards import read_columns, read_shard, sketch_table, write_shard

FORM = SketchFormat(samples=96, projection=4)
SHAPES = {"a.weight": (24, 40), "b.weight": (6, 5, 3, 3), "b.bias": (6,), "bn.num_batches_tracked": (), "head": (9, 9)}
ROLES = {"a.weight": "weight", "b.weight": "weight", "b.bias": "vector", "nowhere": "weight"}
DTYPES = {"F32": np.float32, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "I8": np.int8}


def sketches_of(seed: int, dtype: str, missing: set[str]) -> tuple[TensorSketch, ...]:
    rng = np.random.default_rng(seed)
    plan = make_plan(SHAPES, FORM)
    found = []
    for name in sorted(set(SHAPES) - missing):
        counter = name.endswith("tracked")
        values = np.array(seed, np.int64) if counter else (20 * rng.standard_normal(SHAPES[name])).astype(DTYPES[dtype])
        stored = "I64" if counter else dtype
        found.append(sketch_array(values, stored, tensor=name, plan=plan.tensors[name], form=FORM))
    return tuple(found)


def check_equal(a: Family, b: Family) -> None:
    for field in dataclasses.fields(Family):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if field.name == "tensors":
            assert len(one) == len(other)
            for x, y in zip(one, other, strict=True):
                for inner in dataclasses.fields(x):
                    np.testing.assert_array_equal(getattr(x, inner.name), getattr(y, inner.name), inner.name)
                    assert type(getattr(x, inner.name)) is type(getattr(y, inner.name))
        elif field.name == "projections":
            assert one.keys() == other.keys()
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])
        else:
            np.testing.assert_array_equal(one, other)


models_of = st.lists(
    st.tuples(st.sampled_from(sorted(DTYPES)), st.sets(st.sampled_from(sorted(SHAPES)), max_size=4)),
    min_size=1,
    max_size=7,
)


@settings(deadline=None, max_examples=60)
@given(models_of, st.integers(1, 4), st.randoms(use_true_random=False))
def test_columns_gather_to_what_sketches_do(models: list[tuple[str, set[str]]], shards: int, random: object) -> None:
    told = [(10 * at + 3, f"m{at}", f"{at:032x}", float(at), sketches_of(at, *each)) for at, each in enumerate(models)]
    random.shuffle(told)  # type: ignore[attr-defined]
    tables = [sketch_table((m[0], m[4]) for m in sorted(told[i::shards])).select(list(COLUMNS)) for i in range(shards)]
    check_equal(gather_family("arch", [m[:4] for m in told], tables, ROLES), make_family("arch", told, ROLES))


def test_shards_gather_to_what_sketches_do(tmp_path: Path) -> None:
    """Through the files, of which some rows are wanted; a sketch of fewer samples, and one of a longer run."""
    told = [(at, f"m{at}", f"{at:032x}", float("nan"), sketches_of(at, "F32", set())) for at in range(40)]
    first = told[7][4][0]
    cut = dataclasses.replace(first, samples=first.samples[:120])
    told[7] = (*told[7][:4], (cut, *told[7][4][1:]))
    older = dataclasses.replace(first, covered=2 * first.covered)
    told[9] = (*told[9][:4], (older, *told[9][4][1:]))
    write_shard(tmp_path / "a.parquet", [(m[0], m[4]) for m in told[:25]], FORM)
    write_shard(tmp_path / "b.parquet", [(m[0], m[4]) for m in told[25:]], FORM)
    chosen = told[5:31:2]
    ids = [m[0] for m in chosen]
    tables = [read_columns(tmp_path / name, COLUMNS, ids) for name in ("a.parquet", "b.parquet")]
    read = {k: v for name in ("a.parquet", "b.parquet") for k, v in read_shard(tmp_path / name, ids)}
    wanted = make_family("arch", [(*m[:4], read[m[0]]) for m in chosen], ROLES)
    check_equal(gather_family("arch", [m[:4] for m in chosen], tables, ROLES), wanted)


def test_no_models_are_a_family() -> None:
    assert len(gather_family("arch", [], [], ROLES)) == 0


@settings(deadline=None, max_examples=100)
@given(models_of, st.integers(1, 4), st.randoms(use_true_random=False))
def test_parts_stack_to_what_all_at_once_are(models: list[tuple[str, set[str]]], parts: int, random: object) -> None:
    """Or to nothing: what is left out of all for what one of them lacks, a part by itself does not leave out."""
    told = [(10 * at + 3, f"m{at}", f"{at:032x}", float(at), sketches_of(at, *each)) for at, each in enumerate(models)]
    random.shuffle(told)  # type: ignore[attr-defined]
    some = [np.arange(len(told))[i::parts] for i in range(min(parts, len(told)))]
    made = [gathered_of([told[row] for row in rows]) for rows in some]
    stacked = stack("arch", [m[:4] for m in told], zip(some, made, strict=True), frozenset({3}))
    if stacked is None:
        assert len({kind_of(part) for part in made}) > 1
    else:
        check_equal(stacked, gathered_of(told))
        check_equal(stacked.take([0]), gathered_of(told).take([0]))
        assert stacked.samples.held.flags.c_contiguous


def gathered_of(told: list[tuple[int, str, str, float, tuple[TensorSketch, ...]]]) -> Family:
    table = sketch_table((m[0], m[4]) for m in sorted(told)).select(list(COLUMNS))
    return gather_family("arch", [m[:4] for m in told], [table], ROLES, frozenset({3}))


def kind_of(family: Family) -> tuple[object, ...]:
    """What parts of a family have to share with the first."""
    return (
        tuple((t.name, t.samples.shape[1], t.samples.held.dtype.name) for t in family.tensors),
        tuple((name, values.shape[1]) for name, values in family.projections.items()),
    )


def test_what_cannot_be_stacked_is_told() -> None:
    told = [(at, f"m{at}", f"{at:032x}", 0.0, sketches_of(at, "F32", set())) for at in range(4)]
    first, *others = told[3][4]
    cut = dataclasses.replace(first, samples=first.samples[:20])
    for changed in (told[3][4][1:], (cut, *others), (dataclasses.replace(first, covered=2 * first.covered), *others)):
        models = [*told[:3], (*told[3][:4], changed)]
        parts = [(np.arange(2), gathered_of(models[:2])), (np.arange(2, 3), gathered_of(models[2:3]))]
        last = (np.array([3]), gathered_of(models[3:]))
        whole = stack("arch", [m[:4] for m in models], [*parts, last])
        assert (whole is None) == (changed != told[3][4][1:])
        # What the first lacks, it does not know of.
        turned = stack(
            "arch", [models[3][:4], models[0][:4]], [(np.array([0]), last[1]), (np.array([1]), gathered_of(models[:1]))]
        )
        assert turned is None
