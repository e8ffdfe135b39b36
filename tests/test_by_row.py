"""A family that is read by row is the one that is read whole, and what nobody looks at is not read."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.derived import short_rows
from indexer.family import Family
from indexer.reading import Reader
from store.errors import StopError
from store.format import SketchFormat
from store.generation import open_reader
from store.shard_index import ShardIndex
from store.shards import SCHEMA, read_columns, write_shard
from tests.grown import grow, start
from tests.runs import index
from tests.test_shards_roundtrip import MODELS, Models
from tests.weights import Weights, save


def _models() -> dict[str, Weights]:
    root = start(3, layers=4, width=48)
    models = {f"m{i:02}": grow(root, i) for i in range(20)}
    models["m03"] = {name: w.astype(np.float16) for name, w in models["m02"].items()}
    models["m04"] = {name: w.copy() for name, w in models["m02"].items()}
    return models


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("by-row")
    for name, weights in _models().items():
        save(folder / "source" / name, weights)
    index(folder / "source", folder / "graph")
    return folder / "graph"


@contextmanager
def reader(graph: Path) -> Iterator[tuple[Reader, list[int]]]:
    """A reader of the graph's one architecture, and the ids of its models."""
    with open_reader(graph) as connection:
        (architecture,) = {row[0] for row in connection.sql("select architecture from live_models").fetchall()}
        ids = [row[0] for row in connection.sql("select model_id from live_models order by 1").fetchall()]
        yield Reader(connection, graph, architecture), ids


def check_same(found: Family, wanted: Family) -> None:
    assert (found.names, found.content_hashes) == (wanted.names, wanted.content_hashes)
    np.testing.assert_array_equal(found.prefix, wanted.prefix)
    np.testing.assert_array_equal(found.samples[:], wanted.samples[:])
    for one, other in zip(found.tensors, wanted.tensors, strict=True):
        assert (one.name, one.shape, one.role, one.covered) == (other.name, other.shape, other.role, other.covered)
        for name in (
            "samples",
            "present",
            "sum_squares",
            "mean",
            "m2",
            "m4",
            "minimum",
            "maximum",
            "zeros",
            "hashes",
            "dtypes",
        ):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), name)
    np.testing.assert_array_equal(found.counters, wanted.counters)
    np.testing.assert_array_equal(found.created, wanted.created)
    assert (found.quantized, found.projections.keys()) == (wanted.quantized, wanted.projections.keys())
    for tensor, values in wanted.projections.items():
        np.testing.assert_array_equal(np.asarray(found.projections[tensor][:]), np.asarray(values[:]))


def test_it_is_the_family_that_is_read_whole(graph: Path) -> None:
    with reader(graph) as (read, ids):
        whole = read(ids)
        read.keep_prefixes(whole)
    with reader(graph) as (read, ids):
        found = read.by_row(ids)
        assert found.samples.by_row
        few = [7, 2, 11]
        check_same(found.take(few), whole.take(few))
        check_same(found, whole)
        assert found.alone() is found


def test_another_process_gets_all_of_it(graph: Path) -> None:
    with reader(graph) as (read, ids):
        whole = read(ids)
        read.keep_prefixes(whole)
    with reader(graph) as (read, ids):
        family = read.by_row(ids)
        sent, few = (pickle.loads(pickle.dumps(each)) for each in (family, family.take([3, 1])))
    assert not sent.samples.by_row
    check_same(sent, whole)
    check_same(few, whole.take([3, 1]))
    assert len(few.prefixes[0]) == 2, "and no more than is its own"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The models whose samples are read, one after the other; none come that were not asked for."""
    models: list[int] = []
    plain = ShardIndex.read

    def noted(self: ShardIndex, path: Path, columns: Sequence[str], wanted: Sequence[int], *more: Any) -> Any:
        models.extend(wanted if "samples" in columns else ())
        return plain(self, path, columns, wanted, *more)

    monkeypatch.setattr(ShardIndex, "read", noted)
    monkeypatch.setattr("store.shard_index._BESIDE", 0)
    return models


def test_what_nobody_looks_at_is_not_read(graph: Path, asked: list[int]) -> None:
    with reader(graph) as (read, ids):
        read.keep_prefixes(read(ids))
    asked.clear()
    with reader(graph) as (read, ids):
        family = read.by_row(ids)
        assert len(asked) == 1, "one model tells how large sketches are"
        family.take([4, 5, 6]).samples.at_hand([1, 2])
        assert sorted(asked[1:]) == sorted(family.model_ids[[5, 6]].tolist())
        family.samples.at_hand([5, 6])
        assert len(asked) == 3, "once"
        assert family.prefix.shape == (len(ids), sum(family.prefix_sizes))
        assert len(asked) == 3


def test_what_each_update_looks_at_is_read_once(tmp_path: Path, asked: list[int]) -> None:
    models = _models()
    for i in (5, 9, 12):
        models[f"m{i:02}"] = {name: w.astype(ml_dtypes.float8_e4m3fn) for name, w in models[f"m{i:02}"].items()}
    for name, weights in models.items():
        save(tmp_path / "source" / name, weights)
    index(tmp_path / "source", tmp_path / "graph")
    with reader(tmp_path / "graph") as (read, ids):
        whole = read(ids)
        short = np.flatnonzero(short_rows(whole))
        read.keep_prefixes(whole)
    assert whole.model_ids[short].size == 3
    (path,) = (tmp_path / "graph" / "shortlist").glob("*.often.vectors")
    for some, missing in ((short, 0), (short[:2], 2), (short, 1), (short, 0)):
        if missing == 2:
            # Then it is made again of what is looked at.
            path.unlink()
        with reader(tmp_path / "graph") as (read, ids):
            found = read.by_row(ids)
            asked.clear()
            found.samples.at_hand(some)
            assert len(asked) == missing
            check_same(found.take(some), whole.take(some))
    with reader(tmp_path / "graph") as (read, ids):
        check_same(read.by_row(ids), whole)


def test_who_comes_later_is_added(graph: Path, tmp_path: Path) -> None:
    with reader(graph) as (read, ids):
        read.keep_prefixes(read(ids[:-3]))
    with reader(graph) as (read, ids):
        found = read.by_row(ids)
        assert found.samples.by_row
    with reader(graph) as (read, ids):
        check_same(found, read(ids))


def test_two_trees_share_a_file(graph: Path, tmp_path: Path) -> None:
    mine = tmp_path / "graph"
    shutil.copytree(graph, mine)
    for path in (mine / "shortlist").glob("*.*.vectors"):
        path.unlink()
    with reader(mine) as (read, ids):
        whole = read(ids)
        for some in (ids[::2], ids[1::2]):
            read.keep_prefixes(read(some))
    (path,) = [path for path in (mine / "shortlist").glob("*.vectors") if path.stem.count(".")]
    before = path.read_bytes()
    with reader(mine) as (read, ids):
        found = read.by_row(ids)
        assert found.samples.by_row
        check_same(found, whole)
    assert path.read_bytes() == before


@pytest.mark.parametrize("harm", ["gone", "head", "cut"])
def test_a_file_that_is_no_use(graph: Path, tmp_path: Path, harm: str) -> None:
    """All is read then, or what is missing in it."""
    mine = tmp_path / "graph"
    shutil.copytree(graph, mine)
    with reader(mine) as (read, ids):
        whole = read(ids)
        read.keep_prefixes(whole)
    (path,) = [path for path in (mine / "shortlist").glob("*.vectors") if path.stem.count(".")]
    if harm == "gone":
        path.unlink()
    elif harm == "head":
        path.write_bytes(b"{" + path.read_bytes()[1:][::-1])
    else:
        path.write_bytes(path.read_bytes()[:-100])
    with reader(mine) as (read, ids):
        found = read.by_row(ids)
        assert found.samples.by_row == (harm == "cut")
        check_same(found, whole)


def test_values_that_float32_does_not_hold_are_read_whole(tmp_path: Path) -> None:
    root = {name: w.astype(np.float64) for name, w in start(5, layers=2, width=32).items()}
    for i in range(4):
        save(tmp_path / "source" / f"m{i}", {name: w + i / 7 for name, w in root.items()})
    index(tmp_path / "source", tmp_path / "graph")
    with reader(tmp_path / "graph") as (read, ids):
        read.keep_prefixes(read(ids))
    with reader(tmp_path / "graph") as (read, ids):
        assert not read.by_row(ids).samples.by_row


@settings(deadline=None, max_examples=40)
@given(MODELS.filter(lambda models: len(models) > 1), st.integers(1, 4), st.data())
def test_an_index_reads_what_a_search_through_the_shard_does(models: Models, rows: int, data: st.DataObject) -> None:
    ids = [at for at, _ in models]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("store.shards._GROUP_ROWS", rows)
        path = Path(folder) / "a.parquet"
        write_shard(path, models, SketchFormat())
        shards = ShardIndex()
        for _ in range(2):
            asked = data.draw(st.lists(st.sampled_from(ids), min_size=1, unique=True))
            columns = data.draw(st.lists(st.sampled_from(SCHEMA.names), min_size=1, unique=True))
            columns = ["model_id", *(name for name in columns if name != "model_id")]
            wanted = read_columns(path, columns, asked)
            # NaN is not equal to itself: as text.
            assert str(shards.read(path, columns, asked).to_pylist()) == str(wanted.to_pylist())
            beside = np.sort(np.array(data.draw(st.lists(st.sampled_from(ids), unique=True)), np.int64))
            there = shards.read(path, columns, asked, beside)
            got = set(there.column("model_id").to_pylist())
            assert set(asked) <= got <= {*asked, *beside.tolist()}
            assert str(there.to_pylist()) == str(read_columns(path, columns, got).to_pylist())


def test_a_shard_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StopError, match="the shard cannot be read"):
        ShardIndex().read(tmp_path / "none.parquet", ["model_id"], [1])
